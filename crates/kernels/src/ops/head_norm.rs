//! RMS normalisation of every query and key head over D (QK-norm, as in Qwen3); values are kept.
//!
//! y = x·rstd·gain with rstd = 1/√(mean(x²) + ε); all query heads share one gain, all key heads
//! another.

use crate::arena::Arena;
use crate::device::Device;
use crate::ops::{HeadShape, columns, lanes};
use crate::parallel;
use crate::pool::Disjoint;
use crate::simd::dispatch;
use crate::values::Element;

/// The gains, `[D]` each, and ε.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub q_gain: &'a [f32],
    pub k_gain: &'a [f32],
    pub epsilon: f32,
}

impl<'a> Terms<'a> {
    /// The gain of a head, queries first.
    #[inline(always)]
    fn gain(&self, head: usize, shape: HeadShape) -> &'a [f32] {
        if head < shape.heads { self.q_gain } else { self.k_gain }
    }
}

/// y ← normalised qkv, both `[N, (H+2K)·D]`; `rstd` receives `[N, H+K]`.
pub(crate) fn forward<T: Element>(
    device: &Device,
    y: &mut [T],
    rstd: &mut [f32],
    qkv: &[T],
    shape: HeadShape,
    terms: Terms,
) {
    let (cols, width) = (shape.cols(), shape.head_width);
    let normed = shape.heads + shape.kv_heads;
    assert!(y.len() == qkv.len() && rstd.len() == shape.rows() * normed, "head_norm: sizes");
    assert!(terms.q_gain.len() == width && terms.k_gain.len() == width, "head_norm: gains");
    let isa = device.isa();
    let (y, rstd) = (Disjoint::new(y), Disjoint::new(rstd));
    parallel::ranges(device, shape.rows(), parallel::grain_of(cols), |rows| {
        #[allow(unsafe_code)]
        // SAFETY: the ranges of `ranges` are disjoint.
        let (y, rstd) = unsafe {
            (
                y.range(rows.start * cols..rows.end * cols),
                rstd.range(rows.start * normed..rows.end * normed),
            )
        };
        let x = &qkv[rows.start * cols..rows.end * cols];
        dispatch(
            isa,
            #[inline(always)]
            || {
                let each = y.chunks_exact_mut(cols).zip(x.chunks_exact(cols));
                for ((y, x), rstd) in each.zip(rstd.chunks_exact_mut(normed)) {
                    let heads = y.chunks_exact_mut(width).zip(x.chunks_exact(width));
                    for ((head, (y, x)), rstd) in heads.enumerate().zip(rstd) {
                        let square = lanes::sum(
                            x,
                            #[inline(always)]
                            |x| x * x,
                        ) / width as f32;
                        *rstd = 1.0 / (square + terms.epsilon).sqrt();
                        for ((y, x), gain) in y.iter_mut().zip(x).zip(terms.gain(head, shape)) {
                            *y = T::of(x.get() * *rstd * gain);
                        }
                    }
                    y[normed * width..].copy_from_slice(&x[normed * width..]);
                }
            },
        );
    });
}

/// dy ← gradient of qkv, in place; `dq_gain` and `dk_gain` `[D]` are added to.
pub(crate) fn backward<T: Element>(
    device: &Device,
    arena: &mut Arena,
    dy: &mut [T],
    (dq_gain, dk_gain): (&mut [f32], &mut [f32]),
    (qkv, rstd): (&[T], &[f32]),
    shape: HeadShape,
    terms: Terms,
) {
    let (cols, width) = (shape.cols(), shape.head_width);
    let normed = shape.heads + shape.kv_heads;
    assert!(dy.len() == qkv.len() && rstd.len() == shape.rows() * normed, "head_norm: sizes");
    let isa = device.isa();
    let dy = Disjoint::new(dy);
    let rows = shape.rows();
    let partials = columns::partial_sums(device, arena, rows, 2 * width, |rows, sums| {
        #[allow(unsafe_code)]
        // SAFETY: the chunks of `partial_sums` are disjoint.
        let dy = unsafe { dy.range(rows.start * cols..rows.end * cols) };
        let x = &qkv[rows.start * cols..rows.end * cols];
        let rstd = &rstd[rows.start * normed..rows.end * normed];
        let (q_sums, k_sums) = sums.split_at_mut(width);
        dispatch(
            isa,
            #[inline(always)]
            || {
                let each = dy.chunks_exact_mut(cols).zip(x.chunks_exact(cols));
                for ((dy, x), rstd) in each.zip(rstd.chunks_exact(normed)) {
                    let heads = dy.chunks_exact_mut(width).zip(x.chunks_exact(width));
                    for ((head, (dy, x)), rstd) in heads.enumerate().zip(rstd) {
                        let sums = if head < shape.heads { &mut *q_sums } else { &mut *k_sums };
                        backward_head(dy, sums, x, terms.gain(head, shape), *rstd);
                    }
                }
            },
        );
    });
    columns::combine(device, dq_gain, &partials, 2 * width, 0);
    columns::combine(device, dk_gain, &partials, 2 * width, width);
    arena.give(partials);
}

/// With x̂ = x·rstd: dx = rstd·(dy·gain − x̂·mean(dy·gain·x̂)); sums += dy·x̂.
#[inline(always)]
fn backward_head<T: Element>(dy: &mut [T], sums: &mut [f32], x: &[T], gain: &[f32], rstd: f32) {
    for (((dy, sum), x), gain) in dy.iter_mut().zip(sums).zip(x).zip(gain) {
        *sum += dy.get() * (x.get() * rstd);
        *dy = T::of(dy.get() * gain);
    }
    let along = lanes::dot(dy, x) * rstd / x.len() as f32;
    for (dy, x) in dy.iter_mut().zip(x) {
        *dy = T::of(rstd * (dy.get() - x.get() * rstd * along));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_slopes, devices, values, wide};

    /// The specification.
    fn reference(x: &[f64], gains: (&[f64], &[f64]), shape: HeadShape, epsilon: f64) -> Vec<f64> {
        let (width, all) = (shape.head_width, shape.heads + 2 * shape.kv_heads);
        let mut y = Vec::new();
        for (index, head) in x.chunks_exact(width).enumerate() {
            let square = head.iter().map(|x| x * x).sum::<f64>() / width as f64;
            let rstd = 1.0 / (square + epsilon).sqrt();
            let at = index % all;
            for (column, x) in head.iter().enumerate() {
                y.push(if at < shape.heads {
                    x * rstd * gains.0[column]
                } else if at < shape.heads + shape.kv_heads {
                    x * rstd * gains.1[column]
                } else {
                    *x
                });
            }
        }
        y
    }

    #[test]
    fn agrees_with_the_reference() {
        for device in devices() {
            for (heads, kv_heads, head_width) in [(1, 1, 2), (4, 2, 6), (6, 1, 40)] {
                let shape = HeadShape { batch: 2, seq_len: 9, heads, kv_heads, head_width };
                check(&device, shape);
            }
        }
    }

    fn check(device: &Device, shape: HeadShape) {
        let x = values(shape.rows() * shape.cols(), 1);
        let (q_gain, k_gain) = (values(shape.head_width, 2), values(shape.head_width, 3));
        let epsilon = 1e-3;
        let terms = Terms { q_gain: &q_gain, k_gain: &k_gain, epsilon };
        let mut y = vec![0.0; x.len()];
        let mut rstd = vec![0.0; shape.rows() * (shape.heads + shape.kv_heads)];
        forward(device, &mut y, &mut rstd, &x, shape, terms);
        let (x64, q64, k64) = (wide(&x), wide(&q_gain), wide(&k_gain));
        let spec =
            |x: &[f64], q: &[f64], k: &[f64]| reference(x, (q, k), shape, f64::from(epsilon));
        let what = format!("head_norm {shape:?} {}", device.describe());
        assert_close(&what, &y, &spec(&x64, &q64, &k64), 2e-6);
        let upstream = values(x.len(), 4);
        let mut dy = upstream.clone();
        let mut dq_gain = vec![0.0; shape.head_width];
        let mut dk_gain = dq_gain.clone();
        let gains = (&mut dq_gain[..], &mut dk_gain[..]);
        backward(device, &mut Arena::default(), &mut dy, gains, (&x, &rstd), shape, terms);
        assert_slopes(&what, &dy, &x, &upstream, 40, |x| spec(x, &q64, &k64));
        assert_slopes(&what, &dq_gain, &q_gain, &upstream, 10, |q| spec(&x64, q, &k64));
        assert_slopes(&what, &dk_gain, &k_gain, &upstream, 10, |k| spec(&x64, &q64, k));
    }
}
