//! Layer drop, or stochastic depth (Huang et al. 2016, Fan et al. 2019): whole blocks are skipped,
//! with a probability that grows linearly with depth; kept branches are scaled by 1/(1−p), so
//! that evaluation needs no correction.

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
    name: "layer-drop",
    kind: Kind::Technique,
    stage: Stage::Noise,
    purpose: "Skips whole blocks at random while training; deeper ones more often.",
    paper: "Huang et al. 2016, arXiv:1603.09382; Fan et al. 2019, arXiv:1909.11556",
    when_to_use: "Deep models (12 blocks and more), many epochs; makes training faster, too.",
    when_to_avoid: "Shallow models: each skipped block is a large part of the whole.",
    cost: "Negative: skipped blocks are not computed.",
    knobs: &[searched(
        scheduled(
            "rate",
            "share of steps",
            "Share of steps in which the deepest block is skipped; block l of L has rate·l/L.",
            (0.0, RATE_MOST),
        ),
        0.1,
        Search::Uniform(0.0, 0.3),
    )],
};

struct LayerDrop {
    rate: Schedule,
}

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    Ok(Box::new(LayerDrop { rate: read.schedule("rate")? }))
}

impl Technique for LayerDrop {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_site(CARD.name, Site::Layers, self.rate.clone())
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        noise_receipt(&CARD, live, &[Site::Layers], "blocks")
    }
}
