//! Gradients of [`super::attention`], with the probabilities recomputed from the log-sum-exps.
//!
//! With P̃ = P·mask and Δ = Σ dy·y per query: dV += P̃ᵀ·dy, dP = (dy·vᵀ)·mask,
//! dS = P·(dP − Δ)/√D, dQ = dS·K, dK += dSᵀ·Q (Dao et al. 2022). One task holds all queries of a
//! key/value head, so every sum has one order.

use crate::device::{Device, Isa};
use crate::math::exp;
use crate::ops::attention::{
    GROUP, Heads, KEYS, QUERIES, Sites, Strip, score_stride, transpose, visible,
};
use crate::ops::dropout::Site;
use crate::ops::tile::{self, Into, Left, Right, Size};
use crate::ops::{HeadShape, lanes};
use crate::parallel;
use crate::pool::Disjoint;
use crate::simd::dispatch;

/// Scratch for [`backward`], all workers together.
pub(crate) fn backward_scratch(device: &Device, shape: HeadShape) -> usize {
    let (keys, width) = (shape.seq_len, shape.head_width);
    let strip = 2 * score_stride(keys) + 3 * width + 1;
    device.threads() * (5 * keys * width + QUERIES * strip)
}

/// What the forward pass left.
#[derive(Clone, Copy)]
pub(crate) struct Saved<'a> {
    /// `[N, (H+2K)·D]`
    pub qkv: &'a [f32],
    /// `[N, H·D]`, with head dropout applied.
    pub y: &'a [f32],
    /// `[B, H, T]`
    pub logsumexp: &'a [f32],
}

/// dqkv `[N, (H+2K)·D]` ← from dy `[N, H·D]`.
pub(crate) fn backward(
    device: &Device,
    dqkv: &mut [f32],
    dy: &[f32],
    saved: Saved,
    shape: HeadShape,
    sites: Sites,
    scratch: &mut [f32],
) {
    let width = shape.head_width;
    assert_eq!(dqkv.len(), saved.qkv.len(), "attention: size of dqkv");
    assert!(dy.len() == saved.y.len() && dy.len() == shape.rows() * shape.heads * width);
    let dqkv = Disjoint::new(dqkv);
    let items = shape.batch * shape.kv_heads;
    parallel::with_scratch(device, items, scratch, |item, scratch| {
        let (sequence, kv_head) = (item / shape.kv_heads, item % shape.kv_heads);
        let first = sequence * shape.seq_len;
        let heads = Heads { qkv: &saved.qkv[first * shape.cols()..], shape };
        let mut work = Work::new(device.isa(), &heads, kv_head, scratch);
        for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
            let kept = sites.heads.map_or(1.0, |site| site.sequence(sequence, head));
            let row = sequence * shape.heads + head;
            for start in (0..shape.seq_len).step_by(QUERIES) {
                let count = QUERIES.min(shape.seq_len - start);
                let strip = Strip { start, count, heads: &heads, head, row };
                if kept == 0.0 {
                    work.dq[..count * width].fill(0.0);
                } else {
                    work.load(&strip, dy, saved.y, first, kept);
                    let lse = &saved.logsumexp[row * shape.seq_len + start..][..count];
                    work.strip(&strip, sites.probabilities, lse);
                }
                let column = heads.query(head);
                store(&dqkv, &work.dq[..count * width], first + start, column, shape);
            }
        }
        store(&dqkv, work.dk, first, heads.key(kv_head), shape);
        store(&dqkv, work.dv, first, heads.value(kv_head), shape);
    });
}

/// Writes `[rows, D]` into the columns of one head, from row `first` on.
fn store(dqkv: &Disjoint<f32>, from: &[f32], first: usize, column: usize, shape: HeadShape) {
    let width = shape.head_width;
    for (row, from) in from.chunks_exact(width).enumerate() {
        let at = (first + row) * shape.cols() + column;
        #[allow(unsafe_code)]
        // SAFETY: this head's columns of this sequence belong to one task.
        unsafe { dqkv.range(at..at + width) }.copy_from_slice(from);
    }
}

/// The scratch of one key/value head.
struct Work<'a> {
    isa: Isa,
    width: usize,
    keys: usize,
    /// Distance between the rows of `p` and `ds`.
    stride: usize,
    /// `[D, T]`
    kt: &'a [f32],
    /// `[D, T]`
    vt: &'a [f32],
    /// `[T, D]`
    k: &'a [f32],
    dk: &'a mut [f32],
    dv: &'a mut [f32],
    /// P̃ `[queries, stride]`
    p: &'a mut [f32],
    /// dP, then dS `[queries, stride]`
    ds: &'a mut [f32],
    /// `[queries, D]`
    q: &'a mut [f32],
    dy: &'a mut [f32],
    dq: &'a mut [f32],
    /// Δ `[queries]`
    delta: &'a mut [f32],
}

impl<'a> Work<'a> {
    fn new(isa: Isa, heads: &Heads, kv_head: usize, scratch: &'a mut [f32]) -> Work<'a> {
        let (keys, width) = (heads.shape.seq_len, heads.shape.head_width);
        let (all, stride) = (keys * width, score_stride(keys));
        let (kt, rest) = scratch.split_at_mut(all);
        let (vt, rest) = rest.split_at_mut(all);
        let (k, rest) = rest.split_at_mut(all);
        let (dk, rest) = rest.split_at_mut(all);
        let (dv, rest) = rest.split_at_mut(all);
        let (p, rest) = rest.split_at_mut(QUERIES * stride);
        let (ds, rest) = rest.split_at_mut(QUERIES * stride);
        let (q, rest) = rest.split_at_mut(QUERIES * width);
        let (dy, rest) = rest.split_at_mut(QUERIES * width);
        let (dq, rest) = rest.split_at_mut(QUERIES * width);
        let delta = &mut rest[..QUERIES];
        heads.gather(heads.key(kv_head), k, 0, keys);
        let rows: &[f32] = k;
        transpose(isa, |row| &rows[row * width..(row + 1) * width], kt, keys);
        heads.transpose(isa, heads.value(kv_head), vt, keys);
        dk.fill(0.0);
        dv.fill(0.0);
        Work { isa, width, keys, stride, kt, vt, k, dk, dv, p, ds, q, dy, dq, delta }
    }

    /// Brings the strip's q and dy together and computes Δ.
    fn load(&mut self, strip: &Strip, dy: &[f32], y: &[f32], first: usize, kept: f32) {
        let (width, shape) = (self.width, strip.heads.shape);
        strip.heads.gather(strip.heads.query(strip.head), self.q, strip.start, strip.count);
        let delta = &mut *self.delta;
        let rows = self.dy[..strip.count * width].chunks_exact_mut(width);
        dispatch(
            self.isa,
            #[inline(always)]
            || {
                for (query, (row, delta)) in rows.zip(delta).enumerate() {
                    let at = ((first + strip.start + query) * shape.heads + strip.head) * width;
                    let dy = &dy[at..at + width];
                    *delta = lanes::dot(dy, &y[at..at + width]);
                    row.iter_mut().zip(dy).for_each(|(row, dy)| *row = kept * dy);
                }
            },
        );
    }

    /// Adds the strip's part of dk and dv, and leaves its dq.
    fn strip(&mut self, strip: &Strip, site: Option<Site>, lse: &[f32]) {
        let reach = strip.start + strip.count;
        for first_key in (0..reach).step_by(KEYS) {
            let block = KEYS.min(reach - first_key);
            for first in (0..strip.count).step_by(GROUP) {
                self.rows(strip, site, lse, Block { first, first_key, block });
            }
            self.keys(strip, first_key, block);
        }
    }

    /// P̃, dS and dQ of one group of rows against one block of keys.
    fn rows(&mut self, strip: &Strip, site: Option<Site>, lse: &[f32], at: Block) {
        let Block { first, first_key, block } = at;
        let (isa, width, stride) = (self.isa, self.width, self.stride);
        let rows = GROUP.min(strip.count - first);
        let seen = visible(0, strip.start + first + rows, first_key, block);
        if seen == 0 {
            return;
        }
        let span = first * stride..(first + rows) * stride;
        let (p, ds) = (&mut self.p[span.clone()], &mut self.ds[span]);
        let size = Size { m: rows, n: seen, k: width };
        let q = Left { data: &self.q[first * width..], row: width, col: 1 };
        let kt = Right { data: &self.kt[first_key..], row: self.keys };
        tile::product(isa, p, stride, q, kt, size, Into::Overwrite);
        let dy = Left { data: &self.dy[first * width..], row: width, col: 1 };
        let vt = Right { data: &self.vt[first_key..], row: self.keys };
        tile::product(isa, ds, stride, dy, vt, size, Into::Overwrite);
        let scale = 1.0 / (width as f32).sqrt();
        let delta = &self.delta[first..];
        dispatch(
            isa,
            #[inline(always)]
            || {
                let each = p.chunks_exact_mut(stride).zip(ds.chunks_exact_mut(stride));
                for (row, (p, ds)) in each.enumerate() {
                    let own = visible(0, strip.start + first + row + 1, first_key, block);
                    // Whole lanes; beyond a query's own keys both become 0.
                    let whole = seen.next_multiple_of(lanes::LANES);
                    let (p, ds) = (&mut p[..whole], &mut ds[..whole]);
                    p[own..].fill(f32::NEG_INFINITY);
                    ds[own..].fill(0.0);
                    let terms = Terms { lse: lse[first + row], delta: delta[row], scale };
                    match site {
                        None => terms.gradient(
                            p,
                            ds,
                            #[inline(always)]
                            |_| 1.0,
                        ),
                        Some(site) => {
                            let factors = strip.factors(site, first + row);
                            terms.gradient(
                                p,
                                ds,
                                #[inline(always)]
                                |key| factors.at(first_key + key),
                            );
                        }
                    }
                    p[own..seen].fill(0.0);
                    ds[own..seen].fill(0.0);
                }
            },
        );
        let size = Size { m: rows, n: width, k: seen };
        let ds = Left { data: ds, row: stride, col: 1 };
        let k = Right { data: &self.k[first_key * width..], row: width };
        let into = if first_key == 0 { Into::Overwrite } else { Into::Add };
        tile::product(isa, &mut self.dq[first * width..], width, ds, k, size, into);
    }

    /// dV += P̃ᵀ·dy and dK += dSᵀ·q over the keys of one block.
    fn keys(&mut self, strip: &Strip, first_key: usize, block: usize) {
        let (isa, width, stride) = (self.isa, self.width, self.stride);
        for key in (0..block).step_by(GROUP) {
            // Rows of earlier groups of queries do not see these keys.
            let group = (first_key + key).saturating_sub(strip.start) / GROUP;
            let query = group * GROUP;
            if query >= strip.count {
                break;
            }
            let count = GROUP.min(block - key);
            let size = Size { m: count, n: width, k: strip.count - query };
            let at = (first_key + key) * width;
            let weights = |data| Left { data, row: 1, col: stride };
            let rows = |data| Right { data, row: width };
            let start = query * stride + key;
            let (p, ds) = (weights(&self.p[start..]), weights(&self.ds[start..]));
            let (dy, q) = (rows(&self.dy[query * width..]), rows(&self.q[query * width..]));
            tile::product(isa, &mut self.dv[at..], width, p, dy, size, Into::Add);
            tile::product(isa, &mut self.dk[at..], width, ds, q, size, Into::Add);
        }
    }
}

/// A group of rows, from `first`, against `block` keys, from `first_key`.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    first_key: usize,
    block: usize,
}

/// What the gradient of one query's softmax needs.
#[derive(Clone, Copy)]
struct Terms {
    lse: f32,
    delta: f32,
    scale: f32,
}

impl Terms {
    /// p holds scores and becomes P·factor; ds holds dy·v and becomes P·(factor·ds − Δ)·scale.
    #[inline(always)]
    fn gradient(&self, p: &mut [f32], ds: &mut [f32], factor: impl Fn(usize) -> f32) {
        for (key, (p, ds)) in p.iter_mut().zip(ds).enumerate() {
            let probability = exp(*p * self.scale - self.lse);
            let factor = factor(key);
            *p = probability * factor;
            *ds = probability * (factor * *ds - self.delta) * self.scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::attention::{self, forward_scratch};
    use crate::ops::dropout::Sharing;
    use crate::testing::{assert_close, assert_slopes, devices, sites, values, wide};

    /// The specification: softmax over the keys not after the query, dropout, weighted values.
    fn reference(qkv: &[f64], shape: HeadShape, sites: Sites) -> Vec<f64> {
        let HeadShape { batch, seq_len, heads, kv_heads, head_width } = shape;
        let mut y = vec![0.0; batch * seq_len * heads * head_width];
        for (sequence, head) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            let at = |row: usize, head: usize| {
                let start = (sequence * seq_len + row) * shape.cols() + head * head_width;
                &qkv[start..start + head_width]
            };
            let kv_head = head / shape.group();
            let kept = sites.heads.map_or(1.0, |site| site.sequence(sequence, head));
            for query in 0..seq_len {
                let q = at(query, head);
                let score = |key: usize| -> f64 {
                    let k = at(key, heads + kv_head);
                    let dot: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
                    (dot / (head_width as f64).sqrt()).exp()
                };
                let scores: Vec<f64> = (0..=query).map(score).collect();
                let total: f64 = scores.iter().sum();
                let row = (sequence * heads + head) * seq_len + query;
                let start = (sequence * seq_len + query) * heads * head_width + head * head_width;
                for (key, score) in scores.iter().enumerate() {
                    let factor =
                        sites.probabilities.map_or(1.0, |site| site.query(row, heads).at(key));
                    let weight = f64::from(kept) * f64::from(factor) * score / total;
                    for (column, v) in at(key, heads + kv_heads + kv_head).iter().enumerate() {
                        y[start + column] += weight * v;
                    }
                }
            }
        }
        y
    }

    #[test]
    fn agrees_with_the_reference() {
        for device in devices() {
            for (seq_len, heads, kv_heads, head_width) in
                [(1, 1, 1, 1), (13, 2, 2, 3), (61, 4, 2, 5), (97, 3, 1, 18), (50, 1, 1, 70)]
            {
                let shape = HeadShape { batch: 2, seq_len, heads, kv_heads, head_width };
                for sharing in [Sharing::Element, Sharing::Time, Sharing::Row] {
                    for (probabilities, heads) in
                        sites(sharing, seq_len).into_iter().zip(sites(Sharing::Element, seq_len))
                    {
                        check(&device, shape, Sites { probabilities, heads }, 12);
                    }
                }
            }
        }
    }

    #[test]
    fn several_blocks_of_keys_are_one_softmax() {
        let shape =
            HeadShape { batch: 1, seq_len: 2 * KEYS + 30, heads: 1, kv_heads: 1, head_width: 4 };
        let probabilities = sites(Sharing::Element, shape.seq_len)[1];
        for device in devices() {
            check(&device, shape, Sites { probabilities, heads: None }, 4);
        }
    }

    fn check(device: &Device, shape: HeadShape, sites: Sites, samples: usize) {
        let qkv = values(shape.rows() * shape.cols(), 1);
        let mut y = vec![0.0; shape.rows() * shape.heads * shape.head_width];
        let mut logsumexp = vec![0.0; shape.rows() * shape.heads];
        // Whatever earlier work left in the scratch must not matter.
        let mut scratch = vec![f32::NAN; forward_scratch(device, shape)];
        attention::forward(device, &mut y, &mut logsumexp, &qkv, shape, sites, &mut scratch);
        let what = format!("attention {shape:?} {}", device.describe());
        assert_close(&what, &y, &reference(&wide(&qkv), shape, sites), 3e-6);
        let dy = values(y.len(), 2);
        let mut dqkv = vec![f32::NAN; qkv.len()];
        let saved = Saved { qkv: &qkv, y: &y, logsumexp: &logsumexp };
        let mut scratch = vec![f32::NAN; backward_scratch(device, shape)];
        backward(device, &mut dqkv, &dy, saved, shape, sites, &mut scratch);
        assert_slopes(&what, &dqkv, &qkv, &dy, samples, |qkv| reference(qkv, shape, sites));
    }
}
