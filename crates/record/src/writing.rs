//! The records of a model that writes texts: what it wrote, how good it is, and what needs no
//! model.

use crate::number;
use serde::{Deserialize, Serialize};

/// What a model that writes texts has to beat, on the sample that its evaluations see.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextBaselineRecord {
    /// The source itself, its beginning.
    pub methods: Vec<MethodRecord>,
    /// Held-out pairs that they were scored on.
    pub pairs: u64,
}

/// Scores of one way to write a text without a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MethodRecord {
    /// "copy the source", "lead-3".
    pub name: String,
    /// In the order in which a network's are told.
    pub figures: Vec<FigureRecord>,
}

/// A figure; higher is better.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FigureRecord {
    /// "bleu", "rouge1".
    pub name: String,
    #[serde(with = "number")]
    pub value: f64,
}

/// What a seq2seq result writes for held-out sources, with beams, and how good it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WritingRecord {
    /// The step at which the run ended.
    pub step: u64,
    /// Held-out pairs that were written and scored.
    pub pairs: u64,
    /// Texts followed at a time.
    pub beams: u64,
    /// Scores with their bootstrap intervals, the one that decides first.
    pub figures: Vec<FigureIntervalRecord>,
    /// How the scores were computed, where there is a notation for it (sacreBLEU's).
    pub signatures: Vec<String>,
    /// What needs no model, in the first of the figures.
    pub beside: Vec<BesideRecord>,
    /// Texts that are nearest to their references, and furthest from them.
    pub best: Vec<WrittenRecord>,
    pub worst: Vec<WrittenRecord>,
}

/// A figure with a 95% interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FigureIntervalRecord {
    pub name: String,
    #[serde(with = "number")]
    pub value: f64,
    #[serde(with = "number")]
    pub low: f64,
    #[serde(with = "number")]
    pub high: f64,
}

/// A way to write without a model, and how much better the network is than it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BesideRecord {
    pub name: String,
    /// What it reaches.
    #[serde(with = "number")]
    pub value: f64,
    /// By how much the network is better, with its paired 95% interval.
    #[serde(with = "number")]
    pub better: f64,
    #[serde(with = "number")]
    pub low: f64,
    #[serde(with = "number")]
    pub high: f64,
}

/// A text as it was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WrittenRecord {
    /// Line of the pair in its file.
    pub line: u64,
    /// Its beginning.
    pub source: String,
    /// What it was compared with; the first of several.
    pub reference: String,
    pub written: String,
    /// Of this text alone: sentence BLEU, or ROUGE-L.
    #[serde(with = "number")]
    pub score: f64,
}
