//! `examination.json`: what a look at a trained model showed that its metrics cannot tell.
//!
//! Calibration, memorisation, improbable tokens, passages in both splits, planted strings. Written
//! by `heldout diagnose`, so that a report can show it later without the model or the data.

use crate::error::RecordError;
use crate::number;
use heldout_base::durable::{self, Naming};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// Everything found; parts that were not looked at are absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Examination {
    /// Which weights: "result" (the best held-out ones) or "last".
    pub weights: String,
    /// How far confidence is from being right, on held-out text.
    pub calibration: Option<Calibration>,
    /// Continuations known by heart.
    pub memorization: Option<Memorization>,
    /// Tokens that the model ranks among the least likely.
    pub improbable: Option<Improbable>,
    /// Held-out windows that stand in the training text.
    pub overlap: Option<Overlap>,
    /// Planted strings.
    pub canaries: Vec<Canary>,
    /// What could not be looked at and why, one sentence each.
    pub notices: Vec<String>,
}

/// How far confidence is from being right (Guo et al. 2017, arXiv:1706.04599).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calibration {
    /// Predictions judged.
    pub targets: u64,
    /// Σ n_b/N · |accuracy_b − confidence_b| over the bins: the expected calibration error.
    #[serde(with = "number")]
    pub error: f64,
    /// Mean probability of the likeliest token.
    #[serde(with = "number")]
    pub confidence: f64,
    /// Share of likeliest tokens that were right.
    #[serde(with = "number")]
    pub accuracy: f64,
    /// Equal widths of confidence from 0 to 1.
    pub bins: Vec<CalibrationBin>,
    /// The temperature that gives the lowest loss; above 1 the model is too sure of itself.
    #[serde(with = "number")]
    pub temperature: f64,
    /// What that temperature gains, nats per token, on the predictions that it was fitted on.
    #[serde(with = "number")]
    pub temperature_gain: f64,
}

/// Predictions whose confidence lies in (low, high].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    #[serde(with = "number")]
    pub low: f64,
    #[serde(with = "number")]
    pub high: f64,
    pub count: u64,
    /// Their mean confidence; 0 where there are none.
    #[serde(with = "number")]
    pub confidence: f64,
    /// The share of them that was right; 0 where there are none.
    #[serde(with = "number")]
    pub accuracy: f64,
}

/// Greedy continuations of windows against what really follows (Carlini et al. 2022,
/// arXiv:2202.07646), with held-out windows as control.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memorization {
    /// Tokens that the model was given.
    pub prompt: u64,
    /// Tokens that it had to reproduce.
    pub continuation: u64,
    pub train: Reproduced,
    /// Only windows that do not stand in the training text.
    pub valid: Reproduced,
    /// A training passage that was reproduced, as text; empty where there is none.
    pub example: String,
}

/// Windows continued, and how well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reproduced {
    pub windows: u64,
    /// Continued word for word to the end.
    pub verbatim: u64,
    /// Mean number of tokens before the first difference.
    #[serde(with = "number")]
    pub matched: f64,
}

impl Reproduced {
    /// The share continued word for word; 0 of none.
    pub fn share(&self) -> f64 {
        self.verbatim as f64 / self.windows.max(1) as f64
    }
}

/// Tokens that rank in the lower half of the vocabulary where the model is more than half sure of
/// another one. Noise put there by chance does so half of the time, text hardly ever: twice the
/// share estimates the noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Improbable {
    pub vocabulary: u64,
    /// Training tokens where the model was more than half sure; and so on.
    pub targets_train: u64,
    pub below_train: u64,
    pub targets_valid: u64,
    pub below_valid: u64,
}

impl Improbable {
    /// Estimated share of training and held-out tokens that are noise, at most 1.
    pub fn noise(&self) -> [f64; 2] {
        let share = |below: u64, of: u64| (2.0 * below as f64 / of.max(1) as f64).min(1.0);
        [share(self.below_train, self.targets_train), share(self.below_valid, self.targets_valid)]
    }
}

/// Held-out windows that stand, token for token, in the training text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overlap {
    /// Tokens compared from the start of each window.
    pub length: u64,
    pub windows: u64,
    pub found: u64,
}

/// A planted string and how well the model knows it (Carlini et al. 2019, "The Secret Sharer",
/// arXiv:1802.08232).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Canary {
    pub text: String,
    /// −ln p of the whole string.
    #[serde(with = "number")]
    pub nats: f64,
    /// Its place among itself and the candidates, from 1: the likeliest.
    pub rank: u64,
    /// Random strings of the same form that it was compared with.
    pub candidates: u64,
    /// log₂(candidates + 1) − log₂(rank), in bits; rank 1 makes it a lower bound.
    #[serde(with = "number")]
    pub exposure: f64,
}

impl Examination {
    /// Writes it as indented JSON, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        let text = serde_json::to_string_pretty(self).expect("plain data with string keys");
        Ok(durable::write_file(path, |out| writeln!(out, "{text}"))?)
    }

    /// Reads it back; `None` where the run has not been examined.
    pub fn read(path: &Path) -> Result<Option<Examination>, RecordError> {
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read(path).naming("read", path)?;
        let read = serde_json::from_slice(&text).map_err(|error| RecordError::Format {
            path: path.to_owned(),
            line: Some(error.line() as u64),
            problem: format!("expected an examination: {error}"),
            next: "delete it; `heldout diagnose` writes it again",
        });
        read.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_survives_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("examination.json");
        assert_eq!(Examination::read(&path).expect("no file is no error"), None);
        let found = Examination {
            weights: "result".into(),
            calibration: Some(Calibration {
                error: f64::NAN,
                bins: vec![CalibrationBin::default(); 2],
                ..Calibration::default()
            }),
            canaries: vec![Canary { exposure: 9.97, rank: 1, ..Canary::default() }],
            ..Examination::default()
        };
        found.write(&path).expect("written");
        let read = Examination::read(&path).expect("read").expect("there");
        assert!(read.calibration.as_ref().is_some_and(|c| c.error.is_nan() && c.bins.len() == 2));
        assert_eq!(read.canaries, found.canaries);
        fs::write(&path, "{\n 3}").expect("damaged");
        let error = Examination::read(&path).expect_err("damaged").to_string();
        assert!(error.contains("line 2: expected an examination"), "{error}");
    }

    #[test]
    fn noise_is_twice_what_ranks_low() {
        let found = Improbable {
            vocabulary: 65,
            targets_train: 1000,
            below_train: 10,
            targets_valid: 0,
            below_valid: 0,
        };
        assert_eq!(found.noise(), [0.02, 0.0]);
        assert_eq!(Reproduced { windows: 8, verbatim: 2, matched: 3.0 }.share(), 0.25);
    }
}
