//! What a plan asks of a run over labelled texts: texts that are changed as they are read, and
//! classes or examples that count more than others.

use crate::at::At;
use crate::error::{Conflict, SettingError};
use crate::plan::{Owned, Plan, add, own};
use crate::settings::no_effect;
use crate::technique::{Facts, Technique};
use heldout_base::schedule::Schedule;
use heldout_data::augment::{Choice, Step};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The slots that only a run over labelled texts has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labelled {
    /// Changes of the training texts, one after another, anew in every epoch.
    pub augment: Vec<Owned<Augment>>,
    /// How much each class counts.
    pub class_weights: Option<Owned<ClassWeights>>,
    /// γ of the factor (1 − p)^γ on the loss of an example.
    pub focus: Option<Owned<Schedule>>,
}

/// One way to change texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Augment {
    /// The edits with their rates.
    pub steps: Vec<Step>,
    /// Share of the texts of an epoch that are changed.
    pub share: f64,
    /// Whether such a text gets all edits or one of them.
    pub choice: Choice,
    /// Where synonyms stand.
    pub synonyms: Option<String>,
}

/// How much each class counts; the mean over the training examples is 1 in any case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeights {
    /// As (n / (K·n_k))^power.
    Balanced {
        /// 1 makes all classes count alike, 0 would leave them as they are.
        power: f64,
    },
    /// By the labels' names; those that are not named weigh 1.
    Given(BTreeMap<String, f64>),
}

/// Which runs a technique is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learns {
    /// All.
    Anything,
    /// Those over labelled texts.
    Labels,
}

impl ClassWeights {
    /// A weight for each class of so many training examples, such that the mean weight of the
    /// examples is 1: what `torch.nn.CrossEntropyLoss(weight=w)` comes to on the whole training
    /// set, where it divides by Σ w.
    ///
    /// # Errors
    /// The name of a label that there is not.
    pub fn weights(&self, labels: &[String], counts: &[u64]) -> Result<Vec<f32>, String> {
        let total: u64 = counts.iter().sum();
        let raw: Vec<f64> = match self {
            ClassWeights::Balanced { power } => {
                let each = |count: &u64| match count {
                    0 => 0.0,
                    n => (total as f64 / (counts.len() as f64 * *n as f64)).powf(*power),
                };
                counts.iter().map(each).collect()
            }
            ClassWeights::Given(given) => {
                if let Some(name) = given.keys().find(|name| !labels.contains(name)) {
                    return Err(name.clone());
                }
                labels.iter().map(|label| given.get(label).copied().unwrap_or(1.0)).collect()
            }
        };
        let sum: f64 = raw.iter().zip(counts).map(|(w, n)| w * *n as f64).sum();
        let scale = if sum > 0.0 { total as f64 / sum } else { 1.0 };
        Ok(raw.iter().map(|w| (w * scale) as f32).collect())
    }
}

impl Plan {
    /// Changes training texts, behind the changes already there.
    pub fn add_augment(&mut self, owner: &str, augment: Augment) -> Result<(), Conflict> {
        add("a change of the training texts", &mut self.labelled.augment, owner, augment)
    }

    /// Says how much each class counts.
    pub fn own_class_weights(
        &mut self,
        owner: &str,
        weights: ClassWeights,
    ) -> Result<(), Conflict> {
        own("the weights of classes", &mut self.labelled.class_weights, owner, weights)
    }

    /// Lets examples count less the surer the model is of them.
    pub fn own_focus(&mut self, owner: &str, gamma: Schedule) -> Result<(), Conflict> {
        own("the focus on hard examples", &mut self.labelled.focus, owner, gamma)
    }

    /// γ of the focal loss; 0 is none.
    pub fn focus_at(&self, at: At) -> f32 {
        self.labelled.focus.as_ref().map_or(0.0, |gamma| at.value(&gamma.value).max(0.0) as f32)
    }

    pub(crate) fn describe_augment(&self) -> Vec<(String, String)> {
        let one = |Owned { owner, value }: &Owned<Augment>| {
            let Augment { steps, share, choice, .. } = value;
            let names: Vec<String> =
                steps.iter().map(|step| format!("{} {}", step.edit.name(), step.rate)).collect();
            let of = if *choice == Choice::One && steps.len() > 1 { "one of " } else { "" };
            let what = format!("{} of the texts changed by {of}{}", share, names.join(", "));
            (what, owner.clone())
        };
        self.labelled.augment.iter().map(one).collect()
    }

    pub(crate) fn describe_weighing(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        if let Some(Owned { owner, value }) = &self.labelled.class_weights {
            let what = match value {
                ClassWeights::Balanced { power } if *power == 1.0 => {
                    "every class counts alike: × n/(K·n_k)".to_owned()
                }
                ClassWeights::Balanced { power } => {
                    format!("rare classes count more: × (n/(K·n_k))^{power}")
                }
                ClassWeights::Given(given) => {
                    let each: Vec<String> = given.iter().map(|(l, w)| format!("{l}={w}")).collect();
                    format!("classes count as {}, others 1", each.join(", "))
                }
            };
            lines.push((what, owner.clone()));
        }
        if let Some(Owned { owner, value }) = &self.labelled.focus {
            lines.push((format!("× (1 − p)^γ, γ = {}", value.describe()), owner.clone()));
        }
        lines
    }
}

/// Refuses what is for labels in a run that learns none.
pub(crate) fn check_task(technique: &dyn Technique, facts: &Facts) -> Result<(), SettingError> {
    if technique.learns() == Learns::Labels && facts.config.head.is_language_model() {
        let card = technique.card();
        let reason = "the run learns to write text, not to tell labels";
        let remedy = format!("remove `{}`, or give labelled data and --task classify", card.name);
        return Err(no_effect(card, card.knobs[0].name, reason, &remedy));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_a_mean_of_one_over_the_examples() {
        let labels = ["rare".to_owned(), "usual".to_owned()];
        let given = ClassWeights::Given([("rare".to_owned(), 5.0)].into());
        for (weights, ratio) in [
            (ClassWeights::Balanced { power: 1.0 }, 9.0),
            (ClassWeights::Balanced { power: 0.5 }, 3.0),
            (given, 5.0),
        ] {
            let found = weights.weights(&labels, &[10, 90]).expect("known labels");
            assert!((found[0] / found[1] - ratio).abs() < 1e-5, "{found:?}");
            assert!((0.1 * found[0] + 0.9 * found[1] - 1.0).abs() < 1e-6, "{found:?}");
        }
        let other = ClassWeights::Given([("rera".to_owned(), 5.0)].into());
        assert_eq!(other.weights(&labels, &[10, 90]), Err("rera".to_owned()));
    }
}
