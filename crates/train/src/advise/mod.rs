//! What kind of data this is, what usually helps with it, and a recipe to start from.

mod cocktail;
mod figures;

use std::fmt::Write;
use std::path::Path;

use heldout_data::Progress;
use serde::Serialize;

pub use cocktail::Choice;
pub use figures::Figures;

use crate::error::TrainError;
use crate::job::{Job, prepare_job};
use crate::recipe::{Origin, OriginSource, Part, Recipe, to_toml};

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

    /// What would help more than any setting.
    fn beyond_settings(self) -> &'static [&'static str] {
        match self {
            Regime::Tiny => &[
                "start from a model that has read other text (model.from), if there is one",
                "or gather more text: every tenfold is worth more than any setting",
            ],
            Regime::OnePass => &["a longer run or a larger model is the way to a lower loss"],
            Regime::FewPasses => &["a longer run is still worth nearly as much as more text"],
            Regime::FixedData => &["more text would help more than any setting here"],
        }
    }
}

/// Findings about a corpus and a recipe to start from.
#[derive(Clone, Debug, Serialize)]
pub struct Advice {
    pub regime: Regime,
    pub figures: Figures,
    /// How much of the text is said more than once.
    pub repetition: String,
    /// How large the model is for this text.
    pub size: String,
    /// When a model without regularization would turn, against how long this one trains.
    pub overfitting: String,
    /// What else was found in the data, one sentence each.
    pub findings: Vec<String>,
    /// What follows from it besides the choices, one sentence each.
    pub advice: Vec<String>,
    /// What the recipe sets because of it.
    pub choices: Vec<Choice>,
    /// A whole recipe as TOML, each value with its reason.
    pub recipe: String,
}

/// Fewer training tokens than this are hardly a corpus.
const TINY_TOKENS: u64 = 20_000;

/// Fewer held-out tokens than this give a loss with an error above a hundredth of a nat or so.
const VALIDATION_TOKENS: u64 = 20_000;

/// More of the text than this said twice is worth a word.
const SHARE_NOTABLE: f64 = 0.01;

/// Prepares the data, says what it means, and lays a cocktail below what the user wrote. Also
/// returns the job that the advised recipe describes.
pub fn advise(
    recipe: &Recipe,
    cache: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Advice, Job), TrainError> {
    let plain = prepare_job(recipe, cache, progress)?;
    plain.data.text(figures::ADVISE)?;
    let figures = figures::figures(&plain);
    let regime = regime(&figures);
    let (mut advised, mut choices) = (recipe.clone(), Vec::new());
    let fixed = recipe.names("optimizer") || recipe.names("model.from");
    let named = fixed.then_some(plain.recipe.optimizer.name.as_str());
    for choice in cocktail::cocktail(&figures, regime, named) {
        if choice.is_free(recipe) {
            advised.set(&format!("{}={}", choice.key, choice.value))?;
            choices.push(choice);
        }
    }
    let mut job = prepare_job(&advised, cache, &mut |_| {})?;
    for choice in &choices {
        let origin = Origin { source: OriginSource::Advice, reason: choice.why.clone() };
        job.recipe.origins.insert(choice.key.to_owned(), origin);
    }
    let advice = Advice {
        regime,
        figures,
        repetition: repetition(&figures),
        size: size(&figures),
        overfitting: overfitting(&figures),
        findings: findings(&job, &figures),
        advice: data_advice(&job, &figures, regime),
        choices,
        recipe: to_toml(&job.recipe),
    };
    Ok((advice, job))
}

fn regime(figures: &Figures) -> Regime {
    match figures.passes() {
        _ if figures.tokens < TINY_TOKENS => Regime::Tiny,
        e if e <= 1.5 => Regime::OnePass,
        e if e <= 6.0 => Regime::FewPasses,
        _ => Regime::FixedData,
    }
}

fn findings(job: &Job, figures: &Figures) -> Vec<String> {
    let facts = &figures::text_of(job).facts;
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
            "{} documents repeat an earlier one exactly, {} nearly ({:.1}% of all)",
            facts.exact_duplicates,
            facts.near_duplicates,
            100.0 * figures.duplicates,
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
            "training and held-out text share {} passages of {} bytes in all: {:.1}% of what is \
             held out",
            facts.shared_passages,
            facts.shared_passage_bytes,
            100.0 * figures.leaked,
        ));
    }
    found.retain(|text| !text.is_empty());
    found
}

fn repetition(figures: &Figures) -> String {
    let share = 100.0 * figures.repeated;
    if figures.repeated == 0.0 {
        return "no longer passage of the training text stands in it twice".into();
    }
    let unique = figures.tokens_unique.round();
    format!("{share:.1}% of the training tokens repeat an earlier passage: {unique} unique ones")
}

fn size(figures: &Figures) -> String {
    format!(
        "{:.2} M parameters, {:.1} for each unique token; {:.1} passes over the text, {:.0} \
         updates",
        figures.parameters / 1e6,
        figures.parameters_per_token,
        figures.epochs,
        figures.updates,
    )
}

fn overfitting(figures: &Figures) -> String {
    let (turn, epochs) = (figures.epochs_until_overfit, figures.epochs);
    let verdict = match epochs / turn {
        r if r < 0.5 => "this run ends long before",
        r if r < 1.0 => "this run ends before, but not by much",
        r if r < 2.0 => "this run goes on beyond that",
        _ => "this run goes on far beyond that",
    };
    format!(
        "without regularization such a model is best after roughly {turn:.0} passes (give or take \
         a factor of two); {verdict}"
    )
}

fn data_advice(job: &Job, figures: &Figures, regime: Regime) -> Vec<String> {
    let facts = &figures::text_of(job).facts;
    let mut advice: Vec<String> = regime.beyond_settings().iter().map(|t| t.to_string()).collect();
    if facts.tokens_validation < VALIDATION_TOKENS && facts.tokens_train > 10 * VALIDATION_TOKENS {
        advice.push(format!(
            "hold out more: {} tokens give a rough loss (data.validation)",
            facts.tokens_validation
        ));
    }
    if figures.leaked > SHARE_NOTABLE {
        advice.push(format!(
            "{:.1}% of the held-out text can be known by heart: the held-out loss flatters",
            100.0 * figures.leaked
        ));
    }
    if figures.duplicates > 0.1 {
        advice.push("remove repeated documents: data.duplicates = \"remove-all\"".into());
    } else if figures.repeated > 0.1 {
        advice.push(format!(
            "{:.0}% of the text is said twice: look for boilerplate to take out",
            100.0 * figures.repeated
        ));
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
