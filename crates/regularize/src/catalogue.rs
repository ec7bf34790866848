//! The registry: one constant slice in reading order, and the way from settings to a plan.

use crate::error::SettingError;
use crate::labelled::check_task;
use crate::plan::{Loss, Plan};
use crate::settings::{Settings, no_effect};
use crate::technique::{Entry, Facts, Technique};
use crate::techniques::*;
use heldout_base::nearest::nearest;
use heldout_model::Head;

/// Every technique, in the order in which help, documentation and plans list them.
pub static CATALOGUE: &[Entry] = &[
    weight_tying::ENTRY,
    freeze::ENTRY,
    lora::ENTRY,
    mixout::ENTRY,
    reinit::ENTRY,
    multi_token_prediction::ENTRY,
    shuffle::ENTRY,
    eda::ENTRY,
    text_masking::ENTRY,
    sentence_order::ENTRY,
    dropout::ENTRY,
    head_dropout::ENTRY,
    token_dropout::ENTRY,
    neftune::ENTRY,
    layer_drop::ENTRY,
    label_smoothing::ENTRY,
    class_weights::ENTRY,
    focal_loss::ENTRY,
    confidence_penalty::ENTRY,
    z_loss::ENTRY,
    distillation::ENTRY,
    l1::ENTRY,
    l2::ENTRY,
    r_drop::ENTRY,
    sam::ENTRY,
    gradient_noise::ENTRY,
    gradient_clipping::ENTRY,
    layerwise_decay::ENTRY,
    weight_decay::ENTRY,
    max_norm::ENTRY,
    ema::ENTRY,
    swa::ENTRY,
    checkpoint_averaging::ENTRY,
    early_stopping::ENTRY,
    explosion_guard::ENTRY,
];

/// The entry called `name`.
pub fn find(name: &str) -> Result<&'static Entry, SettingError> {
    CATALOGUE.iter().find(|entry| entry.name() == name).ok_or_else(|| {
        let names = CATALOGUE.iter().map(Entry::name);
        SettingError::UnknownTechnique {
            technique: name.to_owned(),
            nearest: nearest(name, names).map(str::to_owned),
        }
    })
}

/// A plan and the techniques that made it, in the catalogue's order.
pub struct Assembled {
    /// What they ask of the run.
    pub plan: Plan,
    /// For checks and receipts.
    pub techniques: Vec<Box<dyn Technique>>,
}

impl std::fmt::Debug for Assembled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.techniques.iter().map(|t| t.card().name).collect();
        f.debug_struct("Assembled").field("plan", &self.plan).field("techniques", &names).finish()
    }
}

/// Builds every technique that is not off and lets each write into the plan.
pub fn assemble<'a>(
    chosen: impl IntoIterator<Item = (&'a str, &'a Settings)>,
) -> Result<Assembled, SettingError> {
    let mut found = Vec::new();
    for (name, settings) in chosen {
        let entry = find(name)?;
        if !settings.is_off() {
            let place = CATALOGUE.iter().position(|e| e.name() == name).expect("it was found");
            found.push((place, (entry.build)(settings)?));
        }
    }
    found.sort_by_key(|(place, _)| *place);
    let techniques: Vec<Box<dyn Technique>> = found.into_iter().map(|(_, t)| t).collect();
    let mut plan = Plan::default();
    for technique in &techniques {
        technique.contribute(&mut plan)?;
    }
    Ok(Assembled { plan, techniques })
}

impl Assembled {
    /// The ends of an answer have a loss of their own, which knows no other targets.
    fn refuse_for_spans(&self) -> Result<(), SettingError> {
        let Loss { smoothing, z_loss, confidence, teaching, .. } = &self.plan.loss;
        let owners = [
            smoothing.as_ref().map(|own| &own.owner),
            z_loss.as_ref().map(|own| &own.owner),
            confidence.as_ref().map(|own| &own.owner),
            teaching.as_ref().map(|own| &own.owner),
            self.plan.probe.twins.as_ref().map(|own| &own.owner),
        ];
        let Some(owner) = owners.into_iter().flatten().next() else { return Ok(()) };
        let card = find(owner)?.card;
        let reason = "the loss of an answer's first and last token has no such term";
        let remedy = format!("write {owner} = \"off\"");
        Err(no_effect(card, card.knobs[0].name, reason, &remedy))
    }

    /// Refuses settings that cannot have an effect on this model, or beside what else is on.
    pub fn check(&self, facts: &Facts) -> Result<(), SettingError> {
        if facts.config.head == Head::Span {
            self.refuse_for_spans()?;
        }
        self.techniques.iter().try_for_each(|technique| {
            check_task(&**technique, facts)?;
            technique.check(facts)?;
            technique.check_beside(&self.plan)
        })
    }
}
