//! SWA: the equal average of the weights over the run's tail, evaluated and saved on its own.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt};
use crate::plan::{Average, Plan};
use crate::settings::{Reader, Settings, no_effect};
use crate::technique::{Entry, Facts, Technique, bare_number};
use crate::techniques::{average_receipt, fixed, searched};
use heldout_base::card::{Card, Kind, Search, Stage};

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(0.5) };

const CARD: Card = Card {
    name: "swa",
    kind: Kind::Technique,
    stage: Stage::Average,
    purpose: "Averages the weights of the run's tail, all alike; evaluated and saved on their own.",
    paper: "Izmailov et al. 2018, arXiv:1803.05407",
    when_to_use: "Constant or high rates towards the end, so that the weights wander; no decay to \
                  tune as with ema.",
    when_to_avoid: "Rates that fall to nothing: the tail's weights are then nearly one point.",
    cost: "One more set of weights; one pass over it when due; longer evaluations in the tail.",
    knobs: &[
        searched(
            fixed("start", "share of the horizon", "Where the tail begins.", 0.75, (0.0, 0.999)),
            0.75,
            Search::Uniform(0.5, 0.9),
        ),
        fixed("every", "steps", "Steps from one set of weights to the next.", 1.0, (1.0, 1e9)),
    ],
};

struct Swa {
    average: Average,
}

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let (start, every) = (read.number("start")?, read.whole("every")? as u64);
    Ok(Box::new(Swa { average: Average::Equal { start, every } }))
}

impl Technique for Swa {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.add_average(CARD.name, self.average.clone())
    }

    fn check(&self, facts: &Facts) -> Result<(), SettingError> {
        let Some(steps) = facts.length.steps else { return Ok(()) };
        match self.average.samples(steps) {
            Some(samples) if samples < 2 => {
                let reason =
                    format!("of the {steps} steps, {samples} would be averaged, and one is none");
                let remedy = "let it begin earlier or take in weights more often (`every`)";
                Err(no_effect(&CARD, "start", &reason, remedy))
            }
            _ => Ok(()),
        }
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        average_receipt(&CARD, live)
    }
}
