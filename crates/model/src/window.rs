//! What a forward pass is run over: whole windows, or the continuation of a key/value cache.

use heldout_kernels::{HeadShape, KvLayer, Pass, Var};

use crate::noise::Noise;
use crate::{ModelConfig, Sequences};

/// Keys and values of the tokens seen so far, for every layer.
pub struct KvCache {
    pub(crate) layers: Vec<KvLayer>,
    batch: usize,
    capacity: usize,
}

impl KvCache {
    /// An empty cache for `batch` sequences of at most `capacity` tokens; it holds
    /// 2·L·batch·capacity·K·D floats.
    ///
    /// # Panics
    /// If `capacity` is larger than the model's context.
    pub fn new(config: &ModelConfig, batch: usize, capacity: usize) -> KvCache {
        assert!(
            capacity <= config.context,
            "a cache of {capacity} tokens outgrows the context of {}",
            config.context
        );
        let layers = (0..config.layers)
            .map(|_| KvLayer::new(batch, capacity, config.kv_heads, config.head_width))
            .collect();
        KvCache { layers, batch, capacity }
    }

    /// Tokens of each sequence in the cache.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.len)
    }

    /// Whether nothing has been seen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of each sequence that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sequences.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        for layer in &mut self.layers {
            layer.len = 0;
        }
    }
}

/// The input of one forward pass and everything that depends on how it is run.
pub(crate) struct Window<'a> {
    /// B·T token ids, sequence by sequence.
    pub ids: &'a [u32],
    pub batch: usize,
    pub seq_len: usize,
    pub noise: Noise,
    /// Tokens of each sequence, for encoders; None where all are full.
    pub lengths: Option<&'a [u32]>,
    /// B·T numbers of segments, for encoders; None where all are 0.
    pub segments: Option<&'a [u32]>,
    /// See [`crate::Objective`].
    pub marks: Option<&'a [u32]>,
    /// None runs over whole windows from position 0.
    pub cache: Option<&'a mut KvCache>,
}

impl<'a> Window<'a> {
    /// Whole windows from position 0 on, without padding.
    pub fn full(ids: &'a [u32], batch: usize, seq_len: usize, noise: Noise) -> Window<'a> {
        Window {
            ids,
            batch,
            seq_len,
            noise,
            lengths: None,
            segments: None,
            marks: None,
            cache: None,
        }
    }

    /// Padded sequences.
    pub fn of_sequences(sequences: &Sequences<'a>, noise: Noise) -> Window<'a> {
        let Sequences { ids, lengths, segments, batch, seq_len } = *sequences;
        Window { lengths: Some(lengths), segments, ..Window::full(ids, batch, seq_len, noise) }
    }
}

impl Window<'_> {
    /// Position of the window's first token.
    pub fn first_position(&self) -> usize {
        self.cache.as_ref().map_or(0, |cache| cache.len())
    }

    pub fn head_shape(&self, config: &ModelConfig) -> HeadShape {
        HeadShape {
            batch: self.batch,
            seq_len: self.seq_len,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_width: config.head_width,
        }
    }

    /// Causal attention over the window, or over cache and window: [N, (H+2K)·D] → [N, H·D].
    pub fn attention(&mut self, pass: &mut Pass, qkv: Var, shape: HeadShape, layer: usize) -> Var {
        match &mut self.cache {
            None => pass.attention(qkv, shape, self.noise.attention(layer)),
            Some(cache) => pass.attention_cached(qkv, shape, &mut cache.layers[layer]),
        }
    }
}
