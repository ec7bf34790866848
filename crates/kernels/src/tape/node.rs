//! What the tape remembers of each op: arguments, inputs, output and saved buffers.

use crate::arena::Buffer;
use crate::math::Activation;
use crate::ops::dropout::Site;
use crate::ops::norm::Norm;
use crate::ops::{HeadShape, attention, embedding};
use crate::parameters::Weight;
use crate::values::{Storage, Values};

/// A handle of a tensor `[rows, cols]` on the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Var(pub(crate) usize);

/// A tensor on the tape.
#[derive(Debug, Default)]
pub(crate) struct Tensor {
    pub rows: usize,
    pub cols: usize,
    pub value: Option<Values>,
    pub gradient: Option<Values>,
    /// How value and gradient are stored.
    pub storage: Storages,
    /// Whether a node's backward reads the value, so that no op may work in its memory.
    pub pinned: Pinned,
}

impl Tensor {
    /// The value, which no op has taken over and nothing has released.
    pub fn value(&self) -> &Values {
        self.value.as_ref().expect("the variable's value was taken over or released")
    }
}

/// See [`Tensor::storage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Storages {
    pub value: Storage,
    pub gradient: Storage,
}

/// See [`Tensor::pinned`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pinned {
    #[default]
    No,
    Yes,
}

/// One recorded op.
#[derive(Debug)]
pub(crate) struct Node {
    pub op: Op,
    /// The first input; for an embedding the output itself.
    pub x: Var,
    pub out: Var,
    /// What the op keeps for its backward besides inputs and output; may be empty.
    pub saved: Buffer,
    /// Whether backward runs it a second time first.
    pub replay: Replay,
}

/// See [`Node::replay`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Replay {
    #[default]
    No,
    Yes,
}

/// An op with its arguments.
#[derive(Debug)]
pub(crate) enum Op {
    Embedding {
        tokens: Weight,
        ids: Vec<u32>,
        positions: Option<(Weight, usize)>,
        sites: embedding::Sites,
    },
    Norm {
        kind: Norm,
        gain: Weight,
        bias: Option<Weight>,
        epsilon: f32,
    },
    Linear {
        weight: Weight,
        bias: Option<Weight>,
        activation: Activation,
        site: Option<Site>,
    },
    Swiglu {
        site: Option<Site>,
    },
    HeadNorm {
        shape: HeadShape,
        q_gain: Weight,
        k_gain: Weight,
        epsilon: f32,
    },
    Rotary {
        shape: HeadShape,
        theta: f32,
        first_position: usize,
    },
    Attention {
        shape: HeadShape,
        sites: attention::Sites,
    },
    Residual {
        branch: Var,
        site: Option<Site>,
        scale: f32,
    },
}

impl Op {
    /// What a profile calls the forward and the backward pass.
    pub fn names(&self) -> (&'static str, &'static str) {
        match self {
            Op::Embedding { .. } => ("embedding", "embedding backward"),
            Op::Norm { .. } => ("norm", "norm backward"),
            Op::Linear { .. } => ("linear", "linear backward activation"),
            Op::Swiglu { .. } => ("swiglu", "swiglu backward"),
            Op::HeadNorm { .. } => ("head_norm", "head_norm backward"),
            Op::Rotary { .. } => ("rotary", "rotary backward"),
            Op::Attention { .. } => ("attention", "attention backward"),
            Op::Residual { .. } => ("residual", "residual backward"),
        }
    }

    /// Floating-point operations of the forward pass's products over `rows` rows.
    pub fn flops(&self, rows: usize) -> f64 {
        match self {
            Op::Linear { weight, .. } => 2.0 * rows as f64 * weight.len() as f64,
            Op::Attention { shape, .. } => {
                let pairs = shape.seq_len as f64 * (shape.seq_len as f64 + 1.0) / 2.0;
                4.0 * (shape.batch * shape.heads * shape.head_width) as f64 * pairs
            }
            _ => 0.0,
        }
    }
}
