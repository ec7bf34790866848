//! How the time of a step grows with batch, depth and context, two threads, f32.

use std::path::Path;
use std::sync::Arc;

use heldout_kernels::{Device, Precision};
use heldout_model::ModelConfig;

use super::THREADS;
use super::results::{Provenance, Results, Scaling};
use super::statistics::median;
use super::step::Bench;

/// The shape of which one size varies: 4 layers, 4 heads, width 256, T 256, batch 4, V 256.
const LAYERS: usize = 4;
const HEADS: usize = 4;
const WIDTH: usize = 256;
const CONTEXT: usize = 256;
const BATCH: usize = 4;
const VOCABULARY: usize = 256;

const BATCHES: [usize; 5] = [1, 2, 4, 8, 16];
const DEPTHS: [usize; 4] = [1, 2, 4, 8];
/// At batch 1 and two layers.
const CONTEXTS: [usize; 7] = [128, 256, 512, 1024, 2048, 4096, 8192];
const CONTEXT_LAYERS: usize = 2;
/// Each point steps for about this long in a round.
const SECONDS: f64 = 0.5;
/// What disturbs a step only adds to it: of the rounds' medians the least counts.
const ROUNDS: usize = 4;

/// Measures all three and files them with their plot.
pub fn run(root: &Path) -> anyhow::Result<()> {
    let device = Arc::new(Device::cpu(THREADS, Precision::F32)?);
    let batches = least(&BATCHES, |b| point(&device, LAYERS, CONTEXT, b))?;
    let depths = least(&DEPTHS, |layers| point(&device, layers, CONTEXT, BATCH))?;
    let context = least(&CONTEXTS, |t| point(&device, CONTEXT_LAYERS, t, 1))?;
    let steps = |points: Vec<(f64, f64, f64)>| points.iter().map(|p| (p.0, p.1)).collect();
    let (batch, depth) = (steps(batches), steps(depths));
    let shape = format!(
        "f32, two threads; {LAYERS} layers, {HEADS} heads, width {WIDTH}, T {CONTEXT}, batch \
         {BATCH}, vocabulary {VOCABULARY}, of which one size varies; against T: \
         {CONTEXT_LAYERS} layers, batch 1; the least of {ROUNDS} rounds' medians"
    );
    let at = Provenance::now(root, ROUNDS, SECONDS);
    let scaling = Scaling { at, shape, batch, depth, context };
    std::fs::write(root.join("bench/scaling.svg"), super::plot::scaling(&scaling))?;
    println!("{}", super::render::scaling(&scaling));
    Results::change(root, |results| results.scaling = Some(scaling))
}

/// (size, seconds of a step, of attention) for each size, the rounds one after another.
fn least(
    sizes: &[usize],
    mut measure: impl FnMut(usize) -> anyhow::Result<(f64, f64)>,
) -> anyhow::Result<Vec<(f64, f64, f64)>> {
    let mut points = vec![(0.0, f64::INFINITY, f64::INFINITY); sizes.len()];
    for _ in 0..ROUNDS {
        for (least, &size) in points.iter_mut().zip(sizes) {
            let (step, attention) = measure(size)?;
            *least = (size as f64, least.1.min(step), least.2.min(attention));
        }
    }
    Ok(points)
}

/// Median seconds of a step, and of attention's part in it, forward and backward.
fn point(
    device: &Arc<Device>,
    layers: usize,
    context: usize,
    batch: usize,
) -> anyhow::Result<(f64, f64)> {
    let config = ModelConfig::gpt2(VOCABULARY, context, layers, HEADS, WIDTH);
    let mut bench = Bench::new(config, batch, 0.0, device)?;
    // The first step allocates, the second says how many make up the time.
    bench.step();
    let count = ((SECONDS / bench.step()) as usize).clamp(3, 200);
    let (mut steps, mut attention) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (times, profile) = bench.profiled(1);
        steps.extend(times);
        let totals = profile.totals();
        let parts = totals.iter().filter(|(name, _)| name.starts_with("attention"));
        attention.push(parts.map(|(_, total)| total.duration.as_secs_f64()).sum());
    }
    Ok((median(&steps), median(&attention)))
}
