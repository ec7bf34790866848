//! `cargo xtask bench`: one training step (forward, backward, clip, AdamW) of ours and of PyTorch's
//! in turn, on the same shapes, each in a process of its own; medians and ratios.

mod step;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// GPT-2 shapes: W1 to W3, and nanoGPT's shape for processors.
pub(crate) struct Workload {
    pub name: &'static str,
    pub layers: usize,
    pub heads: usize,
    pub width: usize,
    pub context: usize,
    pub batch: usize,
    pub vocabulary: usize,
}

const fn workload(name: &'static str, shape: [usize; 6]) -> Workload {
    let [layers, heads, width, context, batch, vocabulary] = shape;
    Workload { name, layers, heads, width, context, batch, vocabulary }
}

pub(crate) const WORKLOADS: &[Workload] = &[
    workload("nano", [4, 4, 128, 64, 12, 65]),
    workload("W1", [6, 6, 384, 256, 8, 65]),
    workload("W2", [4, 8, 512, 256, 4, 16384]),
    workload("W3", [12, 12, 768, 256, 2, 50257]),
];

const ROUNDS: usize = 5;
const THREADS: usize = 2;
/// How long each process steps in each round, in seconds.
const SECONDS: f64 = 6.0;

/// Runs the named workloads (all of them when none is named).
pub fn run(root: &Path, names: &[&str]) -> anyhow::Result<()> {
    if let ["--step", name, precision, dropout, threads, seconds] = names {
        let (dropout, threads) = (dropout.parse()?, threads.parse()?);
        return step::run(find(name)?, precision, dropout, threads, seconds.parse()?);
    }
    let chosen = if names.is_empty() { vec!["nano", "W1", "W2", "W3"] } else { names.to_vec() };
    let peer = Peer::find();
    if peer == Peer::Absent {
        println!("(no PyTorch in {}: our side alone)", crate::python());
    }
    println!(
        "one training step, {THREADS} threads, {ROUNDS} interleaved rounds of {SECONDS} s, medians"
    );
    println!(
        "workload precision dropout | heldout tok/s  MiB | PyTorch tok/s  MiB | ratio [min, max]"
    );
    for name in chosen {
        for precision in ["f32", "bf16"] {
            for dropout in ["0", "0.1"] {
                compare(root, find(name)?, precision, dropout, peer)?;
            }
        }
    }
    Ok(())
}

fn find(name: &str) -> anyhow::Result<&'static Workload> {
    let known = || WORKLOADS.iter().map(|w| w.name).collect::<Vec<_>>().join(", ");
    let found = WORKLOADS.iter().find(|workload| workload.name == name);
    found.with_context(|| format!("no workload \"{name}\"; there are {}", known()))
}

fn compare(
    root: &Path,
    workload: &'static Workload,
    precision: &str,
    dropout: &str,
    peer: Peer,
) -> anyhow::Result<()> {
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let own = heldout(workload, precision, dropout)?;
        if peer == Peer::Torch {
            let other = pytorch(root, workload, precision, dropout)?;
            ratios.push(speed(&own)? / speed(&other)?);
            theirs.push(other);
        }
        ours.push(own);
    }
    print!("{:8} {precision:9} {dropout:7} | {} | ", workload.name, cell(&ours)?);
    if peer == Peer::Torch {
        ratios.sort_by(f64::total_cmp);
        let (low, high) = (ratios[0], ratios[ratios.len() - 1]);
        println!("{} | {:.2} [{low:.2}, {high:.2}]", cell(&theirs)?, ratios[ratios.len() / 2]);
    } else {
        println!("–");
    }
    Ok(())
}

fn heldout(workload: &Workload, precision: &str, dropout: &str) -> anyhow::Result<Value> {
    let own = std::env::current_exe()?;
    let seconds = SECONDS.to_string();
    let threads = THREADS.to_string();
    let words = ["bench", "--step", workload.name, precision, dropout, &threads, &seconds];
    json_of(Command::new(own).args(words))
}

fn pytorch(
    root: &Path,
    workload: &Workload,
    precision: &str,
    dropout: &str,
) -> anyhow::Result<Value> {
    let shape = [
        workload.layers,
        workload.heads,
        workload.width,
        workload.context,
        workload.batch,
        workload.vocabulary,
    ];
    let (threads, seconds) = (THREADS.to_string(), SECONDS.to_string());
    json_of(
        Command::new(crate::python())
            .arg(root.join("bench/pytorch/step.py"))
            .args(shape.map(|n| n.to_string()))
            .args([dropout, precision, "eager", &threads, &seconds]),
    )
}

fn json_of(command: &mut Command) -> anyhow::Result<Value> {
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().last().context("a benchmark printed nothing")?;
    Ok(serde_json::from_str(last)?)
}

fn speed(result: &Value) -> anyhow::Result<f64> {
    result["tokens_per_second"].as_f64().context("a benchmark printed no speed")
}

/// Median tokens a second and median peak memory.
fn cell(results: &[Value]) -> anyhow::Result<String> {
    let median = |key: &str| -> anyhow::Result<f64> {
        let mut values: Vec<f64> = results.iter().filter_map(|r| r[key].as_f64()).collect();
        if values.is_empty() {
            bail!("no {key}");
        }
        values.sort_by(f64::total_cmp);
        Ok(values[values.len() / 2])
    };
    Ok(format!("{:8.0} {:6.0}", median("tokens_per_second")?, median("peak_mebibytes")?))
}

/// Whether there is somebody to compare with.
#[derive(Clone, Copy, PartialEq)]
enum Peer {
    Torch,
    Absent,
}

impl Peer {
    fn find() -> Peer {
        let check = Command::new(crate::python()).args(["-c", "import torch"]).output();
        match check {
            Ok(output) if output.status.success() => Peer::Torch,
            _ => Peer::Absent,
        }
    }
}
