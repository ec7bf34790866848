//! Llama (Touvron et al. 2023) and, with QK-norm, Qwen3 (2025): layout and forward pass.

use heldout_kernels::{Activation, Layout, Norm, Pass, Role, Var, Weight};

use crate::noise::Site;
use crate::window::Window;
use crate::{ModelConfig, QkNorm};

/// Where Llama's weights lie in the flat vector.
pub(crate) struct Llama {
    embed_tokens: Weight, // [V, C]
    blocks: Vec<Block>,
    norm: Weight,        // [C]
    pub lm_head: Weight, // [V, C]; embed_tokens itself when tied
}

struct Block {
    input_layernorm: Weight, // [C]
    /// q_proj, k_proj and v_proj lie side by side, so that one product serves all three.
    qkv_proj: Weight, // [(H+2K)·D, C]
    qk_norm: Option<(Weight, Weight)>, // [D], [D]
    o_proj: Weight,          // [C, H·D]
    post_attention_layernorm: Weight, // [C]
    /// gate_proj and up_proj side by side.
    gate_up_proj: Weight, // [2F, C]
    down_proj: Weight,       // [C, F]
}

impl Llama {
    /// Pushes Llama's parameters, under their Hugging Face names, in the order of the forward pass.
    pub fn new(config: &ModelConfig, layout: &mut Layout) -> Llama {
        let c = config.width;
        let shape = [config.vocabulary, c];
        let embed_tokens = layout.push("model.embed_tokens.weight", &shape, Role::Embedding);
        let blocks = (0..config.layers).map(|layer| push_block(config, layout, layer)).collect();
        let norm = layout.push("model.norm.weight", &[c], Role::Gain);
        let lm_head = crate::model::push_head(config, layout, embed_tokens);
        Llama { embed_tokens, blocks, norm, lm_head }
    }

    /// The hidden states that the head turns into logits: [N, C].
    pub fn hidden(&self, config: &ModelConfig, pass: &mut Pass, mut window: Window) -> Var {
        let noise = window.noise;
        let shape = window.head_shape(config);
        let first = window.first_position();
        let (eps, theta) = (config.norm_epsilon, config.rope_theta);
        let norm = |pass: &mut Pass, x, gain| pass.norm(x, Norm::Rms, gain, None, eps);
        let linear = |pass: &mut Pass, x, w| pass.linear(x, w, None, Activation::None, None);

        let mut x = pass.embedding(
            self.embed_tokens,
            window.ids,
            None,
            window.seq_len,
            noise.embedding(window.seq_len, config.width),
        ); // [N, C]
        for (layer, block) in self.blocks.iter().enumerate() {
            let Some(scale) = noise.branch_scale(layer) else { continue };

            let h = norm(pass, x, block.input_layernorm); // [N, C]
            let mut qkv = linear(pass, h, block.qkv_proj); // [N, (H+2K)·D]
            if let Some((q_norm, k_norm)) = block.qk_norm {
                qkv = pass.head_norm(qkv, shape, q_norm, k_norm, eps);
            }
            let qkv = pass.rotary(qkv, shape, theta, first);
            let y = window.attention(pass, qkv, shape, layer); // [N, H·D]
            let y = linear(pass, y, block.o_proj); // [N, C]
            x = pass.residual(x, y, noise.dropout(Site::AttentionOutput, layer), scale);

            let h = norm(pass, x, block.post_attention_layernorm); // [N, C]
            let gate_up = linear(pass, h, block.gate_up_proj); // [N, 2F]
            let h = pass.swiglu(gate_up, noise.dropout(Site::FeedForwardHidden, layer)); // [N, F]
            let y = linear(pass, h, block.down_proj); // [N, C]
            x = pass.residual(x, y, noise.dropout(Site::FeedForwardOutput, layer), scale);
            pass.keep_only(&[x]); // evaluation and recomputation work in the memory of one block
        }
        norm(pass, x, self.norm) // [N, C]
    }
}

fn push_block(config: &ModelConfig, layout: &mut Layout, layer: usize) -> Block {
    let (c, f, d) = (config.width, config.hidden, config.head_width);
    let (q, kv) = (config.heads * d, config.kv_heads * d);
    let mut matrix = |name: &str, out, input| {
        layout.push(format!("model.layers.{layer}.{name}.weight"), &[out, input], Role::Matrix)
    };
    let q_proj = matrix("self_attn.q_proj", q, c);
    let k_proj = matrix("self_attn.k_proj", kv, c);
    let v_proj = matrix("self_attn.v_proj", kv, c);
    let o_proj = matrix("self_attn.o_proj", c, q);
    let gate_proj = matrix("mlp.gate_proj", f, c);
    let up_proj = matrix("mlp.up_proj", f, c);
    let down_proj = matrix("mlp.down_proj", c, f);
    let mut gain = |name: &str, width| {
        layout.push(format!("model.layers.{layer}.{name}.weight"), &[width], Role::Gain)
    };
    Block {
        input_layernorm: gain("input_layernorm", c),
        post_attention_layernorm: gain("post_attention_layernorm", c),
        qk_norm: (config.qk_norm == QkNorm::Yes)
            .then(|| (gain("self_attn.q_norm", d), gain("self_attn.k_norm", d))),
        qkv_proj: q_proj.joined(&[k_proj, v_proj]),
        o_proj,
        gate_up_proj: gate_proj.joined(&[up_proj]),
        down_proj,
    }
}
