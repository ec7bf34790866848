//! BART (Lewis et al. 2019, arXiv:1910.13461) and Marian (Junczys-Dowmunt et al. 2018,
//! arXiv:1804.00344): layout and forward pass of an encoder and a decoder that reads it.
//!
//! Both are the Transformer of Vaswani et al. 2017 with one token table for everything. BART has
//! learned positions, whose table begins with two rows that nothing reads, and a norm on the sum;
//! Marian has sinusoids, which are no parameters. Norms stand behind each branch, or in front of
//! it as in mBART. S is the length of a source, T that of a target.

use heldout_kernels::{
    CrossShape, EmbeddingNoise, HeadShape, KvLayer, Layout, Norm, Pass, Reach, Role, Uniform, Var,
    Weight,
};

use crate::affine::{LayerNorm, Linear, layer_norm, linear, push_linear, push_norm};
use crate::noise::{Noise, Site};
use crate::{Family, ModelConfig, Norms, Scaled, Sequences};

/// Rows of a learned table in front of the first position's.
const FIRST_POSITION: usize = 2;

/// Where the weights of an encoder-decoder lie in the flat vector.
pub(crate) struct Bart {
    pub words: Weight, // [V, C]
    encoder: Stack,
    decoder: Stack,
    /// Added to the logits, never trained: a buffer in PyTorch.
    pub offset: Weight, // [1, V]
}

struct Stack {
    positions: Option<Weight>, // [2 + T, C]
    embedding_norm: Option<LayerNorm>,
    blocks: Vec<Block>,
    /// Behind blocks whose norms stand in front.
    last_norm: Option<LayerNorm>,
}

struct Block {
    qkv: Linear, // [3C, C]: query, key, value
    attention_output: Linear,
    attention_norm: LayerNorm,
    /// Of a decoder.
    cross: Option<Cross>,
    fc1: Linear, // [F, C]
    fc2: Linear,
    final_norm: LayerNorm,
}

struct Cross {
    query: Linear,
    key_value: Linear, // [2C, C]
    output: Linear,
    norm: LayerNorm,
}

/// What a decoder reads of its sources.
pub(crate) enum Memory<'a> {
    /// The encoder's hidden states, [B·S, C].
    States(Var),
    /// Keys and values of each layer, [B·S, 2C], computed before.
    Kept(&'a [Vec<f32>]),
}

/// Where a decoder stands.
pub(crate) struct Place<'a> {
    pub memory: Memory<'a>,
    /// Of the sources.
    pub lengths: &'a [u32],
    /// S.
    pub source_len: usize,
    /// Keys and values of the targets so far, for every layer; None runs over whole targets.
    pub cache: Option<&'a mut [KvLayer]>,
    /// Targets of each source: several where a search follows as many.
    pub targets: usize,
}

impl Bart {
    /// Pushes the parameters under their Hugging Face names, in the order of the forward pass.
    pub fn new(config: &ModelConfig, layout: &mut Layout) -> Bart {
        let (v, c) = (config.vocabulary, config.width);
        let words = layout.push("model.shared.weight", &[v, c], Role::Embedding);
        let encoder = Stack::new(config, layout, "model.encoder", config.layers);
        let decoder = Stack::new(config, layout, "model.decoder", config.decoder.layers);
        let offset = layout.push("final_logits_bias", &[1, v], Role::Bias);
        Bart { words, encoder, decoder, offset }
    }

    /// Elements of the layout; None on overflow.
    pub fn parameter_count(config: &ModelConfig) -> Option<u128> {
        let [v, c, t] = [config.vocabulary, config.width, config.context].map(|size| size as u128);
        let square = c.checked_mul(c)?;
        let block = |hidden: usize, attentions: u128| -> Option<u128> {
            let feed_forward = c.checked_mul(hidden as u128)?.checked_mul(2)?;
            let vectors = attentions * 6 * c + hidden as u128 + 3 * c;
            square.checked_mul(4 * attentions)?.checked_add(feed_forward)?.checked_add(vectors)
        };
        let encoder = block(config.hidden, 1)?.checked_mul(config.layers as u128)?;
        let decoder =
            block(config.decoder.hidden, 2)?.checked_mul(config.decoder.layers as u128)?;
        let mut outer = v.checked_mul(c)?.checked_add(v)?;
        if config.family == Family::Bart {
            let positions = t.checked_add(FIRST_POSITION as u128)?.checked_mul(2 * c)?;
            let norms = if config.decoder.norms == Norms::Before { 8 * c } else { 4 * c };
            outer = outer.checked_add(positions)?.checked_add(norms)?;
        }
        encoder.checked_add(decoder)?.checked_add(outer)
    }

    /// The encoder's final hidden states: [B·S, C]. Rows of padding reach no other row.
    pub fn encode(
        &self,
        config: &ModelConfig,
        pass: &mut Pass,
        source: &Sequences,
        noise: Noise,
    ) -> Var {
        let mut x =
            self.embed(config, pass, (&self.encoder, 0), (source.ids, source.seq_len, 0), noise);
        for (layer, block) in self.encoder.blocks.iter().enumerate() {
            let Some(scale) = noise.branch_scale(layer) else { continue };
            let at = At { layer, scale, noise, norms: config.decoder.norms, config };
            x = block.read(&at, pass, source, x);
            pass.keep_only(&[x]); // evaluation and recomputation work in the memory of one block
        }
        self.encoder.finish(config, pass, x)
    }

    /// Keys and values of every layer for what the encoder has made of the sources: [B·S, 2C].
    pub fn keys_and_values(&self, pass: &mut Pass, memory: Var) -> Vec<Vec<f32>> {
        let crosses = self.decoder.blocks.iter().filter_map(|block| block.cross.as_ref());
        let keep = |cross: &Cross| {
            let kv = linear(pass, memory, cross.key_value);
            let values = pass.value(kv).to_vec();
            pass.keep_only(&[memory]);
            values
        };
        crosses.map(keep).collect()
    }

    /// What the decoder makes of the tokens `ids` of sequences of `seq_len` at positions from
    /// `first` on: [N, C].
    pub fn decode(
        &self,
        config: &ModelConfig,
        pass: &mut Pass,
        (ids, seq_len): (&[u32], usize),
        mut place: Place,
        noise: Noise,
    ) -> Var {
        let first = place.cache.as_ref().map_or(0, |cache| cache[0].len);
        let mut x =
            self.embed(config, pass, (&self.decoder, config.layers), (ids, seq_len, first), noise);
        for (number, block) in self.decoder.blocks.iter().enumerate() {
            let layer = config.layers + number;
            let Some(scale) = noise.branch_scale(layer) else { continue };
            let at = At { layer, scale, noise, norms: config.decoder.norms, config };
            x = block.write(&at, pass, &mut place, seq_len, (x, number));
            match place.memory {
                Memory::States(memory) => pass.keep_only(&[x, memory]),
                Memory::Kept(_) => pass.keep_only(&[x]),
            }
        }
        self.decoder.finish(config, pass, x)
    }

    /// Tokens and positions of a stack whose noise draws from the streams of `layer`: [N, C].
    fn embed(
        &self,
        config: &ModelConfig,
        pass: &mut Pass,
        (stack, layer): (&Stack, usize),
        (ids, seq_len, first): (&[u32], usize, usize),
        noise: Noise,
    ) -> Var {
        let (c, end) = (config.width, first + seq_len);
        assert!(end <= config.context, "{end} tokens, context {}", config.context);
        let scale = match config.decoder.scaled {
            Scaled::No => 1.0,
            Scaled::Yes => (c as f32).sqrt(),
        };
        let sites = noise.embedding_of(layer, seq_len, c, None);
        // Noise is of the size it was asked for whatever the token vectors are multiplied with.
        let amplitude =
            |uniform: Uniform| Uniform { amplitude: uniform.amplitude / scale, ..uniform };
        // The norm comes before the dropout.
        let quiet = EmbeddingNoise { output: None, uniform: sites.uniform.map(amplitude), ..sites };
        let padding = Some(config.decoder.padding);
        let tokens = pass.embedding_besides(self.words, ids, None, seq_len, quiet, padding);
        let positions = match stack.positions {
            Some(table) => {
                let row = |at: usize| (FIRST_POSITION + first + at % seq_len) as u32;
                let rows: Vec<u32> = (0..ids.len()).map(row).collect();
                pass.embedding(table, &rows, None, seq_len, EmbeddingNoise::default())
            }
            None => {
                let one = sinusoids(first..end, c);
                pass.constant(&one.repeat(ids.len() / seq_len), ids.len(), c)
            }
        }; // [N, C]
        let x = pass.residual(positions, tokens, None, scale);
        let x = match stack.embedding_norm {
            Some(norm) => layer_norm(pass, x, norm, config),
            None => x,
        };
        pass.dropout(x, sites.output)
    }
}

/// Positions of Vaswani et al. 2017 as Marian has them, all sines, then all cosines: [N, C].
fn sinusoids(positions: std::ops::Range<usize>, width: usize) -> Vec<f32> {
    let sines = width.div_ceil(2);
    let value = |(position, column): (usize, usize)| {
        let pair = if column < sines { column } else { column - sines };
        let angle = position as f64 / 10_000f64.powf(2.0 * pair as f64 / width as f64);
        (if column < sines { angle.sin() } else { angle.cos() }) as f32
    };
    positions
        .flat_map(|position| (0..width).map(move |column| (position, column)))
        .map(value)
        .collect()
}

impl Stack {
    fn new(config: &ModelConfig, layout: &mut Layout, name: &str, layers: usize) -> Stack {
        let c = config.width;
        let is_decoder = name.ends_with("decoder");
        let is_bart = config.family == Family::Bart;
        let positions = is_bart.then(|| {
            let shape = [FIRST_POSITION + config.context, c];
            layout.push(format!("{name}.embed_positions.weight"), &shape, Role::PositionEmbedding)
        });
        let embedding_norm =
            is_bart.then(|| push_norm(layout, &format!("{name}.layernorm_embedding"), c));
        let hidden = if is_decoder { config.decoder.hidden } else { config.hidden };
        let blocks = (0..layers)
            .map(|layer| {
                let at = format!("{name}.layers.{layer}");
                push_block(layout, &at, [c, hidden], is_decoder.then_some(()))
            })
            .collect();
        let is_last = config.decoder.norms == Norms::Before;
        let last_norm = is_last.then(|| push_norm(layout, &format!("{name}.layer_norm"), c));
        Stack { positions, embedding_norm, blocks, last_norm }
    }

    fn finish(&self, config: &ModelConfig, pass: &mut Pass, x: Var) -> Var {
        match self.last_norm {
            Some(norm) => layer_norm(pass, x, norm, config),
            None => x, // each block ends in a norm
        }
    }
}

/// Where a block stands, and the noise there.
struct At<'a> {
    /// Counted through both stacks.
    layer: usize,
    scale: f32,
    noise: Noise,
    norms: Norms,
    config: &'a ModelConfig,
}

impl At<'_> {
    /// What a branch reads.
    fn before(&self, pass: &mut Pass, x: Var, norm: LayerNorm) -> Var {
        match self.norms {
            Norms::After => x,
            Norms::Before => {
                let epsilon = self.config.norm_epsilon;
                pass.norm(x, Norm::Layer, norm.gain, Some(norm.bias), epsilon)
            }
        }
    }

    /// The sum of a branch `y`, whose noise draws from the streams of `layer`, and what it began
    /// with.
    fn after(
        &self,
        pass: &mut Pass,
        (x, y): (Var, Var),
        norm: LayerNorm,
        (site, layer): (Site, usize),
    ) -> Var {
        let x = pass.residual(x, y, self.noise.dropout(site, layer), self.scale);
        match self.norms {
            Norms::After => layer_norm(pass, x, norm, self.config),
            Norms::Before => x,
        }
    }

    /// The layer whose streams noise on what is read of the source draws from: behind those of all
    /// blocks.
    fn cross_layer(&self) -> usize {
        self.layer + self.config.decoder.layers
    }
}

impl Block {
    /// A block of the encoder: [B·S, C] → [B·S, C].
    fn read(&self, at: &At, pass: &mut Pass, source: &Sequences, x: Var) -> Var {
        let shape = shape(at.config, source.batch, source.seq_len, at.config.heads);
        let reach = Reach::Whole { lengths: source.lengths };
        let h = at.before(pass, x, self.attention_norm);
        let qkv = linear(pass, h, self.qkv); // [B·S, 3C]
        let y = pass.attention_within(qkv, shape, reach, at.noise.attention(at.layer)); // [B·S, C]
        let y = linear(pass, y, self.attention_output);
        let site = (Site::AttentionOutput, at.layer);
        let x = at.after(pass, (x, y), self.attention_norm, site);
        self.feed_forward(at, pass, x)
    }

    /// Block `number` of the decoder: [N, C] → [N, C].
    fn write(
        &self,
        at: &At,
        pass: &mut Pass,
        place: &mut Place,
        seq_len: usize,
        (x, number): (Var, usize),
    ) -> Var {
        let (rows, heads) = (pass.shape(x).0, at.config.decoder.heads);
        let shape = shape(at.config, rows / seq_len, seq_len, heads);
        let h = at.before(pass, x, self.attention_norm);
        let qkv = linear(pass, h, self.qkv); // [N, 3C]
        let y = match &mut place.cache {
            None => pass.attention(qkv, shape, at.noise.attention(at.layer)),
            Some(cache) => pass.attention_cached(qkv, shape, &mut cache[number]),
        }; // [N, C]
        let y = linear(pass, y, self.attention_output);
        let site = (Site::AttentionOutput, at.layer);
        let x = at.after(pass, (x, y), self.attention_norm, site);

        let cross = self.cross.as_ref().expect("a decoder's block");
        let h = at.before(pass, x, cross.norm);
        let q = pass.linear_narrow(h, cross.query.weight, Some(cross.query.bias)); // [N, C]
        let shape = CrossShape {
            batch: place.lengths.len(),
            queries: place.targets * seq_len,
            keys: place.source_len,
            heads,
            head_width: shape.head_width,
        };
        let y = match &place.memory {
            Memory::States(memory) => {
                let kv = cross.key_value;
                let kv = pass.linear_narrow(*memory, kv.weight, Some(kv.bias)); // [B·S, 2C]
                let noise = at.noise.attention(at.cross_layer());
                pass.cross_attention(q, kv, (shape, place.lengths), noise)
            }
            Memory::Kept(kv) => pass.cross_attention_over(q, &kv[number], (shape, place.lengths)),
        }; // [N, C]
        let y = linear(pass, y, cross.output);
        let site = (Site::AttentionOutput, at.cross_layer());
        let x = at.after(pass, (x, y), cross.norm, site);
        self.feed_forward(at, pass, x)
    }

    fn feed_forward(&self, at: &At, pass: &mut Pass, x: Var) -> Var {
        let h = at.before(pass, x, self.final_norm);
        let dropout = at.noise.dropout(Site::FeedForwardHidden, at.layer);
        let (fc, activation) = (self.fc1, at.config.activation.kernel());
        let h = pass.linear(h, fc.weight, Some(fc.bias), activation, dropout); // [N, F]
        let y = linear(pass, h, self.fc2); // [N, C]
        at.after(pass, (x, y), self.final_norm, (Site::FeedForwardOutput, at.layer))
    }
}

fn shape(config: &ModelConfig, batch: usize, seq_len: usize, heads: usize) -> HeadShape {
    HeadShape { batch, seq_len, heads, kv_heads: heads, head_width: config.width / heads }
}

/// A block; `decoder` has what reads the source besides.
fn push_block(layout: &mut Layout, name: &str, [c, f]: [usize; 2], decoder: Option<()>) -> Block {
    let [qkv, attention_output] = push_attention(layout, &format!("{name}.self_attn"), c, 3);
    let attention_norm = push_norm(layout, &format!("{name}.self_attn_layer_norm"), c);
    let cross = decoder.map(|()| {
        let at = format!("{name}.encoder_attn");
        let query = push_linear(layout, &format!("{at}.q_proj"), c, c);
        let [key_value, output] = push_attention(layout, &at, c, 2);
        let norm = push_norm(layout, &format!("{name}.encoder_attn_layer_norm"), c);
        Cross { query, key_value, output, norm }
    });
    Block {
        qkv,
        attention_output,
        attention_norm,
        cross,
        fc1: push_linear(layout, &format!("{name}.fc1"), f, c),
        fc2: push_linear(layout, &format!("{name}.fc2"), c, f),
        final_norm: push_norm(layout, &format!("{name}.final_layer_norm"), c),
    }
}

/// The last `count` of query, key and value side by side, and the output projection.
fn push_attention(layout: &mut Layout, name: &str, c: usize, count: usize) -> [Linear; 2] {
    let parts = &["q_proj", "k_proj", "v_proj"][3 - count..];
    let mut side_by_side = |end: &str, shape: &[usize], role: Role| {
        let mut push = |part: &&str| layout.push(format!("{name}.{part}.{end}"), shape, role);
        let all: Vec<Weight> = parts.iter().map(&mut push).collect();
        all[0].joined(&all[1..])
    };
    let weight = side_by_side("weight", &[c, c], Role::Matrix);
    let bias = side_by_side("bias", &[c], Role::Bias);
    [Linear { weight, bias }, push_linear(layout, &format!("{name}.out_proj"), c, c)]
}
