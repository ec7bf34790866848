//! Recomputed activations: the same bits as kept ones, in less memory.

mod common;

use std::sync::Arc;

use common::{KEY, lively_weights, random_ids, small_configs};
use heldout_kernels::{
    Activations, Device, LossReport, LossSpec, PassKind, Precision, Smoothing, Tape,
};
use heldout_model::{Model, ModelConfig, NoiseRates, Tokens};

const SPEC: LossSpec = LossSpec {
    smoothing: Smoothing::Uniform { epsilon: 0.1 },
    z_loss: 0.01,
    confidence: 0.1,
    scale: 1.0 / 30.0,
};

fn every_site(p: f32) -> NoiseRates {
    NoiseRates {
        embedding: p,
        attention: p,
        attention_output: p,
        feed_forward_hidden: p,
        feed_forward_output: p,
        heads: p,
        tokens: p,
        replace: p,
        neftune: p,
        layer_drop: p,
        ..NoiseRates::default()
    }
}

fn tape(threads: usize, precision: Precision, activations: Activations) -> Tape {
    let mut tape = Tape::new(Arc::new(Device::cpu(threads, precision).unwrap()));
    tape.activations = activations;
    tape
}

fn step(model: &Model, weights: &[f32], tape: &mut Tape, p: f32) -> (LossReport, Vec<f32>) {
    let (batch, seq_len, v) = (3, 12, model.config.vocabulary);
    let (ids, targets) = (random_ids(batch * seq_len, v, 2), random_ids(batch * seq_len, v, 3));
    let tokens = Tokens { ids: &ids, targets: &targets, batch, seq_len };
    let mut gradients = vec![0.0; weights.len()];
    let mut pass = tape.pass(weights, PassKind::Train { gradients: &mut gradients, noise: KEY });
    let report = model.loss(&mut pass, tokens, &every_site(p), &SPEC);
    pass.backward();
    drop(pass);
    (report, gradients)
}

#[test]
fn gradients_are_the_same_bits() {
    for (name, config) in small_configs() {
        let model = Model::new(config).unwrap();
        let weights = lively_weights(&model, 1);
        for precision in [Precision::F32, Precision::Bf16] {
            for (p, threads) in [(0.0, 1), (0.2, 1), (0.2, 2)] {
                let what = format!("{name}, {precision:?}, p = {p}, {threads} threads");
                let mut keeping = tape(threads, precision, Activations::Keep);
                let mut recomputing = tape(threads, precision, Activations::Recompute);
                let (loss, gradients) = step(&model, &weights, &mut keeping, p);
                let (other_loss, others) = step(&model, &weights, &mut recomputing, p);
                assert_eq!(loss, other_loss, "{what}");
                let mut pairs = gradients.iter().zip(&others);
                assert!(pairs.all(|(a, b)| a.to_bits() == b.to_bits()), "{what}");
                assert!(gradients.iter().any(|g| *g != 0.0), "{what}");

                let allocations = recomputing.allocations();
                step(&model, &weights, &mut recomputing, p);
                assert_eq!(recomputing.allocations(), allocations, "{what}: a second step");
            }
        }
    }
}

#[test]
fn memory_is_that_of_one_block_and_the_values_between_blocks() {
    let (batch, seq_len) = (2, 64);
    let bytes = |layers, activations| {
        let model = Model::new(ModelConfig::llama(61, seq_len, layers, 4, 4, 64)).unwrap();
        let weights = lively_weights(&model, 1);
        let mut tape = tape(1, Precision::F32, activations);
        let ids = random_ids(batch * seq_len, 61, 2);
        let tokens = Tokens { ids: &ids, targets: &ids, batch, seq_len };
        common::step(&model, &mut tape, &weights, tokens, &NoiseRates::default(), KEY);
        tape.arena_bytes()
    };
    let [kept, recomputed] = [Activations::Keep, Activations::Recompute]
        .map(|policy| (bytes(8, policy), bytes(9, policy)));
    assert!(recomputed.0 * 3 < kept.0, "{} against {}", recomputed.0, kept.0);
    // One more block is one more value [N, C] between blocks, and a cache line per buffer.
    let value = batch * seq_len * 64 * size_of::<f32>();
    assert_eq!(recomputed.1 - recomputed.0, value + 64);
    assert!(kept.1 - kept.0 > 10 * value);
}
