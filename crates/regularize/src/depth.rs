//! How deep in the model a parameter lies, and what follows from it: what is trained, and how fast.

use crate::on::{On, Part};
use crate::plan::Plan;
use heldout_kernels::{Layout, Parameter};
use heldout_model::extra::is_adapter;
use serde::{Deserialize, Serialize};

/// What stays as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Frozen {
    /// All but the top blocks and what stands behind them.
    Below {
        /// Blocks that are trained.
        top: usize,
    },
    /// Kinds of tensors, in all layers.
    Parts(On),
    /// All but the factors of low-rank adapters.
    AllButAdapters,
}

/// What of an imported model starts at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrawn {
    /// Blocks from the top; the pooler goes with them.
    pub top: usize,
}

/// The block that a parameter belongs to, from 0 at the bottom: the number in its name, as in
/// `transformer.h.3.ln_1.weight` and `model.layers.3.mlp.up_proj.weight`. A decoder's blocks lie on
/// top of its encoder's.
pub fn block_of(parameter: &Parameter, layout: &Layout) -> Option<usize> {
    let number = number_of(parameter)?;
    let is_decoder = parameter.name.contains(DECODER);
    Some(if is_decoder { number + count(layout, |name| !name.contains(DECODER)) } else { number })
}

/// In the names of a decoder's parameters where there is an encoder, too.
const DECODER: &str = ".decoder.layers.";

fn number_of(parameter: &Parameter) -> Option<usize> {
    parameter.name.split('.').find_map(|part| part.parse().ok())
}

/// Blocks among the parameters whose names are `wanted`.
fn count(layout: &Layout, wanted: impl Fn(&str) -> bool) -> usize {
    let wanted = layout.parameters.iter().filter(|parameter| wanted(&parameter.name));
    wanted.filter_map(number_of).map(|block| block + 1).max().unwrap_or(0)
}

/// Blocks of the model.
pub fn blocks(layout: &Layout) -> usize {
    count(layout, |name| !name.contains(DECODER)) + count(layout, |name| name.contains(DECODER))
}

/// Steps down from the top: 0 for the head and the last norm, 1 for the top block, and one more
/// than there are blocks for the embeddings (also for one that is the output projection as well).
pub fn depth(parameter: &Parameter, layout: &Layout) -> usize {
    match block_of(parameter, layout) {
        Some(block) => blocks(layout) - block,
        None => match Part::of(parameter, layout) {
            Part::Embedding | Part::TiedEmbedding | Part::PositionEmbedding => blocks(layout) + 1,
            Part::Matrix | Part::Head | Part::Bias | Part::Gain => 0,
        },
    }
}

impl Frozen {
    /// Whether a parameter stays as it is.
    pub fn covers(&self, parameter: &Parameter, layout: &Layout) -> bool {
        match self {
            Frozen::Below { top } => depth(parameter, layout) > *top,
            Frozen::Parts(on) => on.covers(parameter, layout),
            Frozen::AllButAdapters => !is_adapter(&parameter.name),
        }
    }
}

impl Redrawn {
    /// Whether a parameter is drawn anew.
    pub fn covers(&self, parameter: &Parameter, layout: &Layout) -> bool {
        let is_pooler = parameter.name.split('.').any(|part| part == "pooler");
        is_pooler || (1..=self.top).contains(&depth(parameter, layout))
    }
}

impl Plan {
    /// Whether this plan trains a parameter.
    pub fn trains(&self, parameter: &Parameter, layout: &Layout) -> bool {
        self.frozen.as_ref().is_none_or(|frozen| !frozen.value.covers(parameter, layout))
    }

    /// What multiplies a parameter's learning rate.
    pub fn layer_rate(&self, parameter: &Parameter, layout: &Layout) -> f32 {
        let Some(gamma) = &self.layer_rates else { return 1.0 };
        gamma.value.powi(depth(parameter, layout) as i32) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heldout_model::{Model, ModelConfig, Tied};

    #[test]
    fn depth_counts_from_the_top() {
        let check = |config: ModelConfig, expected: &[(&str, usize)]| {
            let model = Model::new(config).expect("a valid model");
            for (name, expected) in expected {
                let parameter = model.layout().get(name).expect(name);
                assert_eq!(depth(parameter, model.layout()), *expected, "{name}");
            }
        };
        check(
            ModelConfig::bart(17, 16, 3, 2, 16),
            &[
                ("model.shared.weight", 7),
                ("model.encoder.layers.0.fc1.weight", 6),
                ("model.encoder.layers.2.fc1.weight", 4),
                ("model.decoder.layers.0.encoder_attn.k_proj.weight", 3),
                ("model.decoder.layers.2.fc2.weight", 1),
            ],
        );
        check(
            ModelConfig { tied: Tied::Yes, ..ModelConfig::gpt2(17, 16, 3, 2, 16) },
            &[
                ("transformer.ln_f.bias", 0),
                ("transformer.h.2.mlp.c_proj.weight", 1),
                ("transformer.h.0.ln_1.weight", 3),
                ("transformer.wpe.weight", 4),
                ("transformer.wte.weight", 4),
            ],
        );
        check(
            ModelConfig { tied: Tied::No, ..ModelConfig::llama(17, 16, 2, 4, 2, 32) },
            &[
                ("lm_head.weight", 0),
                ("model.layers.1.self_attn.q_proj.weight", 1),
                ("model.layers.0.mlp.up_proj.weight", 2),
                ("model.embed_tokens.weight", 3),
            ],
        );
    }
}
