//! Shuffle: documents and windows are drawn anew in every epoch.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::{Order, Plan};
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_text};
use crate::techniques::word;
use heldout_base::card::{Card, Kind, Stage};

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_text("yes") };

const CARD: Card = Card {
    name: "shuffle",
    kind: Kind::Technique,
    stage: Stage::Data,
    purpose: "Draws the order and the borders of training windows anew in every epoch.",
    paper: "Bottou 2009; on fixed data worth 0.026 nats in the record list of the NanoGPT slowrun",
    when_to_use: "Always: the cheapest gain on fixed data.",
    when_to_avoid: "Only where the order of the data is itself the curriculum.",
    cost: "None.",
    knobs: &[word("windows", "Whether windows are drawn anew.", "yes", &["yes"])],
};

struct Shuffle;

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    Reader::new(&CARD, settings)?.word("windows")?;
    Ok(Box::new(Shuffle))
}

impl Technique for Shuffle {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_order(CARD.name, Order::Redrawn)
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.order.as_ref())?;
        if measure.moved == 0 {
            let finding =
                format!("the first {} windows stand where the data has them", measure.windows);
            return Err(not_live(&CARD, finding));
        }
        let statement = format!(
            "{} of the first {} windows are not where the data has them",
            measure.moved, measure.windows
        );
        let figures = [("windows", measure.windows as f64), ("moved", measure.moved as f64)];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
