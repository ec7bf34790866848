//! Generation with the cache against generation without one, its limits and its errors.

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;

use common::{lively_weights, random_ids, small_configs, tape};
use heldout_kernels::{Device, PassKind, Precision, Tape};
use heldout_model::generate::{Generator, choose, generate, slide_keep};
use heldout_model::sampling::Sampling;
use heldout_model::{KvCache, Model};

/// The same text from whole windows alone, by the rule that `generate` documents.
fn generate_uncached(
    model: &Model,
    tape: &mut Tape,
    weights: &[f32],
    prompt: &[u32],
    sampling: &Sampling,
) -> Vec<u32> {
    let context = model.config.context;
    let mut text = prompt.to_vec();
    let mut first = 0;
    for drawn in 0..sampling.max_new_tokens {
        if text.len() - first > context {
            first = text.len() - slide_keep(context);
        }
        let window = &text[first..];
        let mut pass = tape.pass(weights, PassKind::Evaluate);
        let logits = model.logits(&mut pass, window, 1, window.len());
        let last = pass.value(logits).chunks_exact(model.config.vocabulary).next_back().unwrap();
        let next = choose(last, &text, drawn, sampling).unwrap();
        text.push(next);
    }
    text.split_off(prompt.len())
}

fn go_on(_: u32) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn the_cache_changes_nothing_even_when_the_window_slides() {
    for (name, config) in small_configs() {
        let model = Model::new(config).unwrap();
        let weights = lively_weights(&model, 1);
        let mut tape = tape();
        for (prompt_len, new) in [(1, 15), (3, 40), (16, 20), (17, 5), (45, 30)] {
            for temperature in [0.0, 0.8] {
                let prompt = random_ids(prompt_len, model.config.vocabulary, 5);
                let sampling = Sampling {
                    temperature,
                    top_k: Some(20),
                    top_p: Some(0.95),
                    repetition_penalty: 1.1,
                    max_new_tokens: new,
                    ..Sampling::default()
                };
                let cached =
                    generate(&model, &mut tape, &weights, &prompt, &sampling, &mut go_on).unwrap();
                let plain = generate_uncached(&model, &mut tape, &weights, &prompt, &sampling);
                assert_eq!(cached, plain, "{name}, prompt of {prompt_len}");
                assert_eq!(cached.len(), new);
            }
        }
    }
}

#[test]
fn cached_logits_are_those_of_the_whole_window() {
    for (name, config) in small_configs() {
        let model = Model::new(config).unwrap();
        let weights = lively_weights(&model, 2);
        let (batch, seq_len, v) = (3, 12, model.config.vocabulary);
        let ids = random_ids(batch * seq_len, v, 6);
        let mut tape = tape();
        let mut pass = tape.pass(&weights, PassKind::Evaluate);
        let whole = model.logits(&mut pass, &ids, batch, seq_len);
        let whole = pass.value(whole).to_vec();
        drop(pass);
        // Read the sequences in pieces of several lengths, side by side.
        let mut cache = KvCache::new(&model.config, batch, 16);
        for (first, end) in [(0, 5), (5, 6), (6, 7), (7, 12)] {
            let piece: Vec<u32> = (0..batch)
                .flat_map(|b| ids[b * seq_len + first..b * seq_len + end].iter().copied())
                .collect();
            let mut pass = tape.pass(&weights, PassKind::Evaluate);
            let logits = model.forward_cached(&mut pass, &piece, &mut cache);
            for b in 0..batch {
                let row = b * seq_len + end - 1;
                let found = &pass.value(logits)[b * v..(b + 1) * v];
                let difference = common::largest_difference(found, &whole[row * v..][..v]);
                assert!(difference < 2e-5, "{name} sequence {b} token {end}: {difference}");
            }
        }
        assert_eq!(cache.len(), 12);
    }
}

/// Logits of a prompt, then of three tokens read one by one, from a generator in this precision.
fn logits_in(model: &Model, weights: &[f32], precision: Precision, threads: usize) -> Vec<f32> {
    let device = Arc::new(Device::cpu(threads, precision).unwrap());
    let mut tape = Tape::new(Arc::clone(&device));
    let generator = Generator::new(model, &device, weights);
    let mut cache = KvCache::new(&model.config, 1, 16);
    let mut all = Vec::new();
    for ids in [&[3, 1, 4, 1, 5][..], &[9], &[2], &[6]] {
        let mut pass = generator.pass(&mut tape);
        let logits = model.forward_cached(&mut pass, ids, &mut cache);
        all.extend_from_slice(pass.value(logits));
    }
    all
}

#[test]
fn bf16_logits_are_those_of_f32_to_its_precision() {
    for (name, config) in small_configs() {
        let model = Model::new(config).unwrap();
        let weights = lively_weights(&model, 4);
        let exact = logits_in(&model, &weights, Precision::F32, 1);
        let rounded = logits_in(&model, &weights, Precision::Bf16, 1);
        let largest = exact.iter().fold(0.0, |most: f32, logit| most.max(logit.abs()));
        let difference = common::largest_difference(&exact, &rounded) / largest;
        // Inputs of products are rounded by up to 2⁻⁹ of themselves: 13 products deep, where most
        // errors cancel, 2% of the largest logit is generous; that they are rounded must show.
        assert!(difference < 0.02, "{name}: {difference} of the largest logit");
        assert!(difference > 1e-5, "{name}: {difference} of the largest logit");
        for threads in [2, 3] {
            assert_eq!(logits_in(&model, &weights, Precision::Bf16, threads), rounded, "{name}");
            assert_eq!(logits_in(&model, &weights, Precision::F32, threads), exact, "{name}");
        }
    }
}

#[test]
fn a_generators_text_is_that_of_the_plain_function() {
    for (name, config) in small_configs() {
        let model = Model::new(config).unwrap();
        let weights = lively_weights(&model, 5);
        for precision in [Precision::F32, Precision::Bf16] {
            let device = Arc::new(Device::cpu(2, precision).unwrap());
            let mut tape = Tape::new(Arc::clone(&device));
            let generator = Generator::new(&model, &device, &weights);
            for temperature in [0.0, 1.0] {
                let sampling = Sampling { temperature, max_new_tokens: 40, ..Sampling::default() };
                let plain =
                    generate(&model, &mut tape, &weights, &[7, 8], &sampling, &mut go_on).unwrap();
                let ours = generator.generate(&mut tape, &[7, 8], &sampling, &mut go_on).unwrap();
                assert_eq!(ours, plain, "{name} {precision:?}");
            }
        }
    }
}

#[test]
fn seeds_repeat_and_differ() {
    let (_, config) = small_configs().remove(0);
    let model = Model::new(config).unwrap();
    let weights = model.initialize(1);
    let text = |seed| {
        let sampling = Sampling { seed, max_new_tokens: 30, ..Sampling::default() };
        generate(&model, &mut tape(), &weights, &[1, 2], &sampling, &mut go_on).unwrap()
    };
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
}

#[test]
fn first_tokens_are_drawn_from_the_models_distribution() {
    let (_, config) = small_configs().remove(2);
    let model = Model::new(config).unwrap();
    let weights = lively_weights(&model, 9);
    let mut tape = tape();
    let mut pass = tape.pass(&weights, PassKind::Evaluate);
    let logits = model.logits(&mut pass, &[4, 7], 1, 2);
    let last = pass.value(logits)[model.config.vocabulary..].to_vec();
    drop(pass);
    let weight: Vec<f64> = last.iter().map(|&logit| f64::from(logit).exp()).collect();
    let sum: f64 = weight.iter().sum();
    let draws = 2000;
    let mut counts = vec![0.0; last.len()];
    for seed in 0..draws {
        let sampling = Sampling { seed, max_new_tokens: 1, ..Sampling::default() };
        let text = generate(&model, &mut tape, &weights, &[4, 7], &sampling, &mut go_on).unwrap();
        counts[text[0] as usize] += 1.0;
    }
    let chi: f64 = counts
        .iter()
        .zip(&weight)
        .map(|(count, weight)| {
            let expected = draws as f64 * weight / sum;
            f64::powi(count - expected, 2) / expected
        })
        .sum();
    // χ² with 60 degrees of freedom exceeds 112 once in 20,000.
    assert!(chi < 112.0, "χ² {chi}");
}

#[test]
fn generation_stops_where_it_is_told_to() {
    let (_, config) = small_configs().remove(0);
    let model = Model::new(config).unwrap();
    let weights = lively_weights(&model, 3);
    let mut tape = tape();
    let all = Sampling { max_new_tokens: 25, ..Sampling::default() };
    let text = generate(&model, &mut tape, &weights, &[1], &all, &mut go_on).unwrap();
    let stop = text[12];
    let at = text.iter().position(|&id| id == stop).unwrap();

    let mut seen = Vec::new();
    let stopping = Sampling { stop_tokens: vec![stop], ..all.clone() };
    let mut note = |id| {
        seen.push(id);
        ControlFlow::Continue(())
    };
    let stopped = generate(&model, &mut tape, &weights, &[1], &stopping, &mut note).unwrap();
    assert_eq!(stopped, text[..at]);
    assert_eq!(seen, stopped);

    let mut left = 7;
    let mut break_after_7 = |_| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let broken = generate(&model, &mut tape, &weights, &[1], &all, &mut break_after_7).unwrap();
    assert_eq!(broken, text[..7]);
    let none = Sampling { max_new_tokens: 0, ..all };
    assert!(generate(&model, &mut tape, &weights, &[1], &none, &mut go_on).unwrap().is_empty());
}

#[test]
fn bad_requests_are_explained() {
    let (_, config) = small_configs().remove(0);
    let model = Model::new(config).unwrap();
    let mut weights = model.initialize(1);
    let mut tape = tape();
    let mut error = |weights: &[f32], prompt: &[u32], sampling: &Sampling| {
        let result = generate(&model, &mut tape, weights, prompt, sampling, &mut go_on);
        result.unwrap_err().to_string()
    };
    let greedy = Sampling::greedy(4);
    assert!(error(&weights, &[], &greedy).contains("the prompt has no tokens"));
    assert!(error(&weights, &[1, 61], &greedy).contains("token 1 has id 61"));
    let hot = Sampling { temperature: -0.5, ..greedy.clone() };
    assert!(error(&weights, &[1], &hot).contains("temperature = -0.5"));
    weights[5] = f32::NAN;
    assert!(error(&weights, &[1], &greedy).contains("logits are not finite after 1 tokens"));
}
