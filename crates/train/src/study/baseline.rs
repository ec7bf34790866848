//! The n-gram model that a study's arms have to beat, counted once for all of its trials.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use heldout_data::ngram::NgramModel;
use heldout_data::{EvaluationWindows, Prepared};
use heldout_record::study::{KeyedBaseline, NgramFigures, Study, StudyBaseline};

use super::trial::arm_recipe;
use crate::baseline::{Chosen, Worth, key, score, worth_it};
use crate::control::Control;
use crate::error::TrainError;
use crate::evaluation::Score;
use crate::job::{Setup, prepare_job};
use crate::task::Corpus;

/// What came of it.
pub enum Ngram {
    Counted(Box<StudyBaseline>),
    /// What was counted before has everything in it.
    Known,
    /// It would take too long; the reason in a sentence.
    Skipped(String),
    /// The recipe does not want one, or somebody asked to stop.
    Absent,
}

/// Counts the n-grams of the study's training split, unless `known` has all that its seeds need,
/// and scores them on validation as each trial will, and on the test split. `reference` is the
/// study's recipe.
///
/// # Errors
/// Whatever keeps the reference itself from being set up.
pub fn count_baseline(
    study: &Study,
    reference: &str,
    known: Option<&StudyBaseline>,
    cache: &Path,
    control: &Control,
) -> Result<Ngram, TrainError> {
    let recipe = arm_recipe(reference, &study.arms[0], 1.0)?;
    let setup = Setup::new(prepare_job(&recipe, cache, &mut |_| {})?)?;
    // Labels have a bag of words to beat, which every trial's own run records.
    let Corpus::Text(data) = &setup.data else { return Ok(Ngram::Absent) };
    let has = |key: &String| known.is_some_and(|k| k.records.iter().any(|r| r.key == *key));
    let (mut keys, mut wanted) = (BTreeSet::new(), Vec::new());
    for seed in seeds(study) {
        let key = key(&setup, data, seed);
        if keys.insert(key.clone()) && !has(&key) {
            wanted.push((seed, key));
        }
    }
    if wanted.is_empty() {
        return Ok(Ngram::Known);
    }
    match worth_it(&setup, data, study.arms.len() * study.seeds.len()) {
        Worth::Yes => {}
        Worth::Unwanted => return Ok(Ngram::Absent),
        Worth::TooLong(reason) => return Ok(Ngram::Skipped(reason)),
    }
    let begin = Instant::now();
    let Some(chosen) = Chosen::of(&setup, data, control) else { return Ok(Ngram::Absent) };
    let model = chosen.counts.estimate();
    let mut baseline = known.cloned().unwrap_or_default();
    baseline.figures = figures(&chosen, &model, data, setup.recipe.model.context)?;
    for (seed, key) in wanted {
        let record = chosen.record(&model, (&setup, data), seed, begin)?;
        baseline.records.push(KeyedBaseline { key, record });
    }
    Ok(Ngram::Counted(Box::new(baseline)))
}

/// The seeds of all trials: they choose the windows where evaluations see a sample.
fn seeds(study: &Study) -> impl Iterator<Item = u64> {
    let offsets: BTreeSet<u64> = study.arms.iter().map(|arm| arm.seed_offset).collect();
    let tuning = study.tuning.as_ref().map(|tuning| tuning.seed);
    let all: Vec<u64> = study.seeds.iter().copied().chain(tuning).collect();
    offsets
        .into_iter()
        .flat_map(move |offset| all.iter().map(move |seed| seed + offset).collect::<Vec<_>>())
}

fn figures(
    chosen: &Chosen,
    model: &NgramModel<'_>,
    data: &Prepared,
    context: usize,
) -> Result<NgramFigures, TrainError> {
    let on = |store| -> Result<Score, TrainError> {
        Ok(score(model, chosen.order, &EvaluationWindows::whole(store, context)?))
    };
    let valid = on(&data.validation)?;
    let test = data.test.as_ref().map(on).transpose()?;
    Ok(NgramFigures {
        smoothing: crate::baseline::SMOOTHING.into(),
        order: chosen.order as u64,
        loss_valid: valid.loss,
        loss_valid_se: valid.se,
        loss_test: test.map_or(f64::NAN, |score| score.loss),
        loss_test_se: test.map_or(f64::NAN, |score| score.se),
    })
}
