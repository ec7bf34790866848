//! What was found in labelled data, in plain numbers that a run records.

use crate::facts::{Example, InputFact};
use serde::{Deserialize, Serialize};

/// How long the examples of a split are, in tokens with special tokens, before truncation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    pub median: u64,
    /// Nineteen in twenty are not longer.
    pub percentile_95: u64,
    pub maximum: u64,
    pub mean: f64,
}

/// One split, after removal and after the subset was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LabelledSplitFacts {
    pub examples: u64,
    /// [classes]: examples of each.
    pub counts: Vec<u64>,
    /// Share of the commonest class: the accuracy of always saying it.
    pub majority: f64,
    pub lengths: Lengths,
    /// Share of the examples that were cut to the longest length.
    pub truncated: f64,
    /// Share of padding in this split's batches: of training over the first epoch, of the others
    /// in length order. Filled by whoever cuts the batches ([`super::LabelledBatches::padding`]).
    pub padding: f64,
    /// Tokens that stand for a character or word that the vocabulary lacks.
    pub unknown: u64,
}

/// Everything known about a prepared labelled set; counts are of what was found, unless the name
/// says removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LabelledFacts {
    pub inputs: Vec<InputFact>,
    /// SHA-256 over the inputs' SHA-256, in order.
    pub content_hash: String,
    /// The fields read.
    pub field_text: String,
    pub field_pair: Option<String>,
    pub field_label: String,
    /// What was inferred and why, in sentences; empty when every field was named.
    pub inferred: Vec<String>,
    /// [classes] label names, in the order of their numbers.
    pub labels: Vec<String>,
    /// How the split was made, in a sentence.
    pub split: String,
    pub train: LabelledSplitFacts,
    pub validation: LabelledSplitFacts,
    pub test: Option<LabelledSplitFacts>,
    /// Training examples there were before the subset was taken.
    pub train_available: u64,
    /// Examples whose text (case, white space and punctuation aside) occurred before in the same
    /// split with the same label.
    pub duplicates: u64,
    /// How many of these were taken out of training.
    pub duplicates_removed: u64,
    /// Training examples whose text occurs, or nearly occurs, in validation or test.
    pub leaks: u64,
    /// Of these, nearly (Jaccard index of word 5-grams at least 0.8).
    pub leaks_near: u64,
    /// How many of these were taken out of training.
    pub leaks_removed: u64,
    /// Validation examples whose text occurs, or nearly occurs, in test.
    pub leaks_validation_test: u64,
    /// Training examples whose text occurs in training with another label too: label noise.
    pub conflicts: u64,
    /// Up to 20 duplicates, leaks and conflicts (`kind` "exact", "near", "conflict").
    pub examples: Vec<Example>,
    /// "char", "byte", "bpe", "unigram", "wordpiece" or "file".
    pub tokenizer: String,
    pub vocabulary: u64,
    /// Longest length in tokens, special tokens included.
    pub max_length: u64,
    /// What the user should hear, in sentences.
    pub notices: Vec<String>,
}
