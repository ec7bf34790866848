//! L2: λΣw² (Tikhonov 1943; ridge, Hoerl & Kennard 1970). Its gradient is 2λw, so PyTorch's
//! `weight_decay` of c on SGD or Adam is λ = c/2. It passes through clipping and moments.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::on::On;
use crate::plan::{Penalty, PenaltyNorm, Plan};
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Facts, Technique, bare_number};
use crate::techniques::{ON, check_on, scheduled, searched};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_base::schedule::Schedule;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(1e-2) };

const CARD: Card = Card {
    name: "l2",
    kind: Kind::Technique,
    stage: Stage::Loss,
    purpose: "Penalises the sum of squared weights; the gradient is 2λw.",
    paper: "Hoerl & Kennard 1970 (ridge); Krogh & Hertz 1991",
    when_to_use: "With sgd or gradient-descent, or to reproduce work that used it.",
    when_to_avoid: "With Adam-like optimizers, which divide it away: use weight-decay.",
    cost: "One more pass over weights and gradients in each step.",
    knobs: &[
        searched(
            scheduled("strength", "nats per unit of weight²", "λ of λΣw².", (0.0, 1e3)),
            1e-4,
            Search::Log(1e-6, 1e-1),
        ),
        ON,
    ],
};

struct L2 {
    strength: Schedule,
    on: On,
}

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    Ok(Box::new(L2 { strength: read.schedule("strength")?, on: read.on()? }))
}

impl Technique for L2 {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        let (strength, on) = (self.strength.clone(), self.on.clone());
        plan.add_penalty(CARD.name, Penalty { norm: PenaltyNorm::L2, strength, on })
    }

    fn check(&self, facts: &Facts) -> Result<(), SettingError> {
        check_on(&CARD, &self.on, facts)
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.acted.get(CARD.name))?;
        if measure.parameters == 0 || measure.change == 0.0 {
            let finding = format!(
                "{} parameters are penalised and the gradient of a weight of 1 grows by {}",
                measure.parameters, measure.change
            );
            return Err(not_live(&CARD, finding));
        }
        let statement = format!(
            "{} of {} parameters; the gradient of a weight of 1 grows by 2λ = {:.3e}; λΣw² = {:.4} \
             nats at the start",
            measure.parameters, measure.parameters_total, measure.change, measure.penalty
        );
        let figures = [
            ("parameters", measure.parameters as f64),
            ("change", measure.change),
            ("penalty", measure.penalty),
        ];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
