//! Exports opened by transformers itself. Skipped where Python or transformers is missing; set
//! HELDOUT_PYTHON to the interpreter to use.

mod common;

use std::path::Path;
use std::process::Command;

use common::{golden_path, largest_difference, lively_weights, random_ids, read_json, tape};
use heldout_kernels::PassKind;
use heldout_model::huggingface::{self, Orientation, SpecialTokens};
use heldout_model::{Activation, Model, ModelConfig, QkNorm, Tied};
use safetensors::tensor::{Dtype, TensorView};

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

#[test]
fn transformers_opens_our_exports_and_computes_the_same_logits() {
    let python = std::env::var("HELDOUT_PYTHON").unwrap_or_else(|_| "python3".into());
    let probe = Command::new(&python).args(["-c", "import torch, transformers"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("skipped: {python} cannot import torch and transformers (set HELDOUT_PYTHON)");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut script = Command::new(&python);
    script.arg(golden_path("check_export.py")).env("HF_HUB_OFFLINE", "1");
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
        let answer = read_json(scratch.path().join(index.to_string()).join("logits.json"));
        assert_eq!(answer["architecture"], architecture);
        assert_eq!(answer["parameters"], parameters);
        for list in ["missing", "unexpected", "mismatched"] {
            assert_eq!(answer[list].as_array().unwrap().len(), 0, "{list}: {}", answer[list]);
        }
        assert_eq!((answer["eos"].as_u64(), answer["bos"].as_u64()), (Some(2), None));
        let found: Vec<f32> = serde_json::from_value(answer["logits"].clone()).unwrap();
        let difference = largest_difference(&found, &logits);
        println!("{architecture}: logits differ by at most {difference:e}");
        assert!(difference < 1e-4, "{architecture}: {difference}");
    }
}

/// What a run's exporter writes, in a few lines.
fn export(model: &Model, weights: &[f32], ids: &[u32], folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    let special = SpecialTokens { bos: None, eos: Some(2), pad: None };
    let ids: Vec<&[u32]> = ids.chunks(LENGTH).collect();
    let files = [
        ("config.json", huggingface::config_json(&model.config, special)),
        ("generation_config.json", huggingface::generation_config_json(special)),
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
