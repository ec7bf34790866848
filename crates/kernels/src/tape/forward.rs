//! Wiring of the forward ops: buffers in, free functions called, nodes recorded.

use super::node::{Node, Op, Pinned, Replay, Storages, Tensor};
use super::{Pass, Tape, Var};
use crate::arena::{Arena, Buffer};
use crate::device::Device;
use crate::math::Activation;
use crate::ops::attention::Reach;
use crate::ops::attention::cross;
use crate::ops::attention_cached::{self, KvLayer};
use crate::ops::class_loss::{self, ClassLoss};
use crate::ops::cross_entropy::joint::{self, Joint};
use crate::ops::cross_entropy::{self, Gradients, Inputs, LossReport, LossSpec};
use crate::ops::{
    HeadShape, attention, embedding, head_norm, linear, norm, residual, rotary, rows, swiglu,
};
use crate::parameters::Weight;
use crate::values::{Element, Values, View, ViewMut, with_elements};

impl Pass<'_> {
    /// A new variable without a value.
    pub(super) fn tensor(&mut self, rows: usize, cols: usize, storage: Storages) -> Var {
        self.tape.tensors.push(Tensor { rows, cols, storage, ..Tensor::default() });
        Var(self.tape.tensors.len() - 1)
    }

    /// Runs the op and, in training, keeps it for backward.
    pub(super) fn record(&mut self, op: Op, x: Var, out: Var) -> Var {
        let mut node = Node { op, x, out, saved: Buffer::default(), replay: Replay::No };
        self.run(&mut node);
        if self.is_training() {
            self.pin(&node);
            self.tape.nodes.push(node);
        } else {
            self.tape.arena.give(node.saved);
            node.op.give_back(&mut self.tape.arena);
        }
        out
    }

    /// Computes the node's value, under the eyes of the profiler.
    pub(super) fn run(&mut self, node: &mut Node) {
        let since = self.tape.profiler.now();
        self.forward_node(node);
        let (rows, cols) = self.shape(node.out);
        let storage = self.tape.tensors[node.out.0].storage;
        let work = node.op.forward_work(rows, cols, storage);
        self.tape.profiler.span(node.op.names().0, node.op.size(), since, work);
    }

    /// Marks the values that this node's backward will read.
    fn pin(&mut self, node: &Node) {
        let (x, out) = match node.op {
            Op::Embedding { .. }
            | Op::Rotary { .. }
            | Op::Residual { .. }
            | Op::Dropout { .. }
            | Op::Rows { .. } => (Pinned::No, Pinned::No),
            Op::Norm { .. } | Op::Linear { .. } | Op::Swiglu { .. } | Op::HeadNorm { .. } => {
                (Pinned::Yes, Pinned::No)
            }
            Op::Attention { .. } => (Pinned::Yes, Pinned::Yes),
            Op::CrossAttention { kv, .. } => {
                self.tape.tensors[kv.0].pinned = Pinned::Yes;
                (Pinned::Yes, Pinned::Yes)
            }
        };
        for (var, pinned) in [(node.x, x), (node.out, out)] {
            if pinned == Pinned::Yes {
                self.tape.tensors[var.0].pinned = Pinned::Yes;
            }
        }
    }

    /// The value of `v` to be worked on: its own memory, or a copy where backward needs it.
    fn take_over(&mut self, v: Var) -> Values {
        let Tape { arena, tensors, .. } = &mut *self.tape;
        let tensor = &mut tensors[v.0];
        if tensor.pinned == Pinned::No {
            return tensor.value.take().expect("the variable's value was taken over or released");
        }
        tensor.value().copied(arena)
    }

    fn forward_node(&mut self, node: &mut Node) {
        let (_, cols) = self.shape(node.out);
        let value = match node.op {
            Op::Residual { branch, site, scale } => {
                let mut y = self.take_over(branch);
                let x = self.value(node.x);
                let device = &self.tape.device;
                residual::forward(device, y.as_floats_mut(), x, cols, site, scale);
                y
            }
            Op::Rotary { shape, theta, first_position } => {
                let mut y = self.take_over(node.x);
                let Tape { rotary: table, device, .. } = &mut *self.tape;
                table.prepare(theta, first_position, shape.seq_len, shape.head_width);
                with_elements!(mut y.view_mut(), y => {
                    rotary::rotate(device, y, table, shape, rotary::Turn::Forward);
                });
                y
            }
            Op::Dropout { site } => {
                let mut y = self.take_over(node.x);
                let device = &self.tape.device;
                with_elements!(mut y.view_mut(), y => {
                    embedding::backward_dropout(device, y, cols, site);
                });
                y
            }
            _ => self.forward_anew(node),
        };
        self.tape.tensors[node.out.0].value = Some(value);
    }

    /// The ops that write to memory of their own.
    fn forward_anew(&mut self, node: &mut Node) -> Values {
        let training = self.is_training();
        let (parameters, rounded, seq_len) = (self.parameters, self.rounded, self.seq_len);
        let (rows, cols) = self.shape(node.out);
        let Tape { device, arena, tensors, .. } = &mut *self.tape;
        let mut values = Values::take(arena, tensors[node.out.0].storage.value, rows * cols);
        let x = || tensors[node.x.0].value();
        let of = |weight: Weight| weight.of(parameters);
        let y = values.view_mut();
        match &node.op {
            Op::Embedding { .. } => {
                embed(device, values.as_floats_mut(), parameters, &node.op, [cols, seq_len]);
            }
            Op::Norm { kind, gain, bias, epsilon } => {
                let (gain, bias) = (of(*gain), bias.map(of));
                let terms = norm::Terms { kind: *kind, gain, bias, epsilon: *epsilon };
                node.saved = arena.take(2 * rows);
                let x = x().as_floats();
                with_elements!(mut y, y => norm::forward(device, y, &mut node.saved, x, terms));
            }
            Op::Linear { weight, bias, activation, site } => {
                let rounded = rounded.map(|all| all.of(*weight));
                let map = linear_map(parameters, *weight, *bias, *activation);
                let map = linear::Map { rounded, ..map };
                if training && *activation != Activation::None {
                    node.saved = arena.take(linear::kept_len(device, rows * cols));
                }
                let pre = linear::to_keep(device, &mut node.saved);
                linear::forward(device, y, pre, x().view(), map, *site);
            }
            Op::Swiglu { site } => {
                let x = x().view();
                with_elements!(mut y, y => {
                    swiglu::forward(device, y, Element::read(x), cols, *site)
                });
            }
            Op::HeadNorm { shape, q_gain, k_gain, epsilon } => {
                let (q_gain, k_gain) = (of(*q_gain), of(*k_gain));
                let terms = head_norm::Terms { q_gain, k_gain, epsilon: *epsilon };
                node.saved = arena.take(rows * (shape.heads + shape.kv_heads));
                let x = x().view();
                with_elements!(mut y, y => {
                    let (x, saved) = (Element::read(x), &mut node.saved);
                    head_norm::forward(device, y, saved, x, *shape, terms);
                });
            }
            Op::Attention { shape, sites, lengths } => {
                let reach = reach_of(lengths);
                node.saved = arena.take(rows * shape.heads);
                let mut scratch = arena.take(attention::forward_scratch(device, *shape));
                let (x, lse) = (x().view(), &mut node.saved);
                with_elements!(mut y, y => {
                    let (x, place) = (Element::read(x), (*shape, reach));
                    attention::forward(device, y, lse, x, place, *sites, &mut scratch);
                });
                arena.give(scratch);
            }
            Op::CrossAttention { kv, .. } => {
                let inputs = [x().view(), tensors[kv.0].value().view()];
                node.saved = attend_across(device, arena, &node.op, y, inputs);
            }
            Op::Rows { rows } => rows::forward(values.as_floats_mut(), x().view(), rows, cols),
            Op::Rotary { .. } | Op::Residual { .. } | Op::Dropout { .. } => {
                unreachable!("these take memory over")
            }
        }
        values
    }
}

/// y `[N, C]` of an embedding on the tape.
fn embed(device: &Device, y: &mut [f32], parameters: &[f32], op: &Op, [cols, seq_len]: [usize; 2]) {
    let Op::Embedding { tokens, ids, marks, fixed, positions, sites } = op else { return };
    let positions = positions.map(|(table, first)| {
        let table = table.of(parameters);
        embedding::Positions { table, first, seq_len }
    });
    let rows = embedding::Rows { ids, marks: marks.as_deref(), fixed: *fixed };
    let table = tokens.of(parameters);
    embedding::forward(device, y, table, rows, positions, cols, *sites);
}

/// y `[B·T, H·D]` of an attention over other sequences on the tape, from queries and keys and
/// values; returns what backward needs.
fn attend_across(
    device: &Device,
    arena: &mut Arena,
    op: &Op,
    mut y: ViewMut,
    [q, kv]: [View; 2],
) -> Buffer {
    let Op::CrossAttention { shape, sites, lengths, .. } = op else {
        unreachable!("an attention over other sequences")
    };
    let mut logsumexp = arena.take(shape.query_size().0 * shape.heads);
    let mut scratch = arena.take(cross::forward_scratch(device, *shape));
    with_elements!(mut y.reborrow(), y => {
        let inputs = (Element::read(q), Element::read(kv));
        let (place, lse) = ((*shape, &lengths[..]), &mut logsumexp[..]);
        cross::forward(device, y, lse, inputs, place, *sites, &mut scratch);
    });
    arena.give(scratch);
    logsumexp
}

/// What lengths on the tape stand for.
pub(super) fn reach_of(lengths: &Option<Vec<u32>>) -> Reach<'_> {
    match lengths {
        None => Reach::Causal,
        Some(lengths) => Reach::Whole { lengths },
    }
}

/// The slices of a linear map.
pub(super) fn linear_map(
    parameters: &[f32],
    weight: Weight,
    bias: Option<Weight>,
    activation: Activation,
) -> linear::Map<'_> {
    linear::Map {
        weight: weight.of(parameters),
        rounded: None,
        bias: bias.map(|bias| bias.of(parameters)),
        inputs: weight.cols,
        outputs: weight.rows,
        activation,
    }
}

/// See [`Pass::attention_cached`].
pub(super) fn attention_cached(
    pass: &mut Pass,
    qkv: Var,
    shape: HeadShape,
    cache: &mut KvLayer,
) -> Var {
    let cols = shape.heads * shape.head_width;
    let out = pass.tensor(shape.rows(), cols, Storages::default());
    let Tape { device, arena, tensors, .. } = &mut *pass.tape;
    let mut y = arena.take(shape.rows() * cols);
    let mut scratch = arena.take(attention_cached::scratch_len(device, shape, cache));
    let qkv = tensors[qkv.0].value().as_floats();
    attention_cached::forward(device, &mut y, qkv, shape, cache, &mut scratch);
    arena.give(scratch);
    tensors[out.0].value = Some(Values::floats(y));
    out
}

/// What is added to logits.
#[derive(Clone, Copy)]
pub(super) enum Bias {
    None,
    Trained(Weight),
    /// Takes no gradient.
    Fixed(Weight),
}

impl Bias {
    fn weight(self) -> Option<Weight> {
        match self {
            Bias::None => None,
            Bias::Trained(weight) | Bias::Fixed(weight) => Some(weight),
        }
    }

    fn trained(self) -> Option<Weight> {
        if let Bias::Trained(weight) = self { Some(weight) } else { None }
    }
}

/// See [`Pass::cross_entropy`].
pub(super) fn cross_entropy(
    pass: &mut Pass,
    x: Var,
    (head, bias): (Weight, Bias),
    targets: &[u32],
    (spec, joint): (&LossSpec, &Joint),
) -> LossReport {
    let mut dx = pass.is_training().then(|| {
        let len = pass.tape.tensors[x.0].value().len();
        pass.tape.arena.take(len)
    });
    let Tape { device, arena, tensors, token_nll, profiler, .. } = &mut *pass.tape;
    arena.give(std::mem::take(token_nll));
    let mut nll = arena.take(targets.len());
    let value = tensors[x.0].value();
    let wide = value.widened(arena);
    let x_values = wide.as_deref().unwrap_or_else(|| value.as_floats());
    let cols = head.cols;
    let of = |weight: Weight| weight.of(pass.parameters);
    let inputs = Inputs { x: x_values, head: of(head), bias: bias.weight().map(of), targets, cols };
    let gradients = match (&mut dx, &mut pass.gradients) {
        (Some(dx), Some(all)) => {
            let (dhead, into, dbias) = all.write_or_add_biased(head, bias.trained());
            Some(Gradients { dx, dhead, into, dbias })
        }
        _ => None,
    };
    let nll_rows = &mut nll[..];
    let report = if joint.is_plain() {
        cross_entropy::cross_entropy(device, arena, profiler, nll_rows, inputs, spec, gradients)
    } else {
        let terms = (spec, joint);
        joint::joint(device, arena, profiler, nll_rows, inputs, terms, gradients)
    };
    if let Some(wide) = wide {
        arena.give(wide);
    }
    *token_nll = nll;
    if let Some(dx) = dx {
        pass.accumulate(x, Values::floats(dx));
    }
    report
}

/// See [`Pass::class_loss`].
pub(super) fn class_loss(
    pass: &mut Pass,
    logits: Var,
    targets: &[u32],
    loss: &ClassLoss,
) -> LossReport {
    let (_, classes) = pass.shape(logits);
    let is_training = pass.is_training();
    let Tape { arena, tensors, token_nll, .. } = &mut *pass.tape;
    arena.give(std::mem::take(token_nll));
    let mut nll = arena.take(targets.len());
    let value = tensors[logits.0].value();
    let mut gradient = is_training.then(|| arena.take(value.len()));
    let wide = value.widened(arena);
    let values = wide.as_deref().unwrap_or_else(|| value.as_floats());
    let out = gradient.as_deref_mut();
    let report = class_loss::class_loss(values, classes, targets, loss, &mut nll, out);
    if let Some(wide) = wide {
        arena.give(wide);
    }
    *token_nll = nll;
    if let Some(gradient) = gradient {
        pass.accumulate(logits, Values::floats(gradient));
    }
    report
}
