//! What was found in pairs of texts, in plain numbers that a run records.

use crate::facts::{Example, InputFact};
use crate::labelled::Lengths;
use serde::{Deserialize, Serialize};

/// One side of a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SideFacts {
    /// In tokens with special tokens, before truncation.
    pub lengths: Lengths,
    /// Share of the texts that were cut to the longest length.
    pub truncated: f64,
    /// Tokens that stand for a character or word that the vocabulary lacks.
    pub unknown: u64,
    /// UTF-8 characters of a text, in the mean.
    pub characters: f64,
}

/// One split, after removal and after the subset was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairSplitFacts {
    pub pairs: u64,
    pub source: SideFacts,
    pub target: SideFacts,
    /// The most targets that a source has to be compared with.
    pub references: u64,
    /// Pairs whose target is the source.
    pub copies: u64,
    /// Share of padding, both sides together, in batches of 32.
    pub padding: f64,
}

/// Everything known about prepared pairs; counts are of what was found, unless the name says
/// removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairFacts {
    pub inputs: Vec<InputFact>,
    /// SHA-256 over the inputs' SHA-256, in order.
    pub content_hash: String,
    /// The field, or the file, of each side.
    pub source: String,
    pub target: String,
    /// What was inferred and why, in sentences; empty when everything was named.
    pub inferred: Vec<String>,
    /// How the split was made, in a sentence.
    pub split: String,
    pub train: PairSplitFacts,
    pub validation: PairSplitFacts,
    pub test: Option<PairSplitFacts>,
    /// Training pairs there were before the subset was taken.
    pub train_available: u64,
    /// Training pairs that occurred before, both sides alike (case, white space and punctuation
    /// aside).
    pub duplicates: u64,
    /// How many of these were taken out.
    pub duplicates_removed: u64,
    /// Training pairs whose source occurs, or nearly occurs, in validation or test.
    pub leaks: u64,
    /// Of these, nearly (Jaccard index of word 5-grams at least 0.8).
    pub leaks_near: u64,
    /// How many of these were taken out of training.
    pub leaks_removed: u64,
    /// Validation pairs whose source occurs, or nearly occurs, in test.
    pub leaks_validation_test: u64,
    /// Up to 20 leaks (`kind` "exact" or "near").
    pub examples: Vec<Example>,
    /// "char", "byte", "bpe", "unigram", "wordpiece" or "file".
    pub tokenizer: String,
    pub vocabulary: u64,
    /// Longest length of either side in tokens, special tokens included.
    pub max_length: u64,
    /// What the user should hear, in sentences.
    pub notices: Vec<String>,
}

/// Targets this much shorter than their sources, in characters, are summaries.
const SUMMARY: f64 = 0.5;

impl PairFacts {
    /// Whether targets are summaries: in the mean less than half as long as their sources.
    pub fn is_summary(&self) -> bool {
        self.train.target.characters < SUMMARY * self.train.source.characters
    }

    /// Says what the user should hear, as far as it is known without encoding.
    pub(crate) fn say(&mut self) {
        let mut say = Vec::new();
        if self.leaks > 0 {
            let fate = match self.leaks_removed {
                0 => "left in training as asked: held-out figures come out too good",
                _ => "taken out of training",
            };
            say.push(format!(
                "{} training pair(s) have a source that occurs, or nearly occurs ({}), in held-out \
                 data: {fate}",
                self.leaks, self.leaks_near
            ));
        }
        if self.leaks_validation_test > 0 {
            say.push(format!(
                "{} validation pair(s) have a source that occurs, or nearly occurs, in test \
                 (nothing was removed)",
                self.leaks_validation_test
            ));
        }
        let copies = self.train.copies as f64 / self.train.pairs.max(1) as f64;
        if copies > 0.05 {
            say.push(format!(
                "{:.0}% of the training pairs have the same text on both sides: a model learns to \
                 copy from them",
                copies * 100.0
            ));
        }
        self.notices.extend(say);
    }
}
