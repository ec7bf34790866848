//! `heldout advise DATA`: what the data is like, and a recipe to start from, with reasons.

use std::path::{Path, PathBuf};

use clap::Args;
use heldout_base::durable;
use heldout_train::Advice;
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
Looks at size, repetition and leaks, and proposes sizes, length and regularization for this data on
this machine: how strong, by how often the text is seen and how large the model is. What you set
yourself stays.

Examples:
  heldout advise my-text.txt
  heldout advise my-text.txt --write recipe.toml && heldout train recipe.toml
  heldout advise my-text.txt --set model.width=256 --set schedule.horizon=\"20 epochs\"")]
pub struct Options {
    #[command(flatten)]
    pub recipe: RecipeOptions,
    /// Write the proposed recipe to this new file
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub write: Option<PathBuf>,
}

/// Looks, and prints the advice.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let recipe = options.recipe.recipe()?;
    if let Some(path) = &options.write {
        check_free(path)?;
    }
    Interrupts::install(console, Vec::new())?;
    let live = Live::start(console, &[""], None);
    let mut preparing = |progress| live.phase(&facts::progress(&progress));
    let (advice, job) = heldout_train::advise(&recipe, &places::cache(), &mut preparing)?;
    live.finish();
    if let Some(path) = &options.write {
        write(path, &advice.recipe)?;
    }
    let reasons = reasons(&job.recipe);
    if console.output == Output::Json {
        let reasons: Vec<Value> = reasons
            .into_iter()
            .map(|(key, value, why)| json!({ "key": key, "value": value, "why": why }))
            .collect();
        console.out_json(&json!({
            "data": job.data.facts(),
            "regime": advice.regime,
            "figures": advice.figures,
            "findings": advice.findings,
            "advice": advice.advice,
            "choices": advice.choices,
            "recipe": advice.recipe,
            "reasons": reasons,
            "written": options.write,
        }))?;
        return Ok(DONE);
    }
    print_table(&facts::lines(job.data.facts()), console)?;
    print_findings(&advice, console)?;
    console.out("")?;
    console.out_line(&Line::of("proposed", Paint::Strong))?;
    for (key, value, why) in reasons {
        let mut line = Line::of(format!("  {key} = {value}"), Paint::Good);
        line.push(format!("  {why}"), Paint::Plain);
        console.out_line(&line)?;
    }
    next_commands(&options, console)
}

fn print_findings(advice: &Advice, console: &Console) -> Result<(), Failure> {
    let rows = [
        ("repetition", advice.repetition.clone()),
        ("model", advice.size.clone()),
        ("overfits", advice.overfitting.clone()),
        ("regime", advice.regime.sentence().to_owned()),
    ];
    print_table(&rows.map(|(label, text)| (label.to_owned(), text)), console)?;
    for (i, text) in advice.advice.iter().enumerate() {
        let label = if i == 0 { "advice" } else { "" };
        print_table(&[(label.to_owned(), text.clone())], console)?;
    }
    Ok(())
}

fn next_commands(options: &Options, console: &Console) -> Result<i32, Failure> {
    if let Some(path) = &options.write {
        let path = shell_word(&path.display().to_string());
        console.out(&format!("\nwritten    {path}"))?;
        console.out(&format!("try next   heldout train {path}"))?;
        return Ok(DONE);
    }
    let words: Vec<String> = options.recipe.data.iter().map(|path| shell_word(path)).collect();
    let data = words.join(" ");
    console.out(&format!("\ntry next   heldout advise {data} --write recipe.toml"))?;
    console.out("           heldout train recipe.toml")?;
    Ok(DONE)
}

/// Nothing that stands is written over: it may be somebody's work.
fn check_free(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        let failure = Failure::bad_input(format!("{} exists already", path.display()));
        return Err(failure.next("name another file, or remove this one"));
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    durable::write_file(path, |out| out.write_all(text.as_bytes()))
        .map_err(|error| Failure::from_error(crate::failure::FAILED, &error))
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
        let is_choice = matches!(
            origin.source,
            OriginSource::Data | OriginSource::Machine | OriginSource::Advice
        ) || table == "regularize";
        if is_choice && !origin.reason.is_empty() {
            let value = rest.split("  # ").next().unwrap_or(rest).trim().to_owned();
            found.push((key, value, origin.reason.clone()));
        }
    }
    found
}
