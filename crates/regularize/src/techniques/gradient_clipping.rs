//! Gradient clipping: g ← g/max(1, ‖g‖/c) by one global norm (Pascanu et al. 2013), or element by
//! element, or per unit against the norm of its weights (AGC; Brock et al. 2021).

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::{GradientTransform, Plan};
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{scheduled, searched, word};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_base::schedule::Schedule;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(0.1) };

const CARD: Card = Card {
    name: "gradient-clipping",
    kind: Kind::Technique,
    stage: Stage::Gradient,
    purpose: "Bounds the gradient, so that one odd batch cannot throw the weights.",
    paper: "Pascanu et al. 2013, arXiv:1211.5063; adaptive: Brock et al. 2021, arXiv:2102.06171",
    when_to_use: "Nearly always, by norm, with 1.0.",
    when_to_avoid: "Studies of plain gradient descent.",
    cost: "By norm one read of the gradients; by value and adaptive one or two passes more.",
    knobs: &[
        searched(
            scheduled(
                "limit",
                "norm, value, or share of the weights' norm",
                "The bound; for `adaptive` 0.01 is usual.",
                (1e-9, f64::INFINITY),
            ),
            1.0,
            Search::Log(0.01, 10.0),
        ),
        word(
            "method",
            "One global norm, every element, or every unit against its weights.",
            "norm",
            &["norm", "value", "adaptive"],
        ),
    ],
};

struct GradientClipping(GradientTransform);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    if matches!(&settings.main, Some(crate::Value::Number(limit)) if *limit == f64::INFINITY)
        || matches!(settings.knobs.get("limit"), Some(crate::Value::Number(f64::INFINITY)))
    {
        let remedy = "give a finite limit, or write gradient-clipping = \"off\"";
        return Err(read.no_effect("limit", "no gradient is longer than infinity", remedy));
    }
    let limit: Schedule = read.schedule("limit")?;
    Ok(Box::new(GradientClipping(match read.word("method")? {
        "norm" => GradientTransform::ClipNorm { limit },
        "value" => GradientTransform::ClipValue { limit },
        _ => GradientTransform::ClipAdaptive { ratio: limit },
    })))
}

impl Technique for GradientClipping {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.add_transform(CARD.name, self.0.clone())
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.clip.as_ref())?;
        if measure.norm_after >= measure.norm_before {
            let finding = format!(
                "a gradient of norm {:e} comes out with norm {:e}",
                measure.norm_before, measure.norm_after
            );
            return Err(not_live(&CARD, finding));
        }
        let mut statement = format!(
            "a gradient of norm {:.1e} comes out with norm {:.4}",
            measure.norm_before, measure.norm_after
        );
        let mut figures =
            vec![("probe_before", measure.norm_before), ("probe_after", measure.norm_after)];
        if let Some(first) = live.first_clip {
            statement +=
                &format!("; at step 1 {:.4} became {:.4}", first.norm_before, first.norm_after);
            figures.push(("first_before", first.norm_before));
            figures.push(("first_after", first.norm_after));
            figures.push(("first_share", first.share));
        }
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
