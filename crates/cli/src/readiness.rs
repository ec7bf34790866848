//! Whether a prepared job can be trained on at all, asked before a run's folder is made.

use heldout_data::{BatchPlan, BatchSize, Batches, EvaluationWindows, Shuffle};
use heldout_train::memory::{self, Need};
use heldout_train::{Job, TrainError};

use crate::failure::Failure;

/// Fails where the trainer would at its start: splits shorter than a window, an empty split, too
/// little memory. Gives what the run will take.
pub fn check(job: &Job) -> Result<Need, Failure> {
    let (recipe, data) = (&job.recipe, &job.data);
    let context = recipe.model.context;
    let plan = BatchPlan {
        seq_len: context,
        batch: recipe.batch.size.map_or(BatchSize::Full, BatchSize::Sequences),
        seed: recipe.run.seed,
        shuffle: Shuffle::No,
    };
    let batches = Batches::new(&data.train, plan, data.tokenizer.eos());
    let windows = EvaluationWindows::whole(&data.validation, context);
    batches.map(drop).and(windows.map(drop)).map_err(TrainError::from)?;
    Ok(memory::check(job)?)
}
