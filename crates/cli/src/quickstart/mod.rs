//! The quickstart's text, recipes and verdict, apart from running it.

pub mod comparison;

use std::path::{Path, PathBuf};

use heldout_data::grammar::Grammar;
use heldout_train::recipe::{Recipe, RecipeError};

/// Paragraphs to train on: few, so that they can be learned by heart.
const PARAGRAPHS_TRAIN: usize = 400;
/// Paragraphs held out: enough for an error of about 0.02 nats per token.
const PARAGRAPHS_HELD_OUT: usize = 150;

/// The two models of the story, in the order in which they are shown.
pub const NAMES: [&str; 2] = ["plain", "regularized"];

const SHARED: &str = include_str!("recipe.toml");
const OWN: [&str; 2] = [include_str!("plain.toml"), include_str!("regularized.toml")];

/// Text drawn from the grammar, and what nobody can know about it.
pub struct Corpus {
    pub train: String,
    pub held_out: String,
    /// −ln p of the held-out text under the true process, in nats: exact.
    pub nats_held_out: f64,
}

/// Draws the corpus: a pure function of the seed.
pub fn corpus(seed: u64) -> Corpus {
    let grammar = Grammar::english();
    // Two seeds, not two halves: the held-out text is new text of the same process.
    let train = grammar.generate(2 * seed, PARAGRAPHS_TRAIN);
    let held_out = grammar.generate(2 * seed + 1, PARAGRAPHS_HELD_OUT);
    let nats_held_out = grammar.nats(&held_out).expect("the grammar produced it");
    Corpus { train, held_out, nats_held_out }
}

/// Where the quickstart's files lie.
pub struct Folder {
    pub root: PathBuf,
}

impl Folder {
    /// The training text.
    pub fn train(&self) -> PathBuf {
        self.root.join("train.txt")
    }

    /// The held-out text.
    pub fn held_out(&self) -> PathBuf {
        self.root.join("held-out.txt")
    }

    /// The run of one of [`NAMES`].
    pub fn run(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The recipe of one of [`NAMES`], as a user would write it.
    pub fn recipe(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.toml"))
    }
}

/// The recipe text of the model at `index` of [`NAMES`].
pub fn recipe_text(index: usize) -> String {
    format!("{SHARED}{}", OWN[index])
}

/// The recipe of the model at `index` for the files in `folder`.
pub fn recipe(
    index: usize,
    folder: &Folder,
    seed: u64,
    threads: usize,
    steps: Option<u64>,
) -> Result<Recipe, RecipeError> {
    let name = folder.recipe(NAMES[index]).display().to_string();
    let mut recipe = Recipe::parse(&recipe_text(index), &name)?;
    recipe.set_data(&[text_of(&folder.train())])?;
    let held_out = serde_json::Value::from(text_of(&folder.held_out()));
    recipe.set(&format!("data.validation={held_out}"))?;
    recipe.set(&format!("run.seed={seed}"))?;
    recipe.set(&format!("run.threads={threads}"))?;
    if let Some(steps) = steps {
        recipe.set(&format!("schedule.horizon=\"{steps} steps\""))?;
    }
    Ok(recipe)
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
