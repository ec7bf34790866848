//! Looks at a trained model beyond its losses: calibration, what it knows by heart, what it finds
//! improbable, passages in both splits, planted strings.

pub mod calibration;
pub mod canaries;
pub mod memory;

use std::path::Path;
use std::sync::Arc;

use heldout_data::{EvaluationWindows, IGNORE, Prepared, Progress, prepare};
use heldout_kernels::{Device, PassKind};
use heldout_record::examination::{Examination, Improbable, Memorization};
use heldout_record::{Manifest, RunDir};

use crate::error::TrainError;
use crate::evaluate::rows;
use crate::job::{prepare_spec, resolved_data};
use crate::recipe::Recipe;
use crate::session::Session;
use calibration::{Judged, Reliability, fit_temperature};
use canaries::CanarySpec;
use memory::{Reproduction, windows_in_training};

/// Which of a run's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The result: the best held-out ones.
    Result,
    /// Where training ended.
    Last,
}

/// What to look at, and how closely.
#[derive(Clone, Debug, PartialEq)]
pub struct ExamineSpec {
    pub which: Which,
    /// Windows of each split, at most.
    pub windows: usize,
    /// Tokens given, and tokens to be reproduced (Carlini et al. 2022 take 50 and 50).
    pub prompt: usize,
    pub continuation: usize,
    /// Planted strings.
    pub canaries: CanarySpec,
}

impl Default for ExamineSpec {
    fn default() -> ExamineSpec {
        ExamineSpec {
            which: Which::Result,
            windows: 256,
            prompt: 32,
            continuation: 32,
            canaries: CanarySpec::default(),
        }
    }
}

/// Logits looked at per split, at most: what bounds the time for large vocabularies.
const LOGITS_MOST: usize = 1 << 28;
/// Logits that each pass of the temperature's fit looks at, at most.
const LOGITS_FITTED: usize = 1 << 25;
/// Where the model is less sure, even clean text may hold what it finds unlikely.
const SURE: f64 = 0.5;
/// Passages shorter than this stand in two texts by chance; as in the data's own comparison.
const PASSAGE_BYTES: f64 = 100.0;

/// Looks at a run's model. Data that cannot be had any more is no error: what depends on it is left
/// out, and a notice says so. `cache` is where prepared data lies.
///
/// # Errors
/// The run has no model, or a planted string has no random part.
pub fn examine_run(
    run: &RunDir,
    spec: &ExamineSpec,
    cache: &Path,
    device: Arc<Device>,
    preparing: &mut dyn FnMut(Progress),
) -> Result<Examination, TrainError> {
    let (folder, weights) = match spec.which {
        Which::Result => (run.root.clone(), "result"),
        Which::Last => (run.last(), "last"),
    };
    let mut session = Session::open_language_model(&folder, device)?;
    let mut found = Examination { weights: weights.to_owned(), ..Examination::default() };
    let context = context_of(run, &session);
    match data_of(run, cache, preparing) {
        Ok(data) => look(&mut session, &data, context, spec, &mut found)?,
        Err(problem) => found.notices.push(format!(
            "the run's data cannot be read any more ({problem}): calibration, memory and leaks \
             were not looked at"
        )),
    }
    found.canaries = canaries::expose(&mut session, &spec.canaries)?;
    Ok(found)
}

/// The run's data as it was when the run began.
fn data_of(
    run: &RunDir,
    cache: &Path,
    preparing: &mut dyn FnMut(Progress),
) -> Result<Prepared, TrainError> {
    let draft = Recipe::read(&run.recipe())?.draft()?;
    let (recipe, seed) = resolved_data(&draft)?;
    let data = prepare(&prepare_spec(&recipe, seed)?, cache, preparing)?;
    let found = format!("sha256:{}", data.facts.content_hash);
    let manifest = Manifest::read(&run.manifest()).ok();
    let expected = manifest.and_then(|m| m.data.into_iter().find(|file| file.role == "content"));
    match expected {
        Some(expected) if expected.hash != found => {
            Err(TrainError::DataChanged { run: run.root.clone(), expected: expected.hash, found })
        }
        _ => Ok(data),
    }
}

/// The length of the windows that the run was evaluated on.
fn context_of(run: &RunDir, session: &Session) -> usize {
    let draft = Recipe::read(&run.recipe()).and_then(|recipe| recipe.draft());
    let asked = draft.ok().and_then(|draft| draft.model.context).map(|c| c.value as usize);
    asked.unwrap_or(session.model.config.context)
}

fn look(
    session: &mut Session,
    data: &Prepared,
    context: usize,
    spec: &ExamineSpec,
    found: &mut Examination,
) -> Result<(), TrainError> {
    let vocabulary = session.model.config.vocabulary;
    let affordable = (LOGITS_MOST / (context * vocabulary)).max(4);
    let count = spec.windows.min(affordable).max(1);
    let sample = |store, length, count| EvaluationWindows::sample(store, length, count, SEED);
    let (train, valid) =
        (sample(&data.train, context, count)?, sample(&data.validation, context, count)?);
    let mut improbable = Improbable { vocabulary: vocabulary as u64, ..Improbable::default() };
    let is_below = |logits: &[f32], target| u64::from(2 * rank(logits, target) >= vocabulary);
    each_row(session, &train, &mut |logits, target| {
        if Judged::of(logits, target).confidence > SURE {
            improbable.targets_train += 1;
            improbable.below_train += is_below(logits, target);
        }
    });
    let mut reliability = Reliability::default();
    each_row(session, &valid, &mut |logits, target| {
        let judged = Judged::of(logits, target);
        if judged.confidence > SURE {
            improbable.targets_valid += 1;
            improbable.below_valid += is_below(logits, target);
        }
        reliability.add(&judged);
    });
    found.improbable = Some(improbable);
    let fitted = (LOGITS_FITTED / (context * vocabulary)).clamp(1, count);
    let sampled = sample(&data.validation, context, fitted)?;
    let fit = fit_temperature(&mut |see| each_row(session, &sampled, see));
    found.calibration = Some(calibration::table(&reliability, &fit));
    found.memorization = memorization(session, data, context, spec)?;
    let bytes = data.facts.bytes_per_token_validation.max(1e-3);
    let length = (PASSAGE_BYTES / bytes).ceil().max(8.0) as usize;
    if data.validation.len() > length as u64 + 1 {
        let windows = sample(&data.validation, length, spec.windows)?;
        found.overlap = Some(memory::overlap(&windows, &data.train));
    }
    Ok(())
}

/// Which windows are taken; fixed, so that two looks at a run agree.
const SEED: u64 = 1;

/// Greedy continuations of training windows, and of held-out ones that do not stand in training.
fn memorization(
    session: &mut Session,
    data: &Prepared,
    context: usize,
    spec: &ExamineSpec,
) -> Result<Option<Memorization>, TrainError> {
    // A short context is divided alike.
    let whole = (spec.prompt + spec.continuation).min(context);
    let prompt = (whole * spec.prompt / (spec.prompt + spec.continuation).max(1)).max(1);
    let least = data.train.len().min(data.validation.len());
    if whole < 2 || least < 2 * whole as u64 {
        return Ok(None);
    }
    let mut reproduce = |store, left_out: &[bool]| {
        let windows = EvaluationWindows::sample(store, whole, spec.windows, SEED)?;
        let mut found = Reproduction::new(prompt, whole);
        let mut number = 0;
        each_window(session, &windows, &mut |ids, rows| {
            if ids.len() == whole && !left_out.get(number).is_some_and(|known| *known) {
                found.add(ids, rows);
            }
            number += 1;
        });
        Ok::<Reproduction, TrainError>(found)
    };
    let held_out = EvaluationWindows::sample(&data.validation, whole, spec.windows, SEED)?;
    let known = windows_in_training(&held_out, &data.train);
    let train = reproduce(&data.train, &[])?;
    let valid = reproduce(&data.validation, &known)?;
    let example = train.example.as_ref().map(|ids| session.tokenizer.decode(ids));
    Ok(Some(Memorization {
        prompt: prompt as u64,
        continuation: (whole - prompt) as u64,
        train: train.finish(),
        valid: valid.finish(),
        example: example.unwrap_or_default(),
    }))
}

/// How many tokens the model finds likelier than the target.
fn rank(logits: &[f32], target: u32) -> usize {
    let own = logits[target as usize];
    logits.iter().filter(|logit| **logit > own).count()
}

/// Gives every target of the windows with the logits before it: [V].
fn each_row(session: &mut Session, windows: &EvaluationWindows, see: &mut dyn FnMut(&[f32], u32)) {
    let vocabulary = session.model.config.vocabulary;
    let size = rows(session, windows.seq_len());
    for batch in windows.batches(size) {
        let Session { model, weights, tape, .. } = session;
        let mut pass = tape.pass(weights, PassKind::Evaluate);
        let logits = model.logits(&mut pass, &batch.ids, batch.batch, batch.seq_len);
        let values = pass.value(logits).chunks(vocabulary).zip(&batch.targets);
        values.filter(|(_, target)| **target != IGNORE).for_each(|(row, target)| see(row, *target));
    }
}

/// Gives every window's tokens with the token that the model ranks first after each.
fn each_window(
    session: &mut Session,
    windows: &EvaluationWindows,
    see: &mut dyn FnMut(&[u32], &[u32]),
) {
    let vocabulary = session.model.config.vocabulary;
    let length = windows.seq_len();
    let size = rows(session, length);
    for batch in windows.batches(size) {
        let Session { model, weights, tape, .. } = session;
        let mut pass = tape.pass(weights, PassKind::Evaluate);
        let logits = model.logits(&mut pass, &batch.ids, batch.batch, batch.seq_len);
        let first: Vec<u32> =
            pass.value(logits).chunks(vocabulary).map(calibration::likeliest).collect();
        let rows = batch.ids.chunks(length).zip(batch.targets.chunks(length));
        for ((ids, targets), first) in rows.zip(first.chunks(length)) {
            // A token is real where something follows it, or where it is followed.
            let real = targets.iter().take_while(|target| **target != IGNORE).count();
            let ids = if real == length { ids } else { &ids[..real] };
            see(ids, first);
        }
    }
}
