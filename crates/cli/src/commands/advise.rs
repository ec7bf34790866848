//! `heldout advise DATA`: what the data is like, and a recipe to start from, with reasons.

use clap::Args;
use heldout_train::prepare_job;
use heldout_train::recipe::{OriginSource, ResolvedRecipe, to_toml};
use serde_json::{Value, json};

use crate::console::{Console, Output};
use crate::facts;
use crate::failure::{DONE, Failure};
use crate::interrupt::Interrupts;
use crate::live::Live;
use crate::live::paint::{Line, Paint};
use crate::outcome::{print_table, shell_word};
use crate::places;
use crate::recipe_options::RecipeOptions;

/// Options of `heldout advise`.
#[derive(Args)]
#[command(after_help = "\
Looks at size, copies and leaks, and proposes sizes, length and regularization for this data on
this machine. `heldout plan DATA > recipe.toml` writes the proposal down, to be changed and run.")]
pub struct Options {
    #[command(flatten)]
    pub recipe: RecipeOptions,
}

/// Looks, and prints the advice.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let recipe = options.recipe.recipe()?;
    Interrupts::install(console, Vec::new())?;
    let live = Live::start(console, &[""], None);
    let mut preparing = |progress| live.phase(&facts::progress(&progress));
    let job = prepare_job(&recipe, &places::cache(), &mut preparing)?;
    live.finish();
    let advice = heldout_train::advise(&job);
    let reasons = reasons(&job.recipe);
    if console.output == Output::Json {
        let reasons: Vec<Value> = reasons
            .into_iter()
            .map(|(key, value, why)| json!({ "key": key, "value": value, "why": why }))
            .collect();
        console.out_json(&json!({
            "data": job.data.facts,
            "regime": advice.regime,
            "findings": advice.findings,
            "advice": advice.advice,
            "recipe": advice.recipe,
            "reasons": reasons,
        }))?;
        return Ok(DONE);
    }
    print_table(&facts::lines(&job.data.facts), console)?;
    print_table(&[("regime".to_owned(), advice.regime.sentence().to_owned())], console)?;
    for (i, text) in advice.advice.into_iter().enumerate() {
        let label = if i == 0 { "advice" } else { "" };
        print_table(&[(label.to_owned(), text)], console)?;
    }
    console.out("")?;
    console.out_line(&Line::of("proposed", Paint::Strong))?;
    for (key, value, why) in reasons {
        let mut line = Line::of(format!("  {key} = {value}"), Paint::Good);
        line.push(format!("  {why}"), Paint::Plain);
        console.out_line(&line)?;
    }
    let data: Vec<String> = options.recipe.data.iter().map(|path| shell_word(path)).collect();
    let data = data.join(" ");
    console.out(&format!("\ntry next   heldout train {data}"))?;
    console.out(&format!("           heldout plan {data} > recipe.toml"))?;
    Ok(DONE)
}

/// Key, value and reason of everything that was chosen for this data or machine.
fn reasons(recipe: &ResolvedRecipe) -> Vec<(String, String, String)> {
    let mut table = String::new();
    let mut found = Vec::new();
    for line in to_toml(recipe).lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']').to_owned();
        }
        let Some((key, rest)) = line.split_once(" = ") else { continue };
        let key = format!("{table}.{key}");
        let Some(origin) = recipe.origins.get(&key) else { continue };
        let is_choice = matches!(origin.source, OriginSource::Data | OriginSource::Machine)
            || table == "regularize";
        if is_choice && !origin.reason.is_empty() {
            let value = rest.split("  # ").next().unwrap_or(rest).trim().to_owned();
            found.push((key, value, origin.reason.clone()));
        }
    }
    found
}
