//! Freeze: only the top blocks and the head are trained, or all but some kinds of tensors.

use crate::depth::blocks;
use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::{Frozen, Plan};
use crate::settings::{Reader, Settings, Value, no_effect};
use crate::technique::{Entry, Facts, Technique};
use crate::techniques::{fixed, scheduled};
use heldout_base::card::{Card, Default_, Kind, Knob, Schedulable, Stage};

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example };

fn example() -> Settings {
    Settings::table([("on", Value::Text("gain".to_owned()))])
}

const CARD: Card = Card {
    name: "freeze",
    kind: Kind::Technique,
    stage: Stage::Model,
    purpose: "Trains only the top blocks, the last norm and the head; or all but kinds of tensors.",
    paper: "Howard & Ruder 2018, arXiv:1801.06146, section 3.3; Lee et al. 2019, arXiv:1911.03090",
    when_to_use: "Fine-tuning (model.from) on little text: what was learned below stays.",
    when_to_avoid: "Fresh models: random layers stay random.",
    cost: "Less memory: no optimizer state for what is frozen. The backward pass is no shorter.",
    knobs: &[
        Knob {
            search: None,
            ..fixed(
                "top",
                "blocks",
                "How many of the top blocks are trained; 0 leaves norm and head. A head that is \
                 also the input embedding counts as embedding: frozen.",
                2.0,
                (0.0, 4096.0),
            )
        },
        Knob {
            default: Default_::Text("by top"),
            schedulable: Schedulable::No,
            ..scheduled(
                "on",
                "list of kinds of tensors",
                "Instead of `top`: the kinds that are frozen in all layers, of matrix, embedding, \
                 tied-embedding, position-embedding, head, bias, gain.",
                (0.0, 0.0),
            )
        },
    ],
};

struct Freeze(Frozen);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    if !read.is_given("on") {
        return Ok(Box::new(Freeze(Frozen::Below { top: read.whole("top")? })));
    }
    if read.is_given("top") {
        let reason = "`on` says already what is frozen";
        return Err(read.no_effect("top", reason, "give one of the two"));
    }
    Ok(Box::new(Freeze(Frozen::Parts(read.on()?))))
}

impl Technique for Freeze {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_frozen(CARD.name, self.0.clone())
    }

    fn check(&self, facts: &Facts) -> Result<(), SettingError> {
        let (all, frozen) = (facts.layout.parameters.iter(), &self.0);
        let count = all.filter(|p| frozen.covers(p, facts.layout)).count();
        let knob = match frozen {
            Frozen::Below { top } if *top > blocks(facts.layout) => {
                let reason = format!("the model has {} blocks", blocks(facts.layout));
                return Err(no_effect(&CARD, "top", &reason, "train fewer of them"));
            }
            Frozen::Below { .. } => "top",
            Frozen::Parts(_) | Frozen::AllButAdapters => "on",
        };
        let (reason, remedy) = match count {
            0 => ("this model has no such tensor", "name kinds of tensors that the model has"),
            n if n == facts.layout.parameters.len() => {
                ("nothing would be trained", "name fewer kinds of tensors")
            }
            _ => return Ok(()),
        };
        Err(no_effect(&CARD, knob, reason, remedy))
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.trained.as_ref())?;
        if measure.parameters == 0 || measure.parameters >= measure.parameters_total {
            let finding = format!(
                "{} of {} gradients are left",
                measure.parameters, measure.parameters_total
            );
            return Err(not_live(&CARD, finding));
        }
        let frozen = measure.parameters_total - measure.parameters;
        let statement = format!(
            "{} of {} parameters are trained ({} tensors); the gradients of the other {frozen} are \
             cut off",
            measure.parameters, measure.parameters_total, measure.tensors
        );
        let figures = [
            ("trained", measure.parameters as f64),
            ("frozen", frozen as f64),
            ("tensors", measure.tensors as f64),
        ];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
