//! Our encoder-decoders against transformers: configuration, logits of padded batches, loss,
//! gradients, steps of training and what is generated; and what only they do.

mod common;

use std::sync::Arc;

use common::{Golden, KEY, largest_difference, lively_weights, random_ids, read_json, tape};
use heldout_kernels::{
    Activations, Device, Joint, LossSpec, NoiseKey, PassKind, Precision, Sharing, Tape, Twins,
};
use heldout_model::generate::Generator;
use heldout_model::huggingface::{self, SpecialTokens};
use heldout_model::{
    Beam, EarlyStopping, Hypothesis, Model, ModelConfig, ModelError, NoiseRates, Norms, Objective,
    Pairs, Sequences,
};
use serde_json::Value;

const CASES: [&str; 3] = ["bart", "mbart", "marian"];

struct Batch {
    source: Vec<u32>,
    source_lengths: Vec<u32>,
    target: Vec<u32>,
    target_lengths: Vec<u32>,
    targets: Vec<u32>,
}

fn sequences<'a>(ids: &'a [u32], lengths: &'a [u32]) -> Sequences<'a> {
    let (batch, seq_len) = (lengths.len(), ids.len() / lengths.len());
    Sequences { ids, lengths, segments: None, batch, seq_len }
}

impl Batch {
    fn of(golden: &Golden) -> Batch {
        let ids = |name: &str| golden.ids(name).2;
        Batch {
            source: ids("source"),
            source_lengths: ids("source_lengths"),
            target: ids("target"),
            target_lengths: ids("target_lengths"),
            targets: ids("targets"),
        }
    }

    fn pairs(&self) -> Pairs<'_> {
        Pairs {
            source: sequences(&self.source, &self.source_lengths),
            target: sequences(&self.target, &self.target_lengths),
            targets: &self.targets,
        }
    }

    /// Some of the pairs.
    fn part(&self, range: std::ops::Range<usize>) -> Batch {
        let of = |ids: &[u32]| {
            let each = ids.len() / self.source_lengths.len();
            ids[range.start * each..range.end * each].to_vec()
        };
        Batch {
            source: of(&self.source),
            source_lengths: of(&self.source_lengths),
            target: of(&self.target),
            target_lengths: of(&self.target_lengths),
            targets: of(&self.targets),
        }
    }
}

/// The mean loss and its gradients.
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
    let mut gradients = vec![f32::NAN; weights.len()];
    let kind = PassKind::TrainFirst { gradients: &mut gradients, noise: KEY };
    let mut pass = tape.pass(weights, kind);
    let count = batch.targets.iter().filter(|&&target| target != u32::MAX).count();
    let spec = LossSpec::plain(1.0 / count as f32);
    let objective = Objective { spec, joint, ahead: 0.0, marks: None };
    let report = model.seq_loss(&mut pass, &batch.pairs(), noise, &objective);
    pass.backward();
    drop(pass);
    assert_eq!(report.targets, count as u64);
    (report.objective_sum / count as f64, gradients)
}

/// Of the rows that are no padding.
fn logits(model: &Model, weights: &[f32], batch: &Batch) -> Vec<f32> {
    let mut tape = tape();
    let mut pass = tape.pass(weights, PassKind::Evaluate);
    let Pairs { source, target, .. } = batch.pairs();
    let logits = model.seq_logits(&mut pass, source, target);
    let row = |(sequence, length): (usize, &u32)| {
        let first = (sequence * target.seq_len) as u32;
        first..first + length
    };
    let rows: Vec<u32> = target.lengths.iter().enumerate().flat_map(row).collect();
    let logits = pass.rows(logits, &rows);
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
            if plan.name == "final_logits_bias" {
                assert!(found.iter().all(|g| *g == 0.0), "a buffer is not trained");
                continue;
            }
            let (shape, expected) = golden.f32s(&format!("gradient.{}", plan.name));
            assert_eq!(shape, plan.shape);
            let difference = largest_difference(found, &expected);
            assert!(difference < 3e-5, "{case} {}: {difference}", plan.name);
        }
    }
}

#[test]
fn ten_steps_of_adamw_follow_pytorch() {
    for case in CASES {
        let golden = Golden::open(case);
        let batch = Batch::of(&golden);
        let mut weights = golden.weights.clone();
        let offset = golden.model.layout().get("final_logits_bias").unwrap().range();
        let expected: Vec<f64> = serde_json::from_value(golden.json["steps"].clone()).unwrap();
        let mut moments = vec![(0.0f32, 0.0f32); weights.len()];
        for (index, expected) in expected.iter().enumerate() {
            let quiet = NoiseRates::default();
            let (loss, gradients) = step(&golden.model, &weights, &batch, &quiet, Joint::default());
            let difference = (loss - expected).abs();
            assert!(difference < 1e-4, "{case} step {index}: {loss}, expected {expected}");
            let (rate, time) = (3e-3f32, index as i32 + 1);
            let corrections = (1.0 - 0.9f32.powi(time), 1.0 - 0.999f32.powi(time));
            for (at, gradient) in gradients.iter().enumerate() {
                let ((m, v), weight) = (&mut moments[at], &mut weights[at]);
                let decay = if offset.contains(&at) { 0.0 } else { 0.1 };
                *weight -= rate * decay * *weight;
                *m = 0.9 * *m + 0.1 * gradient;
                *v = 0.999 * *v + 0.001 * gradient * gradient;
                let root = (*v / corrections.1).sqrt() + 1e-8;
                *weight -= rate * (*m / corrections.0) / root;
            }
        }
        assert!(expected[10] < 0.9 * expected[0], "the steps do something");
    }
}

fn beam_of(search: &Value) -> Beam {
    let size = |key: &str| search[key].as_u64().unwrap() as usize;
    Beam {
        beams: size("beams"),
        length_penalty: search["length_penalty"].as_f64().unwrap() as f32,
        no_repeat_ngram: size("no_repeat_ngram"),
        max_length: size("max_length"),
        early_stopping: match search["early_stopping"].as_str().unwrap() {
            "False" => EarlyStopping::No,
            "True" => EarlyStopping::Yes,
            _ => EarlyStopping::Never,
        },
        suppressed: serde_json::from_value(search["suppressed"].clone()).unwrap(),
    }
}

#[test]
fn searches_find_what_transformers_finds() {
    for case in CASES {
        let mut golden = Golden::open(case);
        let batch = Batch::of(&golden);
        for search in golden.json["searches"].as_array().unwrap() {
            let forced = search["forced_first"].as_u64().map(|id| id as u32);
            golden.model.config.decoder.forced_first = forced;
            let (model, source) = (&golden.model, batch.pairs().source);
            let beam = beam_of(search);
            let find =
                |source: Sequences| model.beam_search(&mut tape(), &golden.weights, source, &beam);
            let found: Vec<Hypothesis> = find(source).unwrap();
            let expected: Vec<Vec<u32>> =
                serde_json::from_value(search["sequences"].clone()).unwrap();
            let tokens: Vec<Vec<u32>> = found.iter().map(|found| found.tokens.clone()).collect();
            assert_eq!(tokens, expected, "{case} {beam:?}");
            if let Some(scores) = search["scores"].as_array() {
                for (found, score) in found.iter().zip(scores) {
                    let score = score.as_f64().unwrap() as f32;
                    assert!((found.score - score).abs() < 1e-4 * score.abs().max(1.0), "{beam:?}");
                }
            }
            // One by one, without the padding of the batch.
            for (at, together) in found.iter().enumerate() {
                let alone = batch.part(at..at + 1);
                let length = alone.source_lengths[0] as usize;
                let source = sequences(&alone.source[..length], &alone.source_lengths);
                assert_eq!(find(source).unwrap()[0].tokens, together.tokens, "{case} {beam:?}");
            }
        }
    }
}

#[test]
fn rounded_weights_find_the_same_as_plain_ones_in_bf16() {
    let golden = Golden::open("marian");
    let batch = Batch::of(&golden);
    let device = Arc::new(Device::cpu(2, Precision::Bf16).unwrap());
    let mut tape = Tape::new(device.clone());
    let beam = beam_of(&golden.json["searches"][4]);
    let source = batch.pairs().source;
    let plain = golden.model.beam_search(&mut tape, &golden.weights, source, &beam).unwrap();
    let generator = Generator::new(&golden.model, &device, &golden.weights);
    assert_eq!(generator.beam_search(&mut tape, source, &beam).unwrap(), plain);
}

#[test]
fn a_search_that_cannot_be_says_why() {
    let golden = Golden::open("bart");
    let find = |ids: &[u32], edit: &dyn Fn(&mut Beam)| {
        let mut beam = beam_of(&golden.json["searches"][3]);
        edit(&mut beam);
        let lengths = [ids.len() as u32];
        let source = sequences(ids, &lengths);
        let found = golden.model.beam_search(&mut tape(), &golden.weights, source, &beam);
        found.unwrap_err().to_string()
    };
    let cases = [
        (find(&[3, 99], &|_| {}), "token 1 has id 99"),
        (find(&[3; 21], &|_| {}), "longer than the model's 20 positions"),
        (find(&[3], &|beam| beam.beams = 0), "beams = 0"),
        (find(&[3], &|beam| beam.beams = 30), "half the size of the vocabulary"),
        (find(&[3], &|beam| beam.max_length = 21), "max-length = 21"),
        (find(&[3], &|beam| beam.length_penalty = f32::NAN), "length-penalty = NaN"),
        (find(&[3], &|beam| beam.suppressed = vec![47]), "suppressed = 47"),
    ];
    for (message, expected) in cases {
        assert!(message.contains(expected), "{message}");
    }
    let gpt2 = Model::new(ModelConfig::gpt2(61, 16, 1, 2, 8)).unwrap();
    let beam = beam_of(&golden.json["searches"][0]);
    let error = gpt2.beam_search(&mut tape(), &[], sequences(&[3], &[1]), &beam).unwrap_err();
    assert_eq!(error, ModelError::NotSeq2Seq { family: "gpt2" });
    let error = golden.model.config.require_causal().unwrap_err();
    assert!(error.to_string().contains("--task seq2seq"), "{error}");
}

#[test]
fn gradients_follow_differences_of_the_loss_under_noise() {
    let noise = NoiseRates {
        embedding: 0.1,
        attention: 0.1,
        attention_output: 0.1,
        feed_forward_hidden: 0.1,
        feed_forward_output: 0.1,
        heads: 0.1,
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
            // The lookup of padding is not trained, so the table's slope is another.
            if parameter.name == "model.shared.weight" {
                continue;
            }
            if norm < 1e-4 {
                // A key's bias moves all scores of a query alike.
                let is_key = parameter.name.ends_with("k_proj.bias");
                assert!(is_key || parameter.name == "final_logits_bias", "{}", parameter.name);
                continue;
            }
            // Far enough for f32, near enough for a straight line.
            let length = (2e-3 / norm).clamp(3e-4, 2e-3);
            let loss = |sign: f64| {
                let mut moved = weights.clone();
                for i in range.clone() {
                    moved[i] += (sign * length * f64::from(gradients[i]) / norm) as f32;
                }
                step(model, &moved, &batch, &noise, Joint::default()).0
            };
            let slope = (loss(1.0) - loss(-1.0)) / (2.0 * length);
            let error = (slope - norm).abs() / norm.max(0.05);
            assert!(error < 3e-2, "{case} {}: slope {slope}, norm {norm}", parameter.name);
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
        let Batch { source, source_lengths, target, target_lengths, .. } = &mut batch;
        for (ids, lengths) in [(source, source_lengths), (target, target_lengths)] {
            let each = ids.len() / lengths.len();
            for (row, length) in lengths.iter().enumerate() {
                ids[row * each + *length as usize..(row + 1) * each].fill(7);
            }
        }
        assert_eq!(of(&batch), before, "{case}");
    }
}

#[test]
fn every_rate_acts_in_both_stacks_and_twins_disagree() {
    let golden = Golden::open("bart");
    let batch = Batch::of(&golden);
    let of = |noise: &NoiseRates, joint| step(&golden.model, &golden.weights, &batch, noise, joint);
    let quiet = NoiseRates::default();
    let plain = of(&quiet, Joint::default());
    let sites: [fn(&mut NoiseRates); 10] = [
        |rates| rates.embedding = 0.3,
        |rates| rates.attention = 0.3,
        |rates| rates.attention_output = 0.3,
        |rates| rates.feed_forward_hidden = 0.3,
        |rates| rates.feed_forward_output = 0.3,
        |rates| rates.heads = 0.5,
        |rates| rates.tokens = 0.3,
        |rates| rates.replace = 0.3,
        |rates| rates.neftune = 5.0,
        |rates| rates.layer_drop = 0.9,
    ];
    for (index, set) in sites.iter().enumerate() {
        let mut rates = quiet;
        set(&mut rates);
        let (loss, gradients) = of(&rates, Joint::default());
        assert_ne!(loss, plain.0, "site {index}");
        assert!(gradients.iter().all(|g| g.is_finite()), "site {index}");
    }
    let twins = Twins { strength: 2.0, seq_len: batch.target.len() / batch.target_lengths.len() };
    let joint = Joint { twins: Some(twins), teaching: None };
    let both = of(&quiet, joint);
    assert!((both.0 - plain.0).abs() < 1e-6, "without noise twins agree");
    assert!(largest_difference(&both.1, &plain.1) < 2e-6);
    let noisy = NoiseRates { embedding: 0.3, ..quiet };
    assert_ne!(of(&noisy, joint).1, plain.1);
}

/// Masks depend on the position in the whole batch, not on how it is cut.
#[test]
fn pieces_of_a_batch_draw_the_same_noise() {
    let noise = NoiseRates { embedding: 0.2, attention: 0.2, heads: 0.3, ..NoiseRates::default() };
    let golden = Golden::open("marian");
    let batch = Batch::of(&golden);
    let loss = |batch: &Batch, first_sequence: u64| {
        let (mut tape, mut gradients) = (tape(), vec![0.0; golden.weights.len()]);
        let noise_key = NoiseKey { first_sequence, ..KEY };
        let kind = PassKind::Train { gradients: &mut gradients, noise: noise_key };
        let mut pass = tape.pass(&golden.weights, kind);
        let (spec, joint) = (LossSpec::plain(1.0), Joint::default());
        let objective = Objective { spec, joint, ahead: 0.0, marks: None };
        golden.model.seq_loss(&mut pass, &batch.pairs(), &noise, &objective).objective_sum
    };
    let whole = loss(&batch, 0);
    let pieces = loss(&batch.part(0..1), 0) + loss(&batch.part(1..4), 1);
    assert!((whole - pieces).abs() < 1e-4, "{whole} {pieces}");
    assert!((whole - loss(&batch, 1)).abs() > 1e-3, "other sequences have other noise");
}

#[test]
fn recomputation_changes_no_bit_and_bf16_little() {
    let noise = NoiseRates { embedding: 0.2, attention: 0.2, ..NoiseRates::default() };
    for case in CASES {
        let golden = Golden::open(case);
        let (model, batch) = (&golden.model, Batch::of(&golden));
        let weights = &lively_weights(model, 11);
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

/// What becomes of a configuration on its way through config.json.
#[test]
fn configurations_survive_the_file_and_what_is_not_computed_is_refused() {
    let special = SpecialTokens { bos: Some(0), eos: Some(2), pad: Some(1) };
    let bart = ModelConfig::bart(61, 16, 2, 4, 32);
    let mut mbart = ModelConfig { hidden: 40, ..bart.clone() };
    (mbart.decoder.norms, mbart.decoder.forced_first) = (Norms::Before, Some(7));
    (mbart.decoder.layers, mbart.decoder.heads, mbart.decoder.hidden) = (3, 2, 24);
    let marian = ModelConfig::marian(61, 16, 2, 4, 32);
    for config in [&bart, &mbart, &marian] {
        config.validate().unwrap();
        let json = huggingface::config_json(config, special);
        assert_eq!(&huggingface::parse_config(&json).unwrap(), config);
        let model = Model::new(config.clone()).unwrap();
        assert_eq!(model.layout().len, config.parameter_count());
        assert!(config.flops_per_token() > 0.0);
    }
    let refused = |config: &ModelConfig, key: &str, value: Value, expected: &str| {
        let mut json = huggingface::config_json(config, special);
        json[key] = value;
        let message = huggingface::parse_config(&json).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    refused(&bart, "tie_word_embeddings", false.into(), "share one token table");
    refused(&bart, "architectures", vec!["BartForQuestionAnswering"].into(), "writes text here");
    refused(&bart, "normalize_before", true.into(), "norms stand where");
    refused(&bart, "decoder_attention_heads", 5.into(), "decoder.heads = 5");
    refused(&marian, "share_encoder_decoder_embeddings", false.into(), "share one token table");
    refused(&marian, "decoder_vocab_size", 50.into(), "share one token table");
    refused(&marian, "pad_token_id", 61.into(), "the vocabulary has 61 tokens");
}

#[test]
fn initial_weights_leave_padding_at_zero_and_a_cut_file_says_what_is_missing() {
    let golden = Golden::open("marian");
    let config = &golden.model.config;
    let weights = lively_weights(&golden.model, 3);
    let table = golden.model.layout().get("model.shared.weight").unwrap();
    let row = |id: u32| &weights[table.offset + id as usize * config.width..][..config.width];
    assert!(row(config.decoder.padding).iter().all(|w| *w == 0.0));
    assert!(row(3).iter().any(|w| *w != 0.0));
    let message = huggingface::import(&golden.model, &mut |_| None).unwrap_err().to_string();
    assert!(message.contains("model.shared.weight"), "{message}");
    let names = ["model.encoder.embed_tokens.weight", "model.decoder.embed_positions.weight"];
    huggingface::check_names(&golden.model, names).unwrap();
    let error = huggingface::check_names(&golden.model, ["model.encoder.layers.7.fc1.weight"]);
    assert!(error.is_err());
    // What random ids give is finite at once.
    let ids = random_ids(12, 40, 5);
    let batch = Batch {
        source: ids.clone(),
        source_lengths: vec![6, 4],
        target: ids.clone(),
        target_lengths: vec![6, 3],
        targets: ids,
    };
    assert!(logits(&golden.model, &weights, &batch).iter().all(|logit| logit.is_finite()));
    assert!(read_json(common::golden_path("marian/golden.json"))["loss"].as_f64().unwrap() > 0.0);
}
