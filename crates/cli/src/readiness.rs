//! Whether a prepared job can be trained on at all, asked before a run's folder is made.

use heldout_data::{BatchPlan, BatchSize, Batches, EvaluationWindows, Prepared, Shuffle};
use heldout_train::memory::{self, Need};
use heldout_train::recipe::ResolvedRecipe;
use heldout_train::{Corpus, Job, TrainError};

use crate::failure::Failure;

/// Fails where the trainer would at its start: splits shorter than a window, an empty split, too
/// little memory. Gives what the run will take.
pub fn check(job: &Job) -> Result<Need, Failure> {
    if let Corpus::Text(data) = &job.data {
        check_windows(&job.recipe, data)?;
    }
    Ok(memory::check(job)?)
}

fn check_windows(recipe: &ResolvedRecipe, data: &Prepared) -> Result<(), Failure> {
    let context = recipe.model.context;
    let plan = BatchPlan {
        seq_len: context,
        batch: recipe.batch.size.map_or(BatchSize::Full, BatchSize::Sequences),
        seed: recipe.run.seed,
        shuffle: Shuffle::No,
    };
    let batches = Batches::new(&data.train, plan, data.tokenizer.eos());
    let windows = EvaluationWindows::whole(&data.validation, context);
    Ok(batches.map(drop).and(windows.map(drop)).map_err(TrainError::from)?)
}
