//! What is wrong with a run, if anything: since which step, how many nats, and what to try next.
//!
//! [`diagnose`] reads the run's events alone; [`diagnose_with`] also hears which techniques the
//! plan asked for and what a look at the model showed. Every rule is a function of its own, with
//! its threshold and the reason beside it, and says nothing where the figures do not carry it.

mod advice;
mod chart;
mod fit;
mod measurement;
mod model;
mod stability;

use heldout_record::{Event, Examination};
use serde::Serialize;

pub use advice::{CITED, Suggestion};
pub use chart::Vitals;

use chart::Chart;

/// What can be found, in the order in which equally severe findings are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The loss or a gradient left the finite numbers, or the training loss rose for good.
    Diverged,
    /// Held-out text is known from training.
    Leaking,
    /// The learning rate is too high.
    RateTooHigh,
    /// Held-out loss turned and rose while the training loss fell.
    Overfitting,
    /// The held-out split is too small to tell what it should.
    SmallValidation,
    /// A technique of the plan did nothing.
    DeadTechnique,
    /// A share of the tokens is noise that nobody can predict.
    NoisyText,
    /// The learning rate is too low.
    RateTooLow,
    /// The run ended while it was still learning.
    Underfitting,
    /// Neither loss moves any more, and there is no gap: the model cannot do better as it is.
    Plateau,
    /// The run was stopped although nothing had been lost.
    StoppedEarly,
    /// An n-gram model of the same text does better: behind what may be the cause of it.
    BelowBaseline,
    /// Gradients jump, or nearly every step is clipped.
    UnstableGradients,
    /// Training passages are reproduced word for word.
    Memorizing,
    /// A planted string can be told from random ones.
    Exposed,
    /// The model is surer than it is right.
    Overconfident,
    /// The model is right more often than it is sure.
    Underconfident,
    /// Training text is known better than held-out text, without harm to the latter so far.
    Gap,
    /// Held-out text is easier than training text.
    EasierHeldOut,
    /// Nothing was evaluated, so nothing can be said.
    Unknown,
    /// Nothing is wrong.
    Healthy,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The result is not what it seems, or much was lost.
    Bad,
    /// Something was lost, or cannot be told.
    Warning,
    /// Good to know.
    Note,
    /// All is well.
    Good,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub kind: Kind,
    pub severity: Severity,
    /// What it is, in one sentence without a full stop.
    pub sentence: String,
    /// The step since which it holds, where there is one.
    pub since_step: Option<u64>,
    /// What it cost, in nats per token, where that can be said.
    pub nats: Option<f64>,
    /// The figures behind it, one sentence each.
    pub evidence: Vec<String>,
    /// What to try, the most promising first.
    pub suggestions: Vec<Suggestion>,
}

/// Everything found in a run, the most important first; never empty.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    /// The main finding in one sentence.
    pub verdict: String,
    pub findings: Vec<Finding>,
    /// Statistics of gradients and updates.
    pub vitals: Vitals,
    /// What a look at the model showed, where one was taken.
    pub examination: Option<Examination>,
}

/// What is known about a run beside its events.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Techniques in the plan, by name.
    pub planned: Vec<String>,
    /// What a look at the model showed.
    pub examination: Option<Examination>,
}

impl Diagnosis {
    /// The most important finding.
    pub fn main(&self) -> &Finding {
        &self.findings[0]
    }

    /// The finding of this kind, if there is one.
    pub fn find(&self, kind: Kind) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.kind == kind)
    }
}

/// Judges a run by its events alone.
pub fn diagnose(events: &[Event]) -> Diagnosis {
    diagnose_with(events, &Evidence::default())
}

/// Judges a run by its events and by what else is known about it.
pub fn diagnose_with(events: &[Event], evidence: &Evidence) -> Diagnosis {
    let chart = Chart::new(events, evidence);
    let mut findings: Vec<Finding> = stability::findings(&chart);
    findings.extend(measurement::findings(&chart, &findings));
    findings.extend(fit::findings(&chart, &findings));
    findings.extend(model::findings(&chart, &findings));
    findings.sort_by_key(|finding| (finding.severity, finding.kind));
    let is_well = findings.iter().all(|finding| finding.severity >= Severity::Note);
    if is_well {
        // Notes come after the good news.
        findings.insert(0, fit::all_well(&chart));
    }
    Diagnosis {
        verdict: findings[0].sentence.clone(),
        vitals: chart.vitals.clone(),
        examination: evidence.examination.clone(),
        findings,
    }
}

#[cfg(test)]
mod tests;
