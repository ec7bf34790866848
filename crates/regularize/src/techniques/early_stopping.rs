//! Early stopping: the run ends when the held-out value has not improved for a while (Prechelt
//! 1998). The result is the best held-out weights, whatever ended the run.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::patience::{EarlyStopping, Monitor, Patience};
use crate::plan::{Plan, StopRule};
use crate::settings::{Reader, Settings, no_effect};
use crate::technique::{Entry, Facts, Technique, bare_text};
use crate::techniques::{fixed, scheduled, word};
use heldout_base::card::{Card, Default_, Kind, Knob, Schedulable, Stage};

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_text("3 evaluations") };

const CARD: Card = Card {
    name: "early-stopping",
    kind: Kind::Technique,
    stage: Stage::Stop,
    purpose: "Ends the run when the held-out loss no longer improves; keeps the best weights.",
    paper: "Prechelt 1998, Early Stopping - But When?",
    when_to_use: "Fixed data and an open number of epochs.",
    when_to_avoid: "Schedules that fall towards the horizon: the best often comes at the very end.",
    cost: "Negative: saves the steps that would not have helped.",
    knobs: &[
        Knob {
            default: Default_::Text("5 evaluations"),
            schedulable: Schedulable::No,
            ..scheduled(
                "patience",
                "\"5 evaluations\", \"2000 steps\" or \"3 epochs\"",
                "How long the value may fail to improve.",
                (0.0, 0.0),
            )
        },
        fixed("min-delta", "the monitor's", "Least improvement that counts.", 0.0, (0.0, 1e3)),
        word("monitor", "The held-out value that is watched.", "loss-valid", &Monitor::WORDS),
    ],
};

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let text = read.text("patience")?;
    let patience = parse_patience(&text).ok_or_else(|| {
        let expected = "a number with its unit: \"5 evaluations\", \"2000 steps\" or \"3 epochs\"";
        read.wrong("patience", expected, format!("{text:?}"))
    })?;
    let monitor = match read.word("monitor")? {
        "loss-valid" => Monitor::LossValid,
        "bits-per-byte" => Monitor::BitsPerByte,
        _ => Monitor::Perplexity,
    };
    Ok(Box::new(EarlyStopping { patience, min_delta: read.number("min-delta")?, monitor }))
}

/// At least one evaluation or step, or a positive share of an epoch.
fn parse_patience(text: &str) -> Option<Patience> {
    let (number, unit) = text.trim().split_once(' ')?;
    let whole = || number.parse::<u64>().ok().filter(|count| *count > 0);
    match unit.trim() {
        "evaluation" | "evaluations" => Some(Patience::Evaluations(whole()?)),
        "step" | "steps" => Some(Patience::Steps(whole()?)),
        "epoch" | "epochs" => {
            let epochs = number.parse::<f64>().ok();
            epochs.filter(|e| e.is_finite() && *e > 0.0).map(Patience::Epochs)
        }
        _ => None,
    }
}

impl Technique for EarlyStopping {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.add_stop(CARD.name, StopRule::EarlyStopping(*self))
    }

    fn check(&self, facts: &Facts) -> Result<(), SettingError> {
        let length = facts.length;
        let (is_beyond, whole) = match self.patience {
            Patience::Evaluations(n) => (
                length.evaluations.is_some_and(|all| n > all),
                length.evaluations.map(Patience::Evaluations),
            ),
            Patience::Steps(n) => {
                (length.steps.is_some_and(|all| n > all), length.steps.map(Patience::Steps))
            }
            Patience::Epochs(n) => {
                (length.epochs.is_some_and(|all| n > all), length.epochs.map(Patience::Epochs))
            }
        };
        match whole {
            Some(whole) if is_beyond => {
                let reason =
                    format!("a run of {whole} ends before a patience of {} does", self.patience);
                let remedy = "shorten the patience, or remove early-stopping (the result is the \
                              best held-out weights anyway)";
                Err(no_effect(&CARD, "patience", &reason, remedy))
            }
            _ => Ok(()),
        }
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.patience.as_ref())?;
        if !measure.waited.is_finite() {
            return Err(not_live(&CARD, "a flat series is never stopped".to_owned()));
        }
        let statement = format!(
            "watches {}; a copy of the rule stopped a flat series after {} of patience",
            self.monitor.word(),
            self.patience
        );
        Ok(Receipt::new(&CARD, statement, [("waited", measure.waited)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_names_its_unit() {
        let check = |text: &str, expected| assert_eq!(parse_patience(text), expected, "{text}");
        check("5 evaluations", Some(Patience::Evaluations(5)));
        check("1 evaluation", Some(Patience::Evaluations(1)));
        check("2000 steps", Some(Patience::Steps(2000)));
        check("1.5 epochs", Some(Patience::Epochs(1.5)));
        check("0 steps", None);
        check("-3 epochs", None);
        check("NaN epochs", None);
        check("5", None);
        check("5 minutes", None);
        check("five evaluations", None);
    }
}
