//! The tape: a model calls ops on a [`Pass`], which records them and walks them backwards.
//!
//! Buffers come from an arena and return to it as soon as nothing needs them: gradients when
//! they have been consumed, values when their node's backward is done. After the first step a
//! step of the same shape allocates nothing ([`Tape::allocations`]).
//!
//! Some ops work in the memory of an input that nobody needs afterwards: [`Pass::residual`] in
//! that of its branch, [`Pass::rotary`] and [`Pass::dropout`] in that of their argument. Such a
//! [`Var`] has no value from then on.

mod backward;
mod forward;
mod node;
mod paired;
mod recompute;
mod wide;

use std::ops::Range;
use std::sync::Arc;

use crate::accumulator::Accumulator;
use crate::arena::{Arena, Buffer};
use crate::device::{Device, Precision};
use crate::math::Activation;
use crate::ops::attention::Reach;
use crate::ops::attention_cached::KvLayer;
use crate::ops::class_loss::ClassLoss;
use crate::ops::cross_entropy::joint::Joint;
use crate::ops::cross_entropy::{LossReport, LossSpec};
use crate::ops::dropout::{Dropout, NoiseKey, Site};
use crate::ops::norm::Norm;
use crate::ops::uniform::{Uniform, UniformSite};
use crate::ops::{HeadShape, attention, embedding, rotary};
use crate::parameters::Weight;
use crate::profile::{Profile, Profiler};
use crate::rounded::RoundedWeights;
use crate::values::{Storage, Values};
use forward::Bias;
use node::{Node, Op, Storages, Tensor};

pub use node::Var;
pub use recompute::Activations;

/// Buffers and the record of a pass; lives as long as training does.
pub struct Tape {
    /// Of training passes; may change between two of them.
    pub activations: Activations,
    device: Arc<Device>,
    arena: Arena,
    tensors: Vec<Tensor>,
    nodes: Vec<Node>,
    segments: recompute::Segments,
    token_nll: Buffer,
    /// Memory of [`Accumulator`] between passes.
    unwritten: Vec<Range<usize>>,
    rotary: rotary::Table,
    profiler: Profiler,
}

impl Tape {
    /// A tape on a device, with nothing allocated yet.
    pub fn new(device: Arc<Device>) -> Tape {
        Tape {
            activations: Activations::Keep,
            device,
            arena: Arena::default(),
            tensors: Vec::new(),
            nodes: Vec::new(),
            segments: recompute::Segments::default(),
            unwritten: Vec::new(),
            token_nll: Buffer::default(),
            rotary: rotary::Table::default(),
            profiler: Profiler::default(),
        }
    }

    /// The device that the ops run on.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Starts a pass over the flat vector of parameters.
    ///
    /// # Panics
    /// If gradients, or rounded weights, differ in length from the parameters.
    pub fn pass<'a>(&'a mut self, parameters: &'a [f32], kind: PassKind<'a>) -> Pass<'a> {
        self.clear();
        let mut pass = Pass {
            tape: self,
            parameters,
            rounded: None,
            gradients: None,
            noise: None,
            seq_len: 1,
        };
        match kind {
            PassKind::Evaluate => {}
            PassKind::EvaluateRounded(rounded) => {
                assert_eq!(rounded.len(), parameters.len(), "a copy of all parameters");
                pass.rounded = Some(rounded);
            }
            PassKind::Train { gradients, noise } => {
                assert_eq!(gradients.len(), parameters.len(), "one gradient per parameter");
                let gradients = Accumulator::adding(gradients);
                (pass.gradients, pass.noise) = (Some(gradients), Some(noise));
            }
            PassKind::TrainFirst { gradients, noise } => {
                assert_eq!(gradients.len(), parameters.len(), "one gradient per parameter");
                let memory = std::mem::take(&mut pass.tape.unwritten);
                let gradients = Accumulator::overwriting(gradients, memory);
                (pass.gradients, pass.noise) = (Some(gradients), Some(noise));
            }
        }
        pass
    }

    /// Bytes of all buffers, in use or kept for reuse.
    pub fn arena_bytes(&self) -> usize {
        self.arena.bytes()
    }

    /// Fresh allocations so far; constant once steps repeat in shape.
    pub fn allocations(&self) -> u64 {
        self.arena.allocations()
    }

    /// Starts to time every op call.
    pub fn start_profile(&mut self) {
        self.profiler.begin();
    }

    /// Stops timing and returns what was measured since [`Tape::start_profile`].
    pub fn take_profile(&mut self) -> Option<Profile> {
        self.profiler.end()
    }

    /// Returns to the system all buffers that are kept for reuse.
    pub fn shrink(&mut self) {
        self.clear();
        self.arena.shrink();
    }

    /// Takes all buffers back into the arena.
    fn clear(&mut self) {
        let Tape { arena, tensors, nodes, token_nll, segments, .. } = self;
        segments.clear();
        for node in nodes.drain(..) {
            arena.give(node.saved);
            node.op.give_back(arena);
        }
        for tensor in tensors.drain(..) {
            for values in [tensor.value, tensor.gradient].into_iter().flatten() {
                values.give(arena);
            }
        }
        arena.give(std::mem::take(token_nll));
    }
}

/// What a pass is for.
pub enum PassKind<'a> {
    /// Values only, without noise.
    Evaluate,
    /// The same, to the bit, on a device in bf16: products of few rows read this copy of the
    /// parameters, half the bytes. For generation, whose speed is that of memory.
    EvaluateRounded(&'a RoundedWeights),
    /// Values, noise and gradients.
    Train {
        /// Accumulated into: one element per parameter.
        gradients: &'a mut [f32],
        /// Keys all masks of this micro-batch.
        noise: NoiseKey,
    },
    /// The same for the first of a step's micro-batches: what the gradients hold does not count.
    TrainFirst {
        /// Overwritten: one element per parameter, zero where no op had a gradient.
        gradients: &'a mut [f32],
        /// Keys all masks of this micro-batch.
        noise: NoiseKey,
    },
}

/// The noise of [`Pass::attention`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AttentionNoise {
    /// On the probabilities.
    pub probabilities: Option<Dropout>,
    /// On whole heads: one decision per sequence and head, whatever the sharing.
    pub heads: Option<Dropout>,
}

/// The noise of [`Pass::embedding`], in the order in which it acts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EmbeddingNoise<'a> {
    /// Tokens read as random ones of the table, each with probability p; nothing is rescaled, and
    /// what shares a decision does not matter.
    pub replace: Option<Dropout>,
    /// On whole token vectors; positions are kept.
    pub tokens: Option<Dropout>,
    /// Added to the sum of token and position.
    pub uniform: Option<Uniform>,
    /// On the elements of the sum.
    pub output: Option<Dropout>,
    /// One number for each id: where it is 0, `replace` and `tokens` leave the token as it is, and
    /// unscaled. `None`: they act on all.
    pub marks: Option<&'a [u32]>,
}

/// One forward pass, and in training its way back. All tensors are row-major `[rows, cols]`.
pub struct Pass<'a> {
    tape: &'a mut Tape,
    parameters: &'a [f32],
    rounded: Option<&'a RoundedWeights>,
    gradients: Option<Accumulator<'a>>,
    noise: Option<NoiseKey>,
    /// Positions per sequence, as the embedding was told: masks depend on it.
    seq_len: usize,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(gradients) = self.gradients.take() {
            self.tape.unwritten = gradients.into_memory();
        }
        self.tape.clear();
    }
}

impl<'a> Pass<'a> {
    /// Whether the pass has noise and gradients.
    pub fn is_training(&self) -> bool {
        self.gradients.is_some()
    }

    /// The key of the noise; `None` in evaluation.
    pub fn noise(&self) -> Option<NoiseKey> {
        self.noise
    }

    /// (rows, cols) of a variable.
    pub fn shape(&self, v: Var) -> (usize, usize) {
        let tensor = &self.tape.tensors[v.0];
        (tensor.rows, tensor.cols)
    }

    /// The values of a variable, row-major.
    ///
    /// # Panics
    /// If an op has taken over its memory, or backward or [`Pass::keep_only`] has released it, or
    /// if it is kept in bf16, as in training in that precision.
    pub fn value(&self, v: Var) -> &[f32] {
        self.tape.tensors[v.0].value().as_floats()
    }

    /// Ends a layer, of which only `kept` is read by those that follow: releases all other values
    /// in evaluation, and those made since the last call under [`Activations::Recompute`], so that
    /// the next layer works in the same memory. Training under [`Activations::Keep`] loses nothing.
    pub fn keep_only(&mut self, kept: &[Var]) {
        if self.is_training() {
            if self.tape.activations == Activations::Recompute {
                self.end_segment(kept);
            }
            return;
        }
        let Tape { arena, tensors, .. } = &mut *self.tape;
        for (index, tensor) in tensors.iter_mut().enumerate() {
            if !kept.contains(&Var(index))
                && let Some(value) = tensor.value.take()
            {
                value.give(arena);
            }
        }
    }

    /// Adds to the gradient of a variable from outside, for objectives the tape does not know.
    ///
    /// # Panics
    /// In evaluation, or if `gradient` has another size than the variable.
    pub fn add_gradient(&mut self, v: Var, gradient: &[f32]) {
        assert!(self.is_training(), "an evaluation pass has no gradients");
        let (rows, cols) = self.shape(v);
        assert_eq!(gradient.len(), rows * cols, "add_gradient: size of the gradient");
        let mut buffer = self.tape.arena.take(gradient.len());
        buffer.copy_from_slice(gradient);
        self.accumulate(v, Values::floats(buffer));
    }

    /// How this pass stores what only products and attention read.
    fn narrow(&self) -> Storage {
        match self.tape.device.precision() {
            Precision::Bf16 if self.is_training() => Storage::Halves,
            _ => Storage::Floats,
        }
    }

    /// The storage of an op's output whose kernels take one type: its input's.
    fn like(&self, x: Var) -> Storages {
        let storage = self.tape.tensors[x.0].storage.value;
        Storages { value: storage, gradient: storage }
    }

    fn site(&self, dropout: Option<Dropout>) -> Option<Site> {
        Site::new(dropout, self.noise, self.seq_len)
    }

    /// dropout(token_dropout(tokens[id]) + positions[first + t] + noise): `[N, C]` from ids `[N]`.
    ///
    /// `tokens` is `[V, C]`; `positions` is a table `[context, C]` and the first position in use;
    /// `seq_len` is T, N a multiple of it.
    ///
    /// # Panics
    /// If an id or position is outside its table.
    pub fn embedding(
        &mut self,
        tokens: Weight,
        ids: &[u32],
        positions: Option<(Weight, usize)>,
        seq_len: usize,
        noise: EmbeddingNoise<'_>,
    ) -> Var {
        self.embedding_besides(tokens, ids, positions, seq_len, noise, None)
    }

    /// As [`Pass::embedding`], where the vector of the token `fixed` is not trained by it.
    ///
    /// # Panics
    /// As [`Pass::embedding`].
    pub fn embedding_besides(
        &mut self,
        tokens: Weight,
        ids: &[u32],
        positions: Option<(Weight, usize)>,
        seq_len: usize,
        noise: EmbeddingNoise<'_>,
        fixed: Option<u32>,
    ) -> Var {
        let whole = seq_len > 0 && !ids.is_empty() && ids.len().is_multiple_of(seq_len);
        assert!(whole, "embedding: {} ids are not sequences of {seq_len}", ids.len());
        if let Some((table, _)) = positions {
            assert_eq!(table.cols, tokens.cols, "embedding: width of the position table");
        }
        if let Some(marks) = noise.marks {
            assert_eq!(marks.len(), ids.len(), "embedding: marks for the ids");
        }
        self.seq_len = seq_len;
        let sites = embedding::Sites {
            output: self.site(noise.output),
            uniform: UniformSite::new(noise.uniform, self.noise, seq_len),
            tokens: self.site(noise.tokens),
        };
        let replace = self.site(noise.replace);
        let mut ids = self.tape.arena.take_ids(ids);
        if let Some(site) = replace {
            for (row, id) in ids.iter_mut().enumerate() {
                if noise.marks.is_none_or(|marks| marks[row] != 0) {
                    *id = site.replacement(row, tokens.rows).unwrap_or(*id);
                }
            }
        }
        // Those of replaced tokens are not needed any more.
        let marks = noise.marks.filter(|_| sites.tokens.is_some());
        let marks = marks.map(|marks| self.tape.arena.take_ids(marks));
        let rows = ids.len();
        let out = self.tensor(rows, tokens.cols, Storages::default());
        self.record(Op::Embedding { tokens, ids, marks, fixed, positions, sites }, out, out)
    }

    /// LayerNorm or RMSNorm of every row: `[N, C]`; gain and bias are vectors of C.
    pub fn norm(
        &mut self,
        x: Var,
        kind: Norm,
        gain: Weight,
        bias: Option<Weight>,
        epsilon: f32,
    ) -> Var {
        let (rows, cols) = self.shape(x);
        assert_eq!(gain.len(), cols, "norm: length of the gain");
        assert!(bias.is_none_or(|bias| bias.len() == cols), "norm: length of the bias");
        let storage = Storages { value: self.narrow(), gradient: Storage::Floats };
        let out = self.tensor(rows, cols, storage);
        self.record(Op::Norm { kind, gain, bias, epsilon }, x, out)
    }

    /// dropout(activation(x·Wᵀ + b)): `[N, out]` from `[N, in]`; `weight` is `[out, in]`.
    ///
    /// Where training keeps activations in bf16, outputs wider than their inputs are (queries,
    /// keys and values; hidden layers), the others are not (what joins the residual stream).
    pub fn linear(
        &mut self,
        x: Var,
        weight: Weight,
        bias: Option<Weight>,
        activation: Activation,
        dropout: Option<Dropout>,
    ) -> Var {
        let (rows, cols) = self.shape(x);
        assert_eq!(weight.cols, cols, "linear: width of the weight");
        assert!(bias.is_none_or(|bias| bias.len() == weight.rows), "linear: length of the bias");
        let widens = weight.rows > weight.cols || activation != Activation::None;
        let value = if widens { self.narrow() } else { Storage::Floats };
        let out = self.tensor(rows, weight.rows, Storages { value, gradient: self.narrow() });
        let site = self.site(dropout);
        self.record(Op::Linear { weight, bias, activation, site }, x, out)
    }

    /// dropout(silu(gate)·up): `[N, F]` from rows `[N, 2F]` that hold gate, then up.
    pub fn swiglu(&mut self, gate_up: Var, dropout: Option<Dropout>) -> Var {
        let (rows, cols) = self.shape(gate_up);
        assert!(cols.is_multiple_of(2), "swiglu: {cols} columns are not gate and up");
        let out = self.tensor(rows, cols / 2, self.like(gate_up));
        let site = self.site(dropout);
        self.record(Op::Swiglu { site }, gate_up, out)
    }

    /// RMS normalisation of each query and key head over D, as in Qwen3: same shape as `qkv`;
    /// the gains are vectors of D.
    pub fn head_norm(
        &mut self,
        qkv: Var,
        shape: HeadShape,
        q_gain: Weight,
        k_gain: Weight,
        epsilon: f32,
    ) -> Var {
        self.assert_heads(qkv, shape);
        let out = self.tensor(shape.rows(), shape.cols(), self.like(qkv));
        self.record(Op::HeadNorm { shape, q_gain, k_gain, epsilon }, qkv, out)
    }

    /// Rotary positions on query and key heads, Llama's convention (rotate_half), for positions
    /// `first_position..`. Takes over the memory of `qkv`.
    pub fn rotary(&mut self, qkv: Var, shape: HeadShape, theta: f32, first_position: usize) -> Var {
        self.assert_heads(qkv, shape);
        let out = self.tensor(shape.rows(), shape.cols(), self.like(qkv));
        self.record(Op::Rotary { shape, theta, first_position }, qkv, out)
    }

    /// Causal attention, scale 1/√D: `[N, H·D]` from `qkv` `[N, (H+2K)·D]`.
    pub fn attention(&mut self, qkv: Var, shape: HeadShape, noise: AttentionNoise) -> Var {
        self.attention_within(qkv, shape, Reach::Causal, noise)
    }

    /// As [`Pass::attention`], over the keys in `reach`.
    ///
    /// # Panics
    /// If a length is 0 or larger than T.
    pub fn attention_within(
        &mut self,
        qkv: Var,
        shape: HeadShape,
        reach: Reach,
        noise: AttentionNoise,
    ) -> Var {
        self.assert_heads(qkv, shape);
        reach.assert_fits(shape);
        let lengths = match reach {
            Reach::Causal => None,
            Reach::Whole { lengths } => Some(self.tape.arena.take_ids(lengths)),
        };
        let out = self.tensor(shape.rows(), shape.heads * shape.head_width, self.like(qkv));
        let sites = attention::Sites {
            probabilities: self.site(noise.probabilities),
            heads: self.site(noise.heads),
        };
        self.record(Op::Attention { shape, sites, lengths }, qkv, out)
    }

    /// x + scale·dropout(branch), `[N, C]`. Takes over the memory of `branch`.
    pub fn residual(&mut self, x: Var, branch: Var, dropout: Option<Dropout>, scale: f32) -> Var {
        assert_ne!(x, branch, "residual: a branch is another variable than x");
        assert_eq!(self.shape(x), self.shape(branch), "residual: shapes of x and branch");
        let (rows, cols) = self.shape(x);
        let out = self.tensor(rows, cols, Storages::default());
        let site = self.site(dropout);
        self.record(Op::Residual { branch, site, scale }, x, out)
    }

    /// Appends the keys and values of `qkv` to the cache, then attends over all of it:
    /// `[N, H·D]`. Evaluation only.
    ///
    /// # Panics
    /// In training, or if the cache has no room.
    pub fn attention_cached(&mut self, qkv: Var, shape: HeadShape, cache: &mut KvLayer) -> Var {
        self.assert_heads(qkv, shape);
        self.assert_evaluating("attention_cached");
        forward::attention_cached(self, qkv, shape, cache)
    }

    /// The rows `rows` of x, in that order, as f32: `[R, C]` from `[N, C]`. A row may be taken more
    /// than once.
    ///
    /// # Panics
    /// If a row is outside x.
    pub fn rows(&mut self, x: Var, rows: &[u32]) -> Var {
        let (count, cols) = self.shape(x);
        let worst = rows.iter().copied().max().unwrap_or(0);
        assert!((worst as usize) < count, "rows: row {worst} of {count}");
        let rows = self.tape.arena.take_ids(rows);
        let out = self.tensor(rows.len(), cols, Storages::default());
        self.record(Op::Rows { rows }, x, out)
    }

    /// x·headᵀ: `[N, V]`. Evaluation only; training uses [`Pass::cross_entropy`].
    pub fn logits(&mut self, x: Var, head: Weight) -> Var {
        self.assert_evaluating("logits");
        self.linear(x, head, None, Activation::None, None)
    }

    /// Softmax cross-entropy of x·headᵀ against `targets` `[N]`, some of which may be
    /// [`crate::IGNORE`]; see [`LossSpec`]. In training adds the head's gradient at once and
    /// sets x's, for [`Pass::backward`] to start from.
    pub fn cross_entropy(
        &mut self,
        x: Var,
        head: Weight,
        targets: &[u32],
        spec: &LossSpec,
    ) -> LossReport {
        let (rows, cols) = self.shape(x);
        assert_eq!(targets.len(), rows, "cross_entropy: one target per row");
        assert_eq!(head.cols, cols, "cross_entropy: width of the head");
        forward::cross_entropy(self, x, (head, Bias::None), targets, (spec, &Joint::default()))
    }

    /// As [`Pass::cross_entropy`], where a row's loss takes more than its own logits: x is
    /// `[copies·N, C]` for `targets` `[N]`; see [`Joint`]. Reported sums are over targets, each the
    /// mean of its passes.
    pub fn joint_cross_entropy(
        &mut self,
        x: Var,
        head: Weight,
        targets: &[u32],
        spec: &LossSpec,
        joint: &Joint,
    ) -> LossReport {
        let (rows, cols) = self.shape(x);
        assert_eq!(targets.len() * joint.copies(), rows, "joint_cross_entropy: rows per target");
        assert_eq!(head.cols, cols, "joint_cross_entropy: width of the head");
        forward::cross_entropy(self, x, (head, Bias::None), targets, (spec, joint))
    }

    /// The loss of one class per row: logits `[copies·N, K]` against `targets` `[N]`, some of which
    /// may be [`crate::IGNORE`]; see [`ClassLoss`]. In training sets the logits' gradient, for
    /// [`Pass::backward`] to start from.
    ///
    /// # Panics
    /// If sizes disagree, or a target is not below K.
    pub fn class_loss(&mut self, logits: Var, targets: &[u32], loss: &ClassLoss) -> LossReport {
        forward::class_loss(self, logits, targets, loss)
    }

    /// Plain negative log-likelihood of each target of the last [`Pass::cross_entropy`], nats;
    /// 0 where ignored.
    pub fn token_nll(&self) -> &[f32] {
        &self.tape.token_nll
    }

    /// Walks the tape in reverse, adding to the gradients of all parameters used, or writing them.
    ///
    /// # Panics
    /// In evaluation.
    pub fn backward(&mut self) {
        assert!(self.is_training(), "an evaluation pass has no backward");
        loop {
            self.restore_segment();
            let Some(node) = self.tape.nodes.pop() else { break };
            self.backward_node(node);
        }
        self.parameter_gradients().finish();
    }

    /// The gradients of the parameters.
    fn parameter_gradients(&mut self) -> &mut Accumulator<'a> {
        self.gradients.as_mut().expect("training")
    }

    fn assert_heads(&self, qkv: Var, shape: HeadShape) {
        shape.assert_whole();
        assert_eq!(self.shape(qkv), (shape.rows(), shape.cols()), "qkv does not fit {shape:?}");
    }

    fn assert_evaluating(&self, op: &str) {
        assert!(!self.is_training(), "{op} has no gradient: evaluation passes only");
    }
}
