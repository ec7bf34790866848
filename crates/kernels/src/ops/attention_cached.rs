//! Attention over a cache of keys and values, for generation.

mod select;

use crate::device::Device;
use crate::math::exp;
use crate::ops::attention::{Attended, QUERIES, Strip, attend, strip_scratch};
use crate::ops::attention_forms::{Heads, Rows, as_columns, as_rows};
use crate::ops::tile::{self, Engine, Into, Left, Right, Size};
use crate::ops::{HeadShape, lanes};
use crate::parallel;
use crate::pool::Disjoint;
use crate::simd::dispatch;

/// Keys and values of one layer's past, each `[batch, kv_heads, capacity, head_width]`.
#[derive(Clone, Debug)]
pub struct KvLayer {
    /// Keys, after rotary positions where the model has them.
    pub keys: Vec<f32>,
    /// Values.
    pub values: Vec<f32>,
    /// Positions filled so far, the same for every sequence.
    pub len: usize,
    /// Positions there is room for.
    pub capacity: usize,
    batch: usize,
    kv_heads: usize,
    head_width: usize,
}

impl KvLayer {
    /// An empty cache.
    pub fn new(batch: usize, capacity: usize, kv_heads: usize, head_width: usize) -> KvLayer {
        let len = batch * capacity * kv_heads * head_width;
        let (keys, values) = (vec![0.0; len], vec![0.0; len]);
        KvLayer { keys, values, len: 0, capacity, batch, kv_heads, head_width }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

/// Queries up to which keys are met one by one, as they lie.
const FEW: usize = 4;

/// Scratch for [`forward`], all workers together.
pub(crate) fn scratch_len(device: &Device, shape: HeadShape, cache: &KvLayer) -> usize {
    let (keys, width) = (cache.len + shape.seq_len, shape.head_width);
    let few = keys + width;
    let many = 2 * (keys + 1) * width + strip_scratch(width) + shape.seq_len;
    let workers = parallel::workers(device, shape.batch * shape.kv_heads);
    workers * if shape.seq_len <= FEW { few } else { many }
}

/// Appends the keys and values of qkv `[B·T, (H+2K)·D]` to the cache, then y `[B·T, H·D]` ←
/// attention of each query over the past and the positions up to its own.
///
/// # Panics
/// If the cache was made for another shape or has no room for T more positions.
pub(crate) fn forward(
    device: &Device,
    y: &mut [f32],
    qkv: &[f32],
    shape: HeadShape,
    cache: &mut KvLayer,
    scratch: &mut [f32],
) {
    shape.assert_whole();
    let width = shape.head_width;
    let made_for = (cache.batch, cache.kv_heads, cache.head_width);
    assert_eq!(made_for, (shape.batch, shape.kv_heads, width), "the cache is for other heads");
    let (past, room) = (cache.len, cache.capacity);
    assert!(past + shape.seq_len <= room, "{room} positions of cache, {past} in use");
    assert_eq!(qkv.len(), shape.rows() * shape.cols(), "attention: size of qkv");
    assert_eq!(y.len(), shape.rows() * shape.heads * width, "attention: size of y");
    append(cache, qkv, shape);
    let y = Disjoint::new(y);
    let cache = &*cache;
    let items = shape.batch * shape.kv_heads;
    parallel::with_scratch(device, items, scratch, |item, scratch| {
        let (sequence, kv_head) = (item / shape.kv_heads, item % shape.kv_heads);
        let first = sequence * shape.seq_len;
        let heads = Heads { qkv: &qkv[first * shape.cols()..], shape };
        let span = item * room * width..(item * room + cache.len) * width;
        let (keys, values) = (&cache.keys[span.clone()], &cache.values[span]);
        let put = |head: usize, query: usize, output: &[f32]| {
            let at = ((first + query) * shape.heads + head) * width;
            #[allow(unsafe_code)]
            // SAFETY: this head's columns of this sequence belong to one task.
            unsafe { y.range(at..at + width) }.copy_from_slice(output);
        };
        for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
            if shape.seq_len <= FEW {
                few(device, &heads, head, (keys, values), past, scratch, &put);
            } else {
                many(device, &heads, head, (keys, values), past, scratch, &put);
            }
        }
    });
}

fn append(cache: &mut KvLayer, qkv: &[f32], shape: HeadShape) {
    let (width, room) = (shape.head_width, cache.capacity);
    for sequence in 0..shape.batch {
        let heads = Heads { qkv: &qkv[sequence * shape.seq_len * shape.cols()..], shape };
        for kv_head in 0..shape.kv_heads {
            for row in 0..shape.seq_len {
                let at = ((sequence * shape.kv_heads + kv_head) * room + cache.len + row) * width;
                let (key, value) = (heads.key(kv_head), heads.value(kv_head));
                cache.keys[at..at + width].copy_from_slice(heads.row(key, row));
                cache.values[at..at + width].copy_from_slice(heads.row(value, row));
            }
        }
    }
    cache.len += shape.seq_len;
}

type Put<'a> = dyn Fn(usize, usize, &[f32]) + 'a;

/// One query at a time: every key and value is read once, as it lies.
fn few(
    device: &Device,
    heads: &Heads,
    head: usize,
    (keys, values): (&[f32], &[f32]),
    past: usize,
    scratch: &mut [f32],
    put: &Put,
) {
    let (engine, width) = (Engine::f32(device), heads.shape.head_width);
    let scale = 1.0 / (width as f32).sqrt();
    for query in 0..heads.shape.seq_len {
        let seen = past + query + 1;
        let (scores, rest) = scratch.split_at_mut(seen);
        let output = &mut rest[..width];
        let q = heads.row(heads.query(head), query);
        let sum = dispatch(
            engine.isa,
            #[inline(always)]
            || {
                for (score, key) in scores.iter_mut().zip(keys.chunks_exact(width)) {
                    *score = scale * lanes::dot(q, key);
                }
                let most = lanes::max(scores);
                lanes::map_sum(
                    scores,
                    #[inline(always)]
                    |score| exp(score - most),
                )
            },
        );
        let weights = Left { data: scores, row: seen, col: 1 };
        let size = Size { m: 1, n: width, k: seen };
        let rows = Right { data: values, row: width };
        tile::product(engine, output, width, weights, rows, size, Into::Overwrite);
        output.iter_mut().for_each(|output| *output /= sum);
        put(head, query, output);
    }
}

/// A prompt: strips of queries, as in training.
fn many(
    device: &Device,
    heads: &Heads,
    head: usize,
    (keys, values): (&[f32], &[f32]),
    past: usize,
    scratch: &mut [f32],
    put: &Put,
) {
    let (width, seq_len) = (heads.shape.head_width, heads.shape.seq_len);
    let engine = Engine::of(device);
    let count = keys.len() / width;
    let (key_rows, rest) = scratch.split_at_mut((count + 1) * width);
    let (value_columns, rest) = rest.split_at_mut((count + 1) * width);
    let (lse, rest) = rest.split_at_mut(seq_len);
    if head.is_multiple_of(heads.shape.group()) {
        let rows = |data| Rows { data, stride: width, count, width };
        as_rows(engine, rows(keys), key_rows);
        as_columns(engine, rows(values), value_columns);
    }
    let attended = Attended { engine, keys: key_rows, values: value_columns, width, past };
    for start in (0..seq_len).step_by(QUERIES) {
        let count = QUERIES.min(seq_len - start);
        let strip = Strip { start, count, keys: None, heads, head, row: 0 };
        let outputs = attend(&attended, &strip, None, rest, lse);
        for (query, output) in outputs.chunks_exact(width).enumerate() {
            put(head, start + query, output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::attention::{self, Sites, forward_scratch};
    use crate::testing::{assert_close, devices, values, wide};

    #[test]
    fn pieces_through_the_cache_equal_the_whole() {
        for device in devices() {
            for (kv_heads, pieces) in [(4, [1usize; 12].to_vec()), (2, vec![50, 1, 3, 9, 1, 60])] {
                let seq_len = pieces.iter().sum();
                let shape = HeadShape { batch: 2, seq_len, heads: 4, kv_heads, head_width: 6 };
                let (cols, width) = (shape.cols(), shape.heads * shape.head_width);
                let qkv = values(shape.rows() * cols, 1);
                let mut whole = vec![0.0; shape.rows() * width];
                let mut lse = vec![0.0; shape.rows() * shape.heads];
                let mut scratch = vec![0.0; forward_scratch(&device, shape)];
                let sites = Sites { probabilities: None, heads: None };
                let place = (shape, attention::Reach::Causal);
                attention::forward(&device, &mut whole, &mut lse, &qkv, place, sites, &mut scratch);
                let mut cache = KvLayer::new(2, seq_len + 3, kv_heads, 6);
                let mut start = 0;
                for &piece in &pieces {
                    let shape = HeadShape { seq_len: piece, ..shape };
                    let rows = |from: &[f32], cols: usize| -> Vec<f32> {
                        let each = from.chunks_exact(seq_len * cols);
                        each.flat_map(|s| &s[start * cols..(start + piece) * cols])
                            .copied()
                            .collect()
                    };
                    let qkv = rows(&qkv, cols);
                    let mut y = vec![f32::NAN; shape.rows() * width];
                    let mut scratch = vec![f32::NAN; scratch_len(&device, shape, &cache)];
                    forward(&device, &mut y, &qkv, shape, &mut cache, &mut scratch);
                    let what = format!("{piece} after {start} {}", device.describe());
                    assert_close(&what, &y, &wide(&rows(&whole, width)), 3e-6);
                    start += piece;
                }
                assert_eq!(cache.len, seq_len);
            }
        }
    }
}
