//! A whole little model on the tape: gradients, thread counts, micro-batches, allocations.

mod little;

use std::sync::Arc;

use heldout_kernels::*;
use little::*;

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
    let report = little.loss(&mut pass, &ids(4), &targets(&ids(4)), p, &SPEC);
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
                total += little.loss(&mut pass, ids, &targets(ids), p, &SPEC).objective_sum;
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
    let evaluated = little.loss(&mut pass, &ids(4), &targets(&ids(4)), 0.9, &SPEC);
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
