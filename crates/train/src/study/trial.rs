//! One trial: train or resume, score the test split once, write down what came of it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heldout_base::durable::{DurableError, Naming};
use heldout_data::Progress;
use heldout_kernels::{Device, Isa, Precision};
use heldout_record::study::{Arm, Study, StudyDir, TrialEvent, TrialFailed, TrialResult};
use heldout_record::{EvaluationRecord, Event, RecordError, RunDir, StopReason, read_metrics};

use super::plan::TrialSpec;
use crate::classify::split_loss;
use crate::control::{Control, Observer};
use crate::error::TrainError;
use crate::evaluate::{Split, evaluate_run_alone};
use crate::job::prepare_job;
use crate::launch::{Outcome, resume, train};
use crate::recipe::{Recipe, TaskKind};

/// How a trial's process leaves it.
#[derive(Clone, Debug, PartialEq)]
pub enum TrialEnd {
    /// Finished or failed; it is written to the run's folder.
    Ended(Box<TrialEvent>),
    /// Stopped with a checkpoint, to go on later.
    Interrupted,
}

/// What is kept of a trial's run beside its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// The model of the trial with the lowest validation loss, and of no other.
    #[default]
    Best,
    /// Every trial's model.
    Models,
    /// Models and checkpoints.
    All,
}

/// The recipe of an arm at a multiple of the recipe's learning rate.
pub fn arm_recipe(reference: &str, arm: &Arm, rate_factor: f64) -> Result<Recipe, TrainError> {
    let mut recipe = Recipe::parse(reference, "the study's recipe")?;
    for setting in &arm.settings {
        recipe.set(setting)?;
    }
    if rate_factor != 1.0 {
        let draft = recipe.draft()?;
        let rate = draft.optimizer.learning_rate.as_ref().map(|r| r.value);
        let rate = rate.expect("a resolved recipe has a rate") * rate_factor;
        recipe.set(&format!("optimizer.learning-rate={rate:e}"))?;
    }
    Ok(recipe)
}

/// Everything around a trial that is not the trial.
pub struct Surroundings<'a> {
    pub cache: &'a Path,
    pub threads: usize,
    pub keep: Keep,
    pub control: &'a Control,
}

/// Runs a trial from wherever it stands to its end. A folder that another process still holds is
/// waited for.
///
/// # Errors
/// What keeps any trial from running, such as a full disk. What is wrong with this trial alone is
/// no error but its end: [`TrialEvent::Failed`].
pub fn run_trial(
    folder: &StudyDir,
    study: &Study,
    spec: &TrialSpec,
    around: &Surroundings<'_>,
    observer: &mut dyn Observer,
) -> Result<TrialEnd, TrainError> {
    let run = folder.run(&spec.name());
    // A process whose study was killed may still be at work on it, and end it.
    let Some(_lock) = unless_stopping(around.control, || Ok(folder.lock_trial(&spec.name())?))?
    else {
        return Ok(TrialEnd::Interrupted);
    };
    if let Some(ended) = run.read_trial()? {
        return Ok(TrialEnd::Ended(Box::new(ended)));
    }
    // The run's own lock may be held by somebody else, such as an evaluation.
    let outcome =
        unless_stopping(around.control, || attempt(folder, study, spec, around, observer));
    let Some(outcome) = outcome.transpose() else { return Ok(TrialEnd::Interrupted) };
    let ended = match outcome {
        Ok(outcome) if outcome.reason == StopReason::Interrupted => {
            return Ok(TrialEnd::Interrupted);
        }
        Ok(outcome) if outcome.reason == StopReason::Diverged => {
            failed(spec, &outcome.detail, StopReason::Diverged, Some(&outcome))
        }
        Ok(outcome) => finished(&run, spec, &outcome, around)?,
        Err(error) if is_its_own(&error) => {
            failed(spec, &error.to_string(), StopReason::Failed, None)
        }
        Err(error) => return Err(error),
    };
    fs::create_dir_all(&run.root).naming("create", &run.root).map_err(RecordError::from)?;
    run.write_trial(&ended)?;
    // Only now: until here a resume would have needed them.
    tidy(&run, around.keep)?;
    Ok(TrialEnd::Ended(Box::new(ended)))
}

/// What `take` gives once nobody else holds it; nothing if the run is asked to stop before.
fn unless_stopping<T>(
    control: &Control,
    mut take: impl FnMut() -> Result<T, TrainError>,
) -> Result<Option<T>, TrainError> {
    loop {
        match take() {
            Err(TrainError::Record(RecordError::InUse(_))) if control.is_stopping() => {
                return Ok(None);
            }
            Err(TrainError::Record(RecordError::InUse(_))) => {
                std::thread::sleep(Duration::from_millis(200));
            }
            other => return other.map(Some),
        }
    }
}

/// Whether the trial's own recipe is at fault: no other trial need fail for it, and trying again
/// would not help.
fn is_its_own(error: &TrainError) -> bool {
    match error {
        TrainError::Lost { source, .. } => is_its_own(source),
        TrainError::Recipe(_)
        | TrainError::Model(_)
        | TrainError::Optimizer(_)
        | TrainError::Setting(_)
        | TrainError::NotLive(_) => true,
        _ => false,
    }
}

fn attempt(
    folder: &StudyDir,
    study: &Study,
    spec: &TrialSpec,
    around: &Surroundings<'_>,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    let run = folder.run(&spec.name());
    let mut quiet = |_: Progress| {};
    if run.recipe().exists() {
        return resume(run, around.cache, &mut quiet, observer, around.control);
    }
    let text = fs::read_to_string(folder.recipe()).naming("read", &folder.recipe());
    let text = text.map_err(RecordError::from)?;
    let arm = study.arms.iter().find(|arm| arm.name == spec.arm);
    let arm = arm.expect("a study's trials are of its own arms");
    let mut recipe = arm_recipe(&text, arm, spec.rate_factor)?;
    recipe.set(&format!("run.seed={}", spec.seed + arm.seed_offset))?;
    recipe.set(&format!("run.threads={}", around.threads))?;
    let mut job = prepare_job(&recipe, around.cache, &mut quiet)?;
    job.baselines = folder.read_baseline()?.map(|baseline| baseline.records).unwrap_or_default();
    clear(&run)?;
    let run = RunDir::create(&run.root)?;
    train(job, run, study.command_line.clone(), observer, around.control)
}

/// Removes what a process left that was killed before there was anything to go on from.
fn clear(run: &RunDir) -> Result<(), TrainError> {
    if !run.root.exists() {
        return Ok(());
    }
    let _lock = run.lock()?;
    let entries = fs::read_dir(&run.root).naming("list", &run.root);
    for entry in entries.map_err(RecordError::from)?.flatten() {
        remove(&entry.path()).map_err(RecordError::from)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), DurableError> {
    let Ok(found) = path.symlink_metadata() else { return Ok(()) };
    let removed = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.naming("remove", path)
}

fn finished(
    run: &RunDir,
    spec: &TrialSpec,
    outcome: &Outcome,
    around: &Surroundings<'_>,
) -> Result<TrialEvent, TrainError> {
    let Some((best, evaluation)) = outcome.best.zip(best_evaluation(run)?) else {
        let detail = "no evaluation gave a number";
        return Ok(failed(spec, detail, StopReason::Failed, Some(outcome)));
    };
    let (loss_valid, loss_valid_se) =
        outcome.whole_split.unwrap_or((best.loss_valid, best.loss_valid_se));
    // Scored once, by the weights that validation chose.
    let (loss_test, loss_test_se) = match spec.is_tuning {
        true => (f64::NAN, f64::NAN),
        false => {
            let device = device(run, around.threads)?;
            let draft = Recipe::read(&run.recipe())?.draft()?;
            let task = draft.data.task.as_ref().map(|task| TaskKind::named(task.value));
            if task == Some(TaskKind::Classification) {
                split_loss(&run.root, Split::Test, device)?
            } else {
                let test = evaluate_run_alone(run, Split::Test, around.cache, device)?;
                (test.loss, test.loss_se)
            }
        }
    };
    Ok(TrialEvent::Finished(TrialResult {
        trial: spec.name(),
        arm: spec.arm.clone(),
        seed: spec.seed,
        rate_factor: spec.rate_factor,
        is_tuning: spec.is_tuning,
        loss_valid,
        loss_valid_se,
        loss_test,
        loss_test_se,
        loss_train: evaluation.loss_train,
        gap: loss_valid - evaluation.loss_train,
        best_step: best.step,
        steps: outcome.step,
        seconds: outcome.seconds,
        reason: outcome.reason,
        run: relative(spec),
    }))
}

fn failed(
    spec: &TrialSpec,
    detail: &str,
    reason: StopReason,
    outcome: Option<&Outcome>,
) -> TrialEvent {
    TrialEvent::Failed(TrialFailed {
        trial: spec.name(),
        arm: spec.arm.clone(),
        seed: spec.seed,
        rate_factor: spec.rate_factor,
        is_tuning: spec.is_tuning,
        reason,
        detail: detail.to_owned(),
        steps: outcome.map_or(0, |o| o.step),
        seconds: outcome.map_or(0.0, |o| o.seconds),
        run: relative(spec),
    })
}

fn relative(spec: &TrialSpec) -> String {
    format!("runs/{}", spec.name())
}

/// The evaluation whose weights are the result.
fn best_evaluation(run: &RunDir) -> Result<Option<EvaluationRecord>, TrainError> {
    let events = read_metrics(&run.metrics())?.into_iter().rev();
    Ok(events.into_iter().find_map(|event| match event {
        Event::Evaluation(record) if record.best => Some(record),
        _ => None,
    }))
}

/// As the run was trained: its figures were measured with that precision.
fn device(run: &RunDir, threads: usize) -> Result<Arc<Device>, TrainError> {
    let draft = Recipe::read(&run.recipe())?.draft()?;
    let precision = match draft.run.precision.as_ref().map(|p| p.value) {
        Some("bf16") => Precision::Bf16,
        _ => Precision::F32,
    };
    let wanted = draft.run.isa.as_ref().map_or("auto", |isa| isa.value);
    let isa = Isa::ALL.into_iter().find(|isa| isa.name() == wanted);
    let isa = isa.unwrap_or_else(Device::detect_isa);
    Ok(Arc::new(Device::cpu_with_isa(threads, precision, isa)?))
}

/// Removes what `keep` does not ask for: checkpoints and TensorBoard's copy of the metrics. Models
/// are left for the study to choose among.
pub fn tidy(run: &RunDir, keep: Keep) -> Result<(), TrainError> {
    if keep == Keep::All {
        return Ok(());
    }
    for path in [run.best(), run.last(), run.checkpoints(), run.tensorboard()] {
        remove(&path).map_err(RecordError::from)?;
    }
    Ok(())
}

/// Removes a trial's model.
pub fn remove_model(run: &RunDir) -> Result<(), TrainError> {
    Ok(remove(&run.model()).map_err(RecordError::from)?)
}
