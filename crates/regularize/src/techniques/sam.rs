//! SAM (Foret et al. 2021): the gradient is taken at w + ρ·g/‖g‖, the worst point nearby, and
//! applied at w, which leads to flat minima.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::{Climb, Plan};
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{scheduled, searched, word};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_optim::ascent::Metric;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(0.05) };

const CARD: Card = Card {
    name: "sam",
    kind: Kind::Technique,
    stage: Stage::Probe,
    purpose: "Takes the gradient at the worst point nearby, so that training ends in flat minima.",
    paper: "Foret et al. 2021, arXiv:2010.01412; adaptive: Kwon et al. 2021, arXiv:2102.11600",
    when_to_use: "Many epochs over fixed data, where the gap is large and time is not.",
    when_to_avoid: "Time is the limit: twice as many plain steps often gain more. Penalties on \
                    weights are no part of the climb.",
    cost: "Twice the time of forward and backward: two gradients of the same batch with the same \
           noise. One more copy of the weights in memory.",
    knobs: &[
        searched(
            scheduled("radius", "length in weights", "ρ, how far uphill.", (0.0, 10.0)),
            0.05,
            Search::Log(0.005, 0.5),
        ),
        word(
            "adaptive",
            "Measure the climb relative to each weight's size (ASAM); a good ρ is then about ten \
             times larger.",
            "no",
            &["yes", "no"],
        ),
    ],
};

struct Sam(Climb);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let metric = match read.word("adaptive")? {
        "yes" => Metric::Relative,
        _ => Metric::Euclidean,
    };
    Ok(Box::new(Sam(Climb { radius: read.schedule("radius")?, metric })))
}

impl Technique for Sam {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_climb(CARD.name, self.0.clone())
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = *required(&CARD, live.climb.as_ref())?;
        // Rounding: a step of 1e-6 on weights of 1 is a few units in their last place.
        if (measure.moved - measure.radius).abs() > 0.05 * measure.radius {
            let finding = format!("the weights moved by {}, not {}", measure.moved, measure.radius);
            return Err(not_live(&CARD, finding));
        }
        let rise = measure.loss_uphill - measure.loss_before;
        if rise == 0.0 || !rise.is_finite() {
            let (before, after) = (measure.loss_before, measure.loss_uphill);
            let finding = format!("uphill the loss is {after}, and it was {before}");
            return Err(not_live(&CARD, finding));
        }
        let statement = format!(
            "‖ε‖ = {:.4} uphill the loss of a probe batch is {:.6}, {rise:+.6}",
            measure.moved, measure.loss_uphill
        );
        let figures = [
            ("radius", measure.radius),
            ("moved", measure.moved),
            ("loss_before", measure.loss_before),
            ("loss_uphill", measure.loss_uphill),
        ];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
