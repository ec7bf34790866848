//! Our models against transformers: logits, loss, gradients, greedy text, sampling distributions.

mod common;

use std::ops::ControlFlow;

use common::{Golden, KEY, golden_path, largest_difference, read_json, step, tape};
use heldout_kernels::PassKind;
use heldout_model::generate::generate;
use heldout_model::huggingface::{self, Orientation};
use heldout_model::sampling::{Sampling, candidates, penalize};
use heldout_model::{NoiseRates, Tokens};

const CASES: [&str; 5] = ["gpt2", "gpt2-untied-erf", "llama-untied", "llama-tied", "qwen3"];

#[test]
fn logits_are_those_of_transformers() {
    for case in CASES {
        let golden = Golden::open(case);
        let (batch, seq_len, ids) = golden.ids("ids");
        let mut tape = tape();
        let mut pass = tape.pass(&golden.weights, PassKind::Evaluate);
        let logits = golden.model.logits(&mut pass, &ids, batch, seq_len);
        let difference = largest_difference(pass.value(logits), &golden.f32s("logits").1);
        println!("{case}: logits differ by at most {difference:e}");
        assert!(difference < 1e-4, "{case}: {difference}");
    }
}

#[test]
fn loss_and_gradients_are_those_of_pytorch() {
    for case in CASES {
        let golden = Golden::open(case);
        let (batch, seq_len, ids) = golden.ids("ids");
        let targets = golden.ids("targets").2;
        let tokens = Tokens { ids: &ids, targets: &targets, batch, seq_len };
        let noise = NoiseRates::default();
        let (report, gradients) =
            step(&golden.model, &mut tape(), &golden.weights, tokens, &noise, KEY);

        let loss = report.nll_sum / report.targets as f64;
        let loss_error = (loss - golden.json["loss"].as_f64().unwrap()).abs();
        let norm = gradients.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let norm_error = (norm / golden.json["gradient_norm"].as_f64().unwrap() - 1.0).abs();
        println!("{case}: loss differs by {loss_error:e}, gradient norm by {norm_error:e} of it");
        assert!(loss_error < 1e-5, "{case}: loss {loss_error}");
        assert!(norm_error < 1e-4, "{case}: norm {norm_error}");
        assert_eq!(report.targets, (batch * seq_len - 2) as u64);
        compare_gradients(case, &golden, &gradients);
    }
}

fn compare_gradients(case: &str, golden: &Golden, gradients: &[f32]) {
    for plan in huggingface::tensors(&golden.model) {
        let (shape, mut expected) = golden.f32s(&format!("gradient.{}", plan.name));
        assert_eq!(shape, plan.shape, "{case} {}", plan.name);
        if plan.orientation == Orientation::Transposed {
            let (rows, cols) = (shape[0], shape[1]);
            expected = (0..rows * cols).map(|i| expected[i % rows * cols + i / rows]).collect();
        }
        let found = &gradients[plan.offset..plan.offset + expected.len()];
        let difference = largest_difference(found, &expected);
        assert!(difference < 2e-5, "{case} {}: {difference}", plan.name);
    }
}

#[test]
fn greedy_text_is_that_of_transformers() {
    for case in CASES {
        let golden = Golden::open(case);
        let ids =
            |key: &str| -> Vec<u32> { serde_json::from_value(golden.json[key].clone()).unwrap() };
        let expected = ids("greedy");
        let plain = Sampling::greedy(expected.len());
        let penalized = Sampling { repetition_penalty: 1.5, ..plain.clone() };
        for (sampling, expected) in [(plain, expected), (penalized, ids("greedy_penalty_1_5"))] {
            let text = generate(
                &golden.model,
                &mut tape(),
                &golden.weights,
                &ids("prompt"),
                &sampling,
                &mut |_| ControlFlow::Continue(()),
            );
            assert_eq!(text.unwrap(), expected, "{case}");
        }
    }
}

#[test]
fn sampling_distributions_are_those_of_transformers() {
    let golden = read_json(golden_path("sampling.json"));
    let logits: Vec<f32> = serde_json::from_value(golden["logits"].clone()).unwrap();
    let seen: Vec<u32> = serde_json::from_value(golden["seen"].clone()).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let number = |key: &str| case[key].as_f64().map(|value| value as f32);
        let sampling = Sampling {
            temperature: number("temperature").unwrap(),
            top_k: case["top_k"].as_u64().map(|k| k as usize),
            top_p: number("top_p"),
            repetition_penalty: number("repetition_penalty").unwrap(),
            ..Sampling::default()
        };
        let mut logits = logits.clone();
        penalize(&mut logits, &seen, sampling.repetition_penalty);
        let mut found = vec![0.0; logits.len()];
        for (id, probability) in candidates(&logits, &sampling) {
            found[id as usize] = probability as f32;
        }
        let expected: Vec<f32> = serde_json::from_value(case["probabilities"].clone()).unwrap();
        let difference = largest_difference(&found, &expected);
        assert!(difference < 1e-6, "{sampling:?}: {difference}");
        let zeros = |values: &[f32]| values.iter().filter(|&&v| v == 0.0).count();
        assert_eq!(zeros(&found), zeros(&expected), "{sampling:?}");
    }
}
