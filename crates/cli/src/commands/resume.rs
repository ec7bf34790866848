//! `heldout resume RUN`: goes on exactly where the run stopped.

use std::path::PathBuf;

use clap::Args;
use heldout_record::RunDir;
use heldout_train::recipe::{Amount, Recipe};
use heldout_train::{Control, Progress};

use crate::commands::train;
use crate::console::Console;
use crate::facts;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::live::Live;
use crate::places;

/// Options of `heldout resume`.
#[derive(Args)]
#[command(after_help = "\
The run goes on from its last whole checkpoint with the same data, recipe and random numbers:
the result is the same, to the last bit, as if it had never stopped.")]
pub struct Options {
    /// The folder of the run
    #[arg(value_name = "RUN", value_hint = clap::ValueHint::DirPath)]
    pub run: PathBuf,
    /// Take one step apart (the fifth from here): print its ops by time, write RUN/profile.json
    /// for chrome://tracing or ui.perfetto.dev; the result stays the same
    #[arg(long)]
    pub profile: bool,
}

/// The run's time, where that is its horizon.
fn seconds_limit(run: &RunDir) -> Option<f64> {
    let draft = Recipe::read(&run.recipe()).ok()?.draft().ok()?;
    match draft.schedule.horizon?.value {
        Amount::Seconds(seconds) => Some(seconds),
        _ => None,
    }
}

/// Resumes, and prints what came of it.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let run = RunDir::open(&options.run)?;
    let control = Control::new();
    if options.profile {
        control.profile_a_step();
    }
    let interrupts = Interrupts::install(console, vec![control.clone()])?;
    let live = Live::start(console, &[""], None);
    if let Some(seconds) = seconds_limit(&run) {
        live.limit_seconds(seconds);
    }
    let mut preparing = |progress| {
        live.phase(&facts::progress(&progress));
        if matches!(progress, Progress::Ready { .. }) {
            interrupts.run_started();
        }
    };
    let cache = places::cache();
    let mut observer = live.observer(0);
    let ended = heldout_train::resume(run.clone(), &cache, &mut preparing, &mut observer, &control);
    live.finish();
    train::finish(&run, &ended?, &interrupts, console)
}
