//! Token dropout: the embedding of random input tokens is zeroed; positions and targets are kept
//! (word dropout; Iyyer et al. 2015, Bowman et al. 2016).

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
    name: "token-dropout",
    kind: Kind::Technique,
    stage: Stage::Noise,
    purpose: "Zeroes the embeddings of random input tokens: no prediction may hang on one word.",
    paper: "Iyyer et al. 2015 (word dropout); Bowman et al. 2016, arXiv:1511.06349",
    when_to_use: "Very many epochs over little text, when windows are known by their wording.",
    when_to_avoid: "Character-level models with short contexts: lost letters hide the targets.",
    cost: "None to speak of.",
    knobs: &[searched(
        scheduled("rate", "share of tokens", "Share of input tokens zeroed.", (0.0, RATE_MOST)),
        0.1,
        Search::Uniform(0.0, 0.3),
    )],
};

struct TokenDropout {
    rate: Schedule,
}

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    Ok(Box::new(TokenDropout { rate: read.schedule("rate")? }))
}

impl Technique for TokenDropout {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_site(CARD.name, Site::Tokens, self.rate.clone())
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        noise_receipt(&CARD, live, &[Site::Tokens], "tokens")
    }
}
