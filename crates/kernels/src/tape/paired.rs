//! Ops of models that read one sequence to write another: attention over the other sequence, sums
//! with what is not trained, and an output projection with an offset that is not.

use super::forward::{self, Bias};
use super::node::{Op, Storages};
use super::{AttentionNoise, Pass, Tape, Var};
use crate::math::Activation;
use crate::ops::attention::Sites;
use crate::ops::attention::cross::{self, CrossShape};
use crate::ops::cross_entropy::joint::Joint;
use crate::ops::cross_entropy::{LossReport, LossSpec};
use crate::parameters::Weight;
use crate::values::Values;

impl Pass<'_> {
    /// Values from outside, which take no gradient: `[rows, cols]`.
    ///
    /// # Panics
    /// If there are not rows·cols values.
    pub fn constant(&mut self, values: &[f32], rows: usize, cols: usize) -> Var {
        assert_eq!(values.len(), rows * cols, "constant: {rows}×{cols} values");
        let out = self.tensor(rows, cols, Storages::default());
        let mut buffer = self.tape.arena.take(values.len());
        buffer.copy_from_slice(values);
        self.tape.tensors[out.0].value = Some(Values::floats(buffer));
        out
    }

    /// As [`Pass::linear`], for what attention reads next: stored in bf16 where training in that
    /// precision does so.
    pub fn linear_narrow(&mut self, x: Var, weight: Weight, bias: Option<Weight>) -> Var {
        let (rows, cols) = self.shape(x);
        assert_eq!(weight.cols, cols, "linear: width of the weight");
        assert!(bias.is_none_or(|bias| bias.len() == weight.rows), "linear: length of the bias");
        let storage = Storages { value: self.narrow(), gradient: self.narrow() };
        let out = self.tensor(rows, weight.rows, storage);
        self.record(Op::Linear { weight, bias, activation: Activation::None, site: None }, x, out)
    }

    /// Attention of each sequence of queries over the whole sequence of the same number in `kv`,
    /// of which the first `lengths` positions are read, scale 1/√D: `[B·T, H·D]` from `q`
    /// `[B·T, H·D]` and `kv` `[B·S, 2·H·D]`, keys before values. Both are outputs of
    /// [`Pass::linear_narrow`], or stored alike.
    ///
    /// # Panics
    /// If a size disagrees, or a length is 0 or larger than S.
    pub fn cross_attention(
        &mut self,
        q: Var,
        kv: Var,
        (shape, lengths): (CrossShape, &[u32]),
        noise: AttentionNoise,
    ) -> Var {
        assert_eq!(self.shape(q), shape.query_size(), "the queries do not fit {shape:?}");
        assert_eq!(self.shape(kv), shape.key_size(), "keys and values do not fit {shape:?}");
        shape.assert_fits(lengths);
        let lengths = self.tape.arena.take_ids(lengths);
        let (rows, cols) = shape.query_size();
        let out = self.tensor(rows, cols, self.like(q));
        let sites =
            Sites { probabilities: self.site(noise.probabilities), heads: self.site(noise.heads) };
        self.record(Op::CrossAttention { kv, shape, sites, lengths }, q, out)
    }

    /// As [`Pass::cross_attention`], over keys and values that an earlier pass has computed:
    /// evaluation only.
    ///
    /// # Panics
    /// In training, and as [`Pass::cross_attention`].
    pub fn cross_attention_over(
        &mut self,
        q: Var,
        kv: &[f32],
        (shape, lengths): (CrossShape, &[u32]),
    ) -> Var {
        self.assert_evaluating("cross_attention_over");
        assert_eq!(self.shape(q), shape.query_size(), "the queries do not fit {shape:?}");
        let (rows, cols) = shape.query_size();
        let out = self.tensor(rows, cols, Storages::default());
        let Tape { device, arena, tensors, .. } = &mut *self.tape;
        let mut y = arena.take(rows * cols);
        let mut lse = arena.take(rows * shape.heads);
        let mut scratch = arena.take(cross::forward_scratch(device, shape));
        let (inputs, place) = ((tensors[q.0].value().as_floats(), kv), (shape, lengths));
        let sites = Sites { probabilities: None, heads: None };
        cross::forward(device, &mut y, &mut lse, inputs, place, sites, &mut scratch);
        arena.give(scratch);
        arena.give(lse);
        tensors[out.0].value = Some(Values::floats(y));
        out
    }

    /// As [`Pass::biased_cross_entropy`], of x·headᵀ + offset, where the offset `[V]` is not
    /// trained: it takes no gradient.
    pub fn offset_cross_entropy(
        &mut self,
        x: Var,
        (head, offset): (Weight, Weight),
        targets: &[u32],
        spec: &LossSpec,
        joint: &Joint,
    ) -> LossReport {
        let (rows, cols) = self.shape(x);
        assert_eq!(targets.len() * joint.copies(), rows, "offset_cross_entropy: rows per target");
        assert_eq!(head.cols, cols, "offset_cross_entropy: width of the head");
        assert_eq!(offset.len(), head.rows, "offset_cross_entropy: length of the offset");
        forward::cross_entropy(self, x, (head, Bias::Fixed(offset)), targets, (spec, joint))
    }
}
