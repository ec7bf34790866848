//! Our encoders against transformers: configuration, logits of padded batches, loss, gradients and
//! steps of training; and what only encoders do.

mod common;

use std::sync::Arc;

use common::{Golden, KEY, largest_difference, lively_weights, random_ids, read_json, tape};
use heldout_kernels::{
    Activations, Device, Joint, LossReport, LossSpec, PassKind, Precision, Sharing, Tape, Twins,
};
use heldout_model::generate::{Sampling, generate};
use heldout_model::huggingface::{self, SpecialTokens};
use heldout_model::{
    ClassObjective, Head, Model, ModelConfig, ModelError, NoiseRates, Objective, Sequences, Variant,
};

const CASES: [&str; 9] = [
    "bert-base",
    "bert-mlm",
    "bert-classify",
    "bert-span",
    "roberta-mlm",
    "roberta-classify",
    "distilbert-mlm",
    "distilbert-classify",
    "distilbert-span",
];

struct Batch {
    ids: Vec<u32>,
    segments: Option<Vec<u32>>,
    lengths: Vec<u32>,
    targets: Vec<u32>,
    seq_len: usize,
}

impl Batch {
    fn of(golden: &Golden) -> Batch {
        let (_, seq_len, ids) = golden.ids("ids");
        let has_segments = golden.model.config.encoder.variant == Variant::Bert;
        Batch {
            ids,
            segments: has_segments.then(|| golden.ids("segments").2),
            lengths: golden.ids("lengths").2,
            targets: golden.ids("targets").2,
            seq_len,
        }
    }

    fn sequences(&self) -> Sequences<'_> {
        let (batch, seq_len) = (self.lengths.len(), self.seq_len);
        let segments = self.segments.as_deref();
        Sequences { ids: &self.ids, lengths: &self.lengths, segments, batch, seq_len }
    }

    /// Rows that are no padding.
    fn rows(&self) -> Vec<u32> {
        let whole = |(sequence, length): (usize, &u32)| {
            let first = (sequence * self.seq_len) as u32;
            first..first + length
        };
        self.lengths.iter().enumerate().flat_map(whole).collect()
    }

    fn spans(&self) -> Vec<(u32, u32)> {
        self.targets.as_chunks::<2>().0.iter().map(|[first, last]| (*first, *last)).collect()
    }
}

/// Loss, its mean, and the gradients of the mean.
fn step(
    model: &Model,
    weights: &[f32],
    batch: &Batch,
    noise: &NoiseRates,
    joint: Joint,
) -> (f64, Vec<f32>) {
    step_on(&mut tape(), model, weights, batch, noise, joint)
}

fn step_on(
    tape: &mut Tape,
    model: &Model,
    weights: &[f32],
    batch: &Batch,
    noise: &NoiseRates,
    joint: Joint,
) -> (f64, Vec<f32>) {
    let mut gradients = vec![0.0; weights.len()];
    let kind = PassKind::Train { gradients: &mut gradients, noise: KEY };
    let mut pass = tape.pass(weights, kind);
    let sequences = batch.sequences();
    let report = match model.config.head {
        Head::LanguageModel => {
            let count = batch.targets.iter().filter(|&&target| target != u32::MAX).count();
            let spec = LossSpec::plain(1.0 / count as f32);
            let objective = Objective { spec, joint, ahead: 0.0, marks: None };
            model.masked(&mut pass, sequences, &batch.targets, noise, &objective)
        }
        Head::Classification { .. } => {
            let objective = ClassObjective::plain(1.0 / batch.lengths.len() as f32);
            model.classify(&mut pass, sequences, &batch.targets, noise, &objective)
        }
        Head::Span => {
            let scale = 1.0 / batch.lengths.len() as f32;
            model.locate(&mut pass, sequences, &batch.spans(), noise, scale)
        }
        Head::Features => squares(model, &mut pass, batch, noise),
    };
    pass.backward();
    drop(pass);
    (report.objective_sum / report.targets as f64, gradients)
}

/// The mean square of the hidden states.
fn squares(
    model: &Model,
    pass: &mut heldout_kernels::Pass,
    batch: &Batch,
    noise: &NoiseRates,
) -> LossReport {
    let x = model.encode(pass, batch.sequences(), noise);
    let x = pass.rows(x, &batch.rows());
    let values = pass.value(x).to_vec();
    let loss = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / values.len() as f64;
    let gradient: Vec<f32> = values.iter().map(|x| 2.0 * x / values.len() as f32).collect();
    pass.add_gradient(x, &gradient);
    LossReport { objective_sum: loss, nll_sum: loss, targets: 1 }
}

fn logits(model: &Model, weights: &[f32], batch: &Batch) -> Vec<f32> {
    let mut tape = tape();
    let mut pass = tape.pass(weights, PassKind::Evaluate);
    let (sequences, quiet) = (batch.sequences(), NoiseRates::default());
    let logits = match model.config.head {
        Head::LanguageModel => model.masked_logits(&mut pass, sequences, &batch.rows()),
        Head::Classification { .. } => model.scores(&mut pass, sequences),
        Head::Span | Head::Features => {
            let all = match model.config.head {
                Head::Span => model.span_scores(&mut pass, sequences, &quiet),
                _ => model.encode(&mut pass, sequences, &quiet),
            };
            pass.rows(all, &batch.rows())
        }
    };
    pass.value(logits).to_vec()
}

#[test]
fn logits_loss_and_gradients_are_those_of_transformers() {
    for case in CASES {
        let golden = Golden::open(case);
        let (model, weights, batch) = (&golden.model, &golden.weights, Batch::of(&golden));
        let found = logits(model, weights, &batch);
        let difference = largest_difference(&found, &golden.f32s("logits").1);
        println!("{case}: logits differ by at most {difference:e}");
        assert!(difference < 1e-4, "{case}: {difference}");

        let quiet = NoiseRates::default();
        let (loss, gradients) = step(model, weights, &batch, &quiet, Joint::default());
        assert!((loss - golden.json["loss"].as_f64().unwrap()).abs() < 1e-5, "{case}: {loss}");
        for plan in huggingface::tensors(model) {
            let found = &gradients[plan.offset..][..plan.shape.iter().product()];
            if model.config.head == Head::Features && plan.name.starts_with("pooler.") {
                assert!(found.iter().all(|g| *g == 0.0));
                continue;
            }
            let (shape, expected) = golden.f32s(&format!("gradient.{}", plan.name));
            assert_eq!(shape, plan.shape);
            let difference = largest_difference(found, &expected);
            assert!(difference < 2e-5, "{case} {}: {difference}", plan.name);
        }
    }
}

#[test]
fn ten_steps_of_adamw_follow_pytorch() {
    let golden = Golden::open("bert-mlm");
    let batch = Batch::of(&golden);
    let mut weights = golden.weights.clone();
    let expected: Vec<f64> = serde_json::from_value(golden.json["steps"].clone()).unwrap();
    let mut moments = vec![(0.0f32, 0.0f32); weights.len()];
    for (index, expected) in expected.iter().enumerate() {
        let quiet = NoiseRates::default();
        let (loss, gradients) = step(&golden.model, &weights, &batch, &quiet, Joint::default());
        assert!((loss - expected).abs() < 1e-4, "step {index}: {loss}, expected {expected}");
        let (rate, decay, time) = (3e-3f32, 0.1f32, index as i32 + 1);
        let corrections = (1.0 - 0.9f32.powi(time), 1.0 - 0.999f32.powi(time));
        for ((weight, gradient), (m, v)) in weights.iter_mut().zip(&gradients).zip(&mut moments) {
            *weight -= rate * decay * *weight;
            *m = 0.9 * *m + 0.1 * gradient;
            *v = 0.999 * *v + 0.001 * gradient * gradient;
            let root = (*v / corrections.1).sqrt() + 1e-8;
            *weight -= rate * (*m / corrections.0) / root;
        }
    }
    assert!(expected[10] < 0.9 * expected[0], "the steps do something");
}

/// A key's bias moves all scores of a query alike, a span's last biases those of all positions; the
/// pooler of a model without a head is read by nobody.
fn acts_on_nothing(model: &Model, name: &str) -> bool {
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    match model.config.head {
        _ if ends(&["key.bias", "k_lin.bias"]) => true,
        Head::Span => ends(&[
            "layer.1.output.LayerNorm.bias",
            "layer.1.output_layer_norm.bias",
            "qa_outputs.bias",
        ]),
        Head::Features => ends(&["pooler.dense.weight", "pooler.dense.bias"]),
        _ => false,
    }
}

#[test]
fn gradients_follow_differences_of_the_loss_under_noise() {
    let noise = NoiseRates {
        embedding: 0.1,
        attention: 0.1,
        attention_output: 0.1,
        feed_forward_hidden: 0.1,
        feed_forward_output: 0.1,
        sharing: Sharing::Time,
        ..NoiseRates::default()
    };
    for case in CASES {
        let golden = Golden::open(case);
        let (model, weights, batch) = (&golden.model, &golden.weights, Batch::of(&golden));
        let (_, gradients) = step(model, weights, &batch, &noise, Joint::default());
        for parameter in &model.layout().parameters {
            let range = parameter.range();
            let squares = gradients[range.clone()].iter().map(|&g| f64::from(g).powi(2));
            let norm = squares.sum::<f64>().sqrt();
            if norm < 1e-4 {
                assert!(acts_on_nothing(model, &parameter.name), "{}", parameter.name);
                continue;
            }
            let length = 5e-3;
            let loss = |sign: f64| {
                let mut moved = weights.clone();
                for i in range.clone() {
                    moved[i] += (sign * length * f64::from(gradients[i]) / norm) as f32;
                }
                step(model, &moved, &batch, &noise, Joint::default()).0
            };
            let slope = (loss(1.0) - loss(-1.0)) / (2.0 * length);
            let error = (slope - norm).abs() / norm.max(0.05);
            assert!(error < 2e-2, "{case} {}: slope {slope}, norm {norm}", parameter.name);
        }
    }
}

#[test]
fn what_stands_in_padding_is_read_by_nobody() {
    let noise = NoiseRates { embedding: 0.2, attention: 0.2, ..NoiseRates::default() };
    for case in CASES {
        let golden = Golden::open(case);
        let mut batch = Batch::of(&golden);
        let of = |batch: &Batch| {
            let (model, weights) = (&golden.model, &golden.weights);
            (logits(model, weights, batch), step(model, weights, batch, &noise, Joint::default()))
        };
        let before = of(&batch);
        for (row, length) in batch.lengths.iter().enumerate() {
            let padding = row * batch.seq_len + *length as usize..(row + 1) * batch.seq_len;
            batch.ids[padding.clone()].fill(7);
            if let Some(segments) = &mut batch.segments {
                segments[padding].fill(0);
            }
        }
        assert_eq!(of(&batch), before, "{case}");
    }
}

#[test]
fn every_rate_acts_and_twins_disagree() {
    let golden = Golden::open("bert-mlm");
    let batch = Batch::of(&golden);
    let of = |noise: &NoiseRates, joint| step(&golden.model, &golden.weights, &batch, noise, joint);
    let quiet = NoiseRates::default();
    let plain = of(&quiet, Joint::default());
    let sites: [fn(&mut NoiseRates); 9] = [
        |rates| rates.embedding = 0.3,
        |rates| rates.attention = 0.3,
        |rates| rates.attention_output = 0.3,
        |rates| rates.feed_forward_hidden = 0.3,
        |rates| rates.feed_forward_output = 0.3,
        |rates| rates.heads = 0.5,
        |rates| rates.tokens = 0.3,
        |rates| rates.neftune = 5.0,
        |rates| rates.layer_drop = 0.9,
    ];
    for (index, set) in sites.iter().enumerate() {
        let mut rates = quiet;
        set(&mut rates);
        assert_ne!(of(&rates, Joint::default()).0, plain.0, "site {index}");
    }
    let twins = Twins { strength: 2.0, seq_len: batch.seq_len };
    let joint = Joint { twins: Some(twins), teaching: None };
    let both = of(&quiet, joint);
    assert!((both.0 - plain.0).abs() < 1e-6, "without noise twins agree");
    assert!(largest_difference(&both.1, &plain.1) < 1e-6);
    let noisy = NoiseRates { embedding: 0.3, ..quiet };
    assert!(of(&noisy, joint).0 > of(&noisy, Joint::default()).0 - 0.5);
    assert_ne!(of(&noisy, joint).1, plain.1);
}

#[test]
fn recomputation_changes_no_bit_and_bf16_little() {
    let noise = NoiseRates { embedding: 0.2, attention: 0.2, ..NoiseRates::default() };
    for case in CASES {
        let golden = Golden::open(case);
        let (model, weights, batch) = (&golden.model, &golden.weights, Batch::of(&golden));
        let on = |tape: &mut Tape| step_on(tape, model, weights, &batch, &noise, Joint::default());
        let mut frugal = tape();
        frugal.activations = Activations::Recompute;
        let kept = on(&mut tape());
        assert_eq!(on(&mut frugal), kept, "{case}");
        for activations in [Activations::Keep, Activations::Recompute] {
            let mut short = Tape::new(Arc::new(Device::cpu(2, Precision::Bf16).unwrap()));
            short.activations = activations;
            let (loss, gradients) = on(&mut short);
            assert!((loss / kept.0 - 1.0).abs() < 0.05, "{case}: {loss} in bf16, {}", kept.0);
            let squares = |values: &[f32]| values.iter().map(|v| v * v).sum::<f32>();
            let errors: Vec<f32> = gradients.iter().zip(&kept.1).map(|(a, b)| a - b).collect();
            let error = (squares(&errors) / squares(&kept.1)).sqrt();
            assert!(error < 0.1, "{case}: gradients are {error} off in bf16");
        }
    }
}

#[test]
fn configurations_come_and_go() {
    for case in CASES {
        let golden = Golden::open(case);
        let theirs = read_json(common::golden_path(case).join("config.json"));
        let ours = huggingface::config_json(&golden.model.config, SpecialTokens::default());
        for key in ["architectures", "model_type", "max_position_embeddings", "vocab_size"] {
            assert_eq!(ours[key], theirs[key], "{case} {key}");
        }
        assert_eq!(huggingface::parse_config(&ours).unwrap(), golden.model.config, "{case}");
        let text = serde_json::to_string(&golden.model.config).unwrap();
        assert_eq!(serde_json::from_str::<ModelConfig>(&text).unwrap(), golden.model.config);
    }
}

#[test]
fn tasks_start_from_a_body_under_any_name() {
    let body = ModelConfig::bert(Variant::Bert, 61, 16, 2, 4, 32);
    let of = |head| Model::new(ModelConfig { head, ..body.clone() }).unwrap();
    let (masked, base) = (of(Head::LanguageModel), of(Head::Features));
    let (labels, span) = (of(Head::Classification { labels: 3 }), of(Head::Span));
    let old = |name: &str| {
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
        name.replace("LayerNorm.bias", "LayerNorm.beta")
    };
    for (from, to, fresh) in [
        (&base, &labels, ["classifier.weight", "classifier.bias"].as_slice()),
        (&masked, &span, &["qa_outputs.weight", "qa_outputs.bias"]),
        (&labels, &base, &[]),
        (&masked, &base, &["pooler.dense.weight", "pooler.dense.bias"]),
        (&masked, &masked, &[]),
    ] {
        let theirs = from.initialize(1);
        let plans = huggingface::tensors(from);
        let names: Vec<String> = plans.iter().map(|plan| old(&plan.name)).collect();
        huggingface::check_names(to, names.iter().map(String::as_str)).unwrap();
        let read = &mut |name: &str| {
            let plan = plans.iter().find(|plan| old(&plan.name) == name)?;
            let len: usize = plan.shape.iter().product();
            Some((plan.shape.clone(), theirs[plan.offset..][..len].to_vec()))
        };
        let found = huggingface::import_body(to, to.initialize(2), read).unwrap();
        assert_eq!(found.fresh, fresh);
        let word = 5 * 32..6 * 32;
        assert_eq!(found.weights[word.clone()], theirs[word]);
    }
}

#[test]
fn an_encoder_neither_generates_nor_takes_a_broken_shape() {
    let config = ModelConfig::bert(Variant::Roberta, 61, 16, 2, 4, 32);
    let model = Model::new(config.clone()).unwrap();
    let weights = lively_weights(&model, 1);
    let prompt = random_ids(3, 61, 1);
    let mut go = |_| std::ops::ControlFlow::Continue(());
    let answer = generate(&model, &mut tape(), &weights, &prompt, &Sampling::greedy(4), &mut go);
    assert_eq!(answer, Err(ModelError::NotCausal { variant: "roberta" }));
    let check = |config: ModelConfig, expected: &str| {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    check(ModelConfig { kv_heads: 2, ..config.clone() }, "share the width evenly");
    check(ModelConfig { tied: heldout_model::Tied::No, ..config.clone() }, "token table");
    let mut broken = config;
    broken.encoder.first_position = 0;
    check(broken, "padding id + 1");
}
