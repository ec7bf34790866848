//! Our classifiers against transformers: configuration, logits, loss and gradients; and a head
//! that is new on the body of a language model.

mod common;

use common::{Golden, KEY, largest_difference, read_json, tape};
use heldout_kernels::{LossReport, PassKind};
use heldout_model::huggingface::{self, Orientation, SpecialTokens, labels};
use heldout_model::{ClassObjective, Head, Model, ModelConfig, NoiseRates, Sequences, Tied};

const CASES: [&str; 2] = ["gpt2-classify", "llama-classify"];

struct Batch {
    ids: Vec<u32>,
    lengths: Vec<u32>,
    targets: Vec<u32>,
    seq_len: usize,
}

impl Batch {
    fn of(golden: &Golden) -> Batch {
        let (_, seq_len, ids) = golden.ids("ids");
        Batch { ids, lengths: golden.ids("lengths").2, targets: golden.ids("targets").2, seq_len }
    }

    fn sequences(&self) -> Sequences<'_> {
        let (batch, seq_len) = (self.lengths.len(), self.seq_len);
        Sequences { ids: &self.ids, lengths: &self.lengths, segments: None, batch, seq_len }
    }
}

fn step(
    model: &Model,
    weights: &[f32],
    batch: &Batch,
    noise: &NoiseRates,
    objective: &ClassObjective,
) -> (LossReport, Vec<f32>) {
    let mut gradients = vec![0.0; weights.len()];
    let mut tape = tape();
    let kind = PassKind::Train { gradients: &mut gradients, noise: KEY };
    let mut pass = tape.pass(weights, kind);
    let report = model.classify(&mut pass, batch.sequences(), &batch.targets, noise, objective);
    pass.backward();
    drop(pass);
    (report, gradients)
}

#[test]
fn logits_loss_and_gradients_are_those_of_transformers() {
    for case in CASES {
        let golden = Golden::open(case);
        let (model, weights) = (&golden.model, &golden.weights);
        let batch = Batch::of(&golden);
        let mut tape = tape();
        let mut pass = tape.pass(weights, PassKind::Evaluate);
        let logits = model.scores(&mut pass, batch.sequences());
        let difference = largest_difference(pass.value(logits), &golden.f32s("logits").1);
        assert!(difference < 1e-4, "{case}: {difference}");
        drop(pass);

        let objective = ClassObjective::plain(1.0 / batch.targets.len() as f32);
        let (report, gradients) = step(model, weights, &batch, &NoiseRates::default(), &objective);
        let loss = report.nll_sum / report.targets as f64;
        assert!((loss - golden.json["loss"].as_f64().unwrap()).abs() < 1e-5, "{case}: {loss}");
        for plan in huggingface::tensors(model) {
            let (shape, mut expected) = golden.f32s(&format!("gradient.{}", plan.name));
            if plan.orientation == Orientation::Transposed {
                let (rows, cols) = (shape[0], shape[1]);
                expected = (0..rows * cols).map(|i| expected[i % rows * cols + i / rows]).collect();
            }
            let found = &gradients[plan.offset..plan.offset + expected.len()];
            let difference = largest_difference(found, &expected);
            assert!(difference < 2e-5, "{case} {}: {difference}", plan.name);
        }
    }
}

#[test]
fn configurations_come_and_go_with_their_labels() {
    for case in CASES {
        let golden = Golden::open(case);
        let theirs = read_json(common::golden_path(case).join("config.json"));
        assert_eq!(golden.model.config.head, Head::Classification { labels: 3 });
        let names = labels::read(theirs.as_object().unwrap()).unwrap().unwrap();
        assert_eq!(names, ["bad", "so so", "good"]);
        let mut ours = huggingface::config_json(&golden.model.config, SpecialTokens::default());
        labels::write(&mut ours, &names);
        for key in ["architectures", "id2label", "label2id", "problem_type"] {
            assert_eq!(ours[key], theirs[key], "{case} {key}");
        }
        let back = huggingface::parse_config(&ours).unwrap();
        assert_eq!(back, golden.model.config);
    }
}

#[test]
fn what_stands_behind_the_end_is_read_by_nobody() {
    for case in CASES {
        let golden = Golden::open(case);
        let mut batch = Batch::of(&golden);
        let objective = ClassObjective::plain(1.0);
        let noise = NoiseRates { embedding: 0.2, attention: 0.2, ..NoiseRates::default() };
        let plain = step(&golden.model, &golden.weights, &batch, &noise, &objective);
        for (row, length) in batch.lengths.iter().enumerate() {
            let end = (row + 1) * batch.seq_len;
            batch.ids[end - batch.seq_len + *length as usize..end].fill(7);
        }
        assert_eq!(step(&golden.model, &golden.weights, &batch, &noise, &objective), plain);
    }
}

#[test]
fn twins_without_noise_change_nothing() {
    let golden = Golden::open("llama-classify");
    let batch = Batch::of(&golden);
    let (quiet, plain) = (NoiseRates::default(), ClassObjective::plain(0.25));
    let twins = ClassObjective { twins: Some(3.0), ..plain };
    let of = |noise, objective| step(&golden.model, &golden.weights, &batch, noise, objective);
    let (one, two) = (of(&quiet, &plain), of(&quiet, &twins));
    assert!((one.0.objective_sum - two.0.objective_sum).abs() < 1e-9);
    assert!(largest_difference(&one.1, &two.1) < 1e-6);
    let noisy = NoiseRates { embedding: 0.3, ..NoiseRates::default() };
    let (one, two) = (of(&noisy, &plain), of(&noisy, &twins));
    assert!(two.0.objective_sum > two.0.nll_sum + 1e-3, "two noisy passes disagree");
    assert_ne!(one.1, two.1);
}

#[test]
fn a_head_is_new_where_the_file_has_none_of_its_shape() {
    let body = ModelConfig { tied: Tied::No, ..ModelConfig::llama(61, 16, 2, 4, 2, 32) };
    let of = |head| Model::new(ModelConfig { head, ..body.clone() }).unwrap();
    let language = of(Head::LanguageModel);
    let (three, two) =
        (of(Head::Classification { labels: 3 }), of(Head::Classification { labels: 2 }));
    for (from, to, fresh) in
        [(&language, &three, 1), (&three, &two, 1), (&three, &three, 0), (&language, &language, 0)]
    {
        let theirs = from.initialize(1);
        let plans = huggingface::tensors(from);
        huggingface::check_names(to, plans.iter().map(|plan| plan.name.as_str())).unwrap();
        let read = &mut |name: &str| {
            let plan = plans.iter().find(|plan| plan.name == name)?;
            let len: usize = plan.shape.iter().product();
            Some((plan.shape.clone(), theirs[plan.offset..plan.offset + len].to_vec()))
        };
        let found = huggingface::import_body(to, to.initialize(2), read).unwrap();
        assert_eq!(found.fresh.len(), fresh);
        let (new, score) = (to.initialize(2), to.layout().parameters.last().unwrap().range());
        let expected = if fresh == 1 { &new } else { &theirs };
        assert_eq!(found.weights[score.clone()], expected[score.clone()]);
        assert_eq!(found.weights[..score.start], theirs[..score.start]);
    }
}
