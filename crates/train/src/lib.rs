//! Recipe to plan to loop to evaluation to checkpoint.
//!
//! The way of a run: [`recipe::Recipe`] reads what the user wrote, [`prepare_job`] prepares the
//! data and fills in everything else, [`train`] runs the loop into a run folder, [`resume`] goes on
//! with it. [`Observer`] sees every event as it is recorded; [`Control`] asks a run to stop.

mod advise;
mod answering;
mod augmentation;
mod bag;
mod baseline;
mod checkpointing;
mod classify;
mod control;
mod ensemble;
mod error;
mod evaluate;
mod evaluate_masked;
mod evaluation;
mod examine;
mod horizon;
mod job;
mod launch;
pub mod lr_find;
pub mod memory;
mod meter;
mod movement;
mod overlap;
mod passes;
mod receipts;
pub mod recipe;
mod recorder;
mod room;
mod run;
mod saving;
pub mod session;
mod spans;
mod state;
pub mod study;
mod task;
mod teachers;
mod trainer;
mod translate;
mod validation;
mod writing;

pub use advise::{Advice, Choice, Figures, Regime, advise};
pub use answering::{AnswerEvaluation, Answered, Answerer, BesideAnswers, evaluate_answers};
pub use augmentation::{ChangedText, preview};
pub use baseline::{BaselineEvaluation, Reference};
pub use classify::{
    BesideLabels, ClassEvaluation, Classifier, Estimate, LabelEvaluation, Mistake, Prediction,
    evaluate_labels,
};
pub use control::{Control, Observer};
pub use ensemble::{Ensemble, EnsembleText, Member, MemberScore, evaluate_ensemble};
pub use error::{ExitKind, TrainError};
pub use evaluate::{
    Evaluation, Split, TextFiles, evaluate_files, evaluate_files_beside, evaluate_run,
};
pub use evaluate_masked::{MaskedScore, evaluate_masked};
pub use evaluation::{Score, bits_per_byte};
pub use examine::canaries::CanarySpec;
pub use examine::{ExamineSpec, Which, examine_run};
pub use heldout_data::Progress;
pub use horizon::Horizon;
pub use job::{Job, prepare_job};
pub use launch::{Outcome, resume, train};
pub use spans::{Reply, Silence, SpanRule};
pub use state::{Best, Weights};
pub use task::{Corpus, CorpusFacts, Predictions};
pub use translate::{
    TextEvaluation, Translation, Translator, WritingOptions, evaluate_texts, evaluate_texts_of,
};

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod passes_tests;
#[cfg(test)]
mod saving_tests;
