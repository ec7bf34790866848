//! A model: its configuration, its layout, and the passes that can be run over it.

use heldout_kernels::{
    Activation, IGNORE, Joint, Layout, LossReport, LossSpec, Parameter, Pass, Role, Var, Weight,
};

use crate::bart::Bart;
use crate::bert::Bert;
use crate::extra::{Extra, is_extra, push_adapters};
use crate::gpt2::Gpt2;
use crate::llama::Llama;
use crate::noise::{Noise, NoiseRates};
use crate::window::{KvCache, Window};
use crate::{Family, Head, ModelConfig, ModelError, Sequences, Tied};

/// A model without its weights, which are one flat vector that the caller owns.
pub struct Model {
    pub config: ModelConfig,
    layout: Layout,
    pub(crate) network: Network,
    /// Besides what is exported.
    extra: Extra,
}

pub(crate) enum Network {
    Gpt2(Gpt2),
    Llama(Llama),
    Bert(Bert),
    Bart(Bart),
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
        Model::for_training(config, &Extra::default())
    }

    /// A model with what only training needs. Of the heads ahead the k-th (from 1) is a block of
    /// its own on top of the others, in front of the shared final norm and output projection, and
    /// predicts the token 1 + k places ahead (Gloeckle et al. 2024, arXiv:2404.19737). Adapters are
    /// parameters alone: whoever trains them keeps the adapted weights in step. All of these lie
    /// behind the other parameters and are no part of an export.
    pub fn for_training(config: ModelConfig, extra: &Extra) -> Result<Model, ModelError> {
        config.validate()?;
        let ahead = extra.heads_ahead;
        if ahead > 0 {
            config.require_causal()?;
        }
        let mut layout = Layout::default();
        let network = match config.family {
            Family::Gpt2 => Network::Gpt2(Gpt2::new(&config, &mut layout, ahead)),
            Family::Llama => Network::Llama(Llama::new(&config, &mut layout, ahead)),
            Family::Bert => Network::Bert(Bert::new(&config, &mut layout)),
            Family::Bart | Family::Marian => Network::Bart(Bart::new(&config, &mut layout)),
        };
        if let Some(adapters) = extra.adapters {
            push_adapters(&mut layout, adapters);
        }
        let model = Model { config, layout, network, extra: *extra };
        let count = model.layout.parameters.iter().filter(|p| !is_extra(&p.name));
        let count: usize = count.map(Parameter::len).sum();
        assert_eq!(count, model.exported_len(), "the count follows the layout");
        Ok(model)
    }

    /// Parameters of the model proper; behind them in the flat vector lie those that only training
    /// needs.
    pub fn exported_len(&self) -> usize {
        self.config.parameter_count()
    }

    /// Heads that look further ahead than the next token, in training alone.
    pub fn heads_ahead(&self) -> usize {
        self.extra.heads_ahead
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
        let objective = Objective { spec: *spec, joint: Joint::default(), ahead: 0.0, marks: None };
        self.objective(pass, batch, noise, &objective)
    }

    /// As [`Model::loss`], with all that an objective may hold besides. Twins draw their noise as
    /// the sequences 2s and 2s + 1, so the pass's key counts sequences twice. Reported are the
    /// objective with the heads ahead in it, and the plain loss of the next token alone. For an
    /// encoder targets are what is masked: see [`Model::masked`].
    pub fn objective(
        &self,
        pass: &mut Pass,
        batch: Tokens,
        noise: &NoiseRates,
        objective: &Objective,
    ) -> LossReport {
        let targets = batch.targets;
        if self.config.family == Family::Bert {
            let (ids, batch, seq_len) = (batch.ids, batch.batch, batch.seq_len);
            let lengths = vec![seq_len as u32; batch];
            let whole = Sequences { ids, lengths: &lengths, segments: None, batch, seq_len };
            return self.masked(pass, whole, targets, noise, objective);
        }
        if self.config.is_seq2seq() {
            return self.seq_objective(pass, batch, noise, objective);
        }
        let Objective { spec, joint, ahead, marks } = objective;
        let copies = joint.copies();
        let doubled = (copies > 1).then(|| twice(batch.ids, batch.seq_len));
        let ids = doubled.as_deref().unwrap_or(batch.ids);
        let marks_doubled = marks.filter(|_| copies > 1).map(|marks| twice(marks, batch.seq_len));
        let marks = marks_doubled.as_deref().or(*marks);
        let noise = Noise::of_pass(pass, noise, self.config.layers);
        let (rows, seq_len) = (batch.batch * copies, batch.seq_len);
        let full = Window::full(ids, rows, seq_len, noise);
        let mut window = Window { marks, ..full };
        let trunk = self.trunk(pass, &mut window); // [copies·N, C]
        let mut sum_ahead = 0.0;
        if *ahead > 0.0 && pass.is_training() {
            let weight = ahead / copies as f32;
            let spec = LossSpec { scale: spec.scale * weight, ..*spec };
            for head in 0..self.extra.heads_ahead {
                let targets = shifted(batch.targets, seq_len, head + 1);
                let doubled = (copies > 1).then(|| twice(&targets, seq_len));
                let x = match &self.network {
                    Network::Gpt2(gpt2) => gpt2.ahead(&self.config, pass, &mut window, trunk, head),
                    Network::Llama(llama) => {
                        llama.ahead(&self.config, pass, &mut window, trunk, head)
                    }
                    Network::Bert(_) | Network::Bart(_) => {
                        unreachable!("only causal models have heads ahead")
                    }
                };
                let x = self.finish(pass, x);
                let targets = doubled.as_deref().unwrap_or(&targets);
                let report = pass.cross_entropy(x, self.head(), targets, &spec);
                sum_ahead += f64::from(weight) * report.objective_sum;
            }
        }
        let x = self.finish(pass, trunk);
        let report = pass.joint_cross_entropy(x, self.head(), batch.targets, spec, joint);
        LossReport { objective_sum: report.objective_sum + sum_ahead, ..report }
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
        self.forward(pass, Window::full(ids, batch, seq_len, noise))
    }

    /// Logits of whole windows, in an evaluation pass: [N, V].
    pub fn logits(&self, pass: &mut Pass, ids: &[u32], batch: usize, seq_len: usize) -> Var {
        let x = self.hidden(pass, ids, batch, seq_len, &NoiseRates::default()); // [N, C]
        if let Network::Bert(bert) = &self.network {
            let x = bert.masked(&self.config, pass, x);
            let (head, bias) = bert.projection();
            return pass.linear(x, head, bias, Activation::None, None);
        }
        pass.logits(x, self.head())
    }

    /// Logits of each sequence's last token after `ids` is appended to the cache: [B, V].
    /// Evaluation passes only.
    ///
    /// # Panics
    /// If the cache has no room for `ids`, or the model is an encoder.
    pub fn forward_cached(&self, pass: &mut Pass, ids: &[u32], cache: &mut KvCache) -> Var {
        let batch = cache.batch();
        let seq_len = ids.len() / batch;
        let room = cache.capacity() - cache.len();
        assert!(seq_len <= room, "{seq_len} tokens do not fit into a cache with room for {room}");
        let noise = Noise::none(self.config.layers);
        assert!(self.config.require_causal().is_ok(), "an encoder continues nothing");
        let full = Window::full(ids, batch, seq_len, noise);
        let x = self.forward(pass, Window { cache: Some(cache), ..full });
        let last: Vec<u32> = (1..=batch).map(|b| (b * seq_len - 1) as u32).collect();
        let x = pass.rows(x, &last); // [B, C]
        pass.logits(x, self.head())
    }

    /// The output projection: [V, C] of a language model, [K, C] of a head of K labels.
    pub fn head(&self) -> Weight {
        match &self.network {
            Network::Gpt2(gpt2) => gpt2.lm_head,
            Network::Llama(llama) => llama.lm_head,
            Network::Bert(bert) => bert.projection().0,
            Network::Bart(bart) => bart.words,
        }
    }

    fn forward(&self, pass: &mut Pass, mut window: Window) -> Var {
        let x = self.trunk(pass, &mut window);
        self.finish(pass, x)
    }

    pub(crate) fn trunk(&self, pass: &mut Pass, window: &mut Window) -> Var {
        let (b, t) = (window.batch, window.seq_len);
        assert!(b * t > 0 && window.ids.len() == b * t, "{} ids for {b}×{t}", window.ids.len());
        let end = window.first_position() + t;
        assert!(end <= self.config.context, "{end} tokens, context {}", self.config.context);
        match &self.network {
            Network::Gpt2(gpt2) => gpt2.trunk(&self.config, pass, window),
            Network::Llama(llama) => llama.trunk(&self.config, pass, window),
            Network::Bert(bert) => bert.trunk(&self.config, pass, window),
            Network::Bart(_) => panic!("an encoder-decoder takes pairs: Model::seq_loss"),
        }
    }

    pub(crate) fn finish(&self, pass: &mut Pass, x: Var) -> Var {
        match &self.network {
            Network::Gpt2(gpt2) => gpt2.finish(&self.config, pass, x),
            Network::Llama(llama) => llama.finish(&self.config, pass, x),
            // Each block ends in a norm.
            Network::Bert(_) | Network::Bart(_) => x,
        }
    }
}

/// Everything that a training pass minimises.
#[derive(Clone, Copy, Debug)]
pub struct Objective<'a> {
    /// The loss of every token by itself, for the next token and for those further ahead.
    pub spec: LossSpec,
    /// What enters the next token's loss besides: a second pass, teachers.
    pub joint: Joint<'a>,
    /// Weight of each head that looks further ahead; 0 leaves them out.
    pub ahead: f32,
    /// One number for each token of the batch: where it is 0, noise over whole tokens leaves the
    /// token alone. `None`: it acts on all.
    pub marks: Option<&'a [u32]>,
}

/// Every sequence twice, one behind the other.
fn twice(values: &[u32], seq_len: usize) -> Vec<u32> {
    values.chunks(seq_len).flat_map(|sequence| sequence.iter().chain(sequence)).copied().collect()
}

/// The targets of a head that looks `places` further ahead; where a window has none, [`IGNORE`].
fn shifted(targets: &[u32], seq_len: usize, places: usize) -> Vec<u32> {
    let sequences = targets.chunks(seq_len).flat_map(|sequence| {
        let left = sequence.iter().skip(places).copied();
        left.chain(std::iter::repeat(IGNORE)).take(sequence.len())
    });
    sequences.collect()
}

/// The head's weight. A language model's is the embedding itself when tied, else a matrix of its
/// own at the end; any other head has its own.
pub(crate) fn push_head(config: &ModelConfig, layout: &mut Layout, embedding: Weight) -> Weight {
    let width = config.width;
    match (config.head, config.tied) {
        (Head::LanguageModel, Tied::Yes) => embedding,
        (Head::LanguageModel, Tied::No) => {
            layout.push("lm_head.weight", &[config.vocabulary, width], Role::Head)
        }
        (Head::Classification { labels }, _) => {
            layout.push("score.weight", &[labels, width], Role::Head)
        }
        (Head::Span | Head::Features, _) => unreachable!("a validated configuration"),
    }
}
