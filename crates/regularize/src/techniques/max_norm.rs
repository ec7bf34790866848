//! Max-norm: after every update ‖w_row‖₂ ≤ c, where a row holds what comes into one unit.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::on::On;
use crate::plan::{Plan, Projection};
use crate::settings::{Reader, Settings, Value};
use crate::technique::{Entry, Facts, Technique, bare_number};
use crate::techniques::{ON, check_on, scheduled, searched};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_base::schedule::Schedule;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(0.3) };

const CARD: Card = Card {
    name: "max-norm",
    kind: Kind::Technique,
    stage: Stage::Projection,
    purpose: "Bounds the norm of each unit's incoming weights: a row of a matrix, or of a table.",
    paper: "Srivastava et al. 2014, JMLR 15, section 5.1; Srebro & Shraibman 2005",
    when_to_use: "High rates with dropout: weights explore, but cannot explode.",
    when_to_avoid: "Beside strong weight decay, which keeps rows shorter than any useful bound.",
    cost: "One more pass over the weights in each step.",
    knobs: &[
        searched(
            scheduled(
                "limit",
                "norm of a row",
                "c; GPT-2's first rows are 0.02·√inputs long (0.4 for 384 inputs).",
                (1e-6, f64::INFINITY),
            ),
            2.0,
            Search::Log(0.3, 5.0),
        ),
        ON,
    ],
};

struct MaxNorm {
    limit: Schedule,
    on: On,
}

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let given = settings.main.as_ref().or_else(|| settings.knobs.get("limit"));
    if matches!(given, Some(Value::Number(f64::INFINITY))) {
        let remedy = "give a finite limit, or write max-norm = \"off\"";
        return Err(read.no_effect("limit", "no row is longer than infinity", remedy));
    }
    Ok(Box::new(MaxNorm { limit: read.schedule("limit")?, on: read.on()? }))
}

impl Technique for MaxNorm {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        let (limit, on) = (self.limit.clone(), self.on.clone());
        plan.add_projection(CARD.name, Projection::MaxNorm { limit, on })
    }

    fn check(&self, facts: &Facts) -> Result<(), SettingError> {
        check_on(&CARD, &self.on, facts)
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.max_norm.as_ref())?;
        let close = (measure.after - measure.limit).abs() <= 1e-5 * measure.limit;
        if measure.parameters == 0 || !close {
            let finding = format!(
                "{} parameters are bounded and a row of norm {} becomes one of {}",
                measure.parameters,
                2.0 * measure.limit,
                measure.after
            );
            return Err(not_live(&CARD, finding));
        }
        let mut statement = format!(
            "{} of {} parameters; a row of norm {:.4} becomes one of {:.4}; {:.2}% of rows start \
             at the limit or beyond",
            measure.parameters,
            measure.parameters_total,
            2.0 * measure.limit,
            measure.after,
            100.0 * measure.beyond
        );
        let mut figures = vec![
            ("parameters", measure.parameters as f64),
            ("limit", measure.limit),
            ("after", measure.after),
            ("beyond", measure.beyond),
        ];
        if let Some(share) = live.rows_at_limit {
            statement += &format!("; {:.2}% are at it at the end", 100.0 * share);
            figures.push(("at_limit", share));
        }
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
