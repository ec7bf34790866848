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
    /// Blocks of heads that look further ahead; in training alone.
    ahead: Vec<Block>,
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
    /// Pushes Llama's parameters, under their Hugging Face names, in the order of the forward pass,
    /// and then the blocks of `ahead` heads that look further ahead.
    pub fn new(config: &ModelConfig, layout: &mut Layout, ahead: usize) -> Llama {
        let c = config.width;
        let shape = [config.vocabulary, c];
        let embed_tokens = layout.push("model.embed_tokens.weight", &shape, Role::Embedding);
        let blocks = (0..config.layers)
            .map(|layer| push_block(config, layout, &format!("model.layers.{layer}")))
            .collect();
        let norm = layout.push("model.norm.weight", &[c], Role::Gain);
        let lm_head = crate::model::push_head(config, layout, embed_tokens);
        let ahead = (0..ahead)
            .map(|head| push_block(config, layout, &crate::extra::head_name(head)))
            .collect();
        Llama { embed_tokens, blocks, norm, lm_head, ahead }
    }

    /// What the blocks make of a window: [N, C].
    pub fn trunk(&self, config: &ModelConfig, pass: &mut Pass, window: &mut Window) -> Var {
        let noise = window.noise;
        // Before the first block puts its keys into the cache.
        let first = window.first_position();
        let mut x = pass.embedding(
            self.embed_tokens,
            window.ids,
            None,
            window.seq_len,
            noise.embedding(window.seq_len, config.width, window.marks),
        ); // [N, C]
        for (layer, block) in self.blocks.iter().enumerate() {
            let Some(scale) = noise.branch_scale(layer) else { continue };
            x = block.forward(config, pass, window, x, Place { layer, scale, first });
        }
        x
    }

    /// The hidden states that the head turns into logits: [N, C].
    pub fn finish(&self, config: &ModelConfig, pass: &mut Pass, x: Var) -> Var {
        norm(config, pass, x, self.norm) // [N, C]
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
        let place = Place { layer: config.layers + head, scale: 1.0, first: 0 };
        self.ahead[head].forward(config, pass, window, trunk, place)
    }
}

/// Where a block stands.
struct Place {
    layer: usize,
    /// Factor on both branches.
    scale: f32,
    /// Position of the window's first token.
    first: usize,
}

impl Block {
    /// [N, C] → [N, C].
    fn forward(
        &self,
        config: &ModelConfig,
        pass: &mut Pass,
        window: &mut Window,
        x: Var,
        Place { layer, scale, first }: Place,
    ) -> Var {
        let noise = window.noise;
        let shape = window.head_shape(config);
        let (eps, theta) = (config.norm_epsilon, config.rope_theta);

        let h = norm(config, pass, x, self.input_layernorm); // [N, C]
        let mut qkv = linear(pass, h, self.qkv_proj); // [N, (H+2K)·D]
        if let Some((q_norm, k_norm)) = self.qk_norm {
            qkv = pass.head_norm(qkv, shape, q_norm, k_norm, eps);
        }
        let qkv = pass.rotary(qkv, shape, theta, first);
        let y = window.attention(pass, qkv, shape, layer); // [N, H·D]
        let y = linear(pass, y, self.o_proj); // [N, C]
        let x = pass.residual(x, y, noise.dropout(Site::AttentionOutput, layer), scale);

        let h = norm(config, pass, x, self.post_attention_layernorm); // [N, C]
        let gate_up = linear(pass, h, self.gate_up_proj); // [N, 2F]
        let h = pass.swiglu(gate_up, noise.dropout(Site::FeedForwardHidden, layer)); // [N, F]
        let y = linear(pass, h, self.down_proj); // [N, C]
        let x = pass.residual(x, y, noise.dropout(Site::FeedForwardOutput, layer), scale);
        pass.keep_only(&[x]); // evaluation and recomputation work in the memory of one block
        x
    }
}

fn norm(config: &ModelConfig, pass: &mut Pass, x: Var, gain: Weight) -> Var {
    pass.norm(x, Norm::Rms, gain, None, config.norm_epsilon)
}

fn linear(pass: &mut Pass, x: Var, weight: Weight) -> Var {
    pass.linear(x, weight, None, Activation::None, None)
}

fn push_block(config: &ModelConfig, layout: &mut Layout, prefix: &str) -> Block {
    let (c, f, d) = (config.width, config.hidden, config.head_width);
    let (q, kv) = (config.heads * d, config.kv_heads * d);
    let mut matrix = |name: &str, out, input| {
        layout.push(format!("{prefix}.{name}.weight"), &[out, input], Role::Matrix)
    };
    let q_proj = matrix("self_attn.q_proj", q, c);
    let k_proj = matrix("self_attn.k_proj", kv, c);
    let v_proj = matrix("self_attn.v_proj", kv, c);
    let o_proj = matrix("self_attn.o_proj", c, q);
    let gate_proj = matrix("mlp.gate_proj", f, c);
    let up_proj = matrix("mlp.up_proj", f, c);
    let down_proj = matrix("mlp.down_proj", c, f);
    let mut gain =
        |name: &str, width| layout.push(format!("{prefix}.{name}.weight"), &[width], Role::Gain);
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
