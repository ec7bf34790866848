//! Our side of the benchmark: training steps of one workload, timed, as one line of JSON.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use heldout_base::rng::{Random, Stream};
use heldout_kernels::{
    Device, LossSpec, NoiseKey, PassKind, Precision, Role, Sharing, Smoothing, Tape,
};
use heldout_model::{Model, ModelConfig, NoiseRates, Tokens};
use heldout_optim::{Optimizer, OptimizerSpec, Segment, Update, clip, segment};
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
    let precision = match precision {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        other => bail!("no precision \"{other}\"; there are f32 and bf16"),
    };
    let device = Arc::new(Device::cpu(threads, precision)?);
    let mut bench = Bench::new(workload, dropout, &device)?;
    for _ in 0..3 {
        bench.step();
    }
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed().as_secs_f64() < seconds || times.len() < 3 {
        let at = Instant::now();
        bench.step();
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

/// A model, its optimizer and one batch of random tokens.
struct Bench {
    model: Model,
    tape: Tape,
    device: Arc<Device>,
    optimizer: Box<dyn Optimizer>,
    segments: Vec<Segment>,
    parameters: Vec<f32>,
    gradients: Vec<f32>,
    ids: Vec<u32>,
    targets: Vec<u32>,
    shape: (usize, usize),
    noise: NoiseRates,
    step: u64,
    loss: f64,
}

impl Bench {
    fn new(workload: &Workload, dropout: f32, device: &Arc<Device>) -> anyhow::Result<Bench> {
        let w = workload;
        let config = ModelConfig::gpt2(w.vocabulary, w.context, w.layers, w.heads, w.width);
        let model = Model::new(config)?;
        let parameters = model.initialize(0);
        let decayed = |role: Role| if matches!(role, Role::Bias | Role::Gain) { 0.0 } else { 1.0 };
        let segments = segment::segments(model.layout(), |parameter| decayed(parameter.role));
        let random = Random::new(0, Stream(1), 0);
        let count = w.batch * w.context;
        let draw = |at: u64| random.below(at, w.vocabulary as u64) as u32;
        Ok(Bench {
            tape: Tape::new(device.clone()),
            device: device.clone(),
            optimizer: optimizer_of(&segments)?,
            segments,
            gradients: vec![0.0; parameters.len()],
            parameters,
            ids: (0..count as u64).map(draw).collect(),
            targets: (1..=count as u64).map(draw).collect(),
            shape: (w.batch, w.context),
            noise: noise(dropout),
            model,
            step: 0,
            loss: f64::NAN,
        })
    }

    fn step(&mut self) {
        let noise = NoiseKey { seed: 0, step: self.step, first_sequence: 0 };
        let kind = PassKind::Train { gradients: &mut self.gradients, noise };
        let mut pass = self.tape.pass(&self.parameters, kind);
        let (batch, seq_len) = self.shape;
        let tokens = Tokens { ids: &self.ids, targets: &self.targets, batch, seq_len };
        let scale = 1.0 / self.targets.len() as f32;
        let spec = LossSpec { smoothing: Smoothing::None, z_loss: 0.0, scale };
        let report = self.model.loss(&mut pass, tokens, &self.noise, &spec);
        pass.backward();
        drop(pass);
        self.loss = report.nll_sum / report.targets as f64;
        let norm = clip::global_norm(&self.device, &self.gradients);
        let gradient_scale = clip::by_norm(norm, 1.0).scale;
        let update = Update { gradient_scale, decoupled_decay: 0.1, ..Update::at_rate(1e-4) };
        self.optimizer.update(
            &self.device,
            &mut self.parameters,
            &mut self.gradients,
            &self.segments,
            &update,
        );
        self.step += 1;
    }
}

fn optimizer_of(segments: &[Segment]) -> anyhow::Result<Box<dyn Optimizer>> {
    Ok(heldout_optim::build(&OptimizerSpec::named("adamw")?, segments))
}

/// Dropout where the peer has it: embedding, attention probabilities, attention output,
/// feed-forward output.
fn noise(p: f32) -> NoiseRates {
    NoiseRates {
        embedding: p,
        attention: p,
        attention_output: p,
        feed_forward_output: p,
        sharing: Sharing::Element,
        ..NoiseRates::default()
    }
}

/// The largest resident set of this process so far.
fn peak_mebibytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes / 1024.0)
}
