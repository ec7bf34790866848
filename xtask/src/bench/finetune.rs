//! Fine-tuning: `heldout finetune` on a classifier of MiniLM's shape against the Hugging Face
//! Trainer, whole programs in turn; what counts is texts a second from the third update's end to
//! the last's. Texts are of 8 to 126 tokens, batches of 32.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::THREADS;
use super::options::Options;
use super::peer::has_module;
use super::results::{FinetuneCell, Provenance, Results, Side, Turn};

/// Updates of a turn, of which the first [`SKIPPED`] do not count.
const UPDATES: usize = 24;
const SKIPPED: usize = 3;
const TEXTS: usize = 32;

/// Measures each precision in interleaved rounds and files it.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let script = root.join("bench/pytorch/finetune.py");
    ensure!(
        has_module("transformers") && has_module("accelerate"),
        "fine-tuning needs Python with transformers and accelerate (HELDOUT_PYTHON): they make \
         the model"
    );
    let made =
        Command::new(crate::python()).arg(&script).arg("make").arg(scratch.path()).output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let built = Command::new("cargo").args(["build", "--release", "-p", "heldout"]).status()?;
    ensure!(built.success(), "the program does not build");
    let program = std::env::current_exe()?.with_file_name("heldout");
    for precision in &options.precisions {
        let mut sides = [Side::default(), Side::default(), Side::default()];
        let mut versions = String::new();
        for round in 0..options.rounds {
            for place in 0..sides.len() {
                let at = (round + place) % sides.len();
                let turn = match at {
                    0 => ours(&program, scratch.path(), precision)?,
                    at => {
                        let batching = ["padded", "grouped"][at - 1];
                        let answer = theirs(&script, scratch.path(), precision, batching)?;
                        versions = answer["versions"].as_str().unwrap_or_default().to_owned();
                        serde_json::from_value(answer)?
                    }
                };
                sides[at].turns.push(turn);
            }
        }
        let [ours, padded, grouped] = sides;
        let at = Provenance::now(root, options.rounds, 0.0);
        let cell = FinetuneCell { at: Provenance { peer: versions, ..at }, ours, padded, grouped };
        println!("{}", super::render::finetune_line(precision, &cell));
        Results::change(root, |results| {
            results.finetune.insert(precision.clone(), cell);
        })?;
    }
    Ok(())
}

/// A run of the Trainer.
fn theirs(script: &Path, folder: &Path, precision: &str, batching: &str) -> anyhow::Result<Value> {
    let sizes = [UPDATES.to_string(), THREADS.to_string()];
    let output = Command::new(crate::python())
        .arg(script)
        .arg("train")
        .arg(folder)
        .arg(precision)
        .args(sizes)
        .arg(batching)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(text.lines().last().unwrap_or_default()).context(text)
}

/// A run of ours.
fn ours(program: &Path, folder: &Path, precision: &str) -> anyhow::Result<Turn> {
    let run = folder.join("run");
    if run.exists() {
        std::fs::remove_dir_all(&run)?;
    }
    let (steps, threads) = (UPDATES.to_string(), THREADS.to_string());
    let child = Command::new(program)
        .arg("finetune")
        .args([folder.join("model"), folder.join("texts.jsonl")])
        .args(["--task", "classify", "--steps", &steps, "--threads", &threads])
        .args(["--precision", precision, "--quiet", "--json"])
        .args(["--set", "evaluate.every=end", "--set", &format!("batch.size={TEXTS}")])
        .args(["--set", "model.context=128", "--set", "regularize.dropout=0.1"])
        .arg("--out")
        .arg(&run)
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| program.display().to_string())?;
    let peak_mebibytes = watched(child)?;
    Ok(Turn { tokens_per_second: texts_per_second(&run)?, peak_mebibytes })
}

/// Waits for a process; its largest resident set in MiB.
fn watched(mut child: Child) -> anyhow::Result<f64> {
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0.0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        peak = super::step::peak_in(&text).unwrap_or(peak);
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "heldout finetune ended with {status}");
            return Ok(peak);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn texts_per_second(run: &Path) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl"))?;
    let events = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let steps = events.iter().filter(|event| event["event"] == "step");
    let ends: Vec<f64> = steps.filter_map(|step| step["seconds"].as_f64()).collect();
    ensure!(ends.len() == UPDATES, "{} of {UPDATES} updates were recorded", ends.len());
    Ok((TEXTS * (UPDATES - SKIPPED)) as f64 / (ends[UPDATES - 1] - ends[SKIPPED - 1]))
}
