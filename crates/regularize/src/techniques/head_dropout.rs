//! Head dropout: whole attention heads of a sequence are dropped (Zhou et al. 2020, "DropHead").

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt};
use crate::plan::{Plan, Site};
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{RATE_MOST, noise_receipt, scheduled, searched};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_base::schedule::Schedule;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(0.2) };

const CARD: Card = Card {
    name: "head-dropout",
    kind: Kind::Technique,
    stage: Stage::Noise,
    purpose: "Drops whole attention heads while training, so that no head dominates.",
    paper: "Zhou et al. 2020, Scheduled DropHead, arXiv:2004.13342",
    when_to_use: "Several epochs over fixed data, beside dropout on attention or instead of it.",
    when_to_avoid: "Models with one or two heads: too much is lost at once.",
    cost: "None to speak of.",
    knobs: &[searched(
        scheduled(
            "rate",
            "share of heads",
            "Share of heads dropped, drawn for each sequence.",
            (0.0, RATE_MOST),
        ),
        0.1,
        Search::Uniform(0.0, 0.4),
    )],
};

struct HeadDropout {
    rate: Schedule,
}

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    Ok(Box::new(HeadDropout { rate: read.schedule("rate")? }))
}

impl Technique for HeadDropout {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_site(CARD.name, Site::Heads, self.rate.clone())
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        noise_receipt(&CARD, live, &[Site::Heads], "heads")
    }
}
