//! R-Drop (Liang et al. 2021): every sequence goes through the network twice under different noise,
//! and the two predictions are drawn together: ½(CE₁ + CE₂) + α·½(KL(p₁‖p₂) + KL(p₂‖p₁)).

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::{Noise, Plan, Site};
use crate::settings::{Reader, Settings, no_effect};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{scheduled, searched};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_base::schedule::Schedule;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(1.0) };

const CARD: Card = Card {
    name: "r-drop",
    kind: Kind::Technique,
    stage: Stage::Probe,
    purpose: "Passes each sequence twice under different dropout and draws the predictions \
              together.",
    paper: "Liang et al. 2021, arXiv:2106.14448",
    when_to_use: "With dropout on small data, where the network with noise and the one without \
                  disagree.",
    when_to_avoid: "Without noise inside the network (an error), and where time is the limit.",
    cost: "Twice the time of forward and backward; memory as before, since half as many sequences \
           are passed at a time.",
    knobs: &[searched(
        scheduled("strength", "share of the divergence", "α.", (0.0, 100.0)),
        1.0,
        Search::Log(0.1, 10.0),
    )],
};

struct RDrop(Schedule);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    Ok(Box::new(RDrop(Reader::new(&CARD, settings)?.schedule("strength")?)))
}

impl Technique for RDrop {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_twins(CARD.name, self.0.clone())
    }

    fn check_beside(&self, plan: &Plan) -> Result<(), SettingError> {
        // Whole blocks are dropped for a step, not for a sequence: both passes lack the same ones.
        let mut noise = Noise { sharing: Default::default(), ..plan.noise.clone() };
        noise.sites.remove(&Site::Layers);
        if noise == Noise::default() {
            let reason = "both passes are the same without noise that differs between sequences";
            let remedy = "switch on `dropout`, or write r-drop = \"off\"";
            return Err(no_effect(&CARD, "strength", reason, remedy));
        }
        Ok(())
    }

    fn companion(&self) -> Option<&'static str> {
        Some("dropout")
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = *required(&CARD, live.twins.as_ref())?;
        if !(measure.divergence.is_finite() && measure.divergence > 0.0) {
            let finding = format!("two noisy passes differ by {} nats", measure.divergence);
            return Err(not_live(&CARD, finding));
        }
        let statement = format!(
            "two noisy passes of a probe batch differ by a mean KL of {:.2e} nats per token, of \
             which the loss takes {}-fold",
            measure.divergence, measure.strength
        );
        let figures = [
            ("strength", measure.strength),
            ("divergence", measure.divergence),
            ("added", measure.added),
        ];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
