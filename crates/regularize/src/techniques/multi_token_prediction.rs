//! Multi-token prediction (Gloeckle et al. 2024): while training, heads of one block each predict
//! the tokens after the next one from the same trunk; they are dropped from the result.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::{Ahead, Plan};
use crate::settings::{Reader, Settings, Value, no_effect};
use crate::technique::{Entry, Facts, Technique};
use crate::techniques::{fixed, scheduled, searched};
use heldout_base::card::{Card, Kind, Search, Stage};

/// The registry's row.
pub const ENTRY: Entry = Entry {
    card: &CARD,
    build,
    example: || Settings::table([("heads", Value::Number(2.0)), ("weight", Value::Number(0.5))]),
};

const CARD: Card = Card {
    name: "multi-token-prediction",
    kind: Kind::Technique,
    stage: Stage::Model,
    purpose: "Predicts several tokens ahead while training, so that the trunk plans further.",
    paper: "Gloeckle et al. 2024, arXiv:2404.19737",
    when_to_use: "Large models and much data, code above all; small models gain less or lose.",
    when_to_avoid: "Where a step must stay cheap. In the paper small models lose by it; a \
                    character model of 1.2 M parameters gained about 0.01 nats (bench/evidence).",
    cost: "For each head the time and memory of one block and one more output projection, in \
           training alone; the result and its evaluation are those of the plain model.",
    knobs: &[
        searched(
            fixed(
                "heads",
                "heads",
                "How many beside the next token's; the k-th predicts 1 + k places ahead.",
                1.0,
                (0.0, 16.0),
            ),
            1.0,
            Search::Integer(1, 3),
        ),
        searched(
            scheduled(
                "weight",
                "",
                "Of each head's loss in the objective; smoothing and penalties on the logits hold \
                 for the heads, too.",
                (0.0, 10.0),
            ),
            0.3,
            Search::Log(0.05, 1.0),
        ),
    ],
};

struct MultiTokenPrediction(Ahead);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let heads = read.whole("heads")?;
    if heads == 0 {
        let remedy = "give at least 1, or write multi-token-prediction = \"off\"";
        return Err(read.no_effect("heads", "there would be no head", remedy));
    }
    Ok(Box::new(MultiTokenPrediction(Ahead { heads, weight: read.schedule("weight")? })))
}

impl Technique for MultiTokenPrediction {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_ahead(CARD.name, self.0.clone())
    }

    fn check(&self, facts: &Facts) -> Result<(), SettingError> {
        if !facts.config.head.is_language_model() {
            let reason = "a classifier predicts no tokens";
            return Err(no_effect(&CARD, "heads", reason, "remove multi-token-prediction"));
        }
        if self.0.heads >= facts.config.context {
            let reason = format!(
                "windows of {} tokens hold none {} places ahead",
                facts.config.context,
                self.0.heads + 1
            );
            return Err(no_effect(&CARD, "heads", &reason, "give fewer, or a longer context"));
        }
        Ok(())
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = *required(&CARD, live.ahead.as_ref())?;
        let is_live = measure.loss > 0.0 && measure.gradient > 0.0 && measure.gradient.is_finite();
        if measure.heads != self.0.heads as u64 || !is_live {
            let finding = format!(
                "{} heads with a loss of {} and a gradient of {}",
                measure.heads, measure.loss, measure.gradient
            );
            return Err(not_live(&CARD, finding));
        }
        let statement = format!(
            "{}, gone from the result, with {} parameters; mean loss of a probe batch {:.4}, \
             weight {} each",
            if measure.heads == 1 {
                "1 head".to_owned()
            } else {
                format!("{} heads", measure.heads)
            },
            measure.parameters,
            measure.loss,
            measure.weight
        );
        let figures = [
            ("heads", measure.heads as f64),
            ("parameters", measure.parameters as f64),
            ("weight", measure.weight),
            ("loss", measure.loss),
            ("gradient", measure.gradient),
        ];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
