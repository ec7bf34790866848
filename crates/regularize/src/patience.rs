//! Early stopping as a rule and its state: how long a monitored value may fail to improve.

use serde::{Deserialize, Serialize};

/// Stop when `monitor` has not fallen by `min_delta` for `patience` (Prechelt 1998).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    /// How long to wait.
    pub patience: Patience,
    /// Least improvement that counts, in the monitor's unit.
    pub min_delta: f64,
    /// What is watched.
    pub monitor: Monitor,
}

/// How long to wait for an improvement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Patience {
    /// Evaluations without improvement.
    Evaluations(u64),
    /// Updates since the best evaluation.
    Steps(u64),
    /// Epochs since the best evaluation.
    Epochs(f64),
}

/// The held-out value that is watched; lower is better for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Monitor {
    /// Nats per token.
    LossValid,
    /// The same loss per byte of text.
    BitsPerByte,
    /// e to the loss.
    Perplexity,
}

impl Monitor {
    /// The words of the knob `monitor`, in the order of the declaration.
    pub const WORDS: [&'static str; 3] = ["loss-valid", "bits-per-byte", "perplexity"];

    /// The word a recipe uses.
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
    /// Passes over the data so far.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of evaluations, one every 100 steps and 0.5 epochs, after which the rule stops.
    fn stopped_after(patience: Patience, min_delta: f64, values: &[f64]) -> Option<usize> {
        let rule = EarlyStopping { patience, min_delta, monitor: Monitor::LossValid };
        let mut state = PatienceState::default();
        for (index, &value) in values.iter().enumerate() {
            let (step, epoch) = (100 * index as u64, 0.5 * index as f64);
            // The state survives a stop between any two evaluations.
            let saved = serde_json::to_string(&state).expect("plain data");
            state = serde_json::from_str(&saved).expect("its own");
            if rule.observe(&mut state, Evaluation { step, epoch, value }) == Outlook::Stop {
                return Some(index + 1);
            }
        }
        None
    }

    #[test]
    fn patience_runs_out_in_its_own_unit() {
        let values = [3.0, 2.0, 2.5, 2.4, 2.3, 2.2, 2.1, 2.05];
        assert_eq!(stopped_after(Patience::Evaluations(1), 0.0, &values), Some(3));
        assert_eq!(stopped_after(Patience::Evaluations(3), 0.0, &values), Some(5));
        assert_eq!(stopped_after(Patience::Steps(250), 0.0, &values), Some(5));
        assert_eq!(stopped_after(Patience::Epochs(2.0), 0.0, &values), Some(6));
        assert_eq!(stopped_after(Patience::Evaluations(7), 0.0, &values), None);
    }

    #[test]
    fn only_improvements_of_min_delta_count() {
        let values = [3.0, 2.95, 2.91, 2.86, 2.81];
        assert_eq!(stopped_after(Patience::Evaluations(2), 0.0, &values), None);
        assert_eq!(stopped_after(Patience::Evaluations(2), 0.08, &values), None);
        assert_eq!(stopped_after(Patience::Evaluations(2), 0.15, &values), Some(3));
    }

    #[test]
    fn not_a_number_is_no_improvement() {
        let values = [f64::NAN, 3.0, f64::NAN, f64::NAN];
        assert_eq!(stopped_after(Patience::Evaluations(2), 0.0, &values), Some(4));
    }
}
