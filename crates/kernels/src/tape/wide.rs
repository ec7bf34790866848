//! Ops of models whose residual stream begins anew after every branch (post-normalisation): norms
//! and linear maps with f32 results, dropout by itself, and an output projection with a bias.

use super::forward::{self, Bias};
use super::node::{Op, Storages};
use super::{Pass, Var};
use crate::math::Activation;
use crate::ops::cross_entropy::joint::Joint;
use crate::ops::cross_entropy::{LossReport, LossSpec};
use crate::ops::dropout::Dropout;
use crate::ops::norm::Norm;
use crate::parameters::Weight;

impl Pass<'_> {
    /// As [`Pass::norm`], for sums that begin a residual stream anew (post-normalisation): the
    /// result is f32 in any precision, as [`Pass::residual`] takes it.
    pub fn norm_wide(
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
        let out = self.tensor(rows, cols, Storages::default());
        self.record(Op::Norm { kind, gain, bias, epsilon }, x, out)
    }

    /// As [`Pass::linear`], for what a norm reads next: the result is f32 in any precision.
    pub fn linear_wide(
        &mut self,
        x: Var,
        weight: Weight,
        bias: Option<Weight>,
        activation: Activation,
    ) -> Var {
        let (rows, cols) = self.shape(x);
        assert_eq!(weight.cols, cols, "linear: width of the weight");
        assert!(bias.is_none_or(|bias| bias.len() == weight.rows), "linear: length of the bias");
        let out = self.tensor(rows, weight.rows, Storages::default());
        self.record(Op::Linear { weight, bias, activation, site: None }, x, out)
    }

    /// dropout(x), same shape, where no other op can apply it; x itself where there is none.
    /// Takes over the memory of x.
    pub fn dropout(&mut self, x: Var, dropout: Option<Dropout>) -> Var {
        let Some(site) = self.site(dropout) else { return x };
        let (rows, cols) = self.shape(x);
        let storage = self.tape.tensors[x.0].storage;
        let out = self.tensor(rows, cols, storage);
        self.record(Op::Dropout { site }, x, out)
    }

    /// As [`Pass::joint_cross_entropy`], of x·headᵀ + bias; `bias` is a vector of V.
    pub fn biased_cross_entropy(
        &mut self,
        x: Var,
        (head, bias): (Weight, Option<Weight>),
        targets: &[u32],
        spec: &LossSpec,
        joint: &Joint,
    ) -> LossReport {
        let (rows, cols) = self.shape(x);
        assert_eq!(targets.len() * joint.copies(), rows, "biased_cross_entropy: rows per target");
        assert_eq!(head.cols, cols, "biased_cross_entropy: width of the head");
        assert!(bias.is_none_or(|bias| bias.len() == head.rows), "cross_entropy: length of bias");
        let bias = bias.map_or(Bias::None, Bias::Trained);
        forward::cross_entropy(self, x, (head, bias), targets, (spec, joint))
    }
}
