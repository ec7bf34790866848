//! `heldout ablate-trial`: one trial of a study, for `heldout ablate` to call.

use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use heldout_record::Event;
use heldout_record::study::StudyDir;
use heldout_train::Control;
use heldout_train::study::{Surroundings, TrialEnd, TrialSpec, run_trial};

use crate::ablation::processes::Progress;
use crate::commands::ablate::KeepArgument;
use crate::console::Console;
use crate::failure::{DONE, Failure};
use crate::places;

/// Exit code of a trial that stopped with a checkpoint, as it was asked to.
pub const INTERRUPTED: i32 = 130;
/// Exit code of a trial that a defect of ours ended.
pub const DIED: i32 = 70;

/// Between two lines of progress.
const EVERY: Duration = Duration::from_millis(250);

/// Options of `heldout ablate-trial`.
#[derive(Args)]
pub struct Options {
    /// The study's folder
    pub study: PathBuf,
    #[arg(long)]
    pub arm: String,
    #[arg(long)]
    pub seed: u64,
    #[arg(long, default_value_t = 1.0)]
    pub rate_factor: f64,
    #[arg(long)]
    pub tuning: bool,
    #[arg(long)]
    pub threads: usize,
    #[arg(long, default_value = "best")]
    pub keep: KeepArgument,
}

/// Runs the trial; its end is written to its folder.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let (folder, study) = StudyDir::open(&options.study)?;
    if !study.arms.iter().any(|arm| arm.name == options.arm) {
        return Err(Failure::bad_input(format!("the study has no arm {:?}", options.arm)));
    }
    let control = Control::new();
    stop_with_parent(control.clone());
    let spec = TrialSpec {
        arm: options.arm,
        seed: options.seed,
        rate_factor: options.rate_factor,
        is_tuning: options.tuning,
    };
    let cache = places::cache();
    let around = Surroundings {
        cache: &cache,
        threads: options.threads,
        keep: options.keep.keep(),
        control: &control,
    };
    let mut progress = Progress::default();
    let mut said: Option<Instant> = None;
    let mut observer = |event: &Event| {
        match event {
            Event::Started(started) => progress.of = started.horizon,
            Event::Step(record) => progress.step = record.step,
            _ => return,
        }
        if said.is_none_or(|at| at.elapsed() >= EVERY) {
            said = Some(Instant::now());
            // Whoever listens may be gone; the trial stops soon then.
            let _ = console.out_json(&progress);
        }
    };
    let trial =
        std::panic::AssertUnwindSafe(|| run_trial(&folder, &study, &spec, &around, &mut observer));
    match std::panic::catch_unwind(trial) {
        Ok(Ok(TrialEnd::Ended(_))) => Ok(DONE),
        Ok(Ok(TrialEnd::Interrupted)) => Ok(INTERRUPTED),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Ok(DIED),
    }
}

/// The study's process keeps our standard input open for as long as we are to work.
fn stop_with_parent(control: Control) {
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut rest);
        control.stop_gracefully();
    });
}
