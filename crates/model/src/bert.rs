//! BERT (Devlin et al. 2019, arXiv:1810.04805) and its variants: layout and forward pass.
//!
//! Encoder blocks with the norm after each branch; every position reads the whole sequence. RoBERTa
//! (Liu et al. 2019, arXiv:1907.11692) begins its positions later and DistilBERT (Sanh et al. 2019,
//! arXiv:1910.01108) has no segments; their heads differ. What they are called in files is in
//! [`Names`].

use heldout_kernels::{Activation, EmbeddingNoise, Layout, Pass, Reach, Role, Var, Weight};

use crate::affine::{LayerNorm, Linear, layer_norm, linear, push_linear, push_norm};
use crate::noise::Site;
use crate::window::Window;
use crate::{Head, ModelConfig, Variant};

/// Where an encoder's weights lie in the flat vector.
pub(crate) struct Bert {
    words: Weight,            // [V, C]
    positions: Weight,        // [first + T, C]
    segments: Option<Weight>, // [S, C]
    embedding_norm: LayerNorm,
    blocks: Vec<Block>,
    head: BertHead,
}

struct Block {
    qkv: Linear, // [3C, C]: query, key, value
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear, // [F, C]
    output: Linear,
    output_norm: LayerNorm,
}

/// What lies behind the blocks.
enum BertHead {
    /// The masked tokens: dense, activation, norm, the token table with a bias.
    Masked { dense: Linear, norm: LayerNorm, bias: Weight },
    /// Labels: the first row through a dense layer, then a projection. DistilBERT's dense layer is
    /// called differently.
    Labels { dense: Linear, out: Linear },
    /// Two scores a row.
    Span { out: Linear },
    /// The hidden states themselves; BERT and RoBERTa keep a pooler that nothing here reads.
    Features,
}

impl Bert {
    /// Pushes an encoder's parameters, under their Hugging Face names, in the order of the forward
    /// pass.
    pub fn new(config: &ModelConfig, layout: &mut Layout) -> Bert {
        let (c, encoder) = (config.width, config.encoder);
        let names = Names::of(encoder.variant);
        let at = |name: &str| format!("{}embeddings.{name}", names.prefix);
        let words = at("word_embeddings.weight");
        let words = layout.push(words, &[config.vocabulary, c], Role::Embedding);
        let rows = encoder.first_position + config.context;
        let positions = at("position_embeddings.weight");
        let positions = layout.push(positions, &[rows, c], Role::PositionEmbedding);
        let segments = (encoder.segments > 0).then(|| {
            let name = at("token_type_embeddings.weight");
            layout.push(name, &[encoder.segments, c], Role::PositionEmbedding)
        });
        let embedding_norm = push_norm(layout, &at("LayerNorm"), c);
        let blocks =
            (0..config.layers).map(|layer| push_block(config, layout, &names, layer)).collect();
        let head = push_head(config, layout, &names);
        Bert { words, positions, segments, embedding_norm, blocks, head }
    }

    /// The projection that gives scores: the token table for masked tokens, else the head's own.
    pub fn projection(&self) -> (Weight, Option<Weight>) {
        match &self.head {
            BertHead::Masked { bias, .. } => (self.words, Some(*bias)),
            BertHead::Labels { out, .. } | BertHead::Span { out } => (out.weight, Some(out.bias)),
            BertHead::Features => (self.words, None),
        }
    }

    /// The final hidden states of a window: [N, C]. Rows of padding reach no other row.
    pub fn trunk(&self, config: &ModelConfig, pass: &mut Pass, window: &mut Window) -> Var {
        let (noise, seq_len) = (window.noise, window.seq_len);
        let whole;
        let lengths = match window.lengths {
            Some(lengths) => lengths,
            None => {
                whole = vec![seq_len as u32; window.batch];
                &whole[..]
            }
        };
        let sites = noise.embedding(seq_len, config.width, window.marks);
        let positions = Some((self.positions, config.encoder.first_position));
        // The norm comes before the dropout.
        let quiet = EmbeddingNoise { output: None, ..sites };
        let mut x = pass.embedding(self.words, window.ids, positions, seq_len, quiet); // [N, C]
        if let Some(table) = self.segments {
            let none;
            let segments = match window.segments {
                Some(segments) => segments,
                None => {
                    none = vec![0; window.ids.len()];
                    &none[..]
                }
            };
            let quiet = EmbeddingNoise::default();
            let segments = pass.embedding(table, segments, None, seq_len, quiet); // [N, C]
            x = pass.residual(x, segments, None, 1.0);
        }
        let x = layer_norm(pass, x, self.embedding_norm, config);
        let mut x = pass.dropout(x, sites.output);
        for (layer, block) in self.blocks.iter().enumerate() {
            let Some(scale) = noise.branch_scale(layer) else { continue };
            x = block.forward(config, pass, window, x, (layer, scale, lengths));
        }
        x
    }

    /// What the projection of masked tokens reads: [R, C] from rows of the trunk.
    pub fn masked(&self, config: &ModelConfig, pass: &mut Pass, x: Var) -> Var {
        let BertHead::Masked { dense, norm: after, .. } = &self.head else {
            panic!("{:?} does not predict tokens", config.head)
        };
        // RoBERTa's head has its own activation, whatever the blocks'.
        let activation = match config.encoder.variant {
            Variant::Roberta => Activation::GeluErf,
            Variant::Bert | Variant::Distilbert => config.activation.kernel(),
        };
        let x = pass.linear_wide(x, dense.weight, Some(dense.bias), activation);
        layer_norm(pass, x, *after, config)
    }

    /// Logits of the labels, [B, K], from the rows of the first tokens, [B, C].
    pub fn labels(&self, config: &ModelConfig, pass: &mut Pass, x: Var, window: &Window) -> Var {
        let BertHead::Labels { dense, out } = &self.head else {
            panic!("{:?} is no head of labels", config.head)
        };
        // At the rate of a block's output, as transformers does where nothing else is said.
        let dropout = |n: usize| window.noise.dropout(Site::FeedForwardOutput, config.layers + n);
        let (activation, before) = match config.encoder.variant {
            Variant::Bert => (Activation::Tanh, None),
            Variant::Roberta => (Activation::Tanh, dropout(1)),
            Variant::Distilbert => (Activation::Relu, None),
        };
        let x = pass.dropout(x, before);
        let x = pass.linear(x, dense.weight, Some(dense.bias), activation, dropout(0));
        linear(pass, x, *out) // [B, K]
    }

    /// Scores of every row to begin and to end an answer: [N, 2] from [N, C].
    pub fn span(&self, config: &ModelConfig, pass: &mut Pass, x: Var) -> Var {
        let BertHead::Span { out } = &self.head else {
            panic!("{:?} is no head of spans", config.head)
        };
        linear(pass, x, *out)
    }

    /// Parameters of an encoder outside its blocks; None on overflow.
    pub fn outer_parameter_count(config: &ModelConfig) -> Option<u128> {
        let [v, t, c, segments, first] = [
            config.vocabulary,
            config.context,
            config.width,
            config.encoder.segments,
            config.encoder.first_position,
        ]
        .map(|size| size as u128);
        let square = c.checked_mul(c)?.checked_add(c)?;
        let pooled = config.encoder.variant != Variant::Distilbert;
        let head = match config.head {
            Head::LanguageModel => square.checked_add(2 * c + v)?,
            Head::Classification { labels } => square.checked_add(labels as u128 * (c + 1))?,
            Head::Span => 2 * c + 2,
            Head::Features if pooled => square,
            Head::Features => 0,
        };
        let tables = v.checked_add(t)?.checked_add(segments + first)?.checked_mul(c)?;
        tables.checked_add(2 * c)?.checked_add(head)
    }
}

impl Block {
    /// The block at `layer`, whose branches are scaled: [N, C] → [N, C].
    fn forward(
        &self,
        config: &ModelConfig,
        pass: &mut Pass,
        window: &Window,
        x: Var,
        (layer, scale, lengths): (usize, f32, &[u32]),
    ) -> Var {
        let noise = window.noise;
        let (shape, reach) = (window.head_shape(config), Reach::Whole { lengths });
        let activation = config.activation.kernel();

        let qkv = linear(pass, x, self.qkv); // [N, 3C]
        let y = pass.attention_within(qkv, shape, reach, noise.attention(layer)); // [N, C]
        let y = linear(pass, y, self.attention_output); // [N, C]
        let x = pass.residual(x, y, noise.dropout(Site::AttentionOutput, layer), scale);
        let x = layer_norm(pass, x, self.attention_norm, config);

        let fc = self.intermediate;
        let dropout = noise.dropout(Site::FeedForwardHidden, layer);
        let h = pass.linear(x, fc.weight, Some(fc.bias), activation, dropout); // [N, F]
        let y = linear(pass, h, self.output); // [N, C]
        let x = pass.residual(x, y, noise.dropout(Site::FeedForwardOutput, layer), scale);
        let x = layer_norm(pass, x, self.output_norm, config);
        pass.keep_only(&[x]); // evaluation and recomputation work in the memory of one block
        x
    }
}

/// What a variant's parts are called in the files of transformers.
struct Names {
    /// In front of everything but the head.
    prefix: &'static str,
    /// In front of a block's number.
    blocks: &'static str,
    qkv: [&'static str; 3],
    attention_output: &'static str,
    attention_norm: &'static str,
    intermediate: &'static str,
    output: &'static str,
    output_norm: &'static str,
    /// Dense layer, norm and bias of masked tokens.
    masked: [&'static str; 3],
    /// Dense layer and projection of labels.
    labels: [&'static str; 2],
    pooler: Option<&'static str>,
}

const QKV: [&str; 3] = ["attention.self.query", "attention.self.key", "attention.self.value"];
const BERT: Names = Names {
    prefix: "bert.",
    blocks: "encoder.layer",
    qkv: QKV,
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    intermediate: "intermediate.dense",
    output: "output.dense",
    output_norm: "output.LayerNorm",
    masked: [
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.bias",
    ],
    labels: ["bert.pooler.dense", "classifier"],
    pooler: Some("bert.pooler.dense"),
};

impl Names {
    fn of(variant: Variant) -> Names {
        match variant {
            Variant::Bert => BERT,
            Variant::Roberta => Names {
                prefix: "roberta.",
                masked: ["lm_head.dense", "lm_head.layer_norm", "lm_head.bias"],
                labels: ["classifier.dense", "classifier.out_proj"],
                pooler: Some("roberta.pooler.dense"),
                ..BERT
            },
            Variant::Distilbert => Names {
                prefix: "distilbert.",
                blocks: "transformer.layer",
                qkv: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
                attention_output: "attention.out_lin",
                attention_norm: "sa_layer_norm",
                intermediate: "ffn.lin1",
                output: "ffn.lin2",
                output_norm: "output_layer_norm",
                masked: ["vocab_transform", "vocab_layer_norm", "vocab_projector.bias"],
                labels: ["pre_classifier", "classifier"],
                pooler: None,
            },
        }
    }
}

fn push_block(config: &ModelConfig, layout: &mut Layout, names: &Names, layer: usize) -> Block {
    let (c, f) = (config.width, config.hidden);
    let at = |name: &str| format!("{}{}.{layer}.{name}", names.prefix, names.blocks);
    let [q, k, v] = names.qkv.map(|name| layout.push(at(name) + ".weight", &[c, c], Role::Matrix));
    let weight = q.joined(&[k, v]);
    let [q, k, v] = names.qkv.map(|name| layout.push(at(name) + ".bias", &[c], Role::Bias));
    let bias = q.joined(&[k, v]);
    Block {
        qkv: Linear { weight, bias },
        attention_output: push_linear(layout, &at(names.attention_output), c, c),
        attention_norm: push_norm(layout, &at(names.attention_norm), c),
        intermediate: push_linear(layout, &at(names.intermediate), f, c),
        output: push_linear(layout, &at(names.output), c, f),
        output_norm: push_norm(layout, &at(names.output_norm), c),
    }
}

fn push_head(config: &ModelConfig, layout: &mut Layout, names: &Names) -> BertHead {
    let c = config.width;
    match config.head {
        Head::LanguageModel => {
            let [dense, norm, bias] = names.masked;
            BertHead::Masked {
                dense: push_linear(layout, dense, c, c),
                norm: push_norm(layout, norm, c),
                bias: layout.push(bias, &[config.vocabulary], Role::Bias),
            }
        }
        Head::Classification { labels } => {
            let [dense, out] = names.labels;
            BertHead::Labels {
                dense: push_linear(layout, dense, c, c),
                out: push_linear(layout, out, labels, c),
            }
        }
        Head::Span => BertHead::Span { out: push_linear(layout, "qa_outputs", 2, c) },
        Head::Features => {
            if let Some(pooler) = names.pooler {
                push_linear(layout, pooler, c, c);
            }
            BertHead::Features
        }
    }
}
