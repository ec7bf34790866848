//! `heldout plan RECIPE`: what a recipe means, every value with its origin.

use clap::Args;
use heldout_train::prepare_job;
use heldout_train::recipe::{ResolvedRecipe, to_toml};
use serde_json::{Map, Value, json};

use crate::console::{Console, Output};
use crate::facts;
use crate::failure::{DONE, Failure};
use crate::interrupt::Interrupts;
use crate::live::Live;
use crate::live::paint::{Line, Paint};
use crate::places;
use crate::recipe_options::RecipeOptions;

/// Options of `heldout plan`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  heldout plan recipe.toml
  heldout plan my-text.txt --set regularize.dropout=0.2 > recipe.toml

The output is a recipe itself: it can be saved, changed and run.")]
pub struct Options {
    #[command(flatten)]
    pub recipe: RecipeOptions,
}

/// Resolves, and prints the recipe and the plan.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let recipe = options.recipe.recipe()?;
    Interrupts::install(console, Vec::new())?;
    let live = Live::start(console, &[""], None);
    let mut preparing = |progress| live.phase(&facts::progress(&progress));
    let job = prepare_job(&recipe, &places::cache(), &mut preparing)?;
    live.finish();
    if console.output == Output::Json {
        console.out_json(&json!({
            "recipe": to_toml(&job.recipe),
            "origins": origins(&job.recipe),
            "plan": job.techniques.plan,
            "data": job.data.facts(),
        }))?;
        return Ok(DONE);
    }
    for text in to_toml(&job.recipe).lines() {
        console.out_line(&painted(text))?;
    }
    console.out("")?;
    for line in job.techniques.plan.describe() {
        console.out_line(&Line::of(format!("# {line}"), Paint::Good))?;
    }
    Ok(DONE)
}

fn painted(text: &str) -> Line {
    if text.starts_with('[') {
        return Line::of(text, Paint::Strong);
    }
    let Some((value, origin)) = text.split_once("  # ") else {
        return Line::of(text, Paint::Plain);
    };
    let mut line = Line::of(value, Paint::Plain);
    line.push(format!("  # {origin}"), Paint::Faint);
    line
}

fn origins(recipe: &ResolvedRecipe) -> Map<String, Value> {
    let text = |(key, origin): (&String, &heldout_train::recipe::Origin)| {
        (key.clone(), Value::from(origin.to_string()))
    };
    recipe.origins.iter().map(text).collect()
}
