//! Label smoothing (Szegedy et al. 2016): the target is (1−ε)·onehot + ε·q, with q uniform over all
//! classes (as PyTorch has it), over the wrong ones, or over the k likeliest wrong ones.
//! Held-out loss is never smoothed.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::{Plan, Smoothing, SmoothingTo};
use crate::settings::{Reader, Settings, no_effect};
use crate::technique::{Entry, Facts, Technique, bare_number};
use crate::techniques::{fixed, scheduled, searched, word};
use heldout_base::card::{Card, Kind, Search, Stage};

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(0.1) };

const CARD: Card = Card {
    name: "label-smoothing",
    kind: Kind::Technique,
    stage: Stage::Loss,
    purpose: "Moves a little of each target's mass to other tokens, against overconfidence.",
    paper: "Szegedy et al. 2016, arXiv:1512.00567; Müller et al. 2019, arXiv:1906.02629",
    when_to_use: "Accuracy, BLEU or calibration matter more than the likelihood itself.",
    when_to_avoid: "Perplexity is what counts: smoothing usually costs some.",
    cost: "None to speak of; likeliest: one pass over the logits to pick k of them.",
    knobs: &[
        searched(
            scheduled("amount", "share of mass", "ε, the mass moved.", (0.0, 0.9)),
            0.1,
            Search::Uniform(0.0, 0.3),
        ),
        word(
            "to",
            "Who gets it: all classes, the wrong ones, or the k likeliest wrong ones.",
            "all",
            &["all", "wrong", "likeliest"],
        ),
        fixed("k", "classes", "How many classes share it, for `likeliest`.", 8.0, (0.0, 1e6)),
    ],
};

struct LabelSmoothing(Smoothing);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let amount = read.schedule("amount")?;
    let k = read.whole("k")?;
    let to = match read.word("to")? {
        "all" => SmoothingTo::All,
        "wrong" => SmoothingTo::Wrong,
        _ => SmoothingTo::Likeliest { k },
    };
    if to == (SmoothingTo::Likeliest { k: 0 }) {
        let remedy = "give a k of 1 or more, or write label-smoothing = \"off\"";
        return Err(read.no_effect("k", "no class would get any mass", remedy));
    }
    if !matches!(to, SmoothingTo::Likeliest { .. }) && read.is_given("k") {
        let remedy = "remove it, or write to = \"likeliest\"";
        return Err(read.no_effect("k", "it belongs to the variant \"likeliest\"", remedy));
    }
    Ok(Box::new(LabelSmoothing(Smoothing { amount, to })))
}

impl Technique for LabelSmoothing {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_smoothing(CARD.name, self.0.clone())
    }

    fn check(&self, facts: &Facts) -> Result<(), SettingError> {
        let wrong = facts.config.classes().saturating_sub(1);
        match self.0.to {
            _ if wrong == 0 => {
                let remedy = "write label-smoothing = \"off\"";
                Err(no_effect(&CARD, "amount", "the vocabulary has a single token", remedy))
            }
            SmoothingTo::Likeliest { k } if k > wrong => Err(SettingError::OutOfRange {
                technique: CARD.name.to_owned(),
                knob: "k".to_owned(),
                found: k as f64,
                allowed: format!("1 to {wrong} (the vocabulary less the right token)"),
            }),
            _ => Ok(()),
        }
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.smoothing.as_ref())?;
        let (vocabulary, k) = (measure.vocabulary as f64, measure.k as f64);
        let (moved, on_likeliest, whom) = match self.0.to {
            SmoothingTo::All => {
                let moved = measure.amount * (vocabulary - 1.0) / vocabulary;
                (moved, moved, format!("all {vocabulary} tokens"))
            }
            SmoothingTo::Wrong => {
                let whom = format!("the {} wrong tokens", vocabulary - 1.0);
                (measure.amount, measure.amount, whom)
            }
            SmoothingTo::Likeliest { .. } => {
                (measure.amount, measure.amount, format!("the {k} likeliest wrong tokens"))
            }
        };
        for (found, expected) in [(measure.moved, moved), (measure.on_likeliest, on_likeliest)] {
            if (found - expected).abs() > 1e-3 + 1e-2 * expected {
                return Err(not_live(&CARD, format!("{found} of the mass moved, not {expected}")));
            }
        }
        let statement = format!(
            "{:.2}% of each target's mass spread over {whom} (asked for {})",
            100.0 * measure.moved,
            measure.amount
        );
        let figures = [
            ("amount", measure.amount),
            ("mass_moved", measure.moved),
            ("mass_on_likeliest", measure.on_likeliest),
        ];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
