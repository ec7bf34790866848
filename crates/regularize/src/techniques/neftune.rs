//! NEFTune: uniform noise ±α/√(T·C) on the embeddings while training.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::Plan;
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{scheduled, searched};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_base::schedule::Schedule;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(1.0) };

const CARD: Card = Card {
    name: "neftune",
    kind: Kind::Technique,
    stage: Stage::Noise,
    purpose: "Adds uniform noise ±α/√(T·C) to the embeddings of T tokens, C wide, in training.",
    paper: "Jain et al. 2023, arXiv:2310.05914",
    when_to_use: "Fine-tuning on little text.",
    when_to_avoid: "Fresh models, whose embeddings of size 0.02 it drowns at first.",
    cost: "One random word per element of the embeddings: none to speak of.",
    knobs: &[searched(
        scheduled("alpha", "length of the noise over a sequence, × √3", "α.", (0.0, 1e3)),
        5.0,
        Search::Log(1.0, 15.0),
    )],
};

struct Neftune(Schedule);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    Ok(Box::new(Neftune(Reader::new(&CARD, settings)?.schedule("alpha")?)))
}

impl Technique for Neftune {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_neftune(CARD.name, self.0.clone())
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.neftune.as_ref())?;
        let expected = measure.amplitude / 3f64.sqrt();
        // Six standard errors: the squares of a uniform draw deviate by 2/√5 of their mean.
        let error = 6.0 * expected / (5.0 * measure.draws as f64).sqrt();
        if measure.largest > measure.amplitude || (measure.deviation - expected).abs() > error {
            let finding = format!(
                "draws reach {} and deviate by {}, not {} and {expected}",
                measure.largest, measure.deviation, measure.amplitude
            );
            return Err(not_live(&CARD, finding));
        }
        if measure.loss_noisy == measure.loss_clean {
            let finding = "the loss does not change with noise on the embeddings".to_owned();
            return Err(not_live(&CARD, finding));
        }
        let statement = format!(
            "adds up to ±{:.4} (α = {}; deviation {:.4}) to each element (loss of a probe batch \
             {:.6} → {:.6})",
            measure.amplitude,
            measure.alpha,
            measure.deviation,
            measure.loss_clean,
            measure.loss_noisy
        );
        let figures = [
            ("alpha", measure.alpha),
            ("amplitude", measure.amplitude),
            ("deviation", measure.deviation),
            ("loss_shift", measure.loss_noisy - measure.loss_clean),
        ];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
