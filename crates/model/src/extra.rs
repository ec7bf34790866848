//! What a model has for training alone: heads that look further ahead, low-rank adapters. Their
//! parameters lie behind all others in the flat vector and are no part of an export.

use heldout_kernels::{Layout, Parameter, Role};
use serde::{Deserialize, Serialize};

/// What training adds to a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// Heads that look further ahead than the next token.
    pub heads_ahead: usize,
    /// Factors of low-rank changes.
    pub adapters: Option<Adapters>,
}

/// Low-rank adapters (Hu et al. 2021, arXiv:2106.09685): two factors B `[out, r]` and A `[r, in]`
/// for each adapted weight `[out, in]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adapters {
    /// r.
    pub rank: usize,
    /// Which weights.
    pub on: Adapted,
}

/// Which linear layers of the blocks are adapted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adapted {
    /// Query, key, value and output projections.
    Attention,
    /// The feed-forward layers.
    FeedForward,
    /// Both.
    All,
}

impl Adapted {
    fn covers(self, parameter: &Parameter) -> bool {
        let is_attention = parameter.name.contains("attn.");
        parameter.role == Role::Matrix
            && match self {
                Adapted::Attention => is_attention,
                Adapted::FeedForward => !is_attention,
                Adapted::All => true,
            }
    }
}

/// An adapted weight and its factors, as a layout has them.
#[derive(Clone, Copy, Debug)]
pub struct Adapter<'a> {
    /// W `[out, in]`.
    pub weight: &'a Parameter,
    /// A `[r, in]`.
    pub down: &'a Parameter,
    /// B `[out, r]`.
    pub up: &'a Parameter,
}

/// What the names of a head's parameters begin with.
pub(crate) fn head_name(head: usize) -> String {
    format!("mtp.{head}")
}

/// Whether a parameter is of training alone, and so is never exported.
pub fn is_extra(name: &str) -> bool {
    name.starts_with("mtp.") || is_adapter(name)
}

/// Whether a parameter is a factor of an adapter.
pub fn is_adapter(name: &str) -> bool {
    name.starts_with("lora.")
}

/// Whether a factor is the B of its adapter, which begins at zero.
pub(crate) fn is_up(name: &str) -> bool {
    is_adapter(name) && name.ends_with(".b")
}

/// Appends the factors of every weight that is adapted.
pub(crate) fn push_adapters(layout: &mut Layout, adapters: Adapters) {
    let adapted = layout.parameters.iter().filter(|p| !is_extra(&p.name));
    let adapted = adapted.filter(|p| adapters.on.covers(p));
    let adapted: Vec<(String, Vec<usize>)> =
        adapted.map(|p| (p.name.clone(), p.shape.clone())).collect();
    for (name, shape) in adapted {
        let name = name.strip_suffix(".weight").unwrap_or(&name);
        layout.push(format!("lora.{name}.a"), &[adapters.rank, shape[1]], Role::Matrix);
        layout.push(format!("lora.{name}.b"), &[shape[0], adapters.rank], Role::Matrix);
    }
}

/// The adapters of a layout, in its order.
pub fn adapters(layout: &Layout) -> Vec<Adapter<'_>> {
    let downs = layout.parameters.iter().filter(|p| is_adapter(&p.name) && !is_up(&p.name));
    let of = |down: &'_ Parameter| {
        let name = down.name.strip_prefix("lora.").and_then(|name| name.strip_suffix(".a"));
        let name = name.expect("the name of a factor");
        let found = |name: String| layout.get(&name).expect("factors come with their weight");
        (found(format!("{name}.weight")), found(format!("lora.{name}.b")))
    };
    let adapter = |down| {
        let (weight, up) = of(down);
        Adapter { weight, down, up }
    };
    downs.map(adapter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Model, ModelConfig};

    fn names(config: &ModelConfig, on: Adapted) -> Vec<String> {
        let extra = Extra { heads_ahead: 1, adapters: Some(Adapters { rank: 3, on }) };
        let model = Model::for_training(config.clone(), &extra).unwrap();
        let adapters = adapters(model.layout());
        for Adapter { weight, down, up } in &adapters {
            assert_eq!(down.shape, [3, weight.shape[1]]);
            assert_eq!(up.shape, [weight.shape[0], 3]);
            assert!(down.offset >= model.exported_len() && up.offset > down.offset);
        }
        adapters.iter().map(|adapter| adapter.weight.name.clone()).collect()
    }

    #[test]
    fn adapters_are_of_the_layers_that_were_asked_for() {
        let gpt2 = ModelConfig::gpt2(61, 16, 1, 4, 32);
        let llama = ModelConfig::llama(61, 16, 1, 4, 2, 32);
        let attention = ["attn.c_attn.weight", "attn.c_proj.weight"];
        let expected = attention.map(|name| format!("transformer.h.0.{name}"));
        assert_eq!(names(&gpt2, Adapted::Attention), expected);
        let feed_forward = ["gate_proj.weight", "up_proj.weight", "down_proj.weight"];
        let expected = feed_forward.map(|name| format!("model.layers.0.mlp.{name}"));
        assert_eq!(names(&llama, Adapted::FeedForward), expected);
        assert_eq!(names(&gpt2, Adapted::All).len(), 4);
        assert_eq!(names(&llama, Adapted::All).len(), 7);
    }

    #[test]
    fn factors_begin_with_a_product_of_zero() {
        let config = ModelConfig::gpt2(61, 16, 2, 4, 32);
        let extra =
            Extra { adapters: Some(Adapters { rank: 4, on: Adapted::All }), ..Extra::default() };
        let model = Model::for_training(config.clone(), &extra).unwrap();
        let weights = model.initialize(7);
        let plain = Model::new(config).unwrap();
        assert_eq!(weights[..model.exported_len()], plain.initialize(7));
        for Adapter { down, up, .. } in adapters(model.layout()) {
            assert!(weights[up.range()].iter().all(|w| *w == 0.0));
            // Kaiming's uniform distribution with a = √5, as in peft: ±1/√in.
            let bound = 1.0 / (down.shape[1] as f32).sqrt();
            let a = &weights[down.range()];
            assert!(a.iter().all(|w| w.abs() <= bound));
            let largest = a.iter().fold(0.0f32, |most, w| most.max(w.abs()));
            let mean = a.iter().sum::<f32>() / a.len() as f32;
            assert!(largest > 0.9 * bound && mean.abs() < 0.3 * bound, "{largest} {mean}");
        }
    }
}
