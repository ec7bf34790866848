//! Changing training texts a little, anew every epoch, so that a small set is not learned by heart.
//!
//! The four edits of EDA (Wei & Zou 2019, arXiv 1901.11196: random deletion, swap, insertion and
//! synonym replacement), random masking, and reordering of sentences. Each is a pure function of
//! (text, rate, seed, epoch, example), so a resumed run sees the same texts.

mod lexicon;

use crate::error::DataError;
pub use lexicon::Lexicon;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One kind of edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edit {
    /// Each word is left out with the probability of the rate; never all of them.
    Deletion,
    /// Words change places pairwise; rate · words times.
    Swap,
    /// A synonym of a random word is put at a random place; rate · words times.
    Insertion,
    /// A word is replaced by a synonym; rate · words times.
    Synonym,
    /// Each word becomes the mask word with the probability of the rate.
    Mask,
    /// The sentences change their order with the probability of the rate.
    SentenceOrder,
}

impl Edit {
    /// All edits with the names used in recipes.
    pub const ALL: [(&'static str, Edit); 6] = [
        ("deletion", Edit::Deletion),
        ("swap", Edit::Swap),
        ("insertion", Edit::Insertion),
        ("synonym", Edit::Synonym),
        ("mask", Edit::Mask),
        ("sentence-order", Edit::SentenceOrder),
    ];

    /// The name used in recipes.
    pub fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, edit)| *edit == self);
        named.expect("every edit is listed").0
    }

    /// Whether the edit needs a lexicon of synonyms.
    pub fn needs_lexicon(self) -> bool {
        matches!(self, Edit::Insertion | Edit::Synonym)
    }

    /// Whether the edit leaves right what `task` asks for.
    pub fn safe_for(self, _task: TextTask) -> Result<(), &'static str> {
        todo!()
    }
}

/// What the texts are for: decides which edits leave the answer right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextTask {
    /// One label a text.
    Classification,
    /// One label a pair of texts (inference, paraphrase).
    PairClassification,
    /// One label a word.
    TokenClassification,
    /// An answer that is a span of the text.
    QuestionAnswering,
    /// Text to text.
    SequenceToSequence,
    /// The text itself is the target.
    LanguageModel,
}

/// One edit with its rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub edit: Edit,
    /// From 0 (nothing changes) to 1; EDA's α.
    pub rate: f64,
}

/// What to do to a text.
#[derive(Clone, Debug, PartialEq)]
pub struct AugmentSpec {
    /// Applied in this order.
    pub steps: Vec<Step>,
    /// Share of the examples that are changed in an epoch; the others stay as they are.
    pub share: f64,
    /// Of these examples, each gets all steps, or one of them at random (as EDA).
    pub choice: Choice,
    /// The word that [`Edit::Mask`] writes: the tokenizer's mask token, else its unknown token.
    pub mask: Option<String>,
    pub seed: u64,
}

/// Which steps an example gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// All, one after another.
    All,
    /// One of them, at random.
    #[default]
    One,
}

/// Changes texts; cloning shares the lexicon.
#[derive(Clone, Debug)]
pub struct Augmenter {
    spec: AugmentSpec,
    lexicon: Option<Arc<Lexicon>>,
}

/// A text before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// Index of the example.
    pub index: u64,
    pub epoch: u64,
    pub before: String,
    pub after: String,
    /// The edits that were applied.
    pub edits: Vec<Edit>,
}

impl Augmenter {
    /// Checks the list against the task.
    ///
    /// # Errors
    /// A rate or share outside [0, 1]; an edit that spoils the task; synonyms without a lexicon;
    /// masking without a mask word; an empty list.
    pub fn new(
        spec: AugmentSpec,
        task: TextTask,
        lexicon: Option<Arc<Lexicon>>,
    ) -> Result<Self, DataError> {
        let _ = task;
        Ok(Augmenter { spec, lexicon })
    }

    /// The text of example `index` in epoch `epoch`.
    pub fn apply(&self, _text: &str, _epoch: u64, _index: u64) -> String {
        let _ = (&self.spec, &self.lexicon);
        todo!()
    }

    /// The first `count` of `texts` before and after, as they come in `epoch`.
    pub fn preview<'a>(
        &self,
        _texts: impl IntoIterator<Item = &'a str>,
        _count: usize,
        _epoch: u64,
    ) -> Vec<Preview> {
        todo!()
    }
}
