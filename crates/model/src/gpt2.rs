//! GPT-2 (Radford et al. 2019): layout and forward pass.

use heldout_kernels::{Activation, Layout, Norm, Pass, Role, Var, Weight};

use crate::ModelConfig;
use crate::noise::Site;
use crate::window::Window;

/// Where GPT-2's weights lie in the flat vector.
pub(crate) struct Gpt2 {
    wte: Weight, // [V, C]
    wpe: Weight, // [T, C]
    blocks: Vec<Block>,
    ln_f: LayerNorm,
    pub lm_head: Weight, // [V, C]; wte itself when tied
}

struct Block {
    ln_1: LayerNorm,
    c_attn: Linear, // [3C, C]: query, key, value
    attn_c_proj: Linear,
    ln_2: LayerNorm,
    c_fc: Linear, // [F, C]
    mlp_c_proj: Linear,
}

#[derive(Clone, Copy)]
struct LayerNorm {
    gain: Weight,
    bias: Weight,
}

#[derive(Clone, Copy)]
struct Linear {
    weight: Weight, // [out, in]
    bias: Weight,
}

impl Gpt2 {
    /// Pushes GPT-2's parameters, under their Hugging Face names, in the order of the forward pass.
    pub fn new(config: &ModelConfig, layout: &mut Layout) -> Gpt2 {
        let (c, f) = (config.width, config.hidden);
        let wte = layout.push("transformer.wte.weight", &[config.vocabulary, c], Role::Embedding);
        let wpe =
            layout.push("transformer.wpe.weight", &[config.context, c], Role::PositionEmbedding);
        let blocks = (0..config.layers)
            .map(|layer| {
                let h = format!("transformer.h.{layer}");
                Block {
                    ln_1: push_norm(layout, &format!("{h}.ln_1"), c),
                    c_attn: push_linear(layout, &format!("{h}.attn.c_attn"), 3 * c, c),
                    attn_c_proj: push_linear(layout, &format!("{h}.attn.c_proj"), c, c),
                    ln_2: push_norm(layout, &format!("{h}.ln_2"), c),
                    c_fc: push_linear(layout, &format!("{h}.mlp.c_fc"), f, c),
                    mlp_c_proj: push_linear(layout, &format!("{h}.mlp.c_proj"), c, f),
                }
            })
            .collect();
        let ln_f = push_norm(layout, "transformer.ln_f", c);
        let lm_head = crate::model::push_head(config, layout, wte);
        Gpt2 { wte, wpe, blocks, ln_f, lm_head }
    }

    /// The hidden states that the head turns into logits: [N, C].
    pub fn hidden(&self, config: &ModelConfig, pass: &mut Pass, mut window: Window) -> Var {
        let noise = window.noise;
        let shape = window.head_shape(config);
        let activation = config.activation.kernel();
        let eps = config.norm_epsilon;

        let mut x = pass.embedding(
            self.wte,
            window.ids,
            Some((self.wpe, window.first_position())),
            window.seq_len,
            noise.embedding(window.seq_len, config.width),
        ); // [N, C]
        for (layer, block) in self.blocks.iter().enumerate() {
            let Some(scale) = noise.branch_scale(layer) else { continue };

            let h = norm(pass, x, block.ln_1, eps); // [N, C]
            let qkv = linear(pass, h, block.c_attn); // [N, 3C]
            let y = window.attention(pass, qkv, shape, layer); // [N, C]
            let y = linear(pass, y, block.attn_c_proj); // [N, C]
            x = pass.residual(x, y, noise.dropout(Site::AttentionOutput, layer), scale);

            let h = norm(pass, x, block.ln_2, eps); // [N, C]
            let fc = block.c_fc;
            let dropout = noise.dropout(Site::FeedForwardHidden, layer);
            let h = pass.linear(h, fc.weight, Some(fc.bias), activation, dropout); // [N, F]
            let y = linear(pass, h, block.mlp_c_proj); // [N, C]
            x = pass.residual(x, y, noise.dropout(Site::FeedForwardOutput, layer), scale);
            pass.keep_only(&[x]); // evaluation and recomputation work in the memory of one block
        }
        norm(pass, x, self.ln_f, eps) // [N, C]
    }
}

fn push_norm(layout: &mut Layout, name: &str, width: usize) -> LayerNorm {
    LayerNorm {
        gain: layout.push(format!("{name}.weight"), &[width], Role::Gain),
        bias: layout.push(format!("{name}.bias"), &[width], Role::Bias),
    }
}

fn push_linear(layout: &mut Layout, name: &str, out: usize, input: usize) -> Linear {
    Linear {
        weight: layout.push(format!("{name}.weight"), &[out, input], Role::Matrix),
        bias: layout.push(format!("{name}.bias"), &[out], Role::Bias),
    }
}

fn norm(pass: &mut Pass, x: Var, norm: LayerNorm, epsilon: f32) -> Var {
    pass.norm(x, Norm::Layer, norm.gain, Some(norm.bias), epsilon)
}

fn linear(pass: &mut Pass, x: Var, linear: Linear) -> Var {
    pass.linear(x, linear.weight, Some(linear.bias), Activation::None, None)
}
