//! Attention of one sequence over another: queries `[B·T, H·D]` meet the keys and values
//! `[B·S, 2·H·D]` of the sequence of the same number, as far as that one is long.
//!
//! The strips are those of [`super`]; only where queries, keys and values lie is another matter.

use super::{Attended, QUERIES, Sites, Strip, attend, strip_scratch};
use crate::device::Device;
use crate::ops::HeadShape;
use crate::ops::attention_forms::{Heads, as_columns, as_rows, store_rows};
use crate::ops::tile::Engine;
use crate::parallel;
use crate::pool::Disjoint;
use crate::values::Element;

/// Where the heads lie: H query heads in a row of the one tensor, H key heads and then H value
/// heads in a row of the other, D wide each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossShape {
    /// Pairs of sequences, B.
    pub batch: usize,
    /// Positions of a sequence that asks, T.
    pub queries: usize,
    /// Positions of a sequence that is read, S.
    pub keys: usize,
    /// Heads, H.
    pub heads: usize,
    /// Width of a head, D.
    pub head_width: usize,
}

impl CrossShape {
    /// Rows and columns of the queries: B·T, H·D.
    pub fn query_size(&self) -> (usize, usize) {
        (self.batch * self.queries, self.heads * self.head_width)
    }

    /// Rows and columns of keys and values: B·S, 2·H·D.
    pub fn key_size(&self) -> (usize, usize) {
        (self.batch * self.keys, 2 * self.heads * self.head_width)
    }

    /// A fused tensor of queries alone.
    pub(crate) fn of_queries(&self) -> HeadShape {
        let CrossShape { batch, queries: seq_len, heads, head_width, .. } = *self;
        HeadShape { batch, seq_len, heads, kv_heads: 0, head_width }
    }

    /// A fused tensor of keys and values alone.
    pub(crate) fn of_keys(&self) -> HeadShape {
        let CrossShape { batch, keys: seq_len, heads: kv_heads, head_width, .. } = *self;
        HeadShape { batch, seq_len, heads: 0, kv_heads, head_width }
    }

    /// # Panics
    /// If a size is zero, or there is not one length between 1 and S for each sequence.
    pub(crate) fn assert_fits(&self, lengths: &[u32]) {
        let CrossShape { batch, queries, keys, heads, head_width } = *self;
        assert!(batch * queries * keys * heads * head_width > 0, "a size of {self:?} is zero");
        assert_eq!(lengths.len(), batch, "cross attention: one length a sequence");
        let fits = |length: &u32| (1..=keys).contains(&(*length as usize));
        assert!(lengths.iter().all(fits), "cross attention: lengths {lengths:?} in {self:?}");
    }
}

/// Scratch for [`forward`], all workers together.
pub(crate) fn forward_scratch(device: &Device, shape: CrossShape) -> usize {
    let (keys, width) = (shape.keys, shape.head_width);
    let workers = parallel::workers(device, shape.batch * shape.heads);
    workers * (2 * (keys + 1) * width + strip_scratch(width))
}

/// y `[B·T, H·D]` and `logsumexp` `[B, H, T]` from q `[B·T, H·D]` and kv `[B·S, 2·H·D]`, of whose
/// sequences the first `lengths` positions are read.
pub(crate) fn forward<T: Element>(
    device: &Device,
    y: &mut [T],
    logsumexp: &mut [f32],
    (q, kv): (&[T], &[T]),
    (shape, lengths): (CrossShape, &[u32]),
    sites: Sites,
    scratch: &mut [f32],
) {
    shape.assert_fits(lengths);
    let CrossShape { queries: seq_len, keys, heads, head_width: width, .. } = shape;
    let size = |(rows, cols): (usize, usize)| rows * cols;
    assert_eq!(q.len(), size(shape.query_size()), "cross attention: size of the queries");
    assert_eq!(kv.len(), size(shape.key_size()), "cross attention: size of keys and values");
    assert_eq!(y.len(), q.len(), "cross attention: size of y");
    assert_eq!(logsumexp.len() * width, q.len(), "cross attention: size of logsumexp");
    let engine = Engine::of(device);
    let (y, logsumexp) = (Disjoint::new(y), Disjoint::new(logsumexp));
    let (of_queries, of_keys) = (shape.of_queries(), shape.of_keys());
    parallel::with_scratch(device, shape.batch * heads, scratch, |item, scratch| {
        let (sequence, head) = (item / heads, item % heads);
        let (first, length) = (sequence * seq_len, lengths[sequence] as usize);
        let asking = Heads { qkv: &q[first * of_queries.cols()..], shape: of_queries };
        let read = Heads { qkv: &kv[sequence * keys * of_keys.cols()..], shape: of_keys };
        let (key_rows, rest) = scratch.split_at_mut((keys + 1) * width);
        let (value_columns, rest) = rest.split_at_mut((keys + 1) * width);
        as_rows(engine, read.rows(read.key(head), 0, length), key_rows);
        as_columns(engine, read.rows(read.value(head), 0, length), value_columns);
        let attended = Attended { engine, keys: key_rows, values: value_columns, width, past: 0 };
        let kept = sites.heads.map_or(1.0, |site| site.sequence(sequence, head));
        #[allow(unsafe_code)]
        // SAFETY: (sequence, head) is this item's alone.
        let lse = unsafe { logsumexp.range(item * seq_len..(item + 1) * seq_len) };
        for start in (0..seq_len).step_by(QUERIES) {
            let count = QUERIES.min(seq_len - start);
            let strip = Strip { start, count, keys: Some(length), heads: &asking, head, row: item };
            let outputs = attend(&attended, &strip, sites.probabilities, rest, lse);
            if kept != 1.0 {
                outputs.iter_mut().for_each(|output| *output *= kept);
            }
            store_rows(
                engine,
                outputs,
                width,
                #[inline(always)]
                |query| {
                    let at = ((first + start + query) * heads + head) * width;
                    #[allow(unsafe_code)]
                    // SAFETY: this head's columns of this row are this item's alone.
                    unsafe {
                        y.range(at..at + width)
                    }
                },
            );
        }
    });
}
