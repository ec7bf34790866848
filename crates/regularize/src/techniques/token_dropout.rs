//! Token dropout: the embedding of random input tokens is zeroed (word dropout; Iyyer et al. 2015,
//! Bowman et al. 2016), or another token is read in their place (Xie et al. 2017); positions and
//! targets are kept.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt};
use crate::plan::{Plan, Site, TokenNoise};
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{RATE_MOST, noise_receipt, scheduled, searched, word};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_base::schedule::Schedule;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(0.2) };

const CARD: Card = Card {
    name: "token-dropout",
    kind: Kind::Technique,
    stage: Stage::Noise,
    purpose: "Zeroes or replaces random input tokens: no prediction may hang on one word. Random \
              masking of a causal model's input is the same thing.",
    paper: "Iyyer et al. 2015 (word dropout); Bowman et al. 2016, arXiv:1511.06349; replacing: Xie \
            et al. 2017, arXiv:1703.02573",
    when_to_use: "Very many epochs over little text, when windows are known by their wording.",
    when_to_avoid: "Character-level models with short contexts: lost letters hide the targets.",
    cost: "None to speak of.",
    knobs: &[
        searched(
            scheduled("rate", "share of tokens", "Share of input tokens drawn.", (0.0, RATE_MOST)),
            0.1,
            Search::Uniform(0.0, 0.3),
        ),
        word(
            "method",
            "Their embedding is zero and the others are scaled up, or a random token of the \
             vocabulary is read in their place.",
            "zero",
            &["zero", "replace"],
        ),
    ],
};

struct TokenDropout {
    rate: Schedule,
    method: TokenNoise,
}

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let method = match read.word("method")? {
        "zero" => TokenNoise::Zero,
        _ => TokenNoise::Replace,
    };
    Ok(Box::new(TokenDropout { rate: read.schedule("rate")?, method }))
}

impl Technique for TokenDropout {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_site(CARD.name, Site::Tokens, self.rate.clone())?;
        plan.noise.tokens = self.method;
        Ok(())
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let mut receipt = noise_receipt(&CARD, live, &[Site::Tokens], "tokens")?;
        if self.method == TokenNoise::Replace {
            receipt.statement = receipt.statement.replacen("drops", "replaces", 1);
        }
        Ok(receipt)
    }
}
