//! What a run that answers questions tells about itself: what it has to beat, what it reaches.

use crate::number;
use serde::{Deserialize, Serialize};

/// What a model that answers questions has to beat, on the same held-out questions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnswerBaselineRecord {
    /// What the rule is called: "word overlap".
    pub name: String,
    /// Its figures.
    pub rule: AnswerFigures,
    /// Always saying that there is no answer, where that is right for some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silence: Option<AnswerFigures>,
    /// Held-out questions that both were scored on.
    pub examples: u64,
    /// Time it took, in seconds.
    #[serde(with = "number")]
    pub seconds: f64,
}

/// SQuAD's scores, between 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnswerFigures {
    /// Share of answers that are a right one, word by word.
    #[serde(with = "number")]
    pub exact_match: f64,
    /// Mean F1 of an answer's words.
    #[serde(with = "number")]
    pub f1: f64,
}

/// What a model's answers are worth, and which are most wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnswersRecord {
    /// Updates made when the run ended.
    pub step: u64,
    /// Held-out questions.
    pub questions: u64,
    /// Share of answers that are a right one, word by word.
    pub exact_match: IntervalRecord,
    /// Mean F1 of an answer's words.
    pub f1: IntervalRecord,
    /// The worst first.
    pub most_wrong: Vec<WrongAnswerRecord>,
}

/// A figure with its 95% bootstrap interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IntervalRecord {
    /// The figure.
    #[serde(with = "number")]
    pub value: f64,
    /// The interval's lower end.
    #[serde(with = "number")]
    pub low: f64,
    /// Its upper end.
    #[serde(with = "number")]
    pub high: f64,
}

/// A question that was answered wrongly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WrongAnswerRecord {
    /// Its id.
    pub id: String,
    /// The line of its record in its file.
    pub line: u64,
    /// The question.
    pub question: String,
    /// The first right answer; empty where there is none.
    pub answer: String,
    /// What was said; empty where nothing was.
    pub said: String,
    /// F1 of its words.
    #[serde(with = "number")]
    pub f1: f64,
    /// The probability that the model gave it.
    #[serde(with = "number")]
    pub score: f64,
}
