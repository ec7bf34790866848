//! The numbers that advice rests on: how much text there is, how often it will be seen, by how
//! large a model.

use heldout_data::{Prepared, repetition};
use serde::Serialize;

use crate::job::Job;
use crate::recipe::Amount;

/// What decides how hard to regularize.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Training tokens as they are.
    pub tokens: u64,
    /// Training tokens that do not stand in a passage that occurred before.
    pub tokens_unique: f64,
    /// Repeated tokens as a share of all, 0 to 1.
    pub repeated: f64,
    /// Held-out bytes in passages that training has word for word, as a share of all, 0 to 1.
    pub leaked: f64,
    /// Documents that equal or nearly equal an earlier one, as a share of all, 0 to 1.
    pub duplicates: f64,
    pub parameters: f64,
    pub parameters_per_token: f64,
    /// Passes over the training split, as far as the horizon tells.
    pub epochs: f64,
    /// Passes until a model without regularization is at its best, roughly.
    pub epochs_until_overfit: f64,
    /// Updates of the weights over the whole run.
    pub updates: f64,
}

impl Figures {
    /// How often each unique token will be seen: repeated text counts as one more pass.
    pub fn passes(&self) -> f64 {
        self.epochs * self.tokens as f64 / self.tokens_unique
    }
}

/// The text of a job that `advise` has looked at.
pub fn text_of(job: &Job) -> &Prepared {
    job.data.text(ADVISE).expect("`advise` begins by asking for it")
}

/// What needs a language model, in an error.
pub const ADVISE: &str = "`heldout advise`";

/// Takes the numbers from a prepared job.
pub fn figures(job: &Job) -> Figures {
    let data = text_of(job);
    let facts = &data.facts;
    let found = repetition(&data.train);
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let tokens = facts.tokens_train.max(1);
    let tokens_unique = (tokens as f64 * (1.0 - found.share())).max(1.0);
    let parameters = job.recipe.model.config.parameter_count() as f64;
    let parameters_per_token = parameters / tokens_unique;
    let epochs = epochs(job);
    Figures {
        tokens,
        tokens_unique,
        repeated: found.share(),
        leaked: share(facts.shared_passage_bytes, facts.bytes_validation + facts.bytes_test),
        duplicates: share(facts.exact_duplicates + facts.near_duplicates, facts.documents),
        parameters,
        parameters_per_token,
        epochs,
        epochs_until_overfit: epochs_until_overfit(parameters_per_token),
        updates: epochs * tokens as f64 / step_tokens(job),
    }
}

/// Passes over the training split, as far as the horizon tells.
fn epochs(job: &Job) -> f64 {
    let tokens = text_of(job).facts.tokens_train.max(1) as f64;
    let recipe = &job.recipe;
    match recipe.schedule.horizon {
        Amount::Epochs(epochs) => epochs,
        Amount::Steps(steps) => steps as f64 * step_tokens(job) / tokens,
        Amount::Tokens(seen) => seen as f64 / tokens,
        // The model was sized for some twenty tokens a parameter.
        _ => 20.0 * recipe.model.config.parameter_count() as f64 / tokens,
    }
}

/// Tokens of one update.
fn step_tokens(job: &Job) -> f64 {
    let tokens = text_of(job).facts.tokens_train.max(1) as f64;
    let context = job.recipe.model.context;
    job.recipe.batch.size.map_or(tokens, |size| (size * context) as f64)
}

/// (parameters per unique token, passes at which runs without regularization were at their best).
/// 6.6: AdamW 10 and 17, Muon 8 (bench/evidence); 14: AdamW 18. The first follows Muennighoff 2023:
/// with twenty tokens a parameter some forty passes still gain.
const TURNS: &[(f64, f64)] = &[(0.05, 40.0), (6.6, 11.0)];

/// Passes until a model without regularization is at its best, from our own runs of small models;
/// a slower optimizer turns later, a larger rate earlier.
fn epochs_until_overfit(parameters_per_token: f64) -> f64 {
    super::cocktail::interpolate(TURNS, parameters_per_token)
}
