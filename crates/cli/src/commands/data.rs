//! `heldout data preview DATA`: training texts before and after what the recipe does to them.

use clap::{Args, Subcommand};
use heldout_train::{ChangedText, prepare_job, preview};
use serde_json::json;

use crate::console::{Console, Output};
use crate::facts;
use crate::failure::{DONE, Failure};
use crate::interrupt::Interrupts;
use crate::live::Live;
use crate::live::paint::{Line, Paint};
use crate::places;
use crate::recipe_options::RecipeOptions;

/// Options of `heldout data`.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    pub look: Look,
}

/// What to look at.
#[derive(Subcommand)]
pub enum Look {
    /// Show training texts beside what augmentation makes of them
    Preview(Preview),
}

/// Options of `heldout data preview`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  heldout data preview reviews.jsonl
  heldout data preview reviews.jsonl --set regularize.eda=0.2 --epoch 3
  heldout data preview reviews.jsonl --set 'regularize.eda={ synonyms = \"/usr/share/wordnet\" }'
  heldout data preview reviews.jsonl --set regularize.text-masking=0.15 --count 20 --json

A run with the same seed reads exactly these texts in that epoch. Without a recipe that changes
texts, eda is shown at its usual strength.")]
pub struct Preview {
    #[command(flatten)]
    pub recipe: RecipeOptions,
    /// How many texts, from the first of the training split
    #[arg(long, short = 'n', value_name = "N", default_value_t = 8)]
    pub count: usize,
    /// In which pass over the data, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub epoch: u64,
}

/// Looks, and prints.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let Look::Preview(options) = options.look;
    let mut described = options.recipe.clone();
    // Texts without labels have nothing to preview.
    described.task.get_or_insert_with(|| "classify".to_owned());
    Interrupts::install(console, Vec::new())?;
    let live = Live::start(console, &[""], None);
    let mut preparing = |progress| live.phase(&facts::progress(&progress));
    let mut job = prepare_job(&described.recipe()?, &places::cache(), &mut preparing)?;
    let is_shown = job.techniques.plan.labelled.augment.is_empty();
    if is_shown {
        described.settings.push("regularize.eda=true".to_owned());
        job = prepare_job(&described.recipe()?, &places::cache(), &mut preparing)?;
    }
    live.finish();
    let texts = preview(&job, options.count, options.epoch)?;
    if console.output == Output::Json {
        for text in &texts {
            console.out_json(&json!(text))?;
        }
        return Ok(DONE);
    }
    if is_shown {
        console.note("the recipe changes no texts: shown is what regularize.eda = true would do");
    }
    for line in job.techniques.plan.describe() {
        if line.starts_with("data: ") && line.contains("texts changed") {
            console.out_line(&Line::of(format!("# {line}"), Paint::Good))?;
        }
    }
    texts.iter().try_for_each(|text| print(text, console)).and_then(|()| tally(&texts, console))?;
    Ok(DONE)
}

fn print(text: &ChangedText, console: &Console) -> Result<(), Failure> {
    let edits = match text.edits.as_slice() {
        [] => "as it is".to_owned(),
        edits => edits.join(", "),
    };
    console.out("")?;
    let mut head = Line::of(format!("{:>4}  {}", text.index + 1, text.label), Paint::Strong);
    head.push(format!("  {edits}"), Paint::Faint);
    console.out_line(&head)?;
    console.out(&format!("   -  {}", one_line(&text.before)))?;
    if text.before != text.after {
        console.out_line(&Line::of(format!("   +  {}", one_line(&text.after)), Paint::Good))?;
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn tally(texts: &[ChangedText], console: &Console) -> Result<(), Failure> {
    let changed = texts.iter().filter(|text| text.before != text.after).count();
    console.out(&format!("\n{changed} of {} texts changed", texts.len()))
}
