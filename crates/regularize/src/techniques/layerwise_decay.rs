//! Layer-wise decay of the learning rate: η × γ^depth, counted from the head down.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::Plan;
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{fixed, searched};
use heldout_base::card::{Card, Kind, Search, Stage};

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(0.7) };

const CARD: Card = Card {
    name: "layerwise-decay",
    kind: Kind::Technique,
    stage: Stage::Optimizer,
    purpose: "Lets the learning rate fall with depth: full at the head, γ in the top block, \
              γ^(L+1) at the embeddings.",
    paper: "Howard & Ruder 2018, arXiv:1801.06146, section 3.2; Clark et al. 2020, \
            arXiv:2003.10555",
    when_to_use: "Fine-tuning (model.from): lower layers hold what is general.",
    when_to_avoid: "Fresh models: the lowest layers would hardly learn.",
    cost: "None.",
    knobs: &[searched(
        fixed(
            "gamma",
            "factor per layer",
            "γ; decoupled weight decay, which is times the rate, falls with it. An embedding that \
             is also the head counts as embedding.",
            0.9,
            (1e-3, 1.0),
        ),
        0.9,
        Search::Uniform(0.6, 0.99),
    )],
};

struct LayerwiseDecay(f64);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let gamma = read.number("gamma")?;
    if gamma == 1.0 {
        let remedy = "give a γ below 1, or write layerwise-decay = \"off\"";
        return Err(read.no_effect("gamma", "every layer has the full rate", remedy));
    }
    Ok(Box::new(LayerwiseDecay(gamma)))
}

impl Technique for LayerwiseDecay {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_layer_rates(CARD.name, self.0)
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.layer_rates.as_ref())?;
        let close = (measure.lowest - measure.expected).abs() <= 1e-2 * measure.expected;
        if measure.lowest >= 1.0 || !close {
            let finding = format!(
                "the slowest tensor makes {} of a full step, not {}",
                measure.lowest, measure.expected
            );
            return Err(not_live(&CARD, finding));
        }
        let statement = format!(
            "γ = {}: the lowest tensor makes {:.3}% of a full step, the highest {:.3}%",
            self.0,
            100.0 * measure.lowest,
            100.0 * measure.highest
        );
        let figures = [("lowest", measure.lowest), ("highest", measure.highest)];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
