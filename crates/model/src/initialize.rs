//! The weights a training run starts from.

use heldout_base::rng::{Random, streams};
use heldout_kernels::{Parameter, Role};

use crate::Model;
use crate::extra::{is_adapter, is_up};

impl Model {
    /// GPT-2's initialisation (Radford et al. 2019): weights from N(0, init_std²), those that write
    /// into the residual stream from N(0, init_std²/2L), biases 0, gains 1. Of adapters A is drawn
    /// evenly from ±1/√in and B is 0 (as in peft), so that training begins where the weights are.
    ///
    /// Every tensor draws from a stream that its name picks, so a model with one tensor more (an
    /// untied head, QK-norm) starts from the same values in all the others: ablations stay paired.
    pub fn initialize(&self, seed: u64) -> Vec<f32> {
        let mut weights = vec![0.0; self.layout().len];
        let residual_std = self.config.init_std / (2.0 * self.config.layers as f32).sqrt();
        for parameter in &self.layout().parameters {
            let out = &mut weights[parameter.range()];
            match parameter.role {
                Role::Bias => {}
                Role::Gain => out.fill(1.0),
                Role::Matrix if is_up(&parameter.name) => {}
                Role::Matrix if is_adapter(&parameter.name) => {
                    let bound = 1.0 / (parameter.shape[1] as f64).sqrt();
                    let random = random(seed, parameter);
                    for (index, out) in (0..).zip(out) {
                        *out = (bound * (2.0 * random.uniform(index) - 1.0)) as f32;
                    }
                }
                Role::Matrix if writes_to_residual(parameter) => {
                    random(seed, parameter).fill_normal(out, residual_std);
                }
                Role::Matrix | Role::Embedding | Role::PositionEmbedding | Role::Head => {
                    random(seed, parameter).fill_normal(out, self.config.init_std);
                }
            }
        }
        if self.config.is_seq2seq() {
            // As in PyTorch, where the vector of padding is trained as an output alone.
            let width = self.config.width;
            let row = self.bart().words.offset + self.config.decoder.padding as usize * width;
            weights[row..row + width].fill(0.0);
        }
        weights
    }
}

fn random(seed: u64, parameter: &Parameter) -> Random {
    Random::new(seed, streams::INIT, name_hash(&parameter.name))
}

/// The projections at the end of the two branches of a block.
fn writes_to_residual(parameter: &Parameter) -> bool {
    ["c_proj.weight", "o_proj.weight", "down_proj.weight"]
        .iter()
        .any(|end| parameter.name.ends_with(end))
}

/// The upper 48 bits (as many as the generator keeps) of FNV-1a, which is stable over versions and
/// machines, unlike the standard library's hasher.
fn name_hash(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ModelConfig, QkNorm, Tied};

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    }

    #[test]
    fn standard_deviations_are_those_of_gpt2() {
        let model = Model::new(ModelConfig::gpt2(300, 64, 8, 4, 128)).unwrap();
        let weights = model.initialize(7);
        for parameter in &model.layout().parameters {
            let values = &weights[parameter.range()];
            match parameter.role {
                Role::Bias => assert!(values.iter().all(|&v| v == 0.0)),
                Role::Gain => assert!(values.iter().all(|&v| v == 1.0)),
                _ => {
                    let residual = parameter.name.ends_with("c_proj.weight");
                    let expected = if residual { 0.02 / 4.0 } else { 0.02 };
                    let (mean, std) = moments(values);
                    let error = expected / (values.len() as f64).sqrt();
                    assert!(mean.abs() < 5.0 * error, "{} mean {mean}", parameter.name);
                    assert!((std - expected).abs() < 5.0 * error, "{} std {std}", parameter.name);
                }
            }
        }
    }

    #[test]
    fn seeds_differ_and_repeat() {
        let model = Model::new(ModelConfig::llama(50, 16, 2, 4, 2, 32)).unwrap();
        assert_eq!(model.initialize(1), model.initialize(1));
        assert_ne!(model.initialize(1), model.initialize(2));
    }

    #[test]
    fn another_tensor_leaves_the_others_alone() {
        let plain = Model::new(ModelConfig::llama(50, 16, 2, 4, 2, 32)).unwrap();
        let mut config = plain.config.clone();
        (config.qk_norm, config.tied) = (QkNorm::Yes, Tied::No);
        let more = Model::new(config).unwrap();
        let (a, b) = (plain.initialize(3), more.initialize(3));
        for parameter in &plain.layout().parameters {
            let twin = more.layout().get(&parameter.name).unwrap();
            assert_eq!(a[parameter.range()], b[twin.range()], "{}", parameter.name);
        }
    }
}
