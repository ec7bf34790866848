//! A model: its configuration, its layout, and the passes that can be run over it.

use heldout_kernels::{Layout, LossReport, LossSpec, Pass, Role, Var, Weight};

use crate::gpt2::Gpt2;
use crate::llama::Llama;
use crate::noise::{Noise, NoiseRates};
use crate::window::{KvCache, Window};
use crate::{Family, ModelConfig, ModelError, Tied};

/// A model without its weights, which are one flat vector that the caller owns.
pub struct Model {
    pub config: ModelConfig,
    layout: Layout,
    network: Network,
}

enum Network {
    Gpt2(Gpt2),
    Llama(Llama),
}

/// A batch: `batch` sequences of `seq_len` tokens, one after the other, and what follows each.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// B·T token ids.
    pub ids: &'a [u32],
    /// B·T ids of the following tokens; `u32::MAX` where there is nothing to predict.
    pub targets: &'a [u32],
    pub batch: usize,
    pub seq_len: usize,
}

impl Model {
    /// Checks `config` and lays its parameters out.
    pub fn new(config: ModelConfig) -> Result<Model, ModelError> {
        config.validate()?;
        let mut layout = Layout::default();
        let network = match config.family {
            Family::Gpt2 => Network::Gpt2(Gpt2::new(&config, &mut layout)),
            Family::Llama => Network::Llama(Llama::new(&config, &mut layout)),
        };
        assert_eq!(layout.len, config.parameter_count(), "the count follows the layout");
        Ok(Model { config, layout, network })
    }

    /// Names, shapes, places and roles of the parameters in the flat vector.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Loss over a batch; in a training pass the loss's own gradients are added to the tape, and
    /// `pass.backward()` carries them to the parameters.
    pub fn loss(
        &self,
        pass: &mut Pass,
        batch: Tokens,
        noise: &NoiseRates,
        spec: &LossSpec,
    ) -> LossReport {
        let x = self.hidden(pass, batch.ids, batch.batch, batch.seq_len, noise); // [N, C]
        pass.cross_entropy(x, self.head(), batch.targets, spec)
    }

    /// Final normalised hidden states of whole windows: [N, C]. Noise acts in training passes only.
    ///
    /// # Panics
    /// If `ids` is not B·T long, or T is larger than the context.
    pub fn hidden(
        &self,
        pass: &mut Pass,
        ids: &[u32],
        batch: usize,
        seq_len: usize,
        noise: &NoiseRates,
    ) -> Var {
        let noise = Noise::of_pass(pass, noise, self.config.layers);
        self.forward(pass, Window { ids, batch, seq_len, noise, cache: None })
    }

    /// Logits of whole windows, in an evaluation pass: [N, V].
    pub fn logits(&self, pass: &mut Pass, ids: &[u32], batch: usize, seq_len: usize) -> Var {
        let x = self.hidden(pass, ids, batch, seq_len, &NoiseRates::default()); // [N, C]
        pass.logits(x, self.head())
    }

    /// Logits of each sequence's last token after `ids` is appended to the cache: [B, V].
    /// Evaluation passes only.
    ///
    /// # Panics
    /// If the cache has no room for `ids`.
    pub fn forward_cached(&self, pass: &mut Pass, ids: &[u32], cache: &mut KvCache) -> Var {
        let batch = cache.batch();
        let seq_len = ids.len() / batch;
        let room = cache.capacity() - cache.len();
        assert!(seq_len <= room, "{seq_len} tokens do not fit into a cache with room for {room}");
        let noise = Noise::none(self.config.layers);
        let x = self.forward(pass, Window { ids, batch, seq_len, noise, cache: Some(cache) });
        let last: Vec<u32> = (1..=batch).map(|b| (b * seq_len - 1) as u32).collect();
        let x = pass.rows(x, &last); // [B, C]
        pass.logits(x, self.head())
    }

    /// The output projection: [V, C].
    pub fn head(&self) -> Weight {
        match &self.network {
            Network::Gpt2(gpt2) => gpt2.lm_head,
            Network::Llama(llama) => llama.lm_head,
        }
    }

    fn forward(&self, pass: &mut Pass, window: Window) -> Var {
        let (b, t) = (window.batch, window.seq_len);
        assert!(b * t > 0 && window.ids.len() == b * t, "{} ids for {b}×{t}", window.ids.len());
        let end = window.first_position() + t;
        assert!(end <= self.config.context, "{end} tokens, context {}", self.config.context);
        match &self.network {
            Network::Gpt2(gpt2) => gpt2.hidden(&self.config, pass, window),
            Network::Llama(llama) => llama.hidden(&self.config, pass, window),
        }
    }
}

/// The head's weight: the embedding itself when tied, else a matrix of its own at the end.
pub(crate) fn push_head(config: &ModelConfig, layout: &mut Layout, embedding: Weight) -> Weight {
    match config.tied {
        Tied::Yes => embedding,
        Tied::No => layout.push("lm_head.weight", &[config.vocabulary, config.width], Role::Head),
    }
}
