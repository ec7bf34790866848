//! `baseline.json`: the n-gram model that every arm has to beat, counted once for all trials.

use crate::events::BaselineRecord;
use crate::number;
use serde::{Deserialize, Serialize};

/// The n-gram model of a study's training tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StudyBaseline {
    /// What it reaches.
    pub figures: NgramFigures,
    /// What trials record instead of counting again: one for all of them, or one a seed where each
    /// seed evaluates a sample of its own.
    pub records: Vec<KeyedBaseline>,
}

/// What an n-gram model reaches on a study's splits, whole; nats per token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NgramFigures {
    /// How it is smoothed: "modified Kneser-Ney".
    pub smoothing: String,
    /// It looks at the last `order` − 1 tokens.
    pub order: u64,
    /// On validation.
    #[serde(with = "number")]
    pub loss_valid: f64,
    /// Its standard error, clustered by window.
    #[serde(with = "number")]
    pub loss_valid_se: f64,
    /// On the test split; NaN where it was not scored there.
    #[serde(with = "number")]
    pub loss_test: f64,
    /// Its standard error, clustered by window.
    #[serde(with = "number")]
    pub loss_test_se: f64,
}

/// A baseline and what it depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeyedBaseline {
    /// A hash of the prepared data, the context and the windows: a trial takes the record only
    /// where its own are the same.
    pub key: String,
    /// As it goes into a run's metrics.
    pub record: BaselineRecord,
}
