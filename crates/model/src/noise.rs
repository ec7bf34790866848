//! The sites in a block where training adds noise, and what each draws from.

use heldout_base::rng::{Random, streams};
use heldout_kernels::{AttentionNoise, Dropout, EmbeddingNoise, NoiseKey, Pass, Sharing, Uniform};

use crate::ModelError;

/// Rates of all noise sites for one step; the default is none anywhere.
///
/// A rate is the probability that a unit is dropped; what is kept is scaled by 1/(1 − rate), so
/// that evaluation needs no correction. A rate of zero leaves no trace in the computation. Two are
/// of another kind: `replace` rescales nothing, and `neftune` is no probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseRates {
    /// Elements of the sum of token and position embeddings.
    pub embedding: f32,
    /// Attention probabilities, after the softmax.
    pub attention: f32,
    /// Elements of the attention branch's output projection.
    pub attention_output: f32,
    /// Elements between the feed-forward layer's non-linearity and its second product.
    pub feed_forward_hidden: f32,
    /// Elements of the feed-forward branch's output.
    pub feed_forward_output: f32,
    /// Whole attention heads of a sequence.
    pub heads: f32,
    /// Whole tokens: their embedding is zeroed (positions are kept).
    pub tokens: f32,
    /// Whole tokens: another of the vocabulary, each equally likely, is read in their place.
    pub replace: f32,
    /// α of uniform noise ±α/√(T·C) on the embeddings (NEFTune; Jain et al. 2023).
    pub neftune: f32,
    /// Whole blocks: the rate of the deepest one, block l of L has rate·(l + 1)/L (Huang et al.
    /// 2016, Fan et al. 2019). Decided once for each step and block.
    pub layer_drop: f32,
    /// Which elements of a site share one draw: each its own, or all positions of a sequence
    /// (variational dropout, Gal & Ghahramani 2016). Concerns the four element-wise sites.
    pub sharing: Sharing,
}

impl Default for NoiseRates {
    fn default() -> NoiseRates {
        NoiseRates {
            embedding: 0.0,
            attention: 0.0,
            attention_output: 0.0,
            feed_forward_hidden: 0.0,
            feed_forward_output: 0.0,
            heads: 0.0,
            tokens: 0.0,
            replace: 0.0,
            neftune: 0.0,
            layer_drop: 0.0,
            sharing: Sharing::Element,
        }
    }
}

impl NoiseRates {
    /// Whether every rate is a probability below one, and α finite and not negative.
    pub fn validate(&self) -> Result<(), ModelError> {
        let rates = [
            ("embedding", self.embedding),
            ("attention", self.attention),
            ("attention_output", self.attention_output),
            ("feed_forward_hidden", self.feed_forward_hidden),
            ("feed_forward_output", self.feed_forward_output),
            ("heads", self.heads),
            ("tokens", self.tokens),
            ("replace", self.replace),
            ("layer_drop", self.layer_drop),
        ];
        for (key, rate) in rates {
            if !(0.0..1.0).contains(&rate) {
                return Err(ModelError::NoiseRate { key, found: rate });
            }
        }
        if !self.neftune.is_finite() || self.neftune < 0.0 {
            return Err(ModelError::NoiseAmplitude { found: self.neftune });
        }
        Ok(())
    }

    /// The probability that `layer` (from 0) of `layers` is skipped in a step.
    pub fn layer_drop_rate(&self, layer: usize, layers: usize) -> f64 {
        f64::from(self.layer_drop) * (layer + 1) as f64 / layers as f64
    }

    /// Whether `layer` is skipped in the step that `key` names.
    pub fn drops_layer(&self, key: NoiseKey, layer: usize, layers: usize) -> bool {
        let rate = self.layer_drop_rate(layer, layers);
        rate > 0.0
            && Random::new(key.seed, streams::LAYER_DROP, key.step).uniform(layer as u64) < rate
    }
}

/// Where in a block noise enters; each site of each layer has a random stream of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    Embedding,
    Attention,
    AttentionOutput,
    FeedForwardHidden,
    FeedForwardOutput,
    Heads,
    Tokens,
    Neftune,
}

impl Site {
    /// The random stream of this site in `layer`.
    pub fn stream(self, layer: usize) -> u32 {
        streams::dropout(self as u32, layer as u32).0
    }
}

/// The noise of one pass: rates while training, nothing otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noise {
    rates: NoiseRates,
    /// None outside training.
    key: Option<NoiseKey>,
    layers: usize,
}

impl Noise {
    pub fn of_pass(pass: &Pass, rates: &NoiseRates, layers: usize) -> Noise {
        Noise { rates: *rates, key: pass.noise(), layers }
    }

    /// What an evaluation gets.
    pub fn none(layers: usize) -> Noise {
        Noise { rates: NoiseRates::default(), key: None, layers }
    }

    /// The factor on both branches of `layer`, or None when the step skips the block.
    pub fn branch_scale(&self, layer: usize) -> Option<f32> {
        let Some(key) = self.key else { return Some(1.0) };
        if self.rates.drops_layer(key, layer, self.layers) {
            return None;
        }
        Some((1.0 / (1.0 - self.rates.layer_drop_rate(layer, self.layers))) as f32)
    }

    /// The dropout of `site` in `layer`; None when there is none, so that no op sees a zero rate.
    pub fn dropout(&self, site: Site, layer: usize) -> Option<Dropout> {
        self.key?;
        let (p, sharing) = match site {
            Site::Embedding => (self.rates.embedding, self.rates.sharing),
            Site::Attention => (self.rates.attention, Sharing::Element),
            Site::AttentionOutput => (self.rates.attention_output, self.rates.sharing),
            Site::FeedForwardHidden => (self.rates.feed_forward_hidden, self.rates.sharing),
            Site::FeedForwardOutput => (self.rates.feed_forward_output, self.rates.sharing),
            Site::Heads => (self.rates.heads, Sharing::Element),
            Site::Tokens => (self.rates.tokens, Sharing::Row),
            // Added, not dropped: see [`Noise::embedding`].
            Site::Neftune => (0.0, Sharing::Element),
        };
        (p > 0.0).then(|| Dropout { p, stream: site.stream(layer), sharing })
    }

    /// At the embedding of sequences of `seq_len` tokens, `width` wide; whole tokens are dropped or
    /// replaced where `marks` are not 0.
    pub fn embedding<'a>(
        &self,
        seq_len: usize,
        width: usize,
        marks: Option<&'a [u32]>,
    ) -> EmbeddingNoise<'a> {
        self.embedding_of(0, seq_len, width, marks)
    }

    /// As [`Noise::embedding`], for the second of two stacks: its draws are those of `layer`, the
    /// first of its blocks.
    pub fn embedding_of<'a>(
        &self,
        layer: usize,
        seq_len: usize,
        width: usize,
        marks: Option<&'a [u32]>,
    ) -> EmbeddingNoise<'a> {
        let replacing = self.key.is_some() && self.rates.replace > 0.0;
        let stream = Site::Tokens.stream(layer);
        let amplitude = neftune_amplitude(self.rates.neftune, seq_len, width);
        let uniform = Uniform { amplitude, stream: Site::Neftune.stream(layer) };
        EmbeddingNoise {
            replace: replacing.then_some(Dropout {
                p: self.rates.replace,
                stream,
                sharing: Sharing::Row,
            }),
            tokens: self.dropout(Site::Tokens, layer),
            uniform: (self.key.is_some() && amplitude > 0.0).then_some(uniform),
            output: self.dropout(Site::Embedding, layer),
            marks,
        }
    }

    pub fn attention(&self, layer: usize) -> AttentionNoise {
        AttentionNoise {
            probabilities: self.dropout(Site::Attention, layer),
            heads: self.dropout(Site::Heads, layer),
        }
    }
}

/// α/√(T·C), the largest absolute value of NEFTune's noise: its expected length over a sequence is
/// then near α/√3, whatever the length and width.
pub fn neftune_amplitude(alpha: f32, seq_len: usize, width: usize) -> f32 {
    (f64::from(alpha) / (seq_len as f64 * width as f64).sqrt()) as f32
}
