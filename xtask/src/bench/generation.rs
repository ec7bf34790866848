//! Generation: the W3 shape with random weights, batch 1, greedy, against `transformers` with its
//! key-value cache; what counts is decoding, from the first new token to the last.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use heldout_base::rng::{Random, Stream};
use heldout_kernels::{Device, Tape};
use heldout_model::Model;
use heldout_model::generate::{Generator, Sampling};
use serde_json::{Value, json};

use super::options::Options;
use super::peer::{NotReady, Peer, has_module};
use super::results::{GenerationCell, Provenance, Results, Side, Turn};
use super::statistics::median;
use super::workload::Workload;
use super::{THREADS, step};

const PROMPT: usize = 16;
const NEW: usize = 128;
const START_LIMIT: Duration = Duration::from_secs(180);

/// Measures each precision in interleaved rounds and files it.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let peer = has_module("transformers");
    for precision in &options.precisions {
        let threads = THREADS.to_string();
        let words = ["bench", "--generate", precision, &threads];
        let own = Peer::start(Command::new(std::env::current_exe()?).args(words), START_LIMIT)?;
        let mut own = own.map_err(|why| anyhow!("our generation: {why:?}"))?;
        let (mut ours, mut theirs) = (Side::default(), Side::absent("no transformers"));
        let mut other = None;
        if peer && !options.modes.is_empty() {
            match start_peer(root, precision)? {
                Ok(process) => (other, theirs) = (Some(process), Side::default()),
                Err(NotReady::TimedOut) => theirs.note = "timed out".to_string(),
                Err(NotReady::Failed(words)) => theirs.note = format!("failed: {words}"),
            }
        }
        for round in 0..options.rounds {
            for place in 0..2 {
                if (round + place) % 2 == 0 {
                    ours.turns.push(own.turn::<Turn>(options.seconds)?);
                } else if let Some(other) = &mut other {
                    theirs.turns.push(other.turn::<Turn>(options.seconds)?);
                }
            }
        }
        let mut at = Provenance::now(root, options.rounds, options.seconds);
        at.peer = [super::version_of("transformers"), super::version_of("torch")].join(", ");
        let cell = GenerationCell { at, ours, theirs };
        println!("{}", super::render::generation_line(precision, &cell));
        Results::change(root, |results| {
            results.generation.insert(precision.clone(), cell);
        })?;
    }
    Ok(())
}

fn start_peer(root: &Path, precision: &str) -> anyhow::Result<Result<Peer, NotReady>> {
    let w = Workload::named("W3")?;
    let sizes = [w.layers, w.heads, w.width, w.context, w.vocabulary, PROMPT, NEW];
    let mut command = Command::new(crate::python());
    command
        .arg(root.join("bench/pytorch/generate.py"))
        .args(sizes.map(|n| n.to_string()))
        .args([precision, &THREADS.to_string()]);
    Peer::start(&mut command, START_LIMIT)
}

/// Our side, a process that answers turn by turn.
pub fn serve(precision: &str, threads: usize) -> anyhow::Result<()> {
    let workload = Workload::named("W3")?;
    let device = Arc::new(Device::cpu(threads, step::precision_of(precision)?)?);
    let model = Model::new(workload.config())?;
    let parameters = model.initialize(0);
    let generator = Generator::new(&model, &device, &parameters);
    let mut tape = Tape::new(device.clone());
    let random = Random::new(0, Stream(1), 0);
    let draw = |at: u64| random.below(at, workload.vocabulary as u64) as u32;
    let prompt: Vec<u32> = (0..PROMPT as u64).map(draw).collect();
    let mut once = || once(&generator, &mut tape, &prompt);
    once()?;
    step::serve(&mut |seconds| answer(&mut once, seconds))
}

fn answer(once: &mut dyn FnMut() -> anyhow::Result<(f64, f64)>, seconds: f64) -> Value {
    let (began, mut rates) = (Instant::now(), Vec::new());
    while began.elapsed().as_secs_f64() < seconds || rates.is_empty() {
        match once() {
            Ok(rate) => rates.push(rate),
            Err(error) => return json!({ "error": format!("{error:#}") }),
        }
    }
    let of = |part: fn(&(f64, f64)) -> f64| median(&rates.iter().map(part).collect::<Vec<_>>());
    json!({
        "tokens_per_second": of(|rate| rate.0),
        "tokens_per_second_with_prompt": of(|rate| rate.1),
        "runs": rates.len(),
        "peak_mebibytes": step::peak_mebibytes(),
    })
}

/// Tokens a second of decoding, and with the prompt's pass.
fn once(generator: &Generator, tape: &mut Tape, prompt: &[u32]) -> anyhow::Result<(f64, f64)> {
    let mut times = Vec::with_capacity(NEW);
    let began = Instant::now();
    generator.generate(tape, prompt, &Sampling::greedy(NEW), &mut |_| {
        times.push(began.elapsed().as_secs_f64());
        ControlFlow::Continue(())
    })?;
    anyhow::ensure!(times.len() == NEW, "{} new tokens, {NEW} expected", times.len());
    let (first, last) = (times[0], times[NEW - 1]);
    Ok(((NEW - 1) as f64 / (last - first), NEW as f64 / last))
}
