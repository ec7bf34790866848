//! Mixout (Lee et al. 2020): every step reads a random part of the weights as they were before
//! fine-tuning, so that the others learn to do with them.

use crate::effective::{Effective, Mixed};
use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::on::{On, Part};
use crate::plan::Plan;
use crate::settings::{Reader, Settings, unusable};
use crate::technique::{Beginning, Entry, Facts, Technique, bare_number};
use crate::techniques::{ON, RATE_MOST, check_on, scheduled, searched};
use heldout_base::card::{Card, Default_, Kind, Knob, Search, Stage};
use heldout_base::schedule::Schedule;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(0.5) };

const CARD: Card = Card {
    name: "mixout",
    kind: Kind::Technique,
    stage: Stage::Model,
    purpose: "Reads each weight as it was before fine-tuning with probability p, scaled so that \
              the mean is the weight itself.",
    paper: "Lee et al. 2020, arXiv:1909.11299",
    when_to_use: "Fine-tuning (model.from) on so little text that runs differ much or forget; the \
                  paper's best are 0.7 to 0.9, in place of dropout.",
    when_to_avoid: "Fresh models (refused), and text that differs much from what was learned.",
    cost: "Two copies more of the weights, and two passes over them a step.",
    knobs: &[
        searched(
            scheduled(
                "rate",
                "",
                "p: share of the weights that a step reads as they were at the start.",
                (0.0, RATE_MOST),
            ),
            0.7,
            Search::Uniform(0.1, 0.9),
        ),
        Knob { default: Default_::Text("matrix"), ..ON },
    ],
};

struct Mixout {
    rate: Schedule,
    on: On,
}

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let on = if read.is_given("on") { read.on()? } else { On([Part::Matrix].into()) };
    Ok(Box::new(Mixout { rate: read.schedule("rate")?, on }))
}

impl Technique for Mixout {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        let mixed = Mixed { rate: self.rate.clone(), on: self.on.clone() };
        plan.own_effective(CARD.name, Effective::Mixed(mixed))
    }

    fn check(&self, facts: &Facts) -> Result<(), SettingError> {
        if facts.beginning == Beginning::Random {
            let reason = "the model starts from random weights: there is nothing to keep";
            let remedy = "name a trained model with model.from, or write mixout = \"off\"";
            return Err(unusable(&CARD, "rate", reason.to_owned(), remedy));
        }
        check_on(&CARD, &self.on, facts)
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = *required(&CARD, live.mixed.as_ref())?;
        let (p, n) = (measure.rate, measure.parameters as f64);
        // Six standard deviations: one false alarm in half a billion.
        let deviation = (p * (1.0 - p) / n).sqrt();
        let is_share = (measure.replaced - p).abs() <= 6.0 * deviation + 1.0 / n;
        if measure.parameters == 0 || !is_share || measure.loss_mixed == measure.loss_moved {
            let finding = format!(
                "{} of {} weights were read as at the start, not {p}; the loss of a probe batch \
                 went from {} to {}",
                measure.replaced, measure.parameters, measure.loss_moved, measure.loss_mixed
            );
            return Err(not_live(&CARD, finding));
        }
        let mut statement = format!(
            "reads {:.2}% of {} weights as they were at the start, the others on average {:.4} \
             times as far from it as they are; with all of them moved a little, the loss of a \
             probe batch {:.6} → {:.6}",
            100.0 * measure.replaced,
            measure.parameters,
            measure.stretch,
            measure.loss_moved,
            measure.loss_mixed
        );
        let mut figures = vec![
            ("rate", measure.rate),
            ("replaced", measure.replaced),
            ("stretch", measure.stretch),
            ("weights", n),
        ];
        if let Some(distance) = live.distance_from_start {
            statement += &format!("; the model ends {:.3}% away from it", 100.0 * distance);
            figures.push(("distance", distance));
        }
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
