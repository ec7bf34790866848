//! Scores a run of masked tokens on one of its own splits, outside of training.

use std::path::Path;
use std::sync::Arc;

use heldout_data::{MaskedEvaluation, Passages, Progress, prepare};
use heldout_kernels::Device;
use heldout_record::RunDir;
use serde::Serialize;

use crate::error::TrainError;
use crate::evaluate::Split;
use crate::job::{prepare_spec, resolved_data, rows_at_once};
use crate::recipe::{Recipe, TaskKind};
use crate::session::Session;
use crate::task::{FIXED_SEED, judged, masking, shortness};

/// What a model reaches on masked tokens of a text.
#[derive(Clone, Debug, Serialize)]
pub struct MaskedScore {
    /// What was scored, in words.
    pub data: String,
    /// Passages of the text.
    pub passages: usize,
    /// Masked tokens in them.
    pub masked: u64,
    /// Nats per masked token.
    pub loss: f64,
    /// Its standard error, clustered by passage.
    pub loss_se: f64,
    /// e to the loss.
    pub perplexity: f64,
    /// Share of masked tokens that the model ranks first.
    pub accuracy: f64,
}

/// Scores a run's result on one of its own splits, whole, under the masks of the run's evaluations.
/// `cache` is where prepared data lies.
///
/// # Errors
/// The run learned something else, or sets no such split aside.
pub fn evaluate_masked(
    run: &RunDir,
    split: Split,
    cache: &Path,
    device: Arc<Device>,
    preparing: &mut dyn FnMut(Progress),
) -> Result<MaskedScore, TrainError> {
    let problem =
        |words: &str| TrainError::Folder { path: run.root.clone(), problem: words.into() };
    let draft = Recipe::read(&run.recipe())?.draft()?;
    let (recipe, seed) = resolved_data(&draft)?;
    if recipe.task != TaskKind::Masked {
        return Err(problem("the run learned no masked tokens"));
    }
    let data = prepare(&prepare_spec(&recipe, seed)?, cache, preparing)?;
    let store = match split {
        Split::Train => &data.train,
        Split::Validation => &data.validation,
        Split::Test => data
            .test
            .as_ref()
            .ok_or_else(|| problem("the run's recipe sets no test split aside"))?,
    };
    let mut session = Session::open(&run.root, device)?;
    let asked = draft.model.context.map(|context| context.value as usize);
    let context = asked.unwrap_or(session.model.config.context);
    let passages = Passages::new(store, &data.tokenizer, context)?;
    let fixed = masking(&data, &recipe, FIXED_SEED)?;
    let all = MaskedEvaluation::new(&passages, fixed, None, FIXED_SEED);
    let rows = rows_at_once(context) * shortness(context, passages.length_mean());
    let Session { model, weights, tape, .. } = &mut session;
    let found = judged(model, tape, weights, all.batches(rows));
    Ok(MaskedScore {
        data: format!("the {} split of {}", split.word(), run.root.display()),
        passages: passages.len(),
        masked: found.score.targets,
        loss: found.score.loss,
        loss_se: found.score.se,
        perplexity: found.score.loss.exp(),
        accuracy: found.metrics.first().map_or(0.0, |figure| figure.value),
    })
}
