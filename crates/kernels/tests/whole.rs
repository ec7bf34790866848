//! A whole little model on the tape: gradients, thread counts, micro-batches, allocations.

use std::sync::Arc;

use heldout_kernels::*;

/// A two-layer model with every op of training, GPT-like then Llama-like.
struct Little {
    layout: Layout,
    tokens: Weight,
    positions: Weight,
    gains: Vec<Weight>,
    biases: Vec<Weight>,
    qkv: [Weight; 2],
    qkv_bias: Weight,
    project: [Weight; 2],
    head_gains: [Weight; 2],
    up: Weight,
    up_bias: Weight,
    gate_up: Weight,
    down: [Weight; 2],
}

const VOCABULARY: usize = 37;
const WIDTH: usize = 24;
const HIDDEN: usize = 40;
const SEQ_LEN: usize = 19;

fn shape(batch: usize, kv_heads: usize) -> HeadShape {
    HeadShape { batch, seq_len: SEQ_LEN, heads: 4, kv_heads, head_width: 6 }
}

impl Little {
    fn new() -> Little {
        let mut layout = Layout::default();
        let mut matrix = |name: &str, rows, cols| layout.push(name, &[rows, cols], Role::Matrix);
        let (tokens, positions) =
            (matrix("tokens", VOCABULARY, WIDTH), matrix("positions", SEQ_LEN, WIDTH));
        let qkv = [matrix("qkv.0", 72, WIDTH), matrix("qkv.1", 48, WIDTH)];
        let project = [matrix("project.0", WIDTH, 24), matrix("project.1", WIDTH, 24)];
        let (up, gate_up) = (matrix("up", HIDDEN, WIDTH), matrix("gate_up", 2 * HIDDEN, WIDTH));
        let down = [matrix("down.0", WIDTH, HIDDEN), matrix("down.1", WIDTH, HIDDEN)];
        let mut vector = |name: String, len: usize, role| layout.push(name, &[len], role);
        let gains = (0..5).map(|i| vector(format!("gain.{i}"), WIDTH, Role::Gain)).collect();
        let biases = (0..3).map(|i| vector(format!("bias.{i}"), WIDTH, Role::Bias)).collect();
        let head_gains =
            [vector("q_gain".into(), 6, Role::Gain), vector("k_gain".into(), 6, Role::Gain)];
        let qkv_bias = vector("qkv_bias".into(), 72, Role::Bias);
        let up_bias = vector("up_bias".into(), HIDDEN, Role::Bias);
        Little {
            layout,
            tokens,
            positions,
            gains,
            biases,
            qkv,
            qkv_bias,
            project,
            head_gains,
            up,
            up_bias,
            gate_up,
            down,
        }
    }

    fn parameters(&self) -> Vec<f32> {
        let random = heldout_base::rng::Random::new(7, heldout_base::rng::streams::INIT, 0);
        let mut all = vec![0.0; self.layout.len];
        random.fill_normal(&mut all, 0.2);
        for parameter in &self.layout.parameters {
            if parameter.role == Role::Gain {
                all[parameter.range()].iter_mut().for_each(|gain| *gain += 1.0);
            }
        }
        all
    }

    fn loss(&self, pass: &mut Pass, ids: &[u32], p: f32, spec: &LossSpec) -> LossReport {
        let batch = ids.len() / SEQ_LEN;
        let at = |stream, sharing| Some(Dropout { p, stream, sharing });
        let positions = Some((self.positions, 0));
        let (element, time, row) = (Sharing::Element, Sharing::Time, Sharing::Row);
        let noise = EmbeddingNoise {
            replace: at(9, row),
            tokens: at(2, row),
            uniform: Some(Uniform { amplitude: p, stream: 10 }),
            output: at(1, element),
        };
        let x = pass.embedding(self.tokens, ids, positions, SEQ_LEN, noise);
        let h = pass.norm(x, Norm::Layer, self.gains[0], Some(self.biases[0]), 1e-5);
        let h = pass.linear(h, self.qkv[0], Some(self.qkv_bias), Activation::None, None);
        let noise = AttentionNoise { probabilities: at(3, element), heads: at(4, element) };
        let h = pass.attention(h, shape(batch, 4), noise);
        let h = pass.linear(h, self.project[0], Some(self.biases[1]), Activation::None, None);
        let x = pass.residual(x, h, at(5, element), 1.0);
        let h = pass.norm(x, Norm::Rms, self.gains[1], None, 1e-6);
        let gelu = Activation::GeluTanh;
        let h = pass.linear(h, self.up, Some(self.up_bias), gelu, at(6, time));
        let h = pass.linear(h, self.down[0], Some(self.biases[2]), Activation::None, None);
        let x = pass.residual(x, h, None, 0.5);
        let h = pass.norm(x, Norm::Rms, self.gains[2], None, 1e-6);
        let h = pass.linear(h, self.qkv[1], None, Activation::None, None);
        let heads = shape(batch, 2);
        let h = pass.head_norm(h, heads, self.head_gains[0], self.head_gains[1], 1e-6);
        let h = pass.rotary(h, heads, 10_000.0, 0);
        let h = pass.attention(h, heads, AttentionNoise::default());
        let h = pass.linear(h, self.project[1], None, Activation::None, None);
        let x = pass.residual(x, h, at(7, row), 1.0);
        let h = pass.norm(x, Norm::Rms, self.gains[3], None, 1e-6);
        let h = pass.linear(h, self.gate_up, None, Activation::None, None);
        let h = pass.swiglu(h, at(8, element));
        let h = pass.linear(h, self.down[1], None, Activation::None, None);
        let x = pass.residual(x, h, None, 1.0);
        let x = pass.norm(x, Norm::Rms, self.gains[4], None, 1e-6);
        pass.cross_entropy(x, self.tokens, &targets(ids), spec)
    }
}

fn ids(batch: usize) -> Vec<u32> {
    (0..batch * SEQ_LEN).map(|i| (i * i * 7 + i / 5) as u32 % VOCABULARY as u32).collect()
}

/// The next token of each sequence; the last has none, and some do not count.
fn targets(ids: &[u32]) -> Vec<u32> {
    let next = |i: usize| if (i + 1).is_multiple_of(SEQ_LEN) { IGNORE } else { ids[i + 1] };
    (0..ids.len()).map(|i| if ids[i] == 5 { IGNORE } else { next(i) }).collect()
}

const SPEC: LossSpec = LossSpec {
    smoothing: Smoothing::Uniform { epsilon: 0.1 },
    z_loss: 0.01,
    confidence: 0.2,
    scale: 1.0 / 75.0,
};

fn key(first_sequence: u64) -> NoiseKey {
    NoiseKey { seed: 11, step: 5, first_sequence }
}

fn step(tape: &mut Tape, little: &Little, parameters: &[f32], p: f32) -> (LossReport, Vec<f32>) {
    let mut gradients = vec![0.0; parameters.len()];
    let kind = PassKind::Train { gradients: &mut gradients, noise: key(3) };
    let mut pass = tape.pass(parameters, kind);
    let report = little.loss(&mut pass, &ids(4), p, &SPEC);
    pass.backward();
    drop(pass);
    (report, gradients)
}

fn tape(threads: usize) -> Tape {
    Tape::new(Arc::new(Device::cpu(threads, Precision::F32).unwrap()))
}

#[test]
fn gradients_follow_differences_of_the_loss() {
    let little = Little::new();
    let parameters = little.parameters();
    let mut tape = tape(2);
    let (_, gradients) = step(&mut tape, &little, &parameters, 0.2);
    for parameter in &little.layout.parameters {
        // A step along the gradient of this parameter alone: the slope is its norm.
        let range = parameter.range();
        let norm = gradients[range.clone()].iter().map(|&g| (g as f64).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 1e-5, "{} has no gradient", parameter.name);
        let length = 2e-2;
        let mut loss = |sign: f64| {
            let mut moved = parameters.clone();
            for i in range.clone() {
                moved[i] += (sign * length * gradients[i] as f64 / norm) as f32;
            }
            let (report, _) = step(&mut tape, &little, &moved, 0.2);
            report.objective_sum / 75.0
        };
        let slope = (loss(1.0) - loss(-1.0)) / (2.0 * length);
        let error = (slope - norm).abs() / norm;
        assert!(error < 2e-2, "{}: slope {slope}, norm {norm}", parameter.name);
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let little = Little::new();
    let parameters = little.parameters();
    for p in [0.0, 0.3] {
        let (loss, gradients) = step(&mut tape(1), &little, &parameters, p);
        for threads in [2, 3] {
            let (other_loss, other) = step(&mut tape(threads), &little, &parameters, p);
            assert_eq!(loss, other_loss);
            assert!(gradients.iter().zip(&other).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

#[test]
fn after_the_first_step_nothing_is_allocated() {
    let little = Little::new();
    let parameters = little.parameters();
    let mut tape = tape(2);
    let (first, _) = step(&mut tape, &little, &parameters, 0.1);
    let (allocations, bytes) = (tape.allocations(), tape.arena_bytes());
    for _ in 0..3 {
        let (again, _) = step(&mut tape, &little, &parameters, 0.1);
        assert_eq!(first, again);
        assert_eq!((allocations, bytes), (tape.allocations(), tape.arena_bytes()));
    }
}

#[test]
fn micro_batches_add_up_to_the_batch() {
    let little = Little::new();
    let parameters = little.parameters();
    let mut tape = tape(2);
    let ids = ids(4);
    for p in [0.0, 0.25] {
        let mut run = |size: usize| {
            let mut gradients = vec![0.0; parameters.len()];
            let mut total = 0.0;
            for (index, ids) in ids.chunks(size * SEQ_LEN).enumerate() {
                let noise = key((index * size) as u64);
                let kind = PassKind::Train { gradients: &mut gradients, noise };
                let mut pass = tape.pass(&parameters, kind);
                total += little.loss(&mut pass, ids, p, &SPEC).objective_sum;
                pass.backward();
            }
            (total, gradients)
        };
        let (loss, gradients) = run(4);
        for size in [1, 2] {
            let (other_loss, other) = run(size);
            assert!((loss - other_loss).abs() < 1e-6 * loss, "{loss} {other_loss}");
            let error =
                gradients.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(error < 1e-6, "p = {p}, micro-batches of {size}: {error}");
        }
    }
}

#[test]
fn without_noise_training_equals_evaluation() {
    let little = Little::new();
    let parameters = little.parameters();
    let mut tape = tape(2);
    let (trained, _) = step(&mut tape, &little, &parameters, 0.0);
    let mut pass = tape.pass(&parameters, PassKind::Evaluate);
    let evaluated = little.loss(&mut pass, &ids(4), 0.9, &SPEC);
    assert_eq!(trained, evaluated);
    let sum: f64 = pass.token_nll().iter().map(|&nll| nll as f64).sum();
    assert!((sum - evaluated.nll_sum).abs() < 1e-9);
    assert_eq!(pass.token_nll()[SEQ_LEN - 1], 0.0);
}

#[test]
fn a_profile_changes_nothing_and_its_spans_follow_each_other() {
    let little = Little::new();
    let parameters = little.parameters();
    let mut tape = tape(2);
    let plain = step(&mut tape, &little, &parameters, 0.1);
    assert!(tape.take_profile().is_none());
    tape.start_profile();
    let profiled = step(&mut tape, &little, &parameters, 0.1);
    let profile = tape.take_profile().expect("it was started");
    assert_eq!(plain, profiled);
    let spans = &profile.spans;
    for pair in spans.windows(2) {
        assert!(pair[0].start + pair[0].duration <= pair[1].start, "{pair:?} overlap");
    }
    assert!(spans.iter().all(|s| s.work.flops == 0.0 || s.work.bytes == 0.0));
    let totals = profile.totals();
    let calls: u64 = totals.values().map(|total| total.calls).sum();
    assert_eq!(calls, spans.len() as u64);
    let rows = 4 * SEQ_LEN;
    let check = |label: &str, calls: u64, flops: usize, bytes: usize| {
        let total = totals.get(label).unwrap_or_else(|| panic!("no {label} in {totals:?}"));
        let found = (total.calls, total.work.flops, total.work.bytes);
        assert_eq!(found, (calls, flops as f64, bytes as f64), "{label}");
    };
    for part in ["linear", "linear backward weight", "linear backward input"] {
        check(&format!("{part} {HIDDEN}×{WIDTH}"), 1, 2 * rows * HIDDEN * WIDTH, 0);
    }
    for part in ["logits", "logits backward weight", "logits backward input"] {
        check(&format!("{part} {VOCABULARY}×{WIDTH}"), 1, 2 * rows * VOCABULARY * WIDTH, 0);
    }
    check("softmax and loss", 1, 0, 2 * 4 * rows * VOCABULARY);
    check("residual", 4, 0, 4 * 3 * 4 * rows * WIDTH);
    // The last norm's input has no gradient yet; the other four add to one.
    check("norm backward", 5, 0, (3 + 4 * 4) * 4 * rows * WIDTH);
    // Tokens and positions in, their sum out.
    check("embedding", 1, 0, 3 * 4 * rows * WIDTH);
}
