//! Changing training texts a little, anew every epoch, so that a small set is not learned by heart.
//!
//! The four edits of EDA (Wei & Zou 2019, arXiv 1901.11196: random deletion, swap, insertion and
//! synonym replacement), random masking, and reordering of sentences. Each is a pure function of
//! (text, rate, seed, epoch, example), so a resumed run sees the same texts. Words are what stands
//! between spaces; in scripts without spaces the longest words of the lexicon, else characters.
//!
//! "rate · words times" means so often in the mean: 0.1 of 15 words is once or twice. (EDA rounds
//! down and never below once, which changes short texts more than the rate says.)

mod edits;
mod lexicon;
mod words;

use crate::error::DataError;
use edits::Draws;
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
    /// Spans of words, three long in the mean, become one mask word each; rate · words in all.
    Span,
    /// The sentences change their order with the probability of the rate.
    SentenceOrder,
}

impl Edit {
    /// All edits with the names used in recipes.
    pub const ALL: [(&'static str, Edit); 7] = [
        ("deletion", Edit::Deletion),
        ("swap", Edit::Swap),
        ("insertion", Edit::Insertion),
        ("synonym", Edit::Synonym),
        ("mask", Edit::Mask),
        ("span", Edit::Span),
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

    /// Whether the edit leaves right what `task` asks for; if not, why.
    ///
    /// # Errors
    /// The reason, as half a sentence.
    pub fn safe_for(self, task: TextTask) -> Result<(), &'static str> {
        let reorders = matches!(self, Edit::Swap | Edit::SentenceOrder);
        match task {
            TextTask::Classification => Ok(()),
            TextTask::PairClassification if reorders || self == Edit::Deletion => {
                Err("whether two texts agree hangs on the order of words and on every \"not\"")
            }
            TextTask::PairClassification => Ok(()),
            TextTask::TokenClassification if self == Edit::Mask => Ok(()),
            TextTask::TokenClassification => {
                Err("every word has a label of its own, and words would move away from theirs")
            }
            TextTask::QuestionAnswering => {
                Err("answers are places in the text, and edits would move or destroy them")
            }
            TextTask::SequenceToSequence if reorders => {
                Err("the target follows the order of the source")
            }
            TextTask::SequenceToSequence => Ok(()),
            TextTask::LanguageModel => Err("the text itself is what the model learns to write"),
        }
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

impl TextTask {
    /// In words, for messages.
    pub fn name(self) -> &'static str {
        match self {
            TextTask::Classification => "classification",
            TextTask::PairClassification => "classification of pairs",
            TextTask::TokenClassification => "token classification",
            TextTask::QuestionAnswering => "question answering",
            TextTask::SequenceToSequence => "translation and summarisation",
            TextTask::LanguageModel => "language modelling",
        }
    }
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

impl AugmentSpec {
    /// The four edits of EDA at one rate, one of them on every second example of an epoch; without
    /// a lexicon only the two that need none.
    pub fn eda(rate: f64, lexicon: Option<&Lexicon>, seed: u64) -> Self {
        let all = [Edit::Synonym, Edit::Insertion, Edit::Swap, Edit::Deletion];
        let can = |edit: &Edit| lexicon.is_some() || !edit.needs_lexicon();
        let steps = all.into_iter().filter(can).map(|edit| Step { edit, rate }).collect();
        AugmentSpec { steps, share: 0.5, choice: Choice::One, mask: None, seed }
    }
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
        let refuse = |words: String| Err(DataError::Augmentation(words));
        let names: Vec<&str> = Edit::ALL.iter().map(|(name, _)| *name).collect();
        if spec.steps.is_empty() {
            return refuse(format!("no edit is named. Name some of: {}", names.join(", ")));
        }
        if !(0.0..=1.0).contains(&spec.share) {
            return refuse(format!("a share of {} is not between 0 and 1", spec.share));
        }
        for Step { edit, rate } in &spec.steps {
            let name = edit.name();
            if !(0.0..=1.0).contains(rate) {
                return refuse(format!("{name}: a rate of {rate} is not between 0 and 1"));
            }
            if let Err(reason) = edit.safe_for(task) {
                return refuse(format!("{name} is not safe for {}: {reason}", task.name()));
            }
            if edit.needs_lexicon() && lexicon.as_ref().is_none_or(|lexicon| lexicon.is_empty()) {
                return refuse(format!(
                    "{name} needs synonyms. Give a lexicon: the folder of WordNet's data files, or \
                     lines of word<TAB>synonym synonym"
                ));
            }
            if matches!(edit, Edit::Mask | Edit::Span)
                && spec.mask.as_deref().is_none_or(str::is_empty)
            {
                return refuse(format!(
                    "{name} needs a word to write, and this tokenizer has neither a mask token nor \
                     an unknown token. Leave it out, or use deletion"
                ));
            }
        }
        Ok(Augmenter { spec, lexicon })
    }

    /// What it does.
    pub fn spec(&self) -> &AugmentSpec {
        &self.spec
    }

    /// The text of example `index` in epoch `epoch`.
    pub fn apply(&self, text: &str, epoch: u64, index: u64) -> String {
        self.edit(text, epoch, index).0
    }

    /// The text and the edits that changed it.
    pub fn edit(&self, text: &str, epoch: u64, index: u64) -> (String, Vec<Edit>) {
        let mut draws = Draws::new(self.spec.seed, epoch, index);
        let mut out = text.to_string();
        if draws.uniform() >= self.spec.share {
            return (out, Vec::new());
        }
        let steps = match self.spec.choice {
            Choice::All => &self.spec.steps[..],
            Choice::One => {
                let chosen = draws.below(self.spec.steps.len());
                &self.spec.steps[chosen..=chosen]
            }
        };
        let mut edits = Vec::new();
        for Step { edit, rate } in steps {
            let lexicon = self.lexicon.as_deref();
            let mask = self.spec.mask.as_deref().unwrap_or_default();
            let changed = match edit {
                Edit::Deletion => edits::delete(&out, *rate, lexicon, &mut draws),
                Edit::Swap => edits::swap(&out, *rate, lexicon, &mut draws),
                Edit::Insertion => edits::insert(&out, *rate, lexicon, &mut draws),
                Edit::Synonym => edits::synonyms(&out, *rate, lexicon, &mut draws),
                Edit::Mask => edits::mask(&out, *rate, lexicon, mask, &mut draws),
                Edit::Span => edits::spans(&out, *rate, lexicon, mask, &mut draws),
                Edit::SentenceOrder => edits::sentence_order(&out, *rate, &mut draws),
            };
            if changed != out {
                edits.push(*edit);
                out = changed;
            }
        }
        (out, edits)
    }

    /// The first `count` of `texts` before and after, as they come in `epoch`; texts that this
    /// epoch leaves as they are have no edits.
    pub fn preview<'a>(
        &self,
        texts: impl IntoIterator<Item = &'a str>,
        count: usize,
        epoch: u64,
    ) -> Vec<Preview> {
        let one = |(index, before): (u64, &str)| {
            let (after, edits) = self.edit(before, epoch, index);
            Preview { index, epoch, before: before.to_string(), after, edits }
        };
        (0..).zip(texts).take(count).map(one).collect()
    }
}
