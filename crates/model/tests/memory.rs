//! The estimate of activation memory against what the tape allocates.

mod common;

use std::sync::Arc;

use common::{KEY, random_ids, step};
use heldout_kernels::{Activations, Device, Joint, LossSpec, PassKind, Precision, Tape};
use heldout_model::{
    Model, ModelConfig, NoiseRates, Norms, Objective, Pairs, QkNorm, Sequences, Tied, Tokens,
};

/// Shapes, sequences and tokens of each that the estimate is held to.
fn cases() -> Vec<(&'static str, ModelConfig, usize, usize)> {
    vec![
        ("gpt2 narrow", ModelConfig::gpt2(65, 64, 4, 4, 128), 12, 64),
        ("gpt2 deep", ModelConfig::gpt2(500, 128, 8, 4, 64), 4, 128),
        ("gpt2 short", ModelConfig::gpt2(300, 128, 2, 4, 256), 8, 32),
        ("gpt2 large vocabulary", ModelConfig::gpt2(8000, 64, 2, 4, 128), 4, 64),
        ("gpt2 logits in chunks", ModelConfig::gpt2(50257, 64, 1, 2, 8), 6, 64),
        ("gpt2 one layer", ModelConfig::gpt2(65, 128, 1, 2, 64), 8, 128),
        ("llama", ModelConfig::llama(300, 128, 4, 4, 2, 128), 4, 128),
        (
            "qwen3",
            ModelConfig {
                qk_norm: QkNorm::Yes,
                head_width: 32,
                ..ModelConfig::llama(300, 64, 2, 4, 2, 96)
            },
            4,
            64,
        ),
        (
            "llama untied",
            ModelConfig { tied: Tied::No, ..ModelConfig::llama(2000, 64, 3, 8, 8, 256) },
            2,
            64,
        ),
    ]
}

#[test]
fn activation_bytes_are_close_to_the_arena() {
    for (name, config, batch, seq_len) in cases() {
        let model = Model::new(config).unwrap();
        let weights = model.initialize(1);
        let v = model.config.vocabulary;
        let (ids, targets) = (random_ids(batch * seq_len, v, 2), random_ids(batch * seq_len, v, 3));
        let tokens = Tokens { ids: &ids, targets: &targets, batch, seq_len };
        let policies = [Activations::Keep, Activations::Recompute];
        let precisions = [Precision::F32, Precision::Bf16];
        for (activations, precision) in policies.iter().flat_map(|a| precisions.map(|p| (*a, p))) {
            let mut tape = Tape::new(Arc::new(Device::cpu(1, precision).unwrap()));
            tape.activations = activations;
            step(&model, &mut tape, &weights, tokens, &NoiseRates::default(), KEY);
            let estimate = model.config.activation_bytes(batch, seq_len, activations, precision);
            let actual = tape.arena_bytes();
            let ratio = estimate as f64 / actual as f64;
            let what = format!(
                "{name}, {activations:?}, {precision:?}: {estimate} against {actual}: {ratio:.3}"
            );
            println!("{what}");
            assert!((0.85..=1.15).contains(&ratio), "{what}");

            let allocations = tape.allocations();
            step(&model, &mut tape, &weights, tokens, &NoiseRates::default(), KEY);
            assert_eq!(tape.allocations(), allocations, "{name}: the second step allocates");
        }
    }
}

#[test]
fn activation_bytes_of_encoder_decoders_are_close_to_the_arena() {
    let mut deep = ModelConfig::bart(500, 64, 2, 4, 64);
    (deep.decoder.layers, deep.decoder.hidden, deep.decoder.norms) = (4, 128, Norms::Before);
    let cases = [
        ("bart", ModelConfig::bart(300, 64, 3, 4, 128), 6, 64),
        ("bart, pre-norm, deep decoder", deep, 4, 64),
        ("marian", ModelConfig::marian(8000, 64, 2, 4, 128), 4, 48),
    ];
    for (name, config, batch, seq_len) in cases {
        let model = Model::new(config).unwrap();
        let weights = model.initialize(1);
        let [source, target] = [2, 3].map(|seed| random_ids(batch * seq_len, 290, seed));
        let lengths = vec![seq_len as u32; batch];
        let sequences = |ids| Sequences { ids, lengths: &lengths, segments: None, batch, seq_len };
        let (source, read) = (sequences(&source), sequences(&target));
        let pairs = Pairs { source, target: read, targets: &target };
        let (spec, joint) = (LossSpec::plain(1.0), Joint::default());
        let objective = Objective { spec, joint, ahead: 0.0, marks: None };
        let step = |tape: &mut Tape| {
            let mut gradients = vec![0.0; weights.len()];
            let kind = PassKind::Train { gradients: &mut gradients, noise: KEY };
            let mut pass = tape.pass(&weights, kind);
            model.seq_loss(&mut pass, &pairs, &NoiseRates::default(), &objective);
            pass.backward();
        };
        let policies = [Activations::Keep, Activations::Recompute];
        let precisions = [Precision::F32, Precision::Bf16];
        for (activations, precision) in policies.iter().flat_map(|a| precisions.map(|p| (*a, p))) {
            let mut tape = Tape::new(Arc::new(Device::cpu(1, precision).unwrap()));
            tape.activations = activations;
            step(&mut tape);
            let estimate = model.config.activation_bytes(batch, seq_len, activations, precision);
            let ratio = estimate as f64 / tape.arena_bytes() as f64;
            println!("{name}, {activations:?}, {precision:?}: {ratio:.3}");
            assert!(
                (0.85..=1.15).contains(&ratio),
                "{name} {activations:?} {precision:?}: {ratio}"
            );
            let allocations = tape.allocations();
            step(&mut tape);
            assert_eq!(tape.allocations(), allocations, "{name}: the second step allocates");
        }
    }
}
