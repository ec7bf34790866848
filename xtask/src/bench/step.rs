//! Our side of the benchmark: training steps of one workload, timed, as lines of JSON.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use heldout_base::rng::{Random, Stream};
use heldout_kernels::profile::Profile;
use heldout_kernels::{Device, LossSpec, NoiseKey, PassKind, Precision, Role, Sharing, Tape};
use heldout_model::{Model, ModelConfig, NoiseRates, Tokens};
use heldout_optim::{Optimizer, OptimizerSpec, Segment, Update, clip, segment};
use serde_json::{Value, json};

use super::statistics::median;
use super::workload::Workload;

/// Steps on random tokens: for `seconds`, then prints one line; or, with `serve`, says "ready"
/// once warm and answers every line of standard input, a number of seconds.
pub fn run(
    workload: &Workload,
    precision: &str,
    dropout: f32,
    threads: usize,
    seconds: &str,
) -> anyhow::Result<()> {
    let device = Arc::new(Device::cpu(threads, precision_of(precision)?)?);
    let mut bench = Bench::new(workload.config(), workload.batch, dropout, &device)?;
    for _ in 0..3 {
        bench.step();
    }
    if seconds != "serve" {
        println!("{}", timed(&mut bench, seconds.parse()?));
        return Ok(());
    }
    serve(&mut |seconds| {
        bench.step();
        timed(&mut bench, seconds)
    })
}

/// Says "ready", then answers every line of standard input, a number of seconds.
pub fn serve(answer: &mut dyn FnMut(f64) -> Value) -> anyhow::Result<()> {
    println!("\"ready\"");
    for line in std::io::stdin().lines() {
        println!("{}", answer(line?.trim().parse()?));
    }
    Ok(())
}

/// The precision of this name.
pub fn precision_of(name: &str) -> anyhow::Result<Precision> {
    match name {
        "f32" => Ok(Precision::F32),
        "bf16" => Ok(Precision::Bf16),
        other => bail!("no precision \"{other}\"; there are f32 and bf16"),
    }
}

fn timed(bench: &mut Bench, seconds: f64) -> Value {
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed().as_secs_f64() < seconds || times.len() < 2 {
        times.push(bench.step());
    }
    let median = median(&times);
    json!({
        "tokens_per_second": bench.ids.len() as f64 / median,
        "step_seconds": median,
        "steps": times.len(),
        "loss": bench.loss,
        "peak_mebibytes": peak_mebibytes(),
        "parameters": bench.parameters.len(),
        "device": bench.device.describe(),
    })
}

/// A model, its optimizer and one batch of random tokens.
pub struct Bench {
    model: Model,
    tape: Tape,
    device: Arc<Device>,
    optimizer: Box<dyn Optimizer>,
    segments: Vec<Segment>,
    pub parameters: Vec<f32>,
    gradients: Vec<f32>,
    ids: Vec<u32>,
    targets: Vec<u32>,
    shape: (usize, usize),
    noise: NoiseRates,
    step: u64,
    pub loss: f64,
}

impl Bench {
    /// Windows of the whole context, of random tokens; dropout where the peer has it.
    pub fn new(
        config: ModelConfig,
        batch: usize,
        dropout: f32,
        device: &Arc<Device>,
    ) -> anyhow::Result<Bench> {
        let (vocabulary, context) = (config.vocabulary, config.context);
        let model = Model::new(config)?;
        let parameters = model.initialize(0);
        let decayed = |role: Role| if matches!(role, Role::Bias | Role::Gain) { 0.0 } else { 1.0 };
        let segments = segment::segments(model.layout(), |parameter| decayed(parameter.role));
        let random = Random::new(0, Stream(1), 0);
        let count = batch * context;
        let draw = |at: u64| random.below(at, vocabulary as u64) as u32;
        Ok(Bench {
            tape: Tape::new(device.clone()),
            device: device.clone(),
            optimizer: optimizer_of(&segments)?,
            segments,
            gradients: vec![0.0; parameters.len()],
            parameters,
            ids: (0..count as u64).map(draw).collect(),
            targets: (1..=count as u64).map(draw).collect(),
            shape: (batch, context),
            noise: noise(dropout),
            model,
            step: 0,
            loss: f64::NAN,
        })
    }

    /// Forward, backward, clip and update; seconds.
    pub fn step(&mut self) -> f64 {
        let began = Instant::now();
        let noise = NoiseKey { seed: 0, step: self.step, first_sequence: 0 };
        let kind = PassKind::TrainFirst { gradients: &mut self.gradients, noise };
        let mut pass = self.tape.pass(&self.parameters, kind);
        let (batch, seq_len) = self.shape;
        let tokens = Tokens { ids: &self.ids, targets: &self.targets, batch, seq_len };
        let scale = 1.0 / self.targets.len() as f32;
        let spec = LossSpec::plain(scale);
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
        began.elapsed().as_secs_f64()
    }

    /// So many steps with their profile.
    pub fn profiled(&mut self, steps: usize) -> (Vec<f64>, Profile) {
        self.tape.start_profile();
        let times = (0..steps).map(|_| self.step()).collect();
        (times, self.tape.take_profile().expect("it was started"))
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
pub fn peak_mebibytes() -> Option<f64> {
    peak_in(&fs::read_to_string("/proc/self/status").ok()?)
}

/// The largest resident set that a process's `status` tells, MiB.
pub fn peak_in(status: &str) -> Option<f64> {
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes / 1024.0)
}
