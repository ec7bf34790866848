//! `trials.jsonl`: what became of each trial and each look, a line each, synced as it is written.

use crate::error::RecordError;
use crate::events::StopReason;
use crate::number;
use heldout_base::durable::{self, Naming};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A line of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TrialEvent {
    /// A worker began a trial; once for each trial.
    Started(TrialBegun),
    /// A worker goes on with a trial that another one left.
    Resumed(TrialBegun),
    /// A trial has its result.
    Finished(TrialResult),
    /// A trial ended without a result (it diverged, or could not run); that is a result, too.
    Failed(TrialFailed),
    /// The evidence was looked at.
    Looked(Look),
}

impl TrialEvent {
    /// The trial's name, where the line is about one.
    pub fn trial(&self) -> Option<&str> {
        match self {
            TrialEvent::Started(begun) | TrialEvent::Resumed(begun) => Some(&begun.trial),
            TrialEvent::Finished(result) => Some(&result.trial),
            TrialEvent::Failed(failed) => Some(&failed.trial),
            TrialEvent::Looked(_) => None,
        }
    }
}

/// A trial begins or goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialBegun {
    /// Its name, which is that of its folder below `runs/`.
    pub trial: String,
    /// The arm's name.
    pub arm: String,
    /// Of everything random but the split.
    pub seed: u64,
    /// When, in UTC.
    pub time: String,
}

/// What a trial reached. Losses in nats per token, all of the weights that were best on
/// validation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    /// Its name.
    pub trial: String,
    /// The arm's name.
    pub arm: String,
    /// Of everything random but the split.
    pub seed: u64,
    /// Of the recipe's learning rate.
    pub rate_factor: f64,
    /// Whether it only chose the arm's learning rate.
    #[serde(default)]
    pub is_tuning: bool,
    /// On the validation split, by which the weights were chosen.
    #[serde(with = "number")]
    pub loss_valid: f64,
    /// Its standard error over windows of text.
    #[serde(with = "number")]
    pub loss_valid_se: f64,
    /// On the test split, which chose nothing.
    #[serde(with = "number")]
    pub loss_test: f64,
    /// Its standard error over windows of text.
    #[serde(with = "number")]
    pub loss_test_se: f64,
    /// On the training sample, measured alike.
    #[serde(with = "number")]
    pub loss_train: f64,
    /// `loss_valid − loss_train`.
    #[serde(with = "number")]
    pub gap: f64,
    /// The step of the best weights.
    pub best_step: u64,
    /// Updates made in all.
    pub steps: u64,
    /// Training time, evaluations included, stops not counted.
    #[serde(with = "number")]
    pub seconds: f64,
    /// Why the run ended.
    pub reason: StopReason,
    /// The run's folder, relative to the study.
    pub run: String,
}

/// A trial without a result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialFailed {
    /// Its name.
    pub trial: String,
    /// The arm's name.
    pub arm: String,
    /// Of everything random but the split.
    pub seed: u64,
    /// Of the recipe's learning rate.
    pub rate_factor: f64,
    /// Whether it was to choose the arm's learning rate.
    #[serde(default)]
    pub is_tuning: bool,
    /// `Diverged`, or `Failed` with an error.
    pub reason: StopReason,
    /// The reason in one sentence.
    pub detail: String,
    /// Updates made.
    pub steps: u64,
    /// Training time.
    #[serde(with = "number")]
    pub seconds: f64,
    /// The run's folder, relative to the study.
    pub run: String,
}

/// A look at the evidence, after every arm still wanted had run with the first `seeds` seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// How many seeds.
    pub seeds: u64,
    /// The share of the level that this look spends; all looks together spend 1 at most.
    pub share: f64,
    /// What it found, contrast by contrast; those settled before are left out.
    pub findings: Vec<Finding>,
}

/// One contrast at one look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The contrast's name.
    pub contrast: String,
    /// Seeds for which it could be computed.
    pub pairs: u64,
    /// Two-sided, of the paired t-test; absent for fewer than two pairs.
    #[serde(default, with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    /// Corrected for all looks so far and for all contrasts.
    #[serde(with = "number")]
    pub p_corrected: f64,
    /// Whether the effect is settled and its arms need no more seeds.
    pub is_settled: bool,
}

/// The ledger, open for appending.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Ledger {
    /// Opens or makes the ledger. A last line that was torn by a crash is cut off. The second value
    /// is what the ledger holds.
    pub fn open(path: &Path) -> Result<(Ledger, Vec<TrialEvent>), RecordError> {
        let is_new = !path.exists();
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.naming("open", path)?;
        if is_new {
            durable::sync_folder(durable::parent(path))?;
        }
        let text = fs::read(path).naming("read", path)?;
        let events = events(path, &text)?;
        let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1) as u64;
        if whole < text.len() as u64 {
            file.set_len(whole).naming("cut", path)?;
        }
        Ok((Ledger { file, path: path.to_owned(), bytes: whole }, events))
    }

    /// Adds one line; it is on the disk when this returns. On an error nothing of it remains.
    pub fn append(&mut self, event: &TrialEvent) -> Result<(), RecordError> {
        let mut line = serde_json::to_string(event).expect("plain data with string keys");
        line.push('\n');
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Should even this fail, the next reader cuts the torn line off.
            let _ = self.file.set_len(self.bytes);
            return Err(durable::DurableError::new("append to", &self.path, error).into());
        }
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// Reads a ledger back; a torn last line is left out. A study without one has no trials yet.
pub fn read_trials(path: &Path) -> Result<Vec<TrialEvent>, RecordError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    events(path, &fs::read(path).naming("read", path)?)
}

fn events(path: &Path, text: &[u8]) -> Result<Vec<TrialEvent>, RecordError> {
    let mut events = Vec::new();
    for (number, line) in text.split_inclusive(|&b| b == b'\n').enumerate() {
        let is_whole = line.last() == Some(&b'\n');
        if !is_whole || line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let event = serde_json::from_slice(line).map_err(|error| RecordError::Format {
            path: path.to_owned(),
            line: Some(number as u64 + 1),
            problem: format!("expected a trial's event: {error}"),
            next: "delete that line: its trial is then run again",
        })?;
        events.push(event);
    }
    Ok(events)
}
