//! What the tape remembers of each op: arguments, inputs, output and saved buffers.

use crate::arena::{Arena, Buffer};
use crate::gemm::Accumulate;
use crate::math::Activation;
use crate::ops::attention::cross::CrossShape;
use crate::ops::dropout::Site;
use crate::ops::norm::Norm;
use crate::ops::{HeadShape, attention, embedding};
use crate::parameters::Weight;
use crate::profile::Work;
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
        /// Which of them noise over whole tokens acts on; `None` for all.
        marks: Option<Vec<u32>>,
        /// The one whose vector is not trained.
        fixed: Option<u32>,
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
        /// Of sequences that are attended whole; `None` where attention is causal.
        lengths: Option<Vec<u32>>,
    },
    CrossAttention {
        /// Keys and values; the queries are the first input.
        kv: Var,
        shape: CrossShape,
        sites: attention::Sites,
        lengths: Vec<u32>,
    },
    Dropout {
        site: Site,
    },
    Residual {
        branch: Var,
        site: Option<Site>,
        scale: f32,
    },
    Rows {
        rows: Vec<u32>,
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
            Op::CrossAttention { .. } => ("cross_attention", "cross_attention backward"),
            Op::Dropout { .. } => ("dropout", "dropout backward"),
            Op::Residual { .. } => ("residual", "residual backward"),
            Op::Rows { .. } => ("rows", "rows backward"),
        }
    }

    /// Returns what it holds beside its tensors.
    pub fn give_back(self, arena: &mut Arena) {
        match self {
            Op::Embedding { ids, marks, .. } => {
                arena.give_ids(ids);
                marks.into_iter().for_each(|marks| arena.give_ids(marks));
            }
            Op::Attention { lengths: Some(ids), .. }
            | Op::CrossAttention { lengths: ids, .. }
            | Op::Rows { rows: ids } => arena.give_ids(ids),
            _ => {}
        }
    }

    /// The input beside [`Node::x`].
    pub fn second(&self) -> Option<Var> {
        match self {
            Op::Residual { branch, .. } => Some(*branch),
            Op::CrossAttention { kv, .. } => Some(*kv),
            _ => None,
        }
    }

    /// Rows and columns of the weight that sets the cost.
    pub fn size(&self) -> Option<[usize; 2]> {
        match self {
            Op::Linear { weight, .. } => Some([weight.rows, weight.cols]),
            _ => None,
        }
    }

    /// Floating-point operations of the forward pass's products over `rows` rows.
    pub fn flops(&self, rows: usize) -> f64 {
        match self {
            Op::Linear { weight, .. } => 2.0 * rows as f64 * weight.len() as f64,
            Op::Attention { shape, lengths, .. } => {
                let causal = shape.seq_len as f64 * (shape.seq_len as f64 + 1.0) / 2.0;
                let pairs = match lengths {
                    None => shape.batch as f64 * causal,
                    Some(lengths) => lengths.iter().map(|&length| f64::from(length).powi(2)).sum(),
                };
                4.0 * (shape.heads * shape.head_width) as f64 * pairs
            }
            Op::CrossAttention { shape, lengths, .. } => {
                let keys: f64 = lengths.iter().map(|&length| f64::from(length)).sum();
                4.0 * (shape.heads * shape.head_width) as f64 * shape.queries as f64 * keys
            }
            _ => 0.0,
        }
    }

    /// The work of the forward pass whose output is `[rows, cols]` and stored in that way; vectors
    /// as long as a row (gains, statistics) do not count.
    pub fn forward_work(&self, rows: usize, cols: usize, storage: Storages) -> Work {
        let (n, own) = (rows * cols, storage.value.bytes());
        match self {
            Op::Linear { .. } | Op::Attention { .. } | Op::CrossAttention { .. } => {
                Work::products(self.flops(rows))
            }
            // A vector of each table in, the sum out.
            Op::Embedding { positions, .. } => Work::moved(n * (2 + positions.iter().count())),
            // x in, y out.
            Op::Norm { .. } => Work::bytes(n * (F32 + own)),
            Op::HeadNorm { .. } => Work::bytes(2 * n * own),
            // Gate and up in, y out.
            Op::Swiglu { .. } => Work::bytes(3 * n * own),
            // Queries and keys in and out, in place; values stay where they are.
            Op::Rotary { shape, .. } => Work::bytes(2 * rotated(shape) * own),
            // x in, y out.
            Op::Dropout { .. } => Work::bytes(2 * n * own),
            // x and branch in, y out.
            Op::Residual { .. } => Work::moved(3 * n),
            // Rows in and out.
            Op::Rows { .. } => Work::moved(2 * n),
        }
    }

    /// The work of the backward pass for an output of `[rows, cols]` stored in that way, for a
    /// linear map that of its elementwise part alone. `into` is what happens to the gradient of
    /// the first input, and `branch` the storage of a residual's second.
    pub fn backward_work(
        &self,
        (rows, cols): (usize, usize),
        storage: Storages,
        into: Accumulate,
        branch: Storage,
    ) -> Work {
        let (n, own) = (rows * cols, storage.gradient.bytes());
        match self {
            // Two products for one and scores anew, five where forward has two.
            Op::Attention { .. } | Op::CrossAttention { .. } => {
                Work::products(2.5 * self.flops(rows))
            }
            // dy in, the token table's rows in and out; dy again into the positions' rows; dropout
            // rewrites dy first.
            Op::Embedding { positions, sites, .. } => {
                let dropout = 2 * sites.output.iter().count();
                Work::moved(n * (3 + positions.iter().count() + dropout))
            }
            // dy and x in, dx out, which may be there already.
            Op::Norm { .. } => Work::moved(n * if into == Accumulate::Add { 4 } else { 3 }),
            Op::Linear { bias, activation, site, .. } => {
                let read = n * own * usize::from(bias.is_some());
                let derived = n * (2 * own + storage.value.bytes());
                let derived = derived * usize::from(*activation != Activation::None);
                let dropout = 2 * n * own * usize::from(site.is_some());
                // One pass does all three; the longest says what it moves.
                Work::bytes(read.max(derived).max(dropout))
            }
            // dy, gate and up in, two gradients out; dropout rewrites dy first.
            Op::Swiglu { site } => Work::bytes(n * own * (5 + usize::from(site.is_some()))),
            // dy and x of queries and keys in, dx out in place of dy.
            Op::HeadNorm { shape, .. } => Work::bytes(3 * rotated(shape) * own),
            Op::Rotary { shape, .. } => Work::bytes(2 * rotated(shape) * own),
            // dy in and out, in place.
            Op::Dropout { .. } => Work::bytes(2 * n * own),
            // dy in, the branch's gradient out.
            Op::Residual { .. } => Work::bytes(n * (F32 + branch.bytes())),
            // dy in, the rows of the gradient in and out.
            Op::Rows { .. } => Work::moved(3 * n),
        }
    }
}

/// Bytes of a number.
const F32: usize = 4;

/// Numbers of all queries and keys.
fn rotated(shape: &HeadShape) -> usize {
    shape.rows() * (shape.heads + shape.kv_heads) * shape.head_width
}
