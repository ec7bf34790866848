//! The recipe that all arms share: resolved once, with a test split, and the same length for all.

use heldout_base::card::Stage;
use heldout_regularize::CATALOGUE;

use crate::error::TrainError;
use crate::recipe::{Amount, Draft, Part, Recipe, RecipeError, defaults};

/// Held out for the verdict where the recipe names no test split.
const TEST_SHARE: f64 = 0.1;

/// A recipe made ready for a study, and what was changed for it, one sentence each.
pub struct Reference {
    /// Not yet resolved.
    pub recipe: Recipe,
    /// For the study's notes.
    pub notes: Vec<String>,
}

/// Lays what a study needs over the user's recipe. Techniques that end a run early are switched
/// off, so that all arms take the same number of steps, unless they are `named` in the question.
pub fn prepare(recipe: &Recipe, named: &[String]) -> Result<Reference, TrainError> {
    let draft = recipe.draft()?;
    refuse_time(&draft)?;
    let mut recipe = recipe.clone();
    let mut notes = Vec::new();
    if draft.data.test.is_none() {
        let (value, words) = test_like(draft.data.validation.as_ref().map(|v| &v.value));
        recipe.set(&format!("data.test={value}"))?;
        notes.push(format!(
            "the recipe names no test split: {words} set aside for it, so that training has less"
        ));
    }
    // The split is a part of the question, not of the noise: it stays while seeds change.
    let seed = draft.run.seed.as_ref().map_or(defaults::SEED, |s| s.value);
    if draft.data.seed.is_none() {
        recipe.set(&format!("data.seed={seed}"))?;
    }
    let ends_runs = |name: &str| !named.iter().any(|n| n == name);
    for entry in CATALOGUE.iter().filter(|e| e.card.stage == Stage::Stop) {
        if ends_runs(entry.card.name) {
            recipe.set(&format!("regularize.{}=false", entry.card.name))?;
            notes.push(format!(
                "{} is off in every trial, so that all take the same number of steps; each keeps \
                 its best weights anyway",
                entry.card.name
            ));
        }
    }
    for setting in ["run.keep=1", "run.histograms=\"never\""] {
        recipe.set(setting)?;
    }
    // Classifiers write no samples.
    if draft.data.task.as_ref().is_none_or(|task| task.value == "lm") {
        recipe.set("evaluate.samples=0")?;
    }
    if draft.evaluate.sample_tokens.is_some() {
        recipe.set("evaluate.samples=1")?;
    }
    Ok(Reference { recipe, notes })
}

/// A limit in time would give each arm as many steps as the machine happens to allow.
fn refuse_time(draft: &Draft) -> Result<(), RecipeError> {
    let refuse = |key: &str, found: Amount, remedy: &str| {
        let message = format!(
            "{key} = \"{found}\" is a time: arms can be compared only after as many steps each"
        );
        Err(RecipeError::general(message).note(remedy))
    };
    match (draft.schedule.horizon.as_ref(), draft.evaluate.every.as_ref()) {
        (Some(set), _) if matches!(set.value, Amount::Seconds(_)) => {
            refuse("schedule.horizon", set.value, "give steps or epochs, such as --steps 2000")
        }
        (_, Some(set)) if matches!(set.value, Amount::Seconds(_)) => {
            let remedy = "give steps or epochs, such as --set evaluate.every=\"100 steps\"";
            refuse("evaluate.every", set.value, remedy)
        }
        _ => Ok(()),
    }
}

/// A test split of the same kind and size as the validation split: the setting, and its words.
fn test_like(validation: Option<&Part>) -> (String, String) {
    match validation {
        Some(Part::Share(share)) => (format!("{share}"), documents(*share)),
        Some(Part::Tail(share)) => {
            let percent = (share * 1e12).round() / 1e10;
            (format!("\"last {percent}%\""), format!("the last {percent}% are"))
        }
        Some(Part::Paths(_)) | None => (format!("{TEST_SHARE}"), documents(TEST_SHARE)),
    }
}

fn documents(share: f64) -> String {
    format!("{}% of the training text are", (share * 1e12).round() / 1e10)
}
