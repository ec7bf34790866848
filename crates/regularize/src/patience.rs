//! Early stopping as a rule and its state: how long a monitored value may fail to improve.

use serde::{Deserialize, Serialize};

/// Stop when `monitor` has not fallen by `min_delta` for `patience` (Prechelt 1998).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    pub patience: Patience,
    /// Least improvement that counts, in the monitor's unit.
    pub min_delta: f64,
    pub monitor: Monitor,
}

/// How long to wait for an improvement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Patience {
    Evaluations(u64),
    Steps(u64),
    Epochs(f64),
}

/// The held-out value that is watched; lower is better for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Monitor {
    /// Nats per token.
    LossValid,
    BitsPerByte,
    Perplexity,
}

impl Monitor {
    pub const WORDS: [&'static str; 3] = ["loss-valid", "bits-per-byte", "perplexity"];

    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

impl std::fmt::Display for Patience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Patience::Evaluations(1) => write!(f, "1 evaluation"),
            Patience::Evaluations(count) => write!(f, "{count} evaluations"),
            Patience::Steps(1) => write!(f, "1 step"),
            Patience::Steps(count) => write!(f, "{count} steps"),
            Patience::Epochs(count) => write!(f, "{count} epochs"),
        }
    }
}

/// One evaluation as the rule sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Updates made so far.
    pub step: u64,
    pub epoch: f64,
    /// The monitored value; where several sets of weights were evaluated, the lowest.
    pub value: f64,
}

/// The rule's memory; checkpointed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PatienceState {
    /// Evaluations seen.
    pub evaluations: u64,
    best: Option<Best>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Best {
    value: f64,
    evaluation: u64,
    step: u64,
    epoch: f64,
}

/// What an evaluation meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// An improvement, or patience is left.
    GoOn,
    /// Patience has run out.
    Stop,
}

impl EarlyStopping {
    /// Takes in one evaluation. A value that is not a number is no improvement.
    pub fn observe(&self, state: &mut PatienceState, evaluation: Evaluation) -> Outlook {
        state.evaluations += 1;
        let bar = state.best.map_or(f64::INFINITY, |best| best.value - self.min_delta);
        if evaluation.value < bar {
            state.best = Some(Best {
                value: evaluation.value,
                evaluation: state.evaluations,
                step: evaluation.step,
                epoch: evaluation.epoch,
            });
            return Outlook::GoOn;
        }
        let Some(best) = state.best else { return Outlook::GoOn };
        let exhausted = match self.patience {
            Patience::Evaluations(count) => state.evaluations - best.evaluation >= count,
            Patience::Steps(count) => evaluation.step.saturating_sub(best.step) >= count,
            Patience::Epochs(count) => evaluation.epoch - best.epoch >= count,
        };
        if exhausted { Outlook::Stop } else { Outlook::GoOn }
    }
}

impl PatienceState {
    /// The best value so far and the step it was seen at.
    pub fn best(&self) -> Option<(f64, u64)> {
        self.best.map(|best| (best.value, best.step))
    }
}
