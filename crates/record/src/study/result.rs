//! `result.json`: what a study found, as of its last look.

use crate::number;
use crate::study::{ContrastKind, Design, NgramFigures};
use serde::{Deserialize, Serialize};

/// What a study found. Losses and effects in nats per token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StudyResult {
    /// The study's name.
    pub study: String,
    /// What kind of comparison it is.
    pub design: Design,
    /// Whether everything planned was done or settled.
    pub standing: Standing,
    /// Seeds planned.
    pub seeds_planned: u64,
    /// Seeds with which every arm still wanted has run.
    pub seeds_done: u64,
    /// Trials with a result; those that only tuned a rate are not counted.
    pub trials_finished: u64,
    /// Trials without one.
    pub trials_failed: u64,
    /// What was trained; the first is the reference.
    pub arms: Vec<ArmSummary>,
    /// What was compared, in the study's order.
    pub effects: Vec<EffectRecord>,
    /// The n-gram model that every arm has to beat, where one was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<NgramFigures>,
    /// How much of a difference is noise; absent for fewer than two seeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseFloor>,
    /// What a reader must know, one sentence each.
    pub notes: Vec<String>,
    /// The next sensible step, in one sentence.
    pub next: String,
}

/// Whether a result is final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Trials are still to come.
    #[default]
    Running,
    /// The budget ended it early.
    Budget,
    /// A signal ended it early.
    Interrupted,
    /// Every effect was settled before all seeds had run.
    Settled,
    /// All seeds have run.
    Complete,
}

/// One arm over its seeds: means, with the standard deviation over seeds where it is named `_sd`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmSummary {
    /// Its name.
    pub name: String,
    /// Trials with a result.
    pub finished: u64,
    /// Trials without one.
    pub failed: u64,
    /// Of the recipe's learning rate, where rates were tuned.
    pub rate_factor: f64,
    /// On validation.
    #[serde(with = "number")]
    pub loss_valid: f64,
    /// On the test split.
    #[serde(with = "number")]
    pub loss_test: f64,
    /// Over seeds; NaN for fewer than two.
    #[serde(with = "number")]
    pub loss_test_sd: f64,
    /// On the training sample.
    #[serde(with = "number")]
    pub loss_train: f64,
    /// Validation minus training sample.
    #[serde(with = "number")]
    pub gap: f64,
    /// Of one trial.
    #[serde(with = "number")]
    pub seconds: f64,
}

/// A mean over seeds with its 95% interval by Student's t; NaN where fewer than two seeds give
/// none. The interval is of this effect alone: it is not corrected for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EffectEstimate {
    /// The mean.
    #[serde(with = "number")]
    pub mean: f64,
    /// The interval's lower end.
    #[serde(with = "number")]
    pub low: f64,
    /// Its upper end.
    #[serde(with = "number")]
    pub high: f64,
}

/// What one contrast came to. Positive effects are help: without the technique the loss is higher.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EffectRecord {
    /// The contrast's name.
    pub name: String,
    /// What it asks.
    pub kind: ContrastKind,
    /// The technique, or the two that interact.
    pub techniques: Vec<String>,
    /// Seeds for which it could be computed.
    pub pairs: u64,
    /// On the test split: what the verdict is about.
    pub test: EffectEstimate,
    /// The same on validation.
    pub valid: EffectEstimate,
    /// Of the gap between validation and training loss: positive where the technique narrows it.
    pub gap: EffectEstimate,
    /// Bootstrap (BCa) interval of the effect on the test split: the lower end.
    #[serde(with = "number")]
    pub bootstrap_low: f64,
    /// Its upper end.
    #[serde(with = "number")]
    pub bootstrap_high: f64,
    /// Two-sided, of the paired t-test, uncorrected; NaN for fewer than two pairs.
    #[serde(with = "number")]
    pub p: f64,
    /// Corrected for all looks at the evidence and for all contrasts.
    #[serde(with = "number")]
    pub p_corrected: f64,
    /// Training time with the technique over time without it; NaN for an interaction.
    #[serde(with = "number")]
    pub seconds_ratio: f64,
    /// Seconds that the technique costs a trial; negative where it saves some.
    #[serde(with = "number")]
    pub seconds: f64,
    /// Failed trials of the arms that have the technique.
    pub failed_with: u64,
    /// Failed trials of the arms that do not.
    pub failed_without: u64,
    /// What it means.
    pub verdict: Verdict,
    /// After how many seeds it was settled, where that was before the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<u64>,
    /// The verdict in one sentence.
    pub sentence: String,
}

/// What an effect means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The loss is lower with it (of an interaction: more together than one by one).
    Helps,
    /// The loss is higher with it (of an interaction: less together than one by one).
    Hurts,
    /// All evidence is in, and no effect can be told from noise; or it is smaller than counts.
    NoEffect,
    /// More seeds are needed.
    #[default]
    NotSettled,
}

impl Verdict {
    /// The words for tables.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Helps => "helps",
            Verdict::Hurts => "hurts",
            Verdict::NoEffect => "no effect seen",
            Verdict::NotSettled => "not settled",
        }
    }
}

/// How much of a difference is noise, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NoiseFloor {
    /// Standard deviation of the reference's test loss over seeds.
    #[serde(with = "number")]
    pub seed_sd: f64,
    /// Standard deviation over seeds of a paired difference, pooled over contrasts.
    #[serde(with = "number")]
    pub paired_sd: f64,
    /// The smallest effect that the planned seeds find with a chance of 80%, corrected.
    #[serde(with = "number")]
    pub detectable: f64,
}
