//! Causal attention with grouped key/value heads, fused: T×T is never stored.
//!
//! For each head: S = q·kᵀ/√D over keys not after the query, P = softmax(S), y = dropout(P)·v.
//! A strip of queries meets the keys block by block with a running maximum and sum (online
//! softmax, Milakov & Gimelshein 2018; Dao et al. 2022). Only the log-sum-exp of each query is
//! kept; backward recomputes P from it. Tasks are (sequence, key/value head) pairs, whole.

use crate::device::{Device, Isa};
use crate::math::exp;
use crate::ops::dropout::{Factors, Site};
use crate::ops::tile::{self, Into, Left, Right, Size};
use crate::ops::{HeadShape, lanes};
use crate::parallel;
use crate::pool::Disjoint;
use crate::simd::dispatch;

/// Queries per strip: a multiple of every tile's rows.
pub(crate) const QUERIES: usize = 48;
/// Keys per block: a whole number of strips, so that groups of keys and queries are aligned.
pub(crate) const KEYS: usize = 11 * QUERIES;
/// Rows that share one causal limit inside a strip.
pub(crate) const GROUP: usize = 12;

/// The noise of attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sites {
    pub probabilities: Option<Site>,
    pub heads: Option<Site>,
}

/// Distance between the rows of a strip's scores: whole lanes, so that loops have no tail.
pub(crate) fn score_stride(keys: usize) -> usize {
    KEYS.min(keys).next_multiple_of(lanes::LANES)
}

/// Elements of scratch that [`attend`] needs with `keys` keys.
pub(crate) fn strip_scratch(keys: usize, width: usize) -> usize {
    QUERIES * (score_stride(keys) + width + 2)
}

/// Elements of scratch a worker needs for the forward pass with `keys` keys.
fn scratch_len(keys: usize, width: usize) -> usize {
    2 * keys * width + strip_scratch(keys, width)
}

/// Scratch for [`forward`], all workers together.
pub(crate) fn forward_scratch(device: &Device, shape: HeadShape) -> usize {
    device.threads() * scratch_len(shape.seq_len, shape.head_width)
}

/// y `[N, H·D]` and `logsumexp` `[B, H, T]` from qkv `[N, (H+2K)·D]`.
pub(crate) fn forward(
    device: &Device,
    y: &mut [f32],
    logsumexp: &mut [f32],
    qkv: &[f32],
    shape: HeadShape,
    sites: Sites,
    scratch: &mut [f32],
) {
    shape.assert_whole();
    let (rows, width) = (shape.rows(), shape.head_width);
    assert_eq!(qkv.len(), rows * shape.cols(), "attention: size of qkv");
    assert_eq!(y.len(), rows * shape.heads * width, "attention: size of y");
    assert_eq!(logsumexp.len(), rows * shape.heads, "attention: size of logsumexp");
    let isa = device.isa();
    let (y, logsumexp) = (Disjoint::new(y), Disjoint::new(logsumexp));
    let items = shape.batch * shape.kv_heads;
    parallel::with_scratch(device, items, scratch, |item, scratch| {
        let (sequence, kv_head) = (item / shape.kv_heads, item % shape.kv_heads);
        let first = sequence * shape.seq_len;
        let heads = Heads { qkv: &qkv[first * shape.cols()..], shape };
        let (keys, rest) = scratch.split_at_mut(shape.seq_len * width);
        let (values, rest) = rest.split_at_mut(shape.seq_len * width);
        heads.transpose(isa, heads.key(kv_head), keys, shape.seq_len);
        heads.gather(heads.value(kv_head), values, 0, shape.seq_len);
        let attended = Attended { isa, keys, key_stride: shape.seq_len, values, width, past: 0 };
        for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
            let row = sequence * shape.heads + head;
            let kept = sites.heads.map_or(1.0, |site| site.sequence(sequence, head));
            #[allow(unsafe_code)]
            // SAFETY: (sequence, head) is this item's alone.
            let lse = unsafe { logsumexp.range(row * shape.seq_len..(row + 1) * shape.seq_len) };
            for start in (0..shape.seq_len).step_by(QUERIES) {
                let count = QUERIES.min(shape.seq_len - start);
                let strip = Strip { start, count, heads: &heads, head, row };
                let outputs = attend(&attended, &strip, sites.probabilities, rest, lse);
                for (query, output) in outputs.chunks_exact(width).enumerate() {
                    let at = (first + start + query) * shape.heads * width + head * width;
                    #[allow(unsafe_code)]
                    // SAFETY: this head's columns of this row are this item's alone.
                    let y = unsafe { y.range(at..at + width) };
                    y.iter_mut().zip(output).for_each(|(y, output)| *y = kept * output);
                }
            }
        }
    });
}

/// One sequence's rows of the fused tensor.
pub(crate) struct Heads<'a> {
    pub qkv: &'a [f32],
    pub shape: HeadShape,
}

impl<'a> Heads<'a> {
    /// First column of a query head.
    pub fn query(&self, head: usize) -> usize {
        head * self.shape.head_width
    }

    /// First column of a key head.
    pub fn key(&self, kv_head: usize) -> usize {
        (self.shape.heads + kv_head) * self.shape.head_width
    }

    /// First column of a value head.
    pub fn value(&self, kv_head: usize) -> usize {
        (self.shape.heads + self.shape.kv_heads + kv_head) * self.shape.head_width
    }

    /// The head that starts at column `column` of row `row`.
    #[inline(always)]
    pub fn row(&self, column: usize, row: usize) -> &'a [f32] {
        let at = row * self.shape.cols() + column;
        &self.qkv[at..at + self.shape.head_width]
    }

    /// Copies `count` rows of a head, from row `first` on, to `[count, D]`.
    pub fn gather(&self, column: usize, to: &mut [f32], first: usize, count: usize) {
        let width = self.shape.head_width;
        for (row, to) in to[..count * width].chunks_exact_mut(width).enumerate() {
            to.copy_from_slice(self.row(column, first + row));
        }
    }

    /// Copies `count` rows of a head to `[D, count]`.
    pub fn transpose(&self, isa: Isa, column: usize, to: &mut [f32], count: usize) {
        transpose(
            isa,
            |row| self.row(column, row),
            &mut to[..count * self.shape.head_width],
            count,
        );
    }
}

/// to `[D, count]` ← the rows, in blocks of 16×16 that go through registers: writing a column at
/// a time would meet the same few cache sets again and again.
pub(crate) fn transpose<'a>(
    isa: Isa,
    row: impl Fn(usize) -> &'a [f32],
    to: &mut [f32],
    count: usize,
) {
    const SIDE: usize = 16;
    let width = to.len() / count;
    dispatch(
        isa,
        #[inline(always)]
        || {
            for first in (0..count).step_by(SIDE) {
                for column in (0..width).step_by(SIDE) {
                    let (rows, columns) = (SIDE.min(count - first), SIDE.min(width - column));
                    if rows < SIDE || columns < SIDE {
                        for r in first..first + rows {
                            for (d, &value) in row(r)[column..column + columns].iter().enumerate() {
                                to[(column + d) * count + r] = value;
                            }
                        }
                        continue;
                    }
                    let mut block = [[0.0f32; SIDE]; SIDE];
                    for (r, block) in block.iter_mut().enumerate() {
                        block.copy_from_slice(&row(first + r)[column..column + SIDE]);
                    }
                    let lines = to[column * count..].chunks_mut(count).take(SIDE);
                    for (d, line) in lines.enumerate() {
                        for (value, block) in line[first..first + SIDE].iter_mut().zip(&block) {
                            *value = block[d];
                        }
                    }
                }
            }
        },
    );
}

/// The keys and values of one head: keys `[D, key_stride]` transposed, values `[keys, D]`.
pub(crate) struct Attended<'a> {
    pub isa: Isa,
    pub keys: &'a [f32],
    pub key_stride: usize,
    pub values: &'a [f32],
    pub width: usize,
    /// Keys before the first query's own: query i sees keys 0..=past + i.
    pub past: usize,
}

/// Queries `start..start + count` of one head of one sequence.
pub(crate) struct Strip<'a> {
    pub start: usize,
    pub count: usize,
    pub heads: &'a Heads<'a>,
    pub head: usize,
    /// sequence · H + head, for masks.
    pub row: usize,
}

impl Strip<'_> {
    /// The queries as the left operand of a product.
    fn queries(&self, first: usize) -> Left<'_> {
        let stride = self.heads.shape.cols();
        let at = (self.start + first) * stride + self.heads.query(self.head);
        Left { data: &self.heads.qkv[at..], row: stride, col: 1 }
    }

    /// The dropout factors of a query.
    #[inline(always)]
    pub fn factors(&self, site: Site, query: usize) -> Factors {
        let shape = self.heads.shape;
        site.query(self.row * shape.seq_len + self.start + query, shape.heads)
    }
}

/// Keys of the block at `first_key` that a group of rows ending before query `end` may see.
#[inline(always)]
pub(crate) fn visible(past: usize, end: usize, first_key: usize, block: usize) -> usize {
    (past + end).saturating_sub(first_key).min(block)
}

/// Attends one strip; returns its outputs `[count, D]` inside `scratch` and writes their
/// log-sum-exps to `lse[start..]`.
pub(crate) fn attend<'s>(
    attended: &Attended,
    strip: &Strip,
    site: Option<Site>,
    scratch: &'s mut [f32],
    lse: &mut [f32],
) -> &'s [f32] {
    let (isa, width, past) = (attended.isa, attended.width, attended.past);
    let reach = past + strip.start + strip.count;
    let stride = score_stride(attended.key_stride);
    let (scores, rest) = scratch.split_at_mut(QUERIES * stride);
    let (outputs, rest) = rest.split_at_mut(QUERIES * width);
    let outputs = &mut outputs[..strip.count * width];
    let (maxima, sums) = rest[..2 * QUERIES].split_at_mut(QUERIES);
    for first_key in (0..reach).step_by(KEYS) {
        let block = KEYS.min(reach - first_key);
        for first in (0..strip.count).step_by(GROUP) {
            let rows = GROUP.min(strip.count - first);
            let seen = visible(past, strip.start + first + rows, first_key, block);
            if seen == 0 {
                continue;
            }
            let keys = Right { data: &attended.keys[first_key..], row: attended.key_stride };
            let size = Size { m: rows, n: seen, k: width };
            let scores = &mut scores[first * stride..(first + rows) * stride];
            tile::product(isa, scores, stride, strip.queries(first), keys, size, Into::Overwrite);
            let group = Group { first, first_key, stride, seen };
            let outputs = &mut outputs[first * width..(first + rows) * width];
            let running = (&mut maxima[first..], &mut sums[first..]);
            normalise(attended, strip, site, group, scores, outputs, running);
            let weights = Left { data: scores, row: stride, col: 1 };
            let values = Right { data: &attended.values[first_key * width..], row: width };
            let size = Size { m: rows, n: width, k: seen };
            let into = if first_key == 0 { Into::Overwrite } else { Into::Add };
            tile::product(isa, outputs, width, weights, values, size, into);
        }
    }
    for (query, output) in outputs.chunks_exact_mut(width).enumerate() {
        let inverse = 1.0 / sums[query];
        output.iter_mut().for_each(|output| *output *= inverse);
        lse[strip.start + query] = maxima[query] + sums[query].ln();
    }
    outputs
}

/// A group of rows of a strip against a block of keys.
#[derive(Clone, Copy)]
struct Group {
    first: usize,
    first_key: usize,
    stride: usize,
    seen: usize,
}

/// Scores become unnormalised, dropped-out probabilities; what was summed so far is rescaled.
/// The first block of keys starts the running maxima and sums.
fn normalise(
    attended: &Attended,
    strip: &Strip,
    site: Option<Site>,
    group: Group,
    scores: &mut [f32],
    outputs: &mut [f32],
    (maxima, sums): (&mut [f32], &mut [f32]),
) {
    let width = attended.width;
    let scale = 1.0 / (width as f32).sqrt();
    let Group { first, first_key, stride, seen } = group;
    dispatch(
        attended.isa,
        #[inline(always)]
        || {
            let each = scores.chunks_exact_mut(stride).zip(outputs.chunks_exact_mut(width));
            for (row, (scores, output)) in each.enumerate() {
                let query = strip.start + first + row;
                let own = visible(attended.past, query + 1, first_key, seen);
                let scores = &mut scores[..seen.next_multiple_of(lanes::LANES)];
                scores[own..].fill(f32::NEG_INFINITY);
                let (old, old_sum) = if first_key == 0 {
                    (f32::NEG_INFINITY, 0.0)
                } else {
                    (maxima[row], sums[row])
                };
                let new = (lanes::max(scores) * scale).max(old);
                let sum = lanes::map_sum(
                    scores,
                    #[inline(always)]
                    |score| exp(score * scale - new),
                );
                let shrink = if old == new { 1.0 } else { exp(old - new) };
                if first_key > 0 && shrink != 1.0 {
                    output.iter_mut().for_each(|output| *output *= shrink);
                }
                sums[row] = old_sum * shrink + sum;
                maxima[row] = new;
                if let Some(site) = site {
                    let factors = strip.factors(site, first + row);
                    for (key, score) in scores.iter_mut().enumerate() {
                        *score *= factors.at(first_key + key);
                    }
                }
                scores[own..seen].fill(0.0);
            }
        },
    );
}
