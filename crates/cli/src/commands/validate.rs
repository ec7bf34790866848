//! `heldout validate`: a recipe and its data, checked without training.

use clap::Args;
use heldout_kernels::Activations;
use heldout_report::format;
use heldout_train::{Job, prepare_job};
use serde_json::json;

use crate::console::{Console, Output};
use crate::facts;
use crate::failure::{DONE, Failure};
use crate::interrupt::Interrupts;
use crate::live::Live;
use crate::outcome::print_table;
use crate::places;
use crate::readiness;
use crate::recipe_options::RecipeOptions;

/// Options of `heldout validate`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    pub recipe: RecipeOptions,
}

/// Checks, and prints what was found.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let recipe = options.recipe.recipe()?;
    Interrupts::install(console, Vec::new())?;
    let live = Live::start(console, &[""], None);
    let mut preparing = |progress| live.phase(&facts::progress(&progress));
    let job = prepare_job(&recipe, &places::cache(), &mut preparing)?;
    live.finish();
    let need = readiness::check(&job)?;
    let parameters = job.recipe.model.config.parameter_count() as u64;
    if console.output == Output::Json {
        console.out_json(&json!({
            "valid": true,
            "parameters": parameters,
            "memory_bytes": need.bytes(),
            "activations": activations(&job),
            "horizon": job.recipe.schedule.horizon.to_string(),
            "plan": job.techniques.plan.describe(),
            "data": job.data.facts(),
        }))?;
        return Ok(DONE);
    }
    let mut rows = facts::lines(job.data.facts());
    let size = format!("{} parameters", format::short_count(parameters));
    rows.push(("model".to_owned(), size));
    let bytes = format::bytes(need.bytes());
    let memory = format!("about {bytes}, activations {}", activations(&job));
    rows.push(("memory".to_owned(), memory));
    rows.push(("length".to_owned(), job.recipe.schedule.horizon.to_string()));
    rows.extend(job.techniques.plan.describe().into_iter().map(|line| ("plan".to_owned(), line)));
    rows.push(("valid".to_owned(), "the recipe and the data can be trained on".to_owned()));
    print_table(&rows, console)?;
    Ok(DONE)
}

fn activations(job: &Job) -> &'static str {
    match job.recipe.run.memory {
        Activations::Keep => "kept",
        Activations::Recompute => "recomputed",
    }
}
