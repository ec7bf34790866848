//! Times every operation of the tape at the shapes of W1 and W3, forward and backward.
//!
//! `cargo bench -p heldout-kernels --bench ops [-- FILTER]`, for instance `-- W1/norm`. The ops are
//! run as a model runs them, in a training pass, and what counts is the tape's own profile of that
//! op alone: the pass around it is not timed. All threads of the machine. Throughput: of what is
//! made of products "elements" are floating-point operations (Gelem/s is GFLOP/s; backward counts
//! twice forward), of the rest it is bytes that must be read and written at least.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use heldout_kernels::{
    Activation, AttentionNoise, Device, Dropout, EmbeddingNoise, HeadShape, Layout, LossSpec,
    NoiseKey, Norm, Pass, PassKind, Precision, Role, Sharing, Tape, Var, Weight, default_threads,
};

/// B, T, C, H, V as everywhere; F = 4C, and 8C/3 in Llama's feed-forward layer.
#[derive(Clone, Copy)]
struct Sizes {
    name: &'static str,
    batch: usize,
    seq_len: usize,
    width: usize,
    heads: usize,
    vocabulary: usize,
}

const SIZES: [Sizes; 2] = [
    Sizes { name: "W1", batch: 8, seq_len: 256, width: 384, heads: 6, vocabulary: 65 },
    Sizes { name: "W3", batch: 2, seq_len: 256, width: 768, heads: 12, vocabulary: 50257 },
];

impl Sizes {
    fn rows(&self) -> usize {
        self.batch * self.seq_len
    }

    fn gate(&self) -> usize {
        self.width * 8 / 3
    }

    fn head_shape(&self) -> HeadShape {
        let Sizes { batch, seq_len, width, heads, .. } = *self;
        HeadShape { batch, seq_len, heads, kv_heads: heads, head_width: width / heads }
    }
}

/// The parameters that the ops take.
struct Weights {
    /// Tables from which the inputs come: C, 3C, 2·8C/3 and 4C wide.
    inputs: [Weight; 4],
    head: Weight,
    qkv: Weight,
    up: Weight,
    up_bias: Weight,
    down: Weight,
    gain: Weight,
    bias: Weight,
    head_gains: [Weight; 2],
}

/// Which of the tables an op reads.
#[derive(Clone, Copy)]
enum Input {
    Width = 0,
    Qkv = 1,
    GateUp = 2,
    Hidden = 3,
}

/// What an op costs at least.
#[derive(Clone, Copy)]
enum Work {
    /// Floating-point operations forward.
    Flops(f64),
    /// Floats read and written, forward and backward.
    Floats(usize, usize),
}

/// An op as a model calls it; None where it has no output (the loss).
type Call = fn(&mut Pass, &World, Var) -> Option<Var>;

struct Op {
    name: &'static str,
    input: Input,
    work: Work,
    /// What the tape's profile calls it; `backward` is a prefix.
    forward: &'static str,
    backward: Option<&'static str>,
    call: Call,
}

struct World {
    sizes: Sizes,
    weights: Weights,
    parameters: Vec<f32>,
    ids: Vec<u32>,
    targets: Vec<u32>,
    /// The gradient that comes from above.
    gradient: Vec<f32>,
}

impl World {
    fn new(sizes: Sizes) -> World {
        let mut layout = Layout::default();
        let (c, f) = (sizes.width, 4 * sizes.width);
        let widths = [c, 3 * c, 2 * sizes.gate(), f];
        let mut push = |name: &str, shape: &[usize], role| layout.push(name, shape, role);
        let weights = Weights {
            inputs: widths.map(|w| push(&format!("input.{w}"), &[256, w], Role::Embedding)),
            head: push("head", &[sizes.vocabulary, c], Role::Head),
            qkv: push("qkv", &[3 * c, c], Role::Matrix),
            up: push("up", &[f, c], Role::Matrix),
            up_bias: push("up.bias", &[f], Role::Bias),
            down: push("down", &[c, f], Role::Matrix),
            gain: push("gain", &[c], Role::Gain),
            bias: push("bias", &[c], Role::Bias),
            head_gains: ["q", "k"].map(|name| push(name, &[c / sizes.heads], Role::Gain)),
        };
        let value = |i: usize| ((i * 7919 % 1000) as f32 / 1000.0 - 0.5) * 0.1;
        let rows = sizes.rows();
        World {
            weights,
            parameters: (0..layout.len).map(value).collect(),
            ids: (0..rows).map(|i| (i * 31 % 256) as u32).collect(),
            targets: (0..rows).map(|i| (i * 31 % sizes.vocabulary) as u32).collect(),
            gradient: (0..rows * f.max(2 * sizes.gate())).map(value).collect(),
            sizes,
        }
    }

    /// Runs an op once, forward and backward, and returns the time of the spans chosen.
    fn time(&self, tape: &mut Tape, gradients: &mut [f32], op: &Op, counts: Counts) -> Duration {
        tape.start_profile();
        let noise = NoiseKey { seed: 1, step: 1, first_sequence: 0 };
        let mut pass = tape.pass(&self.parameters, PassKind::Train { gradients, noise });
        let x = self.input(&mut pass, op.input);
        if let Some(y) = (op.call)(&mut pass, self, x) {
            let (rows, cols) = pass.shape(y);
            pass.add_gradient(y, &self.gradient[..rows * cols]);
        }
        pass.backward();
        drop(pass);
        let profile = tape.take_profile().expect("it was started");
        profile.spans.iter().filter(|span| counts(op, span.name)).map(|span| span.duration).sum()
    }

    fn input(&self, pass: &mut Pass, input: Input) -> Var {
        let table = self.weights.inputs[input as usize];
        pass.embedding(table, &self.ids, None, self.sizes.seq_len, EmbeddingNoise::default())
    }
}

fn dropout(stream: u32) -> Option<Dropout> {
    Some(Dropout { p: 0.1, stream, sharing: Sharing::Element })
}

fn ops(sizes: &Sizes) -> Vec<Op> {
    let (n, c, g) = (sizes.rows(), sizes.width, sizes.gate());
    let product = |out: usize, input: usize| Work::Flops(2.0 * (n * out * input) as f64);
    let attention = Work::Flops(2.0 * (n * (sizes.seq_len + 1) * c) as f64);
    let op = |name, input, work, forward, backward, call| Op {
        name,
        input,
        work,
        forward,
        backward: Some(backward),
        call,
    };
    let mut ops = elementwise(n, c, g);
    ops.extend([
        op("linear C → 3C", Input::Width, product(3 * c, c), "linear", "linear b", |p, w, x| {
            Some(p.linear(x, w.weights.qkv, None, Activation::None, None))
        }),
        op("linear C → 4C, GELU", Input::Width, product(4 * c, c), "linear", "linear b", up),
        op("linear 4C → C", Input::Hidden, product(c, 4 * c), "linear", "linear b", |p, w, x| {
            Some(p.linear(x, w.weights.down, None, Activation::None, None))
        }),
        op("attention", Input::Qkv, attention, "attention", "attention b", |p, w, x| {
            Some(p.attention(x, w.sizes.head_shape(), AttentionNoise::default()))
        }),
        op("attention, dropout", Input::Qkv, attention, "attention", "attention b", |p, w, x| {
            let noise = AttentionNoise { probabilities: dropout(1), heads: None };
            Some(p.attention(x, w.sizes.head_shape(), noise))
        }),
        Op {
            name: "cross-entropy with its gradients",
            input: Input::Width,
            work: Work::Flops(3.0 * 2.0 * (n * c * sizes.vocabulary) as f64),
            forward: "cross_entropy",
            backward: None,
            call: |pass, world, x| {
                let scale = 1.0 / world.targets.len() as f32;
                let spec = LossSpec::plain(scale);
                pass.cross_entropy(x, world.weights.head, &world.targets, &spec);
                None
            },
        },
    ]);
    ops
}

fn up(pass: &mut Pass, world: &World, x: Var) -> Option<Var> {
    let Weights { up, up_bias, .. } = world.weights;
    Some(pass.linear(x, up, Some(up_bias), Activation::GeluTanh, None))
}

/// The ops without products: N rows of width C, gates G wide.
fn elementwise(n: usize, c: usize, g: usize) -> Vec<Op> {
    let op = |name, input, (f, b), forward, backward, call| Op {
        name,
        input,
        work: Work::Floats(n * f, n * b),
        forward,
        backward: Some(backward),
        call,
    };
    vec![
        op("embedding", Input::Width, (2 * c, 3 * c), "embedding", "embedding b", |_, _, x| {
            Some(x)
        }),
        op("LayerNorm", Input::Width, (2 * c, 3 * c), "norm", "norm b", |p, w, x| {
            Some(p.norm(x, Norm::Layer, w.weights.gain, Some(w.weights.bias), 1e-5))
        }),
        op("RMSNorm", Input::Width, (2 * c, 3 * c), "norm", "norm b", |p, w, x| {
            Some(p.norm(x, Norm::Rms, w.weights.gain, None, 1e-5))
        }),
        op("residual", Input::Width, (3 * c, 2 * c), "residual", "residual b", |p, w, x| {
            let branch = w.input(p, Input::Width);
            Some(p.residual(x, branch, None, 1.0))
        }),
        op(
            "residual, dropout",
            Input::Width,
            (3 * c, 2 * c),
            "residual",
            "residual b",
            |p, w, x| {
                let branch = w.input(p, Input::Width);
                Some(p.residual(x, branch, dropout(2), 1.0))
            },
        ),
        op("SwiGLU", Input::GateUp, (3 * g, 5 * g), "swiglu", "swiglu b", |p, _, x| {
            Some(p.swiglu(x, None))
        }),
        op("rotary", Input::Qkv, (4 * c, 4 * c), "rotary", "rotary b", |p, w, x| {
            Some(p.rotary(x, w.sizes.head_shape(), 10_000.0, 0))
        }),
        op("head norm", Input::Qkv, (6 * c, 9 * c), "head_norm", "head_norm b", |p, w, x| {
            let [q, k] = w.weights.head_gains;
            Some(p.head_norm(x, w.sizes.head_shape(), q, k, 1e-6))
        }),
    ]
}

fn bench(criterion: &mut Criterion, world: &World, precision: Precision) {
    let device = Arc::new(Device::cpu(default_threads(), precision).expect("a device"));
    let mut tape = Tape::new(device);
    let mut gradients = vec![0.0; world.parameters.len()];
    let mut group = criterion.benchmark_group(world.sizes.name);
    for op in ops(&world.sizes) {
        let products = matches!(op.work, Work::Flops(_));
        if precision == Precision::Bf16 && !products {
            continue; // These are f32 in either case.
        }
        for (part, counts) in PARTS {
            if part == "backward" && op.backward.is_none() {
                continue;
            }
            let throughput = match (op.work, part) {
                (Work::Flops(flops), "backward") => Throughput::Elements(2 * flops as u64),
                (Work::Flops(flops), _) => Throughput::Elements(flops as u64),
                (Work::Floats(_, backward), "backward") => Throughput::Bytes(4 * backward as u64),
                (Work::Floats(forward, _), _) => Throughput::Bytes(4 * forward as u64),
            };
            let kind = if products { format!(" {precision:?}") } else { String::new() };
            group.throughput(throughput);
            group.bench_function(format!("{}{kind}, {part}", op.name), |bencher| {
                bencher.iter_custom(|count| {
                    (0..count).map(|_| world.time(&mut tape, &mut gradients, &op, counts)).sum()
                });
            });
        }
    }
    group.finish();
}

/// Whether a span of the profile counts.
type Counts = fn(&Op, &str) -> bool;

/// The parts of an op that are timed apart, and which spans belong to each.
const PARTS: [(&str, Counts); 2] = [
    ("forward", |op, span| span == op.forward),
    ("backward", |op, span| op.backward.is_some_and(|backward| span.starts_with(backward))),
];

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args();
    for sizes in SIZES {
        let world = World::new(sizes);
        for precision in [Precision::F32, Precision::Bf16] {
            bench(&mut criterion, &world, precision);
        }
    }
    criterion.final_summary();
}
