//! Gradient noise: N(0, η/(1+t)^γ) is added to the gradient before any clipping.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::{GradientTransform, Plan};
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{fixed, scheduled, searched};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_base::schedule::Schedule;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(1e-5) };

const CARD: Card = Card {
    name: "gradient-noise",
    kind: Kind::Technique,
    stage: Stage::Gradient,
    purpose: "Adds normal noise whose variance η/(1+t)^γ falls with the step t to the gradient, \
              before any clipping.",
    paper: "Neelakantan et al. 2015, arXiv:1511.06807",
    when_to_use: "Full or very large batches, whose gradient has little noise of its own.",
    when_to_avoid: "The paper's η of 0.01 to 1 in a large model: the noise's norm is \
                    σ·√parameters, and clipping by norm then leaves little of the gradient.",
    cost: "A normal number per parameter and step: about 0.7 ns of one core with \
           AVX-512, 1.6 ns with AVX2.",
    knobs: &[
        searched(
            scheduled("eta", "variance at the first step", "η.", (0.0, 1e3)),
            1e-7,
            Search::Log(1e-9, 1e-3),
        ),
        fixed("gamma", "", "γ: how fast the variance falls.", 0.55, (0.0, 10.0)),
    ],
};

struct GradientNoise {
    eta: Schedule,
    gamma: f64,
}

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    Ok(Box::new(GradientNoise { eta: read.schedule("eta")?, gamma: read.number("gamma")? }))
}

impl Technique for GradientNoise {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        let (eta, gamma) = (self.eta.clone(), self.gamma);
        plan.add_transform(CARD.name, GradientTransform::Noise { eta, gamma })
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.gradient_noise.as_ref())?;
        // Six standard errors of a normal sample's deviation.
        let error = 6.0 * measure.deviation / (2.0 * measure.draws as f64).sqrt();
        if measure.found <= 0.0 || (measure.found - measure.deviation).abs() > error {
            let finding = format!("noise of σ = {}, not {}", measure.found, measure.deviation);
            return Err(not_live(&CARD, finding));
        }
        let norm = measure.deviation * (measure.parameters as f64).sqrt();
        let mut statement = format!(
            "σ = {:.3e} on zeros (by the formula {:.3e}); a norm of {norm:.3e} over {} parameters",
            measure.found, measure.deviation, measure.parameters
        );
        let mut figures = vec![
            ("deviation", measure.deviation),
            ("found", measure.found),
            ("norm", norm),
            ("parameters", measure.parameters as f64),
        ];
        if let Some(first) = live.first_clip {
            statement += &format!("; the first gradient's is {:.3e}", first.norm_before);
            figures.push(("first_gradient_norm", first.norm_before));
        }
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
