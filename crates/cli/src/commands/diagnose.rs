//! `heldout diagnose RUN`: what is wrong with a run, since when, how much it cost, what to try.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use heldout_record::{Event, Examination, RunDir, read_metrics};
use heldout_report::diagnosis::{Diagnosis, Evidence, diagnose_with};
use heldout_train::{CanarySpec, ExamineSpec, Which, examine_run};
use serde_json::json;

use crate::console::{Console, Output};
use crate::device_options::DeviceOptions;
use crate::diagnosis::print_diagnosis;
use crate::facts;
use crate::failure::{DONE, Failure};
use crate::interrupt::Interrupts;
use crate::live::Live;
use crate::places;
use crate::registry;

/// Options of `heldout diagnose`.
#[derive(Args)]
#[command(after_help = "\
Reads the run's record, then looks at its model: calibration, text known by heart, noise, leaks.
What was found is also written to RUN/examination.json, for `heldout report`.

Examples:
  heldout diagnose runs/my-text
  heldout diagnose runs/my-text --record-only --json
  heldout diagnose runs/my-text --canaries planted.txt

A line of --canaries is a string that was planted in the training text, its random part in braces:
  the code of the vault is {4821-7730}
Its exposure (Carlini et al. 2019) is log2(N + 1) - log2(rank) among N random strings of that
form.")]
pub struct Options {
    /// The folder of a run
    #[arg(value_name = "RUN", value_hint = clap::ValueHint::DirPath)]
    pub run: PathBuf,
    /// Judge by the record alone, without the model or the data
    #[arg(long, conflicts_with_all = ["weights", "windows", "prompt", "continuation", "canaries"])]
    pub record_only: bool,
    /// Which weights to look at
    #[arg(long, default_value = "result")]
    pub weights: WeightsArgument,
    /// Windows of each split to look at, at most
    #[arg(long, default_value_t = 200, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub windows: u32,
    /// Tokens given before a continuation
    #[arg(long, default_value_t = 32, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub prompt: u32,
    /// Tokens that must be reproduced to count as known by heart
    #[arg(long, default_value_t = 32, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub continuation: u32,
    /// A file of planted strings, one a line
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub canaries: Option<PathBuf>,
    /// Random strings that each planted one is compared with
    #[arg(long, default_value_t = 1000, value_name = "N", requires = "canaries",
          value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub candidates: u32,
    #[command(flatten)]
    pub device: DeviceOptions,
}

/// Weights as written on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum WeightsArgument {
    /// The result: the best on held-out text
    Result,
    /// Where training ended
    Last,
}

/// Looks, and prints what was found.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let run = RunDir::open(&options.run)?;
    let events = read_metrics(&run.metrics())?;
    let examination = match options.record_only {
        true => None,
        false => Some(examine(&run, &options, console)?),
    };
    let evidence = Evidence { planned: run.planned(), examination };
    let diagnosis = diagnose_with(&events, &evidence);
    match console.output {
        Output::Json => print_json(&run, &diagnosis, console)?,
        Output::Text => print_diagnosis(&run, &model(&events), &diagnosis, &events, console)?,
    }
    Ok(DONE)
}

/// Looks at the model. Where there is none to look at, the record must do, unless planted strings
/// were asked for.
fn examine(run: &RunDir, options: &Options, console: &Console) -> Result<Examination, Failure> {
    let lines = options.canaries.as_ref().map(|path| planted(path)).transpose()?;
    let spec = ExamineSpec {
        which: match options.weights {
            WeightsArgument::Result => Which::Result,
            WeightsArgument::Last => Which::Last,
        },
        windows: options.windows as usize,
        prompt: options.prompt as usize,
        continuation: options.continuation as usize,
        canaries: CanarySpec {
            lines: lines.clone().unwrap_or_default(),
            candidates: options.candidates as usize,
        },
    };
    let device = options.device.device(&options.run)?;
    Interrupts::install(console, Vec::new())?;
    let live = Live::start(console, &[""], None);
    live.phase("looking at the model ...");
    let mut preparing = |progress| live.phase(&facts::progress(&progress));
    let found = examine_run(run, &spec, &places::cache(), device, &mut preparing);
    live.finish();
    match found {
        Ok(found) => {
            if let Err(error) = found.write(&run.examination()) {
                console.note(&format!("note: {error}; what was found is shown but not kept"));
            }
            Ok(found)
        }
        Err(error) if lines.is_some() => Err(error.into()),
        Err(error) => {
            let notices = vec![format!("the model was not looked at: {error}")];
            Ok(Examination { notices, ..Examination::default() })
        }
    }
}

/// The planted strings of a file.
fn planted(path: &Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::bad_input(format!("cannot read planted strings from {}: {error}", path.display()))
            .next("give a text file with one planted string a line")
    })?;
    let lines: Vec<String> =
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        let what = format!("{} holds no planted string", path.display());
        return Err(Failure::bad_input(what).next("write one a line"));
    }
    Ok(lines)
}

fn model(events: &[Event]) -> String {
    let started = events.iter().find_map(|event| match event {
        Event::Started(started) => Some(started),
        _ => None,
    });
    started.map(|started| started.model.clone()).unwrap_or_default()
}

fn print_json(run: &RunDir, diagnosis: &Diagnosis, console: &Console) -> Result<(), Failure> {
    let cited = diagnosis.findings.iter().flat_map(|finding| &finding.suggestions);
    let names = cited.filter_map(|suggestion| suggestion.technique.as_deref());
    let sources: BTreeMap<&str, &str> =
        names.filter_map(|name| Some((name, registry::technique(name)?.paper))).collect();
    let main = diagnosis.main();
    console.out_json(&json!({
        "run": run.root.display().to_string(),
        "kind": main.kind,
        "severity": main.severity,
        "verdict": diagnosis.verdict,
        "findings": diagnosis.findings,
        "vitals": diagnosis.vitals,
        "examination": diagnosis.examination,
        "sources": sources,
    }))
}
