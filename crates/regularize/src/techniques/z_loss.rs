//! z-loss: λ·(log Z)² with Z the softmax's denominator keeps logits from drifting (Chowdhery et al.
//! 2022, section 5; first in Mesh TensorFlow).

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::Plan;
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{scheduled, searched};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_base::schedule::Schedule;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(1e-3) };

const CARD: Card = Card {
    name: "z-loss",
    kind: Kind::Technique,
    stage: Stage::Loss,
    purpose: "Penalises the logarithm of the softmax's denominator, so that logits stay small.",
    paper: "Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, section 5",
    when_to_use: "High rates or bf16, where logits drift and the loss spikes.",
    when_to_avoid: "Small, short runs in f32: it changes nothing that matters.",
    cost: "None to speak of: log Z is known anyway.",
    knobs: &[searched(
        scheduled("strength", "nats per nat²", "λ of λ·(log Z)².", (0.0, 10.0)),
        1e-4,
        Search::Log(1e-5, 1e-2),
    )],
};

struct ZLoss(Schedule);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    Ok(Box::new(ZLoss(Reader::new(&CARD, settings)?.schedule("strength")?)))
}

impl Technique for ZLoss {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_z_loss(CARD.name, self.0.clone())
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.z_loss.as_ref())?;
        let close = (measure.found - measure.expected).abs() <= 1e-5 + 1e-2 * measure.expected;
        if measure.found <= 0.0 || !close {
            let finding = format!("the loss grew by {}, not {}", measure.found, measure.expected);
            return Err(not_live(&CARD, finding));
        }
        let statement = format!(
            "λ = {} adds {:.2e} nats on made-up logits, as the formula says",
            measure.strength, measure.found
        );
        let figures = [("strength", measure.strength), ("added", measure.found)];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
