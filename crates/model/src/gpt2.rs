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
    /// Blocks of heads that look further ahead; in training alone.
    ahead: Vec<Block>,
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
    /// Pushes GPT-2's parameters, under their Hugging Face names, in the order of the forward pass,
    /// and then the blocks of `ahead` heads that look further ahead.
    pub fn new(config: &ModelConfig, layout: &mut Layout, ahead: usize) -> Gpt2 {
        let c = config.width;
        let wte = layout.push("transformer.wte.weight", &[config.vocabulary, c], Role::Embedding);
        let wpe =
            layout.push("transformer.wpe.weight", &[config.context, c], Role::PositionEmbedding);
        let blocks = (0..config.layers)
            .map(|layer| push_block(config, layout, &format!("transformer.h.{layer}")))
            .collect();
        let ln_f = push_norm(layout, "transformer.ln_f", c);
        let lm_head = crate::model::push_head(config, layout, wte);
        let ahead = (0..ahead)
            .map(|head| push_block(config, layout, &crate::extra::head_name(head)))
            .collect();
        Gpt2 { wte, wpe, blocks, ln_f, lm_head, ahead }
    }

    /// What the blocks make of a window: [N, C].
    pub fn trunk(&self, config: &ModelConfig, pass: &mut Pass, window: &mut Window) -> Var {
        let noise = window.noise;
        let mut x = pass.embedding(
            self.wte,
            window.ids,
            Some((self.wpe, window.first_position())),
            window.seq_len,
            noise.embedding(window.seq_len, config.width, window.marks),
        ); // [N, C]
        for (layer, block) in self.blocks.iter().enumerate() {
            let Some(scale) = noise.branch_scale(layer) else { continue };
            x = block.forward(config, pass, window, x, layer, scale);
        }
        x
    }

    /// The hidden states that the head turns into logits: [N, C].
    pub fn finish(&self, config: &ModelConfig, pass: &mut Pass, x: Var) -> Var {
        norm(pass, x, self.ln_f, config.norm_epsilon) // [N, C]
    }

    /// What head `head` makes of the trunk, to be finished: [N, C].
    pub fn ahead(
        &self,
        config: &ModelConfig,
        pass: &mut Pass,
        window: &mut Window,
        trunk: Var,
        head: usize,
    ) -> Var {
        self.ahead[head].forward(config, pass, window, trunk, config.layers + head, 1.0)
    }
}

impl Block {
    /// The block at `layer`, whose branches are scaled: [N, C] → [N, C].
    fn forward(
        &self,
        config: &ModelConfig,
        pass: &mut Pass,
        window: &mut Window,
        x: Var,
        layer: usize,
        scale: f32,
    ) -> Var {
        let noise = window.noise;
        let shape = window.head_shape(config);
        let activation = config.activation.kernel();
        let eps = config.norm_epsilon;

        let h = norm(pass, x, self.ln_1, eps); // [N, C]
        let qkv = linear(pass, h, self.c_attn); // [N, 3C]
        let y = window.attention(pass, qkv, shape, layer); // [N, C]
        let y = linear(pass, y, self.attn_c_proj); // [N, C]
        let x = pass.residual(x, y, noise.dropout(Site::AttentionOutput, layer), scale);

        let h = norm(pass, x, self.ln_2, eps); // [N, C]
        let fc = self.c_fc;
        let dropout = noise.dropout(Site::FeedForwardHidden, layer);
        let h = pass.linear(h, fc.weight, Some(fc.bias), activation, dropout); // [N, F]
        let y = linear(pass, h, self.mlp_c_proj); // [N, C]
        let x = pass.residual(x, y, noise.dropout(Site::FeedForwardOutput, layer), scale);
        pass.keep_only(&[x]); // evaluation and recomputation work in the memory of one block
        x
    }
}

fn push_block(config: &ModelConfig, layout: &mut Layout, h: &str) -> Block {
    let (c, f) = (config.width, config.hidden);
    Block {
        ln_1: push_norm(layout, &format!("{h}.ln_1"), c),
        c_attn: push_linear(layout, &format!("{h}.attn.c_attn"), 3 * c, c),
        attn_c_proj: push_linear(layout, &format!("{h}.attn.c_proj"), c, c),
        ln_2: push_norm(layout, &format!("{h}.ln_2"), c),
        c_fc: push_linear(layout, &format!("{h}.mlp.c_fc"), f, c),
        mlp_c_proj: push_linear(layout, &format!("{h}.mlp.c_proj"), c, f),
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
