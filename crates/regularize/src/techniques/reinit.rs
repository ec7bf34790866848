//! Re-initialization: the top blocks of an imported model (and its pooler) start at random again.

use crate::depth::blocks;
use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::{Plan, Redrawn};
use crate::settings::{Reader, Settings, no_effect, unusable};
use crate::technique::{Beginning, Entry, Facts, Technique, bare_number};
use crate::techniques::fixed;
use heldout_base::card::{Card, Kind, Stage};

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(1.0) };

const CARD: Card = Card {
    name: "reinit",
    kind: Kind::Technique,
    stage: Stage::Model,
    purpose: "Draws the top blocks of the model that is fine-tuned, and its pooler, anew.",
    paper: "Zhang et al. 2021, arXiv:2006.05987, section 5",
    when_to_use: "Fine-tuning an encoder on a few hundred to a few thousand examples, where runs \
                  differ much by their seed: the top blocks serve pre-training's own task.",
    when_to_avoid: "Very little data (what the blocks know is worth more), or a task like \
                    pre-training itself.",
    cost: "None.",
    knobs: &[fixed(
        "top",
        "blocks",
        "How many of the top blocks are drawn anew.",
        1.0,
        (1.0, 4096.0),
    )],
};

struct Reinit(Redrawn);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let top = Reader::new(&CARD, settings)?.whole("top")?;
    Ok(Box::new(Reinit(Redrawn { top })))
}

impl Technique for Reinit {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_redrawn(CARD.name, self.0)
    }

    fn check(&self, facts: &Facts) -> Result<(), SettingError> {
        if facts.beginning == Beginning::Random {
            let reason = "the model starts from random weights: all blocks are drawn anyway";
            let remedy = "name a trained model with model.from, or write reinit = \"off\"";
            return Err(unusable(&CARD, "top", reason.to_owned(), remedy));
        }
        let all = blocks(facts.layout);
        if self.0.top >= all {
            let reason = format!("the model has {all} blocks: nothing would be left of it");
            return Err(no_effect(&CARD, "top", &reason, "draw fewer of them anew"));
        }
        Ok(())
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = *required(&CARD, live.redrawn.as_ref())?;
        if measure.parameters == 0 || measure.distance < 0.1 {
            let finding = format!(
                "{} weights were drawn anew and lie {} away from the imported ones",
                measure.parameters, measure.distance
            );
            return Err(not_live(&CARD, finding));
        }
        let statement = format!(
            "{} weights in {} tensors of the top {} were drawn anew: ‖w − w₀‖/‖w₀‖ = {:.2} from \
             the imported ones",
            measure.parameters,
            measure.tensors,
            if self.0.top == 1 { "block".to_owned() } else { format!("{} blocks", self.0.top) },
            measure.distance
        );
        let figures = [
            ("parameters", measure.parameters as f64),
            ("tensors", measure.tensors as f64),
            ("distance", measure.distance),
        ];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
