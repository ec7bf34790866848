//! `heldout train`: from text to the best held-out language model.

use std::path::{Path, PathBuf};

use clap::Args;
use heldout_record::{RunDir, StopReason};
use heldout_train::recipe::{Amount, BaselineChoice};
use heldout_train::{Control, Corpus, Job, Outcome, prepare_job};

use crate::console::Console;
use crate::facts;
use crate::failure::{Failure, SIGNALLED};
use crate::interrupt::Interrupts;
use crate::live::Live;
use crate::outcome;
use crate::places::{self, NewFolder};
use crate::readiness;
use crate::recipe_options::RecipeOptions;

/// Options of `heldout train`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  heldout train my-text.txt
  heldout train corpus/ --time \"30 min\" --out runs/mine
  heldout train reviews.jsonl --set data.field=body --validation 5%
  heldout train reviews.jsonl --task classify --validation dev.jsonl
  heldout train squad.json --task qa --validation dev.json
  heldout train --source train.de --target train.en --validation-pair dev.de dev.en
  heldout train dialogues.jsonl --task seq2seq
  heldout train --recipe recipe.toml --set regularize.dropout=0.2

The result is always the best held-out weights, in RUN/model (Hugging Face layout).
Ctrl-C writes a checkpoint and stops; `heldout resume RUN` goes on from it.")]
pub struct Options {
    #[command(flatten)]
    pub recipe: RecipeOptions,
    /// Folder of the run; new or empty [default: runs/NAME]
    #[arg(long, short, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Take one step apart (the fifth): print its ops by time, write RUN/profile.json for
    /// chrome://tracing or ui.perfetto.dev; the result stays the same
    #[arg(long)]
    pub profile: bool,
}

/// Trains, and prints what came of it.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let recipe = options.recipe.recipe()?;
    let root = options
        .out
        .unwrap_or_else(|| RunDir::next_name(Path::new(places::RUNS), &options.recipe.stem()));
    // A folder that cannot be used should be known before an hour of reading text.
    let folder = NewFolder::check(root)?;
    let control = Control::new();
    if options.profile {
        control.profile_a_step();
    }
    let interrupts = Interrupts::install(console, vec![control.clone()])?;
    let live = Live::start(console, &[""], None);
    let mut preparing = |progress| live.phase(&facts::progress(&progress));
    let job = prepare_job(&recipe, &places::cache(), &mut preparing)?;
    readiness::check(&job)?;
    tell_plan(&job, console);
    if let Amount::Seconds(seconds) = job.recipe.schedule.horizon {
        live.limit_seconds(seconds);
    }
    if job.recipe.evaluate.baseline != BaselineChoice::None {
        live.phase(match job.data {
            Corpus::Text(_) => "counting n-grams for a baseline ...",
            Corpus::Masked(_) => "counting tokens for a baseline ...",
            Corpus::Pairs(_) => "scoring copies of the sources for a baseline ...",
            Corpus::Labelled(_) => "training a bag of words for a baseline ...",
            Corpus::Answers(_) => "counting words for a baseline ...",
        });
    }
    let run = RunDir::create(&folder.root)?;
    interrupts.run_started();
    let mut observer = live.observer(0);
    let words = std::env::args().collect();
    let ended = heldout_train::train(job, run.clone(), words, &mut observer, &control);
    live.finish();
    let outcome = ended.inspect_err(|_| folder.remove_unused())?;
    finish(&run, &outcome, &interrupts, console)
}

/// What was found in the data, and what the recipe came to, one line each.
fn tell_plan(job: &Job, console: &Console) {
    for (label, text) in facts::brief(job.data.facts()) {
        console.note(&format!("{label:10} {text}").trim_end().replace('\n', " "));
    }
    for line in job.techniques.plan.describe() {
        console.note(&format!("{:10} {line}", "plan"));
    }
}

/// Prints the run's result and chooses the exit code; shared with `resume`.
pub fn finish(
    run: &RunDir,
    outcome: &Outcome,
    interrupts: &Interrupts,
    console: &Console,
) -> Result<i32, Failure> {
    let code = outcome::print(run, console)?;
    if outcome.reason != StopReason::Interrupted {
        return Ok(code);
    }
    let path = outcome::shell_word(&run.root.display().to_string());
    console.note(&format!(
        "\nstopped after step {} with a checkpoint; go on with: heldout resume {path}",
        outcome.step
    ));
    Ok(interrupts.exit_code().unwrap_or(SIGNALLED + signal_hook::consts::SIGINT))
}
