//! Confidence penalty: L₀ − β·H(p), where H is the entropy of the predicted distribution.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::Plan;
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{scheduled, searched};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_base::schedule::Schedule;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(0.1) };

const CARD: Card = Card {
    name: "confidence-penalty",
    kind: Kind::Technique,
    stage: Stage::Loss,
    purpose: "Rewards entropy of the predictions: L₀ − β·H(p).",
    paper: "Pereyra et al. 2017, arXiv:1701.06548",
    when_to_use: "Where label smoothing is too blunt: mass may go to any wrong class.",
    when_to_avoid: "Calibrated probabilities are wanted as they come: these are underconfident.",
    cost: "One more exponential per logit in the forward pass.",
    knobs: &[searched(
        scheduled("strength", "nats per nat of entropy", "β.", (0.0, 10.0)),
        0.1,
        Search::Log(0.01, 1.0),
    )],
};

struct ConfidencePenalty(Schedule);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    Ok(Box::new(ConfidencePenalty(Reader::new(&CARD, settings)?.schedule("strength")?)))
}

impl Technique for ConfidencePenalty {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_confidence(CARD.name, self.0.clone())
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.confidence.as_ref())?;
        let close = (measure.found - measure.expected).abs() <= 1e-5 - 1e-2 * measure.expected;
        if measure.found >= 0.0 || !close {
            let finding =
                format!("the loss changed by {}, not {}", measure.found, measure.expected);
            return Err(not_live(&CARD, finding));
        }
        let statement = format!(
            "β = {} takes {:.4} nats off on made-up logits, as the formula says",
            measure.strength, -measure.found
        );
        let figures = [("strength", measure.strength), ("added", measure.found)];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
