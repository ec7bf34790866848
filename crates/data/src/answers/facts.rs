//! What was found in questions and answers, in plain numbers that a run records.

use serde::{Deserialize, Serialize};

use crate::facts::{Example, InputFact};
use crate::labelled::Lengths;

/// One split, after removal and after the subset was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnswerSplitFacts {
    pub questions: u64,
    /// Different contexts.
    pub paragraphs: u64,
    /// Questions that their context does not answer.
    pub unanswerable: u64,
    /// Windows that the contexts were cut into: as many as questions where each fits one.
    pub windows: u64,
    /// Tokens of question, context and special tokens, before they are cut.
    pub lengths: Lengths,
}

/// Everything known about prepared questions; counts are of what was found, unless the name says
/// removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnswerFacts {
    pub inputs: Vec<InputFact>,
    /// SHA-256 over the inputs' SHA-256, in order.
    pub content_hash: String,
    /// How the split was made, in a sentence.
    pub split: String,
    pub train: AnswerSplitFacts,
    pub validation: AnswerSplitFacts,
    pub test: Option<AnswerSplitFacts>,
    /// Training questions there were before the subset was taken.
    pub train_available: u64,
    /// Questions that occurred before with the same context in the same split.
    pub duplicates: u64,
    /// How many of these were taken out of training.
    pub duplicates_removed: u64,
    /// Training paragraphs that occur, or nearly occur, in validation or test.
    pub leaks: u64,
    /// Of these, nearly (Jaccard index of word 5-grams at least 0.8).
    pub leaks_near: u64,
    /// Training questions that were taken out with them.
    pub leaks_removed: u64,
    /// Validation paragraphs that occur, or nearly occur, in test.
    pub leaks_validation_test: u64,
    /// Up to 14 leaks (`kind` "exact" or "near").
    pub examples: Vec<Example>,
    /// Training answers of which the tokenizer leaves nothing: their questions teach "no answer".
    pub lost: u64,
    /// "char", "byte", "bpe", "unigram", "wordpiece" or "file".
    pub tokenizer: String,
    pub vocabulary: u64,
    /// Longest window in tokens, question and special tokens included.
    pub max_length: u64,
    /// Tokens by which a window starts after the one before.
    pub stride: u64,
    /// What the user should hear, in sentences.
    pub notices: Vec<String>,
}

impl AnswerFacts {
    /// Says what the user should hear, as far as it is known without encoding.
    pub(crate) fn say(&mut self) {
        let mut say = Vec::new();
        if self.leaks > 0 {
            let fate = match self.leaks_removed {
                0 => "left in training as asked: held-out figures come out too good".to_string(),
                n => format!("their {n} question(s) were taken out of training"),
            };
            say.push(format!(
                "{} training paragraph(s) occur, or nearly occur ({}), in held-out data: {fate}",
                self.leaks, self.leaks_near
            ));
        }
        if self.leaks_validation_test > 0 {
            say.push(format!(
                "{} validation paragraph(s) occur, or nearly occur, in test (nothing was removed)",
                self.leaks_validation_test
            ));
        }
        if (self.train.unanswerable == 0) != (self.validation.unanswerable == 0) {
            let [with, without] = match self.train.unanswerable {
                0 => ["validation", "training"],
                _ => ["training", "validation"],
            };
            say.push(format!(
                "the {with} split has questions without an answer, the {without} split has none: \
                 their figures cannot be compared"
            ));
        }
        self.notices.extend(say);
    }

    /// Whether "no answer" is something that the model learns to say.
    pub fn has_unanswerable(&self) -> bool {
        self.train.unanswerable > 0
    }
}
