//! Gradients of [`crate::ops::attention::cross`].

use super::{Outputs, Work, store};
use crate::device::Device;
use crate::ops::attention::cross::CrossShape;
use crate::ops::attention::{QUERIES, Sites, Strip};
use crate::ops::attention_forms::Heads;
use crate::ops::tile::Engine;
use crate::parallel;
use crate::pool::Disjoint;
use crate::values::Element;

/// Scratch for [`backward`], all workers together.
pub(crate) fn backward_scratch(device: &Device, shape: CrossShape) -> usize {
    super::backward_scratch(device, shape.of_keys())
}

/// What the forward pass left.
#[derive(Clone, Copy)]
pub(crate) struct Saved<'a, T> {
    /// `[B·T, H·D]`
    pub q: &'a [T],
    /// `[B·S, 2·H·D]`
    pub kv: &'a [T],
    /// `[B·T, H·D]`, with head dropout applied.
    pub y: &'a [T],
    /// `[B, H, T]`
    pub logsumexp: &'a [f32],
}

/// dq `[B·T, H·D]` and dkv `[B·S, 2·H·D]` ← from dy `[B·T, H·D]`.
pub(crate) fn backward<T: Element>(
    device: &Device,
    (dq, dkv): (&mut [T], &mut [T]),
    dy: &[T],
    saved: Saved<T>,
    (shape, lengths): (CrossShape, &[u32]),
    sites: Sites,
    scratch: &mut [f32],
) {
    shape.assert_fits(lengths);
    let CrossShape { queries: seq_len, keys, heads, head_width: width, .. } = shape;
    assert!(dq.len() == saved.q.len() && dkv.len() == saved.kv.len(), "cross attention: gradients");
    assert!(dy.len() == saved.y.len() && dy.len() == saved.q.len(), "cross attention: size of dy");
    let engine = Engine::of(device);
    let (dq, dkv) = (Disjoint::new(dq), Disjoint::new(dkv));
    let (of_queries, of_keys) = (shape.of_queries(), shape.of_keys());
    parallel::with_scratch(device, shape.batch * heads, scratch, |item, scratch| {
        let (sequence, head) = (item / heads, item % heads);
        let (first, first_key) = (sequence * seq_len, sequence * keys);
        let asking = Heads { qkv: &saved.q[first * of_queries.cols()..], shape: of_queries };
        let read = Heads { qkv: &saved.kv[first_key * of_keys.cols()..], shape: of_keys };
        let length = lengths[sequence] as usize;
        let mut work = Work::new(engine, &read, head, length, scratch);
        let kept = sites.heads.map_or(1.0, |site| site.sequence(sequence, head));
        for start in (0..seq_len).step_by(QUERIES) {
            let count = QUERIES.min(seq_len - start);
            let strip = Strip { start, count, keys: Some(length), heads: &asking, head, row: item };
            if kept == 0.0 {
                work.dq[..count * width].fill(0.0);
            } else {
                let at = ((first + start) * heads + head) * width;
                let outputs = Outputs { dy: &dy[at..], y: &saved.y[at..], kept };
                work.load(&strip, outputs, &saved.logsumexp[item * seq_len + start..][..count]);
                work.strip(&strip, sites.probabilities);
            }
            let rows = &work.dq[..count * width];
            store(engine, &dq, rows, first + start, asking.query(head), of_queries);
        }
        let (dk, dv) = (&work.dk[..keys * width], &work.dv[..keys * width]);
        store(engine, &dkv, dk, first_key, read.key(head), of_keys);
        store(engine, &dkv, dv, first_key, read.value(head), of_keys);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Precision;
    use crate::ops::attention::KEYS;
    use crate::ops::attention::cross::{forward, forward_scratch};
    use crate::ops::dropout::Sharing;
    use crate::testing::{assert_close, assert_slopes, devices, isas, sites, values, wide};

    /// The specification: softmax over the keys in use, dropout, weighted values.
    fn reference(
        q: &[f64],
        kv: &[f64],
        (shape, lengths): (CrossShape, &[u32]),
        sites: Sites,
    ) -> Vec<f64> {
        let CrossShape { batch, queries, keys, heads, head_width } = shape;
        let mut y = vec![0.0; q.len()];
        for (sequence, head) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            let read = |key: usize, part: usize| {
                let start =
                    ((sequence * keys + key) * 2 * heads + part * heads + head) * head_width;
                &kv[start..start + head_width]
            };
            let kept = f64::from(sites.heads.map_or(1.0, |site| site.sequence(sequence, head)));
            for query in 0..queries {
                let at = ((sequence * queries + query) * heads + head) * head_width;
                let score = |key: usize| -> f64 {
                    let pairs = q[at..at + head_width].iter().zip(read(key, 0));
                    let dot: f64 = pairs.map(|(q, k)| q * k).sum();
                    (dot / (head_width as f64).sqrt()).exp()
                };
                let scores: Vec<f64> = (0..lengths[sequence] as usize).map(score).collect();
                let total: f64 = scores.iter().sum();
                let row = (sequence * heads + head) * queries + query;
                for (key, score) in scores.iter().enumerate() {
                    let factor =
                        sites.probabilities.map_or(1.0, |site| site.query(row, heads).at(key));
                    let weight = kept * f64::from(factor) * score / total;
                    for (column, v) in read(key, 1).iter().enumerate() {
                        y[at + column] += weight * v;
                    }
                }
            }
        }
        y
    }

    /// Inputs, output, and the inputs' gradients.
    fn run(device: &Device, (shape, lengths): (CrossShape, &[u32]), sites: Sites) -> [Vec<f32>; 5] {
        let size = |(rows, cols): (usize, usize)| rows * cols;
        let (q, kv) = (values(size(shape.query_size()), 1), values(size(shape.key_size()), 3));
        let mut y = vec![f32::NAN; q.len()];
        let mut logsumexp = vec![f32::NAN; q.len() / shape.head_width];
        // Whatever earlier work left in the scratch must not matter.
        let mut scratch = vec![f32::NAN; forward_scratch(device, shape)];
        let place = (shape, lengths);
        forward(device, &mut y, &mut logsumexp, (&q, &kv), place, sites, &mut scratch);
        let dy = values(y.len(), 2);
        let (mut dq, mut dkv) = (vec![f32::NAN; q.len()], vec![f32::NAN; kv.len()]);
        let saved = Saved { q: &q, kv: &kv, y: &y, logsumexp: &logsumexp };
        let mut scratch = vec![f32::NAN; backward_scratch(device, shape)];
        backward(device, (&mut dq, &mut dkv), &dy, saved, place, sites, &mut scratch);
        [q, kv, y, dq, dkv]
    }

    const SHAPES: [(usize, usize, [u32; 2], usize, usize); 5] = [
        (1, 1, [1, 1], 1, 1),
        (5, 13, [13, 6], 2, 3),
        (61, 4, [3, 4], 4, 5),
        (70, 97, [97, 64], 3, 18),
        (3, 2 * KEYS + 9, [2 * KEYS as u32 + 9, 2 * KEYS as u32 + 1], 1, 6),
    ];

    #[test]
    fn agrees_with_the_reference() {
        for device in devices() {
            for (queries, keys, lengths, heads, head_width) in SHAPES {
                let shape = CrossShape { batch: 2, queries, keys, heads, head_width };
                let place = (shape, &lengths[..]);
                let both = sites(Sharing::Element, queries);
                for (probabilities, heads) in both.into_iter().zip(both) {
                    let sites = Sites { probabilities, heads };
                    let [q, kv, y, dq, dkv] = run(&device, place, sites);
                    let (wide_q, wide_kv) = (wide(&q), wide(&kv));
                    let what = format!("{shape:?} {}", device.describe());
                    assert_close(&what, &y, &reference(&wide_q, &wide_kv, place, sites), 3e-6);
                    let dy = values(y.len(), 2);
                    let of_q = |q: &[f64]| reference(q, &wide_kv, place, sites);
                    assert_slopes(&format!("dq {what}"), &dq, &q, &dy, 10, of_q);
                    let of_kv = |kv: &[f64]| reference(&wide_q, kv, place, sites);
                    assert_slopes(&format!("dkv {what}"), &dkv, &kv, &dy, 10, of_kv);
                }
            }
        }
    }

    #[test]
    fn bf16_differs_by_its_rounding() {
        for isa in isas() {
            let short = Device::cpu_with_isa(2, Precision::Bf16, isa).unwrap();
            let long = Device::cpu_with_isa(2, Precision::F32, isa).unwrap();
            for (queries, keys, lengths, heads, head_width) in SHAPES {
                let shape = CrossShape { batch: 2, queries, keys, heads, head_width };
                let probabilities = sites(Sharing::Element, queries)[1];
                let sites = Sites { probabilities, heads: None };
                let [.., y, dq, dkv] = run(&short, (shape, &lengths), sites);
                let [.., exact_y, exact_dq, exact_dkv] = run(&long, (shape, &lengths), sites);
                let what = format!("{shape:?} {}", short.describe());
                assert_close(&what, &y, &wide(&exact_y), 1.5e-2);
                assert_close(&what, &dq, &wide(&exact_dq), 1.5e-2);
                assert_close(&what, &dkv, &wide(&exact_dkv), 1.5e-2);
                assert!(keys == 1 || y != exact_y, "{what}: nothing was rounded");
            }
        }
    }
}
