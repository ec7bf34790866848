//! Weight decay: w ← w − η·λ·w apart from the gradient (`decoupled`; Loshchilov & Hutter 2019), or
//! g ← g + λ·w through the optimizer's moments (`coupled`, as PyTorch's SGD and Adam).

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::{Decay, DecayMethod, Plan};
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Facts, Technique, bare_number};
use crate::techniques::{ON, check_on, scheduled, searched, word};
use heldout_base::card::{Card, Kind, Search, Stage};

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(0.3) };

const CARD: Card = Card {
    name: "weight-decay",
    kind: Kind::Technique,
    stage: Stage::Decay,
    purpose: "Shrinks weights by a share of themselves in every step.",
    paper: "Loshchilov & Hutter 2019, arXiv:1711.05101; strength on fixed data: Kim et al. 2025",
    when_to_use: "Nearly always; on fixed data and many epochs up to 30 times the usual 0.1.",
    when_to_avoid: "Fine-tuning for a few steps.",
    cost: "None: part of the optimizer's pass.",
    knobs: &[
        searched(
            scheduled("rate", "share per unit of learning rate", "λ of η·λ·w.", (0.0, 100.0)),
            0.1,
            Search::Log(0.01, 5.0),
        ),
        word(
            "method",
            "Apart from the gradient, or added to it.",
            "decoupled",
            &["decoupled", "coupled"],
        ),
        ON,
    ],
};

struct WeightDecay(Decay);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let method = match read.word("method")? {
        "decoupled" => DecayMethod::Decoupled,
        _ => DecayMethod::Coupled,
    };
    let decay = Decay { rate: read.schedule("rate")?, method, on: read.on()? };
    Ok(Box::new(WeightDecay(decay)))
}

impl Technique for WeightDecay {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_decay(CARD.name, self.0.clone())
    }

    fn check(&self, facts: &Facts) -> Result<(), SettingError> {
        check_on(&CARD, &self.0.on, facts)
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.decay.as_ref())?;
        if measure.parameters == 0 || measure.multiplier == 1.0 {
            let finding = format!(
                "an update leaves {} parameters changed; the decay may be too weak for f32: \
                 rate × learning rate must exceed 6e-8",
                measure.parameters
            );
            return Err(not_live(&CARD, finding));
        }
        if measure.multiplier_exempt != 1.0 {
            let finding = format!("exempt weights are multiplied by {}", measure.multiplier_exempt);
            return Err(not_live(&CARD, finding));
        }
        let statement = format!(
            "{} of {} parameters in {} tensors; an update at the full rate multiplies a weight of \
             1 by {:.7}",
            measure.parameters, measure.parameters_total, measure.tensors, measure.multiplier
        );
        let figures = [
            ("parameters", measure.parameters as f64),
            ("tensors", measure.tensors as f64),
            ("multiplier", measure.multiplier),
        ];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
