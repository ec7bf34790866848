//! Recomputation of activations (Chen et al. 2016, arXiv 1604.06174): a segment of the tape gives
//! its values back when it ends and computes them once more when backward reaches it.
//!
//! Ops are plain data and noise is a function of its key, so that a second run gives the same
//! bits, and gradients do not depend on the policy.

use super::node::{Node, Pinned, Replay, Var};
use super::{Pass, Tape};

/// What becomes of the values that backward will read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// They stay until backward has read them.
    #[default]
    Keep,
    /// Between two calls of [`Pass::keep_only`] only the kept ones stay; the others are computed a
    /// second time, which costs up to the time of a forward pass.
    Recompute,
}

/// The segments of a pass, none of which has gone backward yet.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// Nodes on the tape when each ended; the next one begins there.
    ends: Vec<usize>,
    /// Scratch: variables that a node to be replayed reads.
    wanted: Vec<Var>,
}

impl Segments {
    pub fn clear(&mut self) {
        self.ends.clear();
    }
}

impl Pass<'_> {
    /// Releases what the segment has made but `kept`, and marks what backward will need again:
    /// values and buffers that it reads, and all that lead there. What leads to `kept` alone is
    /// not needed.
    pub(super) fn end_segment(&mut self, kept: &[Var]) {
        let Tape { arena, tensors, nodes, segments, .. } = &mut *self.tape;
        let Segments { ends, wanted } = segments;
        let start = ends.last().copied().unwrap_or(0);
        if start == nodes.len() {
            return;
        }
        for kept in kept {
            // A replay reads it once more: no op may work in its memory.
            tensors[kept.0].pinned = Pinned::Yes;
        }
        wanted.clear();
        for node in nodes[start..].iter_mut().rev() {
            if kept.contains(&node.out) {
                continue;
            }
            let tensor = &mut tensors[node.out.0];
            let is_read = tensor.pinned == Pinned::Yes || !node.saved.is_empty();
            if is_read || wanted.contains(&node.out) {
                node.replay = Replay::Yes;
                wanted.push(node.x);
                wanted.extend(node.op.second());
            }
            arena.give(std::mem::take(&mut node.saved));
            if let Some(value) = tensor.value.take() {
                value.give(arena);
            }
        }
        ends.push(nodes.len());
    }

    /// Where the tape's last node ends a segment, computes again what its backward needs.
    pub(super) fn restore_segment(&mut self) {
        let Tape { nodes, segments: Segments { ends, .. }, .. } = &mut *self.tape;
        if ends.pop_if(|end| *end == nodes.len()).is_none() {
            return;
        }
        let start = ends.last().copied().unwrap_or(0);
        let mut nodes = std::mem::take(nodes);
        let needed = |node: &&mut Node| node.replay == Replay::Yes;
        nodes[start..].iter_mut().filter(needed).for_each(|node| self.run(node));
        self.tape.nodes = nodes;
    }
}
