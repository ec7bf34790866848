//! Focal loss (Lin et al. 2017, equation 4): (1 − p)^γ·(−log p), so that examples of which the
//! model is sure already count less. The α of equation 5 is the technique `class-weights`.

use crate::error::{Conflict, NotLive, SettingError};
use crate::labelled::Learns;
use crate::live::{FocusMeasure, Live, Receipt, not_live, required};
use crate::plan::Plan;
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{scheduled, searched};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_base::schedule::Schedule;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(2.0) };

const CARD: Card = Card {
    name: "focal-loss",
    kind: Kind::Technique,
    stage: Stage::Loss,
    purpose: "Lets examples count less the surer the model is of them already.",
    paper: "Lin et al. 2017, arXiv:1708.02002, equation 4",
    when_to_use: "Labels of which some are rare, or most examples easy; also against \
                  overconfidence (Mukhoti et al. 2020, arXiv:2002.09437).",
    when_to_avoid: "Noisy labels: wrong ones are the hard ones.",
    cost: "None.",
    knobs: &[searched(
        scheduled("gamma", "", "γ of the factor (1 − p)^γ.", (0.0, 10.0)),
        2.0,
        Search::Uniform(0.5, 5.0),
    )],
};

struct FocalLoss(Schedule);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    Ok(Box::new(FocalLoss(Reader::new(&CARD, settings)?.schedule("gamma")?)))
}

impl Technique for FocalLoss {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_focus(CARD.name, self.0.clone())
    }

    fn learns(&self) -> Learns {
        Learns::Labels
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let FocusMeasure { gamma, sure, found, expected } = *required(&CARD, live.focus.as_ref())?;
        if found >= 1.0 || (found - expected).abs() > 1e-5 {
            let finding = format!("{found} of the loss is left at p = {sure}, not {expected}");
            return Err(not_live(&CARD, finding));
        }
        let statement = format!(
            "γ = {gamma}: an example whose label has p = {sure} counts {found:.4} of its loss, as \
             the formula says"
        );
        let figures = [("gamma", gamma), ("left", found), ("expected", expected)];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
