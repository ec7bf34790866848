//! A 350M-parameter Llama for two training steps at 1 × 1,024: does it fit into 16 GiB?

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, ensure};
use heldout_kernels::Device;
use heldout_model::{ModelConfig, Tied};
use serde_json::{Value, json};

use super::options::Options;
use super::results::{LargeCell, Provenance, Results};
use super::{THREADS, step};

const STEPS: usize = 2;

/// 24 layers, 16 heads, width 1024, feed-forward 2816, vocabulary 32000, a head of its own: 374M.
fn config() -> ModelConfig {
    ModelConfig {
        hidden: 2816,
        tied: Tied::No,
        ..ModelConfig::llama(32_000, 1024, 24, 16, 16, 1024)
    }
}

/// Runs the steps in a process of their own, so that its peak memory is theirs.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    for precision in &options.precisions {
        let threads = THREADS.to_string();
        let output = Command::new(std::env::current_exe()?)
            .args(["bench", "--large", precision, &threads])
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let answer: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
        let number = |key: &str| answer[key].as_f64().with_context(|| format!("no {key}: {text}"));
        let losses = answer["losses"].as_array().context("no losses")?;
        let cell = LargeCell {
            at: Provenance::now(root, 1, 0.0),
            model: config().describe(),
            parameters: config().parameter_count() as u64,
            losses: losses.iter().filter_map(Value::as_f64).collect(),
            step_seconds: number("step_seconds")?,
            peak_mebibytes: number("peak_mebibytes")?,
        };
        ensure!(cell.losses.len() == STEPS, "a loss is not finite: {text}");
        println!("{}", super::render::large_line(precision, &cell));
        Results::change(root, |results| drop(results.large.insert(precision.clone(), cell)))?;
    }
    Ok(())
}

/// The steps themselves, as one line of JSON.
pub fn steps(precision: &str, threads: usize) -> anyhow::Result<()> {
    let device = Arc::new(Device::cpu(threads, step::precision_of(precision)?)?);
    let mut bench = step::Bench::new(config(), 1, 0.0, &device)?;
    let (mut losses, mut seconds) = (Vec::new(), 0.0);
    for _ in 0..STEPS {
        seconds = bench.step();
        losses.push(bench.loss);
    }
    let peak = step::peak_mebibytes();
    println!("{}", json!({ "losses": losses, "step_seconds": seconds, "peak_mebibytes": peak }));
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_large_model_has_350_million_parameters() {
        let count = super::config().parameter_count();
        assert!((350_000_000..400_000_000).contains(&count), "{count}");
    }
}
