//! What kind of data this is, what usually helps with it, and a recipe to start from.

use std::fmt::Write;

use serde::Serialize;

use crate::job::Job;
use crate::recipe::{Amount, OriginSource, Part, to_toml};

/// How often a run will see each token: what decides which regularization pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Regime {
    /// Too few tokens to judge a language model by.
    Tiny,
    /// More data than time: each token is seen about once.
    OnePass,
    /// A few passes: repeated data is nearly as good as fresh.
    FewPasses,
    /// Many passes over fixed data: overfitting is what limits the result.
    FixedData,
}

impl Regime {
    /// The regime in one sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Regime::Tiny => "there is very little text: whatever is trained will know it by heart",
            Regime::OnePass => "there is more text than time: every token is seen about once",
            Regime::FewPasses => {
                "the text is seen a few times: up to about four passes, repeated text is nearly \
                 as good as fresh (Muennighoff 2023)"
            }
            Regime::FixedData => {
                "the text is seen many times: overfitting is what limits the result, so \
                 regularization decides"
            }
        }
    }

    /// What follows for regularization, with the evidence.
    pub fn consequences(self) -> &'static [&'static str] {
        match self {
            Regime::Tiny => &[
                "start from a model that has read other text (model.from), if there is one",
                "or gather more text: every tenfold is worth more than any setting",
            ],
            Regime::OnePass => &[
                "leave dropout out: in one pass it only slows learning (Xue 2023, Liu 2025)",
                "weak weight decay is enough",
                "a longer run or a larger model is the way to a lower loss",
            ],
            Regime::FewPasses => &[
                "a little dropout (0.1) begins to pay",
                "shuffling documents and windows anew every epoch is the cheapest gain",
            ],
            Regime::FixedData => &[
                "dropout of 0.1 to 0.3 pays (Xue 2023)",
                "stronger weight decay than usual pays, up to thirty times 0.1 (Kim 2025)",
                "an average of the weights (ema) gains a little more",
                "stop early: the best weights come before the end",
            ],
        }
    }
}

/// Findings about a corpus and a recipe to start from.
#[derive(Clone, Debug, Serialize)]
pub struct Advice {
    pub regime: Regime,
    /// What was found in the data, one sentence each.
    pub findings: Vec<String>,
    /// What follows from it, one sentence each.
    pub advice: Vec<String>,
    /// A whole recipe as TOML, each value with its reason.
    pub recipe: String,
}

/// Fewer training tokens than this are hardly a corpus.
const TINY_TOKENS: u64 = 20_000;

/// Fewer held-out tokens than this give a loss with an error above a hundredth of a nat or so.
const VALIDATION_TOKENS: u64 = 20_000;

/// Reads a prepared job and says what it means.
pub fn advise(job: &Job) -> Advice {
    let epochs = epochs(job);
    let regime = match epochs {
        _ if job.data.facts.tokens_train < TINY_TOKENS => Regime::Tiny,
        e if e <= 1.5 => Regime::OnePass,
        e if e <= 6.0 => Regime::FewPasses,
        _ => Regime::FixedData,
    };
    let mut advice: Vec<String> =
        regime.consequences().iter().map(|text| text.to_string()).collect();
    advice.extend(data_advice(job));
    Advice { regime, findings: findings(job, epochs), advice, recipe: to_toml(&job.recipe) }
}

/// Passes over the training split, as far as the horizon tells.
fn epochs(job: &Job) -> f64 {
    let tokens = job.data.facts.tokens_train.max(1) as f64;
    let recipe = &job.recipe;
    let step_tokens = recipe.batch.size.map_or(tokens, |s| (s * recipe.model.context) as f64);
    match recipe.schedule.horizon {
        Amount::Epochs(epochs) => epochs,
        Amount::Steps(steps) => steps as f64 * step_tokens / tokens,
        Amount::Tokens(seen) => seen as f64 / tokens,
        // The model was sized for some twenty tokens a parameter.
        _ => 20.0 * recipe.model.config.parameter_count() as f64 / tokens,
    }
}

fn findings(job: &Job, epochs: f64) -> Vec<String> {
    let facts = &job.data.facts;
    let mut found = vec![
        format!(
            "{} training tokens and {} held out, in {} documents ({:.2} bytes a token, \
             vocabulary {})",
            facts.tokens_train,
            facts.tokens_validation,
            facts.documents,
            facts.bytes_per_token_validation,
            facts.vocabulary,
        ),
        facts.boundary.clone(),
        facts.split.clone(),
    ];
    if facts.exact_duplicates + facts.near_duplicates > 0 {
        found.push(format!(
            "{} documents repeat an earlier one exactly, {} nearly",
            facts.exact_duplicates, facts.near_duplicates
        ));
    }
    if facts.leaked_documents > 0 {
        let mut text = format!(
            "{} training documents also stand in a held-out split; {} were removed",
            facts.leaked_documents, facts.leaked_removed
        );
        if let Some(example) = facts.examples.first() {
            let _ = write!(text, " (such as {} and {})", example.one, example.other);
        }
        found.push(text);
    }
    if facts.shared_passages > 0 {
        found.push(format!(
            "training and held-out text share {} passages of {} bytes in all",
            facts.shared_passages, facts.shared_passage_bytes
        ));
    }
    let parameters = job.recipe.model.config.parameter_count() as f64;
    found.push(format!(
        "the recipe trains {:.2} M parameters for about {epochs:.1} passes: {:.1} unique tokens a \
         parameter",
        parameters / 1e6,
        facts.tokens_train as f64 / parameters,
    ));
    found.retain(|text| !text.is_empty());
    found
}

fn data_advice(job: &Job) -> Vec<String> {
    let facts = &job.data.facts;
    let mut advice = Vec::new();
    if facts.tokens_validation < VALIDATION_TOKENS && facts.tokens_train > 10 * VALIDATION_TOKENS {
        advice.push(format!(
            "hold out more: {} tokens give a rough loss (data.validation)",
            facts.tokens_validation
        ));
    }
    let duplicates = facts.exact_duplicates + facts.near_duplicates;
    if 10 * duplicates > facts.documents {
        advice.push("remove repeated documents: data.duplicates = \"remove-all\"".into());
    }
    let is_default =
        |key: &str| job.recipe.origins.get(key).is_some_and(|o| o.source == OriginSource::Default);
    let documents = facts.documents_validation;
    if matches!(job.recipe.data.validation, Part::Share(_))
        && is_default("data.validation")
        && (1..5).contains(&documents)
        && facts.documents > 1
    {
        advice.push(format!(
            "only {documents} documents are held out: name held-out files if some are more typical"
        ));
    }
    advice
}
