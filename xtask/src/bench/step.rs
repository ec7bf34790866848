//! Our side of the benchmark: training steps of one workload, timed, as one line of JSON.

use std::sync::Arc;
use std::time::Instant;

use heldout_base::rng::{Random, Stream};
use heldout_kernels::{Device, LossSpec, NoiseKey, PassKind, Precision, Smoothing, Tape, reduce};
use heldout_model::{Model, ModelConfig, NoiseRates, Tokens};
use heldout_optim::{OptimizerSpec, Update};
use serde_json::json;

use super::Workload;

/// Steps for `seconds` on random tokens and prints the median.
pub fn run(
    workload: &Workload,
    precision: &str,
    dropout: f32,
    threads: usize,
    seconds: f64,
) -> anyhow::Result<()> {
    let precision = if precision == "bf16" { Precision::Bf16 } else { Precision::F32 };
    let device = Arc::new(Device::cpu(threads, precision)?);
    let mut bench = Bench::new(workload, dropout, &device)?;
    for step in 0..3 {
        bench.step(step);
    }
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed().as_secs_f64() < seconds || times.len() < 3 {
        let at = Instant::now();
        bench.step(3 + times.len() as u64);
        times.push(at.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let tokens = (workload.batch * workload.context) as f64;
    let line = json!({
        "tokens_per_second": tokens / median,
        "step_seconds": median,
        "steps": times.len(),
        "loss": bench.loss,
        "peak_mebibytes": peak_mebibytes(),
        "parameters": bench.parameters.len(),
        "device": device.describe(),
    });
    println!("{line}");
    Ok(())
}
