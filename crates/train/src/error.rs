//! What can keep a run from starting or going on, and which exit code that deserves.

use std::path::PathBuf;

use heldout_data::DataError;
use heldout_kernels::DeviceError;
use heldout_measure::MeasureError;
use heldout_model::ModelError;
use heldout_optim::OptimError;
use heldout_record::RecordError;
use heldout_regularize::{NotLive, SettingError};

use crate::recipe::RecipeError;

/// A run that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Optimizer(#[from] OptimError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Measure(#[from] MeasureError),
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A technique that is in the plan but does nothing in this run.
    #[error("{0}; remove it from the recipe, or change what keeps it from acting")]
    NotLive(#[from] NotLive),
    #[error(
        "training needs about {needed_gib:.1} GiB and {available_gib:.1} GiB are free: {advice}, \
         or free some memory"
    )]
    Memory { needed_gib: f64, available_gib: f64, advice: &'static str },
    /// The checkpoint's files are whole, yet do not hold what they should.
    #[error(
        "{}: {problem}; resume from another checkpoint, or start the run anew",
        .path.display()
    )]
    State { path: PathBuf, problem: String },
    #[error(
        "the data of {} changed since the run began (content {found}, expected {expected}): \
         restore it, or start a new run",
        .run.display()
    )]
    DataChanged { run: PathBuf, expected: String, found: String },
    /// A planted string that says nothing about memory.
    #[error(
        "planted string {line:?} has fewer than {least} random letters or digits; put the random \
         part in braces, as in \"the code is {{4821}}\""
    )]
    Canary { line: String, least: usize },
    /// The files of a teacher are not those that the run began with.
    #[error(
        "the teacher {} changed since {} began (weights {found}, expected {expected}): \
         restore it, or start a new run",
        .path.display(), .run.display()
    )]
    TeacherChanged { run: PathBuf, path: PathBuf, expected: String, found: String },
    /// A model folder that cannot be opened.
    #[error("{}: {problem}", .path.display())]
    Folder { path: PathBuf, problem: String },
    /// A text to be scored without a label that the model knows.
    #[error(
        "{files}, line {line}: {} in the field \"{field}\"; the model knows {known}: name the \
         field that holds the label, or leave such records out",
        .found.as_ref().map_or("no label".into(), |found| format!("the unknown label {found:?}"))
    )]
    Label { files: String, line: u64, field: String, found: Option<String>, known: String },
    /// A command that works on other tasks only.
    #[error(
        "{what} needs a language model, and this is the task \"{task}\": \
         `heldout evaluate` and `heldout report` work on every task"
    )]
    Task { what: &'static str, task: &'static str },
    /// An arm of a study that cannot be trained.
    #[error("{source}\nThis is what keeps the arm {arm} from running; leave that technique out.")]
    Arm { arm: String, source: Box<TrainError> },
    /// A worker of a study met something that would stop any trial.
    #[error("{words}\nThis ended the trial {trial}; the study goes on with the same command.")]
    Worker { trial: String, words: String },
    /// The run stopped half-way; what was saved before is whole.
    #[error(
        "{source}\nThe run stopped after step {step}. {}",
        saved(.checkpoint, .run)
    )]
    Lost { source: Box<TrainError>, step: u64, checkpoint: Option<u64>, run: PathBuf },
}

fn saved(checkpoint: &Option<u64>, run: &std::path::Path) -> String {
    match checkpoint {
        Some(step) => format!(
            "The checkpoint of step {step} is whole: `heldout resume {}` goes on from it.",
            run.display()
        ),
        None => "No checkpoint had been written yet.".into(),
    }
}

/// What kind of exit an error deserves; the command line turns it into a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// Something failed while the run was on: 1.
    Failed,
    /// Bad usage, recipe or data: 2.
    BadInput,
}

impl TrainError {
    pub fn exit_kind(&self) -> ExitKind {
        use heldout_base::durable::Cause;
        match self {
            TrainError::Recipe(_)
            | TrainError::Model(_)
            | TrainError::Optimizer(_)
            | TrainError::Setting(_)
            | TrainError::Measure(_)
            | TrainError::NotLive(_)
            | TrainError::Memory { .. }
            | TrainError::DataChanged { .. }
            | TrainError::Canary { .. }
            | TrainError::Task { .. }
            | TrainError::Label { .. }
            | TrainError::TeacherChanged { .. }
            | TrainError::Folder { .. } => ExitKind::BadInput,
            TrainError::Data(DataError::Durable(error)) if error.cause != Cause::Missing => {
                ExitKind::Failed
            }
            TrainError::Data(_) => ExitKind::BadInput,
            TrainError::Record(error) => match error {
                RecordError::ForeignFolder(_)
                | RecordError::RunExists(_)
                | RecordError::NotARun { .. }
                | RecordError::NotAStudy { .. }
                | RecordError::Weights { .. }
                | RecordError::Tensor { .. } => ExitKind::BadInput,
                _ if error.cause() == Some(&Cause::Missing) => ExitKind::BadInput,
                _ => ExitKind::Failed,
            },
            TrainError::Arm { source, .. } => source.exit_kind(),
            TrainError::Device(_)
            | TrainError::State { .. }
            | TrainError::Worker { .. }
            | TrainError::Lost { .. } => ExitKind::Failed,
        }
    }
}
