//! Token dropout: the embedding of random input tokens is zeroed (word dropout; Iyyer et al. 2015,
//! Bowman et al. 2016), or another token is read in their place (Xie et al. 2017); positions and
//! targets are kept.
//!
//! Guided by predictability: of the training text's tokens the share s with the lowest −ln p (see
//! [`heldout_data::ngram::Predictable`]) is drawn with probability rate/s, the others never, so
//! that the mean over all tokens is the rate. What is zeroed is made up for where it can happen:
//! the kept ones among the predictable are scaled by 1/(1 − rate/s), the others not at all.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{GuideMeasure, Live, PredictableMeasure, Receipt, not_live, required};
use crate::plan::{Plan, Site, TokenGuide, TokenNoise};
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{RATE_MOST, fixed, noise_receipt, scheduled, searched, word};
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
            et al. 2017, arXiv:1703.02573; guided: after Wang et al. 2025, arXiv:2512.23422 \
            (EntroDrop), who mask the tokens of low entropy and let the strength rise over the \
            run. Ours differs: predictability is counted once by n-gram models, not taken from a \
            network's entropy, and the rate rises only if its schedule says so",
    when_to_use: "Very many epochs over little text, when windows are known by their wording; \
                  guided when what is easy is learned by heart first.",
    when_to_avoid: "Character-level models with short contexts: lost letters hide the targets.",
    cost: "None to speak of; guided, a second or so for each few million tokens before the first \
           step, 200 MB or less meanwhile, and one bit a token.",
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
        word(
            "guide",
            "Who is drawn: all tokens alike, or only the predictable ones, which are the `share` \
             of the training text's tokens with the lowest −ln p in an n-gram model of the other \
             half of the text, each with rate/share, so that the mean over all tokens is the rate.",
            "uniform",
            &["uniform", "predictable"],
        ),
        fixed(
            "share",
            "share of tokens",
            "How many count as predictable; needs the guide.",
            SHARE,
            (0.01, 0.99),
        ),
    ],
};

/// The predictable half.
const SHARE: f64 = 0.5;

struct TokenDropout {
    rate: Schedule,
    method: TokenNoise,
    guide: TokenGuide,
}

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let method = match read.word("method")? {
        "zero" => TokenNoise::Zero,
        _ => TokenNoise::Replace,
    };
    let (rate, share) = (read.schedule("rate")?, read.number("share")?);
    let guide = match read.word("guide")? {
        "predictable" => {
            check_room(&read, share)?;
            TokenGuide::Predictable { share }
        }
        _ if read.is_given("share") => {
            let remedy = "add guide = \"predictable\", or remove the share";
            return Err(read.no_effect("share", "the guide is uniform", remedy));
        }
        _ => TokenGuide::Uniform,
    };
    Ok(Box::new(TokenDropout { rate, method, guide }))
}

/// Refuses a rate that is, at some step, more than the predictable tokens can bear.
fn check_room(read: &Reader, share: f64) -> Result<(), SettingError> {
    let most = RATE_MOST * share;
    let Some(found) = read.above("rate", most)? else { return Ok(()) };
    let reason = format!(
        "it reaches {found}, and {share} of the tokens are predictable: each of them would have \
         to be dropped with probability {:.2}",
        found / share
    );
    Err(read.unusable("rate", reason, "give a larger share, or a lower rate"))
}

impl Technique for TokenDropout {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_site(CARD.name, Site::Tokens, self.rate.clone())?;
        plan.noise.tokens = self.method;
        plan.noise.guide = self.guide;
        Ok(())
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let mut receipt = noise_receipt(&CARD, live, &[Site::Tokens], "tokens")?;
        if self.method == TokenNoise::Replace {
            receipt.statement = receipt.statement.replacen("drops", "replaces", 1);
        }
        if self.guide != TokenGuide::Uniform {
            add_guide(&mut receipt, live)?;
        }
        Ok(receipt)
    }
}

/// Says who was drawn, and what makes them predictable.
fn add_guide(receipt: &mut Receipt, live: &Live) -> Result<(), NotLive> {
    let GuideMeasure { marked, others } = *required(&CARD, live.guide.as_ref())?;
    let found = *required(&CARD, live.predictable.as_ref())?;
    if others > 0.0 || marked == 0.0 {
        let finding = format!("{marked} of the predictable tokens are drawn, {others} of others");
        return Err(not_live(&CARD, finding));
    }
    let PredictableMeasure { share, order, loss_marked, loss_others } = found;
    if share == 0.0 || loss_marked >= loss_others {
        let finding = "no token of the text is more predictable than another".to_owned();
        return Err(not_live(&CARD, finding));
    }
    receipt.statement += &format!(
        "; {:.2}% of the predictable tokens and {:.2}% of the others; predictable are {:.2}% of \
         the training tokens, which cost an {order}-gram model of the other half of the text \
         {loss_marked:.3} nats each, the others {loss_others:.3}",
        100.0 * marked,
        100.0 * others,
        100.0 * share,
    );
    receipt.measured.extend(
        [
            ("tokens.dropped_predictable", marked),
            ("tokens.dropped_others", others),
            ("tokens.predictable", share),
            ("tokens.loss_predictable", loss_marked),
            ("tokens.loss_others", loss_others),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    Ok(())
}
