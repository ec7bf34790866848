//! `cargo xtask bench`: ours and PyTorch's in turn on the same shapes, filed in
//! `bench/results.json` and drawn as `bench/RESULTS.md`.

mod finetune;
mod generation;
mod large;
mod options;
mod peer;
mod plot;
mod render;
mod results;
mod scaling;
mod statistics;
mod step;
mod training;
mod workload;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use options::{Options, Part};
use results::{Peaks, Provenance, Results};
use workload::Workload;

/// All comparisons run on two threads.
const THREADS: usize = 2;

/// Runs the parts that the words name (all of them when none is named).
pub fn run(root: &Path, words: &[&str]) -> anyhow::Result<()> {
    match words {
        ["--step", name, precision, dropout, threads, seconds] => {
            let (dropout, threads) = (dropout.parse()?, threads.parse()?);
            return step::run(Workload::named(name)?, precision, dropout, threads, seconds);
        }
        ["--generate", precision, threads] => {
            return generation::serve(precision, threads.parse()?);
        }
        ["--large", precision, threads] => return large::steps(precision, threads.parse()?),
        _ => (),
    }
    let options = Options::parse(words)?;
    let began = Instant::now();
    if words != ["render"] {
        let at = Provenance::now(root, 1, 0.0);
        println!("{}, {} cores, {}", at.processor, at.cores, at.isa);
        let peaks = Peaks::measure(at);
        println!("{}", render::peaks(&peaks));
        Results::change(root, |results| results.peak = Some(peaks))?;
    }
    if !options.workloads.is_empty() {
        training::run(root, &options)?;
    }
    if options.generation == Part::Wanted {
        generation::run(root, &options)?;
    }
    if options.finetune == Part::Wanted {
        finetune::run(root, &options)?;
    }
    if options.scaling == Part::Wanted {
        scaling::run(root)?;
    }
    if options.large == Part::Wanted {
        large::run(root, &options)?;
    }
    Results::change(root, |_| ())?;
    println!("bench/RESULTS.md drawn after {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// The version of a Python module, with its name; empty where it is not there.
fn version_of(module: &str) -> String {
    let code = format!("import {module}; print('{module}', {module}.__version__)");
    let output = Command::new(crate::python()).args(["-c", &code]).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_string()
}
