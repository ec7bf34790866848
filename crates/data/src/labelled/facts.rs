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

impl Lengths {
    /// Of so many examples.
    pub(crate) fn of(lengths: &[usize]) -> Lengths {
        let mut lengths = lengths.to_vec();
        lengths.sort_unstable();
        // The least length that at least this share of the examples does not exceed.
        let at = |share: f64| {
            let rank = (share * lengths.len() as f64).ceil() as usize;
            lengths.get(rank.saturating_sub(1)).map_or(0, |length| *length as u64)
        };
        let total: usize = lengths.iter().sum();
        Lengths {
            median: at(0.5),
            percentile_95: at(0.95),
            maximum: at(1.0),
            mean: total as f64 / lengths.len().max(1) as f64,
        }
    }
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
    /// Share of padding in batches of 32: of training over an epoch in pools of 50 batches, of the
    /// others in length order. Of other batches: [`super::LabelledBatches::padding`].
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

impl LabelledFacts {
    /// Says what the user should hear, as far as it is known without encoding.
    pub(crate) fn say(&mut self) {
        let mut say = Vec::new();
        if self.leaks > 0 {
            let fate = match self.leaks_removed {
                0 => "left in training as asked: held-out figures come out too good",
                _ => "taken out of training",
            };
            say.push(format!(
            "{} training example(s) have a text that occurs, or nearly occurs ({}), in held-out \
             data: {fate}",
            self.leaks, self.leaks_near
        ));
        }
        if self.leaks_validation_test > 0 {
            say.push(format!(
            "{} validation example(s) have a text that occurs, or nearly occurs, in test (nothing \
             was removed)",
            self.leaks_validation_test
        ));
        }
        if self.conflicts > 0 {
            say.push(format!(
            "{} training example(s) have a text that stands there with another label too: label \
             noise, which no model can learn",
            self.conflicts
        ));
        }
        let missing = |split: &LabelledSplitFacts| {
            let absent = split.counts.iter().zip(&self.labels).filter(|(count, _)| **count == 0);
            absent.map(|(_, name)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
        };
        let held_out = [("validation", Some(&self.validation)), ("test", self.test.as_ref())];
        for (name, split) in held_out.iter().filter_map(|(name, split)| Some((name, (*split)?))) {
            let absent = missing(split);
            if !absent.is_empty() {
                say.push(format!("the {name} split has no example of the class(es) {absent}"));
            }
        }
        if self.train.majority > 0.8 {
            let most = self.train.counts.iter().enumerate().max_by_key(|(_, count)| **count);
            let name = most.map_or("", |(class, _)| self.labels[class].as_str());
            say.push(format!(
                "the class \"{name}\" makes up {:.0}% of training: always answering it is that \
             accurate, so look at macro F1 and think of class weights",
                self.train.majority * 100.0
            ));
        }
        self.notices.extend(say);
    }
}
