//! Wiring of the backward ops: each node consumes its output's gradient and feeds its inputs'.

use super::forward::{linear_map, reach_of};
use super::node::{Node, Op};
use super::{Pass, Tape, Var};
use crate::gemm::Accumulate;
use crate::ops::attention_backward::cross;
use crate::ops::{
    attention_backward, embedding, head_norm, linear, norm, residual, rotary, rows, swiglu,
};
use crate::parameters::Weight;
use crate::profile::Work;
use crate::values::{Element, Storage, Values, with_elements};

impl Pass<'_> {
    /// Adds a gradient to a variable's; the memory itself becomes the first one.
    pub(super) fn accumulate(&mut self, v: Var, gradient: Values) {
        let Tape { device, arena, tensors, .. } = &mut *self.tape;
        let slot = &mut tensors[v.0].gradient;
        match slot {
            None => *slot = Some(gradient),
            Some(sum) => {
                with_elements!(mut sum.view_mut(), sum => {
                    with_elements!(gradient.view(), gradient => {
                        residual::add(device, sum, gradient);
                    });
                });
                gradient.give(arena);
            }
        }
    }

    /// The gradient of a variable, to be written or added to by an op that can do either, which
    /// bf16 excludes.
    fn gradient_of(&mut self, v: Var) -> (Values, Accumulate) {
        let Tape { arena, tensors, .. } = &mut *self.tape;
        let tensor = &mut tensors[v.0];
        match tensor.gradient.take_if(|g| g.storage() == Storage::Floats) {
            Some(gradient) => (gradient, Accumulate::Add),
            None => {
                let len = tensor.rows * tensor.cols;
                (Values::take(arena, tensor.storage.gradient, len), Accumulate::Overwrite)
            }
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
                Op::CrossAttention { .. } => self.backward_cross_attention(&node, dy),
                Op::Residual { .. } => self.backward_residual(&node, dy),
                Op::Dropout { .. } => self.backward_dropout(&node, dy),
                Op::Rows { .. } => self.backward_rows(&node, dy),
            }
            // A linear map has told its parts apart itself.
            if !matches!(node.op, Op::Linear { .. }) {
                let storage = self.tape.tensors[node.out.0].storage;
                let branch = match node.op {
                    Op::Residual { branch, .. } => self.tape.tensors[branch.0].storage.gradient,
                    _ => Storage::Floats,
                };
                let work = node.op.backward_work(self.shape(node.out), storage, into, branch);
                self.tape.profiler.span(node.op.names().1, None, since, work);
            }
        }
        let Tape { arena, tensors, .. } = &mut *self.tape;
        arena.give(node.saved);
        node.op.give_back(arena);
        if let Some(value) = tensors[node.out.0].value.take() {
            value.give(arena);
        }
    }

    fn backward_embedding(&mut self, node: &Node, mut dy: Values) {
        let Op::Embedding { tokens, ids, marks, fixed, positions, sites } = &node.op else {
            return;
        };
        let (cols, seq_len) = (tokens.cols, self.seq_len);
        let device = &self.tape.device;
        let gradients = self.gradients.as_mut().expect("training");
        if let Some(site) = sites.output {
            embedding::backward_dropout(device, dy.as_floats_mut(), cols, site);
        }
        if let Some((table, first)) = *positions {
            let table = gradients.add(table);
            embedding::backward_positions(device, table, first, dy.as_floats(), cols, seq_len);
        }
        let table = gradients.add(*tokens);
        let rows = embedding::Rows { ids, marks: marks.as_deref(), fixed: *fixed };
        embedding::backward_tokens(device, table, dy.as_floats(), rows, cols, sites.tokens);
        dy.give(&mut self.tape.arena);
    }

    fn backward_norm(&mut self, node: &Node, dy: Values) {
        let Op::Norm { kind, gain, bias, epsilon } = node.op else { return };
        let (mut dx, into) = self.gradient_of(node.x);
        let Tape { device, arena, tensors, .. } = &mut *self.tape;
        let all = self.gradients.as_mut().expect("training");
        let (dgain, dbias) = match bias {
            None => (all.add(gain), None),
            Some(bias) => {
                let (dgain, dbias) = all.add_two(gain, bias);
                (dgain, Some(dbias))
            }
        };
        let of = |weight: Weight| weight.of(self.parameters);
        let terms = norm::Terms { kind, gain: of(gain), bias: bias.map(of), epsilon };
        let x = tensors[node.x.0].value().as_floats();
        let gradients = norm::Gradients { dx: dx.as_floats_mut(), into, dgain, dbias };
        norm::backward(device, arena, gradients, dy.as_floats(), x, &node.saved, terms);
        dy.give(arena);
        self.accumulate(node.x, dx);
    }

    fn backward_linear(&mut self, node: &Node, mut dy: Values) {
        let Op::Linear { weight, bias, activation, site } = node.op else { return };
        let (mut dx, into) = self.gradient_of(node.x);
        let (rows, cols) = self.shape(node.out);
        let (size, products) = (node.op.size(), Work::products(node.op.flops(rows)));
        let storage = self.tape.tensors[node.out.0].storage;
        let elementwise = node.op.backward_work((rows, cols), storage, into, Storage::Floats);
        let Tape { device, arena, tensors, profiler, .. } = &mut *self.tape;
        let all = self.gradients.as_mut().expect("training");
        let map = linear_map(self.parameters, weight, bias, activation);
        let dbias = bias.map(|bias| all.add(bias));
        let pre = linear::kept(device, &node.saved);
        let since = profiler.now();
        with_elements!(mut dy.view_mut(), dy => {
            linear::backward_activation(device, arena, dy, dbias, pre, map, site);
        });
        profiler.span(node.op.names().1, size, since, elementwise);
        let x = tensors[node.x.0].value().view();
        let dweight = all.write_or_add(weight);
        let since = profiler.now();
        linear::backward_weight(device, dweight, dy.view(), x, map.inputs, map.outputs);
        profiler.span("linear backward weight", size, since, products);
        let since = profiler.now();
        linear::backward_input(device, dx.view_mut(), into, dy.view(), map);
        profiler.span("linear backward input", size, since, products);
        dy.give(arena);
        self.accumulate(node.x, dx);
    }

    fn backward_swiglu(&mut self, node: &Node, mut dy: Values) {
        let Op::Swiglu { site } = node.op else { return };
        let (_, cols) = self.shape(node.out);
        let Tape { device, arena, tensors, .. } = &mut *self.tape;
        let x = tensors[node.x.0].value();
        let mut dx = Values::take(arena, x.storage(), x.len());
        with_elements!(mut dx.view_mut(), dx => {
            let (dy, x) = (Element::write(dy.view_mut()), Element::read(x.view()));
            swiglu::backward(device, dx, dy, x, cols, site);
        });
        dy.give(arena);
        self.accumulate(node.x, dx);
    }

    fn backward_head_norm(&mut self, node: &Node, mut dy: Values) {
        let Op::HeadNorm { shape, q_gain, k_gain, epsilon } = node.op else { return };
        let Tape { device, arena, tensors, .. } = &mut *self.tape;
        let all = self.gradients.as_mut().expect("training");
        let of = |weight: Weight| weight.of(self.parameters);
        let terms = head_norm::Terms { q_gain: of(q_gain), k_gain: of(k_gain), epsilon };
        let gains = all.add_two(q_gain, k_gain);
        let x = tensors[node.x.0].value().view();
        with_elements!(mut dy.view_mut(), dy => {
            let x = Element::read(x);
            head_norm::backward(device, arena, dy, gains, (x, &node.saved), shape, terms);
        });
        self.accumulate(node.x, dy);
    }

    fn backward_rotary(&mut self, node: &Node, mut dy: Values) {
        let Op::Rotary { shape, theta, first_position } = node.op else { return };
        let Tape { device, rotary: table, .. } = &mut *self.tape;
        table.prepare(theta, first_position, shape.seq_len, shape.head_width);
        with_elements!(mut dy.view_mut(), dy => {
            rotary::rotate(device, dy, table, shape, rotary::Turn::Backward);
        });
        self.accumulate(node.x, dy);
    }

    fn backward_attention(&mut self, node: &Node, dy: Values) {
        let Op::Attention { shape, sites, lengths } = &node.op else { return };
        let (shape, sites, place) = (*shape, *sites, (*shape, reach_of(lengths)));
        let Tape { device, arena, tensors, .. } = &mut *self.tape;
        let (qkv, y) = (tensors[node.x.0].value(), tensors[node.out.0].value());
        let mut dqkv = Values::take(arena, qkv.storage(), qkv.len());
        let mut scratch = arena.take(attention_backward::backward_scratch(device, shape));
        let work = &mut scratch;
        let logsumexp = &node.saved;
        with_elements!(mut dqkv.view_mut(), dqkv => {
            let (qkv, y) = (Element::read(qkv.view()), Element::read(y.view()));
            let saved = attention_backward::Saved { qkv, y, logsumexp };
            let dy = Element::read(dy.view());
            attention_backward::backward(device, dqkv, dy, saved, place, sites, work);
        });
        arena.give(scratch);
        dy.give(arena);
        self.accumulate(node.x, dqkv);
    }

    fn backward_cross_attention(&mut self, node: &Node, dy: Values) {
        let Op::CrossAttention { kv, shape, sites, lengths } = &node.op else { return };
        let place = (*shape, &lengths[..]);
        let Tape { device, arena, tensors, .. } = &mut *self.tape;
        let [q, read, y] = [node.x, *kv, node.out].map(|v| tensors[v.0].value());
        let mut dq = Values::take(arena, q.storage(), q.len());
        let mut dkv = Values::take(arena, read.storage(), read.len());
        let mut scratch = arena.take(cross::backward_scratch(device, *shape));
        let (work, logsumexp) = (&mut scratch, &node.saved);
        with_elements!(mut dq.view_mut(), dq => {
            let [q, kv, y] = [q, read, y].map(|values| Element::read(values.view()));
            let saved = cross::Saved { q, kv, y, logsumexp };
            let gradients = (dq, Element::write(dkv.view_mut()));
            let dy = Element::read(dy.view());
            cross::backward(device, gradients, dy, saved, place, *sites, work);
        });
        arena.give(scratch);
        dy.give(arena);
        self.accumulate(node.x, dq);
        self.accumulate(*kv, dkv);
    }

    fn backward_dropout(&mut self, node: &Node, mut dy: Values) {
        let Op::Dropout { site } = node.op else { return };
        let (_, cols) = self.shape(node.out);
        let device = &self.tape.device;
        with_elements!(mut dy.view_mut(), dy => {
            embedding::backward_dropout(device, dy, cols, site);
        });
        self.accumulate(node.x, dy);
    }

    fn backward_residual(&mut self, node: &Node, dy: Values) {
        let Op::Residual { branch, site, scale } = node.op else { return };
        let (_, cols) = self.shape(node.out);
        let Tape { device, arena, tensors, .. } = &mut *self.tape;
        let storage = tensors[branch.0].storage.gradient;
        let mut dbranch = Values::take(arena, storage, dy.len());
        with_elements!(mut dbranch.view_mut(), dbranch => {
            residual::backward_branch(device, dbranch, dy.as_floats(), cols, site, scale);
        });
        self.accumulate(branch, dbranch);
        self.accumulate(node.x, dy);
    }

    fn backward_rows(&mut self, node: &Node, dy: Values) {
        let Op::Rows { rows } = &node.op else { return };
        let (count, cols) = self.shape(node.x);
        let Tape { arena, .. } = &mut *self.tape;
        let mut dx = Values::take(arena, Storage::Floats, count * cols);
        with_elements!(dy.view(), dy => rows::backward(dx.as_floats_mut(), dy, rows, cols));
        dy.give(arena);
        self.accumulate(node.x, dx);
    }
}
