//! Explosion guard: a z-score of loss and log‖g‖ over a window, and values that are not finite at
//! once; what then happens is the policy.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::Plan;
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_text};
use crate::techniques::{fixed, word};
use heldout_base::card::{Card, Kind, Stage};
use heldout_optim::guard::{GuardSpec, Policy};

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_text("skip") };

const CARD: Card = Card {
    name: "explosion-guard",
    kind: Kind::Technique,
    stage: Stage::Recovery,
    purpose: "Notices when loss or gradient explode and keeps the step from the weights.",
    paper: "Practice described in Chowdhery et al. 2022 (PaLM), section 5.1; Molybog et al. 2023",
    when_to_use: "Long runs, high rates, dirty data.",
    when_to_avoid: "Never harmful; without it a value that is not finite still stops the run.",
    cost: "None to speak of.",
    knobs: &[
        word(
            "policy",
            "Drop the step, clip it to the usual norm, return to the best weights with a lower \
             rate, or stop.",
            "skip",
            &["skip", "clip-harder", "roll-back", "stop"],
        ),
        fixed("threshold", "standard deviations", "z that raises an alarm.", 6.0, (2.0, 100.0)),
        fixed("window", "steps", "How far back is compared with.", 200.0, (10.0, 1e5)),
        fixed("least", "steps", "Steps before z is trusted.", 20.0, (2.0, 1e5)),
        fixed(
            "limit",
            "alarms",
            "Alarms within the window after which it goes further: from skipping or clipping to a \
             roll-back at half the rate, and after three of those to the end of the run; from \
             roll-back to the end at once.",
            10.0,
            (1.0, 1e5),
        ),
        fixed("rate-factor", "× rate", "What a roll-back multiplies by.", 0.5, (1e-3, 1.0)),
    ],
};

struct Guard(GuardSpec);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let rate_factor = read.number("rate-factor")?;
    let policy = match read.word("policy")? {
        "skip" => Policy::Skip,
        "clip-harder" => Policy::ClipHarder,
        "roll-back" => Policy::RollBack { rate_factor },
        _ => Policy::Stop,
    };
    if read.is_given("rate-factor") && !matches!(policy, Policy::RollBack { .. }) {
        let remedy = "remove it, or write policy = \"roll-back\"";
        return Err(read.no_effect("rate-factor", "it belongs to the roll-back", remedy));
    }
    let (window, least) = (read.whole("window")?, read.whole("least")?);
    if least > window {
        let reason = format!("z is trusted after {least} steps but only {window} are kept");
        let remedy = "give a window of at least that many steps, or a smaller `least`";
        return Err(read.no_effect("window", &reason, remedy));
    }
    let threshold = Some(read.number("threshold")?);
    let spec = GuardSpec { window, least, threshold, policy, limit: read.whole("limit")? };
    Ok(Box::new(Guard(spec)))
}

impl Technique for Guard {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_recovery(CARD.name, self.0)
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.guard.as_ref())?;
        if measure.on_nan == "proceeds" || measure.on_spike == "proceeds" {
            let finding = "a copy let a made-up explosion pass".to_owned();
            return Err(not_live(&CARD, finding));
        }
        if measure.false_alarms > 0 {
            let finding = format!("a copy raised {} false alarms", measure.false_alarms);
            return Err(not_live(&CARD, finding));
        }
        let statement = format!(
            "a copy {} at a loss that is no number and {} at a gradient 10¹² times the usual \
             (z = {:.0}); no alarm in {} even steps",
            measure.on_nan, measure.on_spike, measure.z, measure.even_length
        );
        let figures = [("z", measure.z), ("false_alarms", measure.false_alarms as f64)];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
