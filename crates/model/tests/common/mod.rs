//! What the integration tests share: devices, golden folders, small models and batches.
#![allow(dead_code)] // Every test file uses its own part.

use std::path::PathBuf;
use std::sync::Arc;

use heldout_base::rng::{Random, streams};
use heldout_kernels::{Device, LossReport, LossSpec, NoiseKey, PassKind, Precision, Tape};
use heldout_model::{Model, ModelConfig, NoiseRates, QkNorm, Tied, Tokens, huggingface};
use safetensors::SafeTensors;
use serde_json::Value;

pub fn tape() -> Tape {
    tape_with_threads(1)
}

pub fn tape_with_threads(threads: usize) -> Tape {
    Tape::new(Arc::new(Device::cpu(threads, Precision::F32).unwrap()))
}

/// One small model of every shape that takes another path through the code.
pub fn small_configs() -> Vec<(&'static str, ModelConfig)> {
    let llama = ModelConfig::llama(61, 16, 3, 4, 2, 32);
    vec![
        ("gpt2", ModelConfig::gpt2(61, 16, 3, 4, 32)),
        ("gpt2 untied", ModelConfig { tied: Tied::No, ..ModelConfig::gpt2(61, 16, 3, 2, 32) }),
        ("llama", llama.clone()),
        ("qwen3", ModelConfig { qk_norm: QkNorm::Yes, head_width: 16, tied: Tied::No, ..llama }),
    ]
}

/// Initial weights enlarged, so that logits differ by more than rounding.
pub fn lively_weights(model: &Model, seed: u64) -> Vec<f32> {
    let config = ModelConfig { init_std: 0.15, ..model.config.clone() };
    Model::new(config).unwrap().initialize(seed)
}

pub fn random_ids(count: usize, vocabulary: usize, seed: u64) -> Vec<u32> {
    let random = Random::new(seed, streams::TEST, 0);
    (0..count as u64).map(|i| random.below(i, vocabulary as u64) as u32).collect()
}

/// A loss whose gradient is that of the mean over `targets`.
pub fn mean_over(targets: &[u32]) -> LossSpec {
    let count = targets.iter().filter(|&&target| target != u32::MAX).count();
    let scale = 1.0 / count as f32;
    LossSpec::plain(scale)
}

/// Loss and gradient of one training pass.
pub fn step(
    model: &Model,
    tape: &mut Tape,
    weights: &[f32],
    batch: Tokens,
    noise: &NoiseRates,
    key: NoiseKey,
) -> (LossReport, Vec<f32>) {
    let mut gradients = vec![0.0; weights.len()];
    let kind = PassKind::Train { gradients: &mut gradients, noise: key };
    let mut pass = tape.pass(weights, kind);
    let report = model.loss(&mut pass, batch, noise, &mean_over(batch.targets));
    pass.backward();
    drop(pass);
    (report, gradients)
}

pub const KEY: NoiseKey = NoiseKey { seed: 3, step: 0, first_sequence: 0 };

/// A folder of golden files: a model of transformers and what it computes.
pub struct Golden {
    pub model: Model,
    pub weights: Vec<f32>,
    pub json: Value,
    tensors: Vec<u8>,
}

pub fn golden_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn read_json(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

impl Golden {
    pub fn open(name: &str) -> Golden {
        let folder = golden_path(name);
        let config = huggingface::parse_config(&read_json(folder.join("config.json"))).unwrap();
        let model = Model::new(config).unwrap();
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        huggingface::check_names(&model, file.names().iter().map(|name| name as &str)).unwrap();
        let weights = huggingface::import(&model, &mut |name| {
            let tensor = file.tensor(name).ok()?;
            Some((tensor.shape().to_vec(), f32s(tensor.data())))
        });
        Golden {
            weights: weights.unwrap(),
            model,
            json: read_json(folder.join("golden.json")),
            tensors: std::fs::read(folder.join("golden.safetensors")).unwrap(),
        }
    }

    pub fn f32s(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let file = SafeTensors::deserialize(&self.tensors).unwrap();
        let tensor = file.tensor(name).unwrap();
        (tensor.shape().to_vec(), f32s(tensor.data()))
    }

    /// Ids of a [B, T] tensor; −1 becomes `u32::MAX`.
    pub fn ids(&self, name: &str) -> (usize, usize, Vec<u32>) {
        let file = SafeTensors::deserialize(&self.tensors).unwrap();
        let tensor = file.tensor(name).unwrap();
        let ids = tensor.data().as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b) as u32);
        (tensor.shape()[0], tensor.shape()[1], ids.collect())
    }
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
