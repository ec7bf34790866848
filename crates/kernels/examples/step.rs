//! Times one training step (forward and backward) of a GPT-2 shape, built directly on the tape,
//! and prints where the time goes.
//!
//! `cargo run --release -p heldout-kernels --example step -- SHAPE [f32|bf16] [THREADS] [DROPOUT]`
//! with SHAPE one of w1, w2, w3, nano.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use heldout_kernels::*;

/// Sizes of a GPT-2-like model and its batch.
#[derive(Clone, Copy)]
struct Shape {
    layers: usize,
    heads: usize,
    width: usize,
    seq_len: usize,
    batch: usize,
    vocabulary: usize,
}

impl Shape {
    fn named(name: &str) -> Shape {
        let [layers, heads, width, seq_len, batch, vocabulary] = match name {
            "w1" => [6, 6, 384, 256, 8, 65],
            "w2" => [4, 8, 512, 256, 4, 16384],
            "w3" => [12, 12, 768, 256, 2, 50257],
            "nano" => [4, 4, 128, 64, 12, 65],
            "w2b" => [4, 11, 528, 256, 4, 16384],
            other => panic!("no shape {other}: w1, w2, w3 or nano"),
        };
        Shape { layers, heads, width, seq_len, batch, vocabulary }
    }
}

struct Layer {
    norms: [(Weight, Weight); 2],
    qkv: (Weight, Weight),
    project: (Weight, Weight),
    up: (Weight, Weight),
    down: (Weight, Weight),
}

struct Model {
    shape: Shape,
    layout: Layout,
    tokens: Weight,
    positions: Weight,
    layers: Vec<Layer>,
    last: (Weight, Weight),
}

impl Model {
    fn new(shape: Shape) -> Model {
        let mut layout = Layout::default();
        let width = shape.width;
        let tokens = layout.push("wte", &[shape.vocabulary, width], Role::Embedding);
        let positions = layout.push("wpe", &[shape.seq_len, width], Role::PositionEmbedding);
        let mut map = |name: String, rows: usize, cols: usize| {
            let weight = layout.push(format!("{name}.w"), &[rows, cols], Role::Matrix);
            (weight, layout.push(format!("{name}.b"), &[rows], Role::Bias))
        };
        let layers = (0..shape.layers)
            .map(|i| {
                let mut norm = |name| {
                    let (gain, bias) = map(format!("{i}.{name}"), width, 1);
                    (Weight { rows: 1, cols: width, ..gain }, bias)
                };
                let norms = [norm("ln1"), norm("ln2")];
                Layer {
                    norms,
                    qkv: map(format!("{i}.qkv"), 3 * width, width),
                    project: map(format!("{i}.project"), width, width),
                    up: map(format!("{i}.up"), 4 * width, width),
                    down: map(format!("{i}.down"), width, 4 * width),
                }
            })
            .collect();
        let (gain, bias) = map("lnf".into(), width, 1);
        let last = (Weight { rows: 1, cols: width, ..gain }, bias);
        Model { shape, layout, tokens, positions, layers, last }
    }

    fn parameters(&self) -> Vec<f32> {
        let mut all: Vec<f32> = (0..self.layout.len)
            .map(|i| ((i * 7919 % 1000) as f32 / 1000.0 - 0.5) * 0.07)
            .collect();
        let gains = self.layers.iter().flat_map(|layer| layer.norms).chain([self.last]);
        for (gain, _) in gains {
            gain.of_mut(&mut all).fill(1.0);
        }
        all
    }

    fn loss(&self, pass: &mut Pass, ids: &[u32], targets: &[u32], p: f32) -> LossReport {
        let Shape { batch, seq_len, heads, width, .. } = self.shape;
        let heads = HeadShape { batch, seq_len, heads, kv_heads: heads, head_width: width / heads };
        let mut stream = 0;
        let mut site = || {
            stream += 1;
            (p > 0.0).then_some(Dropout { p, stream, sharing: Sharing::Element })
        };
        let none = Activation::None;
        let noise = EmbeddingNoise { output: site(), ..EmbeddingNoise::default() };
        let mut x = pass.embedding(self.tokens, ids, Some((self.positions, 0)), seq_len, noise);
        for layer in &self.layers {
            let (gain, bias) = layer.norms[0];
            let h = pass.norm(x, Norm::Layer, gain, Some(bias), 1e-5);
            let h = pass.linear(h, layer.qkv.0, Some(layer.qkv.1), none, None);
            let noise = AttentionNoise { probabilities: site(), heads: None };
            let h = pass.attention(h, heads, noise);
            let h = pass.linear(h, layer.project.0, Some(layer.project.1), none, None);
            x = pass.residual(x, h, site(), 1.0);
            let (gain, bias) = layer.norms[1];
            let h = pass.norm(x, Norm::Layer, gain, Some(bias), 1e-5);
            let h = pass.linear(h, layer.up.0, Some(layer.up.1), Activation::GeluTanh, None);
            let h = pass.linear(h, layer.down.0, Some(layer.down.1), none, None);
            x = pass.residual(x, h, site(), 1.0);
            pass.keep_only(&[x]);
        }
        let x = pass.norm(x, Norm::Layer, self.last.0, Some(self.last.1), 1e-5);
        let scale = 1.0 / targets.len() as f32;
        let spec = LossSpec::plain(scale);
        pass.cross_entropy(x, self.tokens, targets, &spec)
    }
}

/// A line for each label: its share of the steps' time, and its calls.
fn print_profile(profile: &profile::Profile, times: &[f64]) {
    let steps = times.len() as f64;
    let all: f64 = times.iter().sum();
    let least = least(profile, times.len());
    let undisturbed: f64 = least.values().sum();
    println!("undisturbed {:.3} ms: the sum of each call's least time", 1e3 * undisturbed);
    let mut rows: Vec<_> = profile.totals().into_iter().collect();
    rows.sort_by_key(|(_, total)| std::cmp::Reverse(total.duration));
    for (name, total) in rows {
        let seconds = total.duration.as_secs_f64();
        println!(
            "{name:36} {:5.1}%  {:8.3} ms a step  {:6.1} calls  least {:8.3} ms  {:7.1} GFLOP/s  \
             {:6.1} GB/s",
            100.0 * seconds / all,
            1e3 * seconds / steps,
            total.calls as f64 / steps,
            1e3 * least[&name],
            total.work.flops / steps / least[&name] / 1e9,
            total.work.bytes / steps / least[&name] / 1e9,
        );
    }
}

/// Seconds a step of each label, every call counted with its least time over all steps: on a busy
/// machine short calls are undisturbed now and then, whole steps never.
fn least(profile: &profile::Profile, steps: usize) -> BTreeMap<String, f64> {
    let calls = profile.spans.len() / steps;
    let mut totals = BTreeMap::new();
    for call in 0..calls {
        let spans = profile.spans.iter().skip(call).step_by(calls);
        let least = spans.map(|span| span.duration).min().expect("there are steps");
        *totals.entry(profile.spans[call].label()).or_default() += least.as_secs_f64();
    }
    totals
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |i: usize, default: &str| arguments.get(i).map_or(default, |s| s).to_string();
    let model = Model::new(Shape::named(&argument(0, "w1")));
    let precision = if argument(1, "f32") == "bf16" { Precision::Bf16 } else { Precision::F32 };
    let threads = argument(2, "2").parse().expect("a number of threads");
    let p: f32 = argument(3, "0").parse().expect("a dropout probability");
    let device = Arc::new(Device::cpu(threads, precision).expect("a device"));
    println!("{}, dropout {p}", device.describe());
    let mut tape = Tape::new(device);
    let parameters = model.parameters();
    let mut gradients = vec![0.0; parameters.len()];
    let rows = model.shape.batch * model.shape.seq_len;
    let ids: Vec<u32> = (0..rows).map(|i| (i * 31 % model.shape.vocabulary) as u32).collect();
    let mut step = |tape: &mut Tape, step: u64| {
        let noise = NoiseKey { seed: 1, step, first_sequence: 0 };
        let kind = PassKind::TrainFirst { gradients: &mut gradients, noise };
        let start = Instant::now();
        let mut pass = tape.pass(&parameters, kind);
        let report = model.loss(&mut pass, &ids, &ids, p);
        pass.backward();
        drop(pass);
        (start.elapsed().as_secs_f64(), report.nll_sum / rows as f64)
    };
    let first = step(&mut tape, 0);
    let allocations = tape.allocations();
    let rounds = ((4.0 / first.0) as u64).clamp(3, 200);
    tape.start_profile();
    let mut times: Vec<f64> = (0..rounds).map(|i| step(&mut tape, 1 + i).0).collect();
    let profile = tape.take_profile().expect("it was started");
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let start = Instant::now();
    let mut pass = tape.pass(&parameters, PassKind::Evaluate);
    model.loss(&mut pass, &ids, &ids, 0.0);
    drop(pass);
    let evaluation = start.elapsed().as_secs_f64();
    println!(
        "parameters {}, loss {:.4}, step {:.2} ms (best {:.2}), {:.0} tokens/s, \
         evaluation {:.2} ms",
        parameters.len(),
        first.1,
        1e3 * median,
        1e3 * times[0],
        rows as f64 / median,
        1e3 * evaluation,
    );
    println!(
        "buffers {:.1} MiB, {} allocations in the first step, {} after",
        tape.arena_bytes() as f64 / f64::from(1 << 20),
        allocations,
        tape.allocations() - allocations,
    );
    print_profile(&profile, &times);
}
