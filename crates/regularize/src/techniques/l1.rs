//! L1: λΣ|w| (Tibshirani 1996), by soft threshold after the update (`proximal`: exact zeros) or by
//! its subgradient λ·sign(w), which passes through clipping and the optimizer's moments.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::on::On;
use crate::plan::{Penalty, PenaltyNorm, Plan, Projection};
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Facts, Technique, bare_number};
use crate::techniques::{ON, check_on, scheduled, searched, word};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_base::schedule::Schedule;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(1e-2) };

const CARD: Card = Card {
    name: "l1",
    kind: Kind::Technique,
    stage: Stage::Loss,
    purpose: "Penalises the sum of absolute weights: small ones become zero.",
    paper: "Tibshirani 1996; proximal step: Parikh & Boyd 2014, section 6.5.2",
    when_to_use: "Sparse weights are wanted; the proximal method gives exact zeros.",
    when_to_avoid: "Only the held-out loss counts: weight-decay shrinks more evenly.",
    cost: "One more pass over the weights in each step.",
    knobs: &[
        searched(
            scheduled("strength", "nats per unit of weight", "λ of λΣ|w|.", (0.0, 1e3)),
            1e-4,
            Search::Log(1e-6, 1e-1),
        ),
        word(
            "method",
            "Soft threshold η·λ after the update, or subgradient before it.",
            "proximal",
            &["proximal", "subgradient"],
        ),
        ON,
    ],
};

struct L1 {
    strength: Schedule,
    method: Method,
    on: On,
}

#[derive(Clone, Copy)]
enum Method {
    Proximal,
    Subgradient,
}

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let method = match read.word("method")? {
        "proximal" => Method::Proximal,
        _ => Method::Subgradient,
    };
    Ok(Box::new(L1 { strength: read.schedule("strength")?, method, on: read.on()? }))
}

impl Technique for L1 {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        let (strength, on) = (self.strength.clone(), self.on.clone());
        match self.method {
            Method::Proximal => {
                plan.add_projection(CARD.name, Projection::SoftThreshold { strength, on })
            }
            Method::Subgradient => {
                plan.add_penalty(CARD.name, Penalty { norm: PenaltyNorm::L1, strength, on })
            }
        }
    }

    fn check(&self, facts: &Facts) -> Result<(), SettingError> {
        check_on(&CARD, &self.on, facts)
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.acted.get(CARD.name))?;
        if measure.parameters == 0 || measure.change == 0.0 {
            let finding = format!(
                "{} parameters are penalised and a weight of 1 changes by {}",
                measure.parameters, measure.change
            );
            return Err(not_live(&CARD, finding));
        }
        let how = match self.method {
            Method::Proximal => "a step at the full rate pulls a weight of 1 by",
            Method::Subgradient => "the gradient of a weight of 1 grows by",
        };
        let mut statement = format!(
            "{} of {} parameters; {how} {:.3e}; λΣ|w| = {:.4} nats at the start",
            measure.parameters,
            measure.parameters_total,
            measure.change.abs(),
            measure.penalty
        );
        let mut figures = vec![
            ("parameters", measure.parameters as f64),
            ("change", measure.change),
            ("penalty", measure.penalty),
        ];
        if let Some(sparsity) = live.sparsity {
            statement += &format!("; {:.2}% of them are zero at the end", 100.0 * sparsity);
            figures.push(("sparsity", sparsity));
        }
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
