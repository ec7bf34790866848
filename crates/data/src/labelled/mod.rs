//! Labelled text: from files with a text and a label to batches for a classifier.
//!
//! The way of a data set: [`prepare_labelled`] reads the records ([`read_labelled`] is that half
//! alone: fields, label names, splits, duplicates, leaks), takes a subset where one is asked for,
//! trains or loads a tokenizer, and encodes every example once. [`LabelledBatches`] and
//! [`LabelledEvaluation`] cut batches from the [`EncodedExamples`]; both are pure functions of
//! their arguments, so a run resumes by asking for the next step. Everything lies in memory: a
//! labelled set has thousands of examples, seldom millions.

mod batches;
mod encode;
mod evaluation;
mod facts;
mod fields;
pub(crate) mod frame;
mod labels;
pub(crate) mod leaks;
mod lines;
mod prepare;
mod read;
mod split;

pub(crate) use batches::padded;
pub use batches::{Augmented, Bucketing, LabelledBatch, LabelledBatches, LabelledPlan, LastBatch};
pub use encode::{ENCODER_TOKENS, EncodedExamples, EncodedText, Encoder, SpecialTokens};
pub use evaluation::LabelledEvaluation;
pub use facts::{LabelledFacts, LabelledSplitFacts, Lengths};
pub(crate) use fields::{Wanted, missing, quoted};
pub use labels::{Labels, balanced_weights, class_counts, stratified};
pub(crate) use leaks::{find as find_leaks, key};
pub use lines::LineReader;
pub use prepare::{
    LabelledData, LabelledExample, LabelledSpec, PreparedLabelled, prepare_labelled, read_labelled,
};
pub use read::{FieldNames, Place, TextRecord, for_each_text};
pub(crate) use split::{Share, by_share, share};
