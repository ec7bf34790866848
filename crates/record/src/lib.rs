//! A run on disk: manifest, events, metrics, checkpoints; the only crate that knows these formats.

mod answers;
pub mod checkpoint;
mod checksums;
mod error;
mod events;
pub mod examination;
pub mod manifest;
mod metrics;
mod number;
mod papers;
pub mod profile;
mod room;
mod run_dir;
mod staging;
pub mod study;
mod tensorboard;
pub mod weights;

pub use answers::{
    AnswerBaselineRecord, AnswerFigures, AnswersRecord, IntervalRecord, WrongAnswerRecord,
};
pub use checkpoint::Checkpoint;
pub use error::RecordError;
pub use events::{
    BaselineRecord, CheckpointRecord, ConfusionRecord, DataRecord, EvaluationRecord, Event,
    GuardRecord, LabelBaselineRecord, MetricRecord, Notice, OpRecord, OrderRecord, ProfileRecord,
    Receipt, SampleRecord, SimpleRecord, Started, StepRecord, StopReason, Stopped, TimingRecord,
    WrongRecord,
};
pub use examination::Examination;
pub use manifest::Manifest;
pub use metrics::{MetricsLog, read_metrics};
pub use papers::{Papers, RecipeLine};
pub use run_dir::{RunDir, RunLock};
pub use tensorboard::TensorBoard;
