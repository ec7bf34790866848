//! Wiring of the backward ops: each node consumes its output's gradient and feeds its inputs'.

use super::forward::linear_map;
use super::node::{Node, Op};
use super::{Pass, Tape, Var};
use crate::arena::Buffer;
use crate::gemm::Accumulate;
use crate::ops::{
    attention_backward, embedding, head_norm, linear, norm, residual, rotary, swiglu,
};
use crate::parameters::Weight;
use crate::profile::Work;

/// Two disjoint parts of the flat gradients.
fn two_of(gradients: &mut [f32], a: Weight, b: Weight) -> (&mut [f32], &mut [f32]) {
    let both = gradients.get_disjoint_mut([a.range(), b.range()]);
    let [a, b] = both.expect("two weights of one op do not overlap");
    (a, b)
}

impl Pass<'_> {
    /// Adds a gradient to a variable's; the buffer itself becomes the first one.
    pub(super) fn accumulate(&mut self, v: Var, gradient: Buffer) {
        let Tape { device, arena, tensors, .. } = &mut *self.tape;
        let slot = &mut tensors[v.0].gradient;
        match slot {
            None => *slot = Some(gradient),
            Some(sum) => {
                residual::add(device, sum, &gradient);
                arena.give(gradient);
            }
        }
    }

    /// The gradient of a variable, to be written or added to by an op that can do either.
    fn gradient_of(&mut self, v: Var) -> (Buffer, Accumulate) {
        let Tape { arena, tensors, .. } = &mut *self.tape;
        let tensor = &mut tensors[v.0];
        match tensor.gradient.take() {
            Some(gradient) => (gradient, Accumulate::Add),
            None => (arena.take(tensor.rows * tensor.cols), Accumulate::Overwrite),
        }
    }

    /// Gradients of one node; its buffers are free afterwards.
    pub(super) fn backward_node(&mut self, node: Node) {
        let dy = self.tape.tensors[node.out.0].gradient.take();
        // Nothing downstream led to the objective: nothing flows.
        if let Some(dy) = dy {
            let into = match self.tape.tensors[node.x.0].gradient {
                Some(_) => Accumulate::Add,
                None => Accumulate::Overwrite,
            };
            let since = self.tape.profiler.now();
            match node.op {
                Op::Embedding { .. } => self.backward_embedding(&node, dy),
                Op::Norm { .. } => self.backward_norm(&node, dy),
                Op::Linear { .. } => self.backward_linear(&node, dy),
                Op::Swiglu { .. } => self.backward_swiglu(&node, dy),
                Op::HeadNorm { .. } => self.backward_head_norm(&node, dy),
                Op::Rotary { .. } => self.backward_rotary(&node, dy),
                Op::Attention { .. } => self.backward_attention(&node, dy),
                Op::Residual { .. } => self.backward_residual(&node, dy),
            }
            // A linear map has told its parts apart itself.
            if !matches!(node.op, Op::Linear { .. }) {
                let (rows, cols) = self.shape(node.out);
                let work = node.op.backward_work(rows, cols, into);
                self.tape.profiler.span(node.op.names().1, None, since, work);
            }
        }
        let Tape { arena, tensors, .. } = &mut *self.tape;
        arena.give(node.saved);
        if let Op::Embedding { ids, .. } = node.op {
            arena.give_ids(ids);
        }
        if let Some(value) = tensors[node.out.0].value.take() {
            arena.give(value);
        }
    }

    fn backward_embedding(&mut self, node: &Node, mut dy: Buffer) {
        let Op::Embedding { tokens, ids, positions, sites } = &node.op else { return };
        let (cols, seq_len) = (tokens.cols, self.seq_len);
        let device = &self.tape.device;
        let gradients = self.gradients.as_deref_mut().expect("training");
        if let Some(site) = sites.output {
            embedding::backward_dropout(device, &mut dy, cols, site);
        }
        if let Some((table, first)) = *positions {
            let table = table.of_mut(gradients);
            embedding::backward_positions(device, table, first, &dy, cols, seq_len);
        }
        let table = tokens.of_mut(gradients);
        embedding::backward_tokens(device, table, &dy, ids, cols, sites.tokens);
        self.tape.arena.give(dy);
    }

    fn backward_norm(&mut self, node: &Node, dy: Buffer) {
        let Op::Norm { kind, gain, bias, epsilon } = node.op else { return };
        let (mut dx, into) = self.gradient_of(node.x);
        let Tape { device, arena, tensors, .. } = &mut *self.tape;
        let all = self.gradients.as_deref_mut().expect("training");
        let (dgain, dbias) = match bias {
            None => (gain.of_mut(all), None),
            Some(bias) => {
                let (dgain, dbias) = two_of(all, gain, bias);
                (dgain, Some(dbias))
            }
        };
        let of = |weight: Weight| weight.of(self.parameters);
        let terms = norm::Terms { kind, gain: of(gain), bias: bias.map(of), epsilon };
        let x = tensors[node.x.0].value.as_ref().expect("kept for backward");
        let gradients = norm::Gradients { dx: &mut dx, into, dgain, dbias };
        norm::backward(device, arena, gradients, &dy, x, &node.saved, terms);
        arena.give(dy);
        tensors[node.x.0].gradient = Some(dx);
    }

    fn backward_linear(&mut self, node: &Node, mut dy: Buffer) {
        let Op::Linear { weight, bias, activation, site } = node.op else { return };
        let (mut dx, into) = self.gradient_of(node.x);
        let (rows, cols) = self.shape(node.out);
        let (size, products) = (node.op.size(), Work::products(node.op.flops(rows)));
        let elementwise = node.op.backward_work(rows, cols, into);
        let Tape { device, arena, tensors, profiler, .. } = &mut *self.tape;
        let all = self.gradients.as_deref_mut().expect("training");
        let map = linear_map(self.parameters, weight, bias, activation);
        let dbias = bias.map(|bias| bias.of_mut(all));
        let pre = &node.saved;
        let since = profiler.now();
        linear::backward_activation(device, arena, &mut dy, dbias, pre, map, site);
        profiler.span(node.op.names().1, size, since, elementwise);
        let x = tensors[node.x.0].value.as_ref().expect("kept for backward");
        let dweight = weight.of_mut(all);
        let since = profiler.now();
        linear::backward_weight(device, dweight, &dy, x, map.inputs, map.outputs);
        profiler.span("linear backward weight", size, since, products);
        let since = profiler.now();
        linear::backward_input(device, &mut dx, into, &dy, map);
        profiler.span("linear backward input", size, since, products);
        arena.give(dy);
        tensors[node.x.0].gradient = Some(dx);
    }

    fn backward_swiglu(&mut self, node: &Node, mut dy: Buffer) {
        let Op::Swiglu { site } = node.op else { return };
        let (_, cols) = self.shape(node.out);
        let Tape { device, arena, tensors, .. } = &mut *self.tape;
        let x = tensors[node.x.0].value.as_ref().expect("kept for backward");
        let mut dx = arena.take(x.len());
        swiglu::backward(device, &mut dx, &mut dy, x, cols, site);
        arena.give(dy);
        self.accumulate(node.x, dx);
    }

    fn backward_head_norm(&mut self, node: &Node, mut dy: Buffer) {
        let Op::HeadNorm { shape, q_gain, k_gain, epsilon } = node.op else { return };
        let Tape { device, arena, tensors, .. } = &mut *self.tape;
        let all = self.gradients.as_deref_mut().expect("training");
        let of = |weight: Weight| weight.of(self.parameters);
        let terms = head_norm::Terms { q_gain: of(q_gain), k_gain: of(k_gain), epsilon };
        let gains = two_of(all, q_gain, k_gain);
        let x = tensors[node.x.0].value.as_ref().expect("kept for backward");
        head_norm::backward(device, arena, &mut dy, gains, (x, &node.saved), shape, terms);
        self.accumulate(node.x, dy);
    }

    fn backward_rotary(&mut self, node: &Node, mut dy: Buffer) {
        let Op::Rotary { shape, theta, first_position } = node.op else { return };
        let Tape { device, rotary: table, .. } = &mut *self.tape;
        table.prepare(theta, first_position, shape.seq_len, shape.head_width);
        rotary::rotate(device, &mut dy, table, shape, rotary::Turn::Backward);
        self.accumulate(node.x, dy);
    }

    fn backward_attention(&mut self, node: &Node, dy: Buffer) {
        let Op::Attention { shape, sites } = node.op else { return };
        let Tape { device, arena, tensors, .. } = &mut *self.tape;
        let qkv = tensors[node.x.0].value.as_ref().expect("kept for backward");
        let y = tensors[node.out.0].value.as_ref().expect("kept for backward");
        let saved = attention_backward::Saved { qkv, y, logsumexp: &node.saved };
        let mut dqkv = arena.take(qkv.len());
        let mut scratch = arena.take(attention_backward::backward_scratch(device, shape));
        attention_backward::backward(device, &mut dqkv, &dy, saved, shape, sites, &mut scratch);
        arena.give(scratch);
        arena.give(dy);
        self.accumulate(node.x, dqkv);
    }

    fn backward_residual(&mut self, node: &Node, dy: Buffer) {
        let Op::Residual { branch, site, scale } = node.op else { return };
        let (_, cols) = self.shape(node.out);
        let Tape { device, arena, .. } = &mut *self.tape;
        let mut dbranch = arena.take(dy.len());
        residual::backward_branch(device, &mut dbranch, &dy, cols, site, scale);
        self.accumulate(branch, dbranch);
        self.accumulate(node.x, dy);
    }
}
