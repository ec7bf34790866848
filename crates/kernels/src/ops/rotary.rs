//! Rotary positions (Su et al. 2021) in Llama's convention: a head's halves are rotated together.
//!
//! For i < D/2 and angle φ = position·θ^(−2i/D): y[i] = x[i]·cos φ − x[i + D/2]·sin φ and
//! y[i + D/2] = x[i + D/2]·cos φ + x[i]·sin φ. Applied in place to query and key heads; backward
//! is the rotation by −φ.

use crate::device::Device;
use crate::ops::HeadShape;
use crate::parallel;
use crate::simd::dispatch;
use crate::values::Element;

/// Cosines and sines, `[T, D/2]` each; computed once and kept while its key is asked for.
#[derive(Debug, Default)]
pub(crate) struct Table {
    key: Option<(u32, usize, usize, usize)>,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Table {
    /// Fills the table for positions `first..first + seq_len` unless it holds them already.
    ///
    /// Angles are products of f32 factors, as everywhere in the ecosystem.
    pub fn prepare(&mut self, theta: f32, first: usize, seq_len: usize, head_width: usize) {
        assert!(head_width.is_multiple_of(2), "rotary: head width {head_width} is odd");
        let key = Some((theta.to_bits(), first, seq_len, head_width));
        if self.key == key {
            return;
        }
        let half = head_width / 2;
        self.cosines.clear();
        self.sines.clear();
        for position in first..first + seq_len {
            for pair in 0..half {
                let exponent = (2 * pair) as f64 / head_width as f64;
                let frequency = (1.0 / f64::from(theta).powf(exponent)) as f32;
                let angle = f64::from(position as f32 * frequency);
                self.cosines.push(angle.cos() as f32);
                self.sines.push(angle.sin() as f32);
            }
        }
        self.key = key;
    }
}

/// Which way to turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// By φ.
    Forward,
    /// By −φ: the gradient.
    Backward,
}

/// Rotates the query and key heads of qkv `[N, (H+2K)·D]` in place.
pub(crate) fn rotate<T: Element>(
    device: &Device,
    qkv: &mut [T],
    table: &Table,
    shape: HeadShape,
    turn: Turn,
) {
    let (cols, width, half) = (shape.cols(), shape.head_width, shape.head_width / 2);
    let rotated = (shape.heads + shape.kv_heads) * width;
    assert_eq!(qkv.len(), shape.rows() * cols, "rotary: size of qkv");
    assert_eq!(table.cosines.len(), shape.seq_len * half, "rotary: size of the table");
    let isa = device.isa();
    let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
    let grain = parallel::grain_of(cols);
    device.pool().for_each_chunk(qkv, grain * cols, &|index, part| {
        dispatch(
            isa,
            #[inline(always)]
            || {
                for (row, x) in part.chunks_exact_mut(cols).enumerate() {
                    let position = (index * grain + row) % shape.seq_len;
                    let cosines = &table.cosines[position * half..(position + 1) * half];
                    let sines = &table.sines[position * half..(position + 1) * half];
                    for head in x[..rotated].chunks_exact_mut(width) {
                        let (low, high) = head.split_at_mut(half);
                        let pairs = low.iter_mut().zip(high);
                        for ((low, high), (cos, sin)) in pairs.zip(cosines.iter().zip(sines)) {
                            let (a, b, sin) = (low.get(), high.get(), sign * sin);
                            *low = T::of(a * cos - b * sin);
                            *high = T::of(b * cos + a * sin);
                        }
                    }
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_slopes, devices, values, wide};

    /// The specification.
    fn reference(x: &[f64], shape: HeadShape, theta: f64, first: usize) -> Vec<f64> {
        let (width, half) = (shape.head_width, shape.head_width / 2);
        let all = shape.heads + 2 * shape.kv_heads;
        let mut y = x.to_vec();
        for (index, head) in y.chunks_exact_mut(width).enumerate() {
            let (row, at) = (index / all, index % all);
            if at >= shape.heads + shape.kv_heads {
                continue;
            }
            let position = (first + row % shape.seq_len) as f64;
            for i in 0..half {
                let angle = position * theta.powf(-2.0 * i as f64 / width as f64);
                let (a, b) = (head[i], head[i + half]);
                head[i] = a * angle.cos() - b * angle.sin();
                head[i + half] = b * angle.cos() + a * angle.sin();
            }
        }
        y
    }

    #[test]
    fn agrees_with_the_reference() {
        for device in devices() {
            for (heads, kv_heads, head_width) in [(1, 1, 2), (4, 2, 6), (3, 1, 64)] {
                for first in [0, 33] {
                    let shape = HeadShape { batch: 2, seq_len: 11, heads, kv_heads, head_width };
                    let mut table = Table::default();
                    table.prepare(10_000.0, first, 11, head_width);
                    let x = values(shape.rows() * shape.cols(), 1);
                    let mut y = x.clone();
                    rotate(&device, &mut y, &table, shape, Turn::Forward);
                    let what = format!("rotary {shape:?} {}", device.describe());
                    let spec = |x: &[f64]| reference(x, shape, 10_000.0, first);
                    assert_close(&what, &y, &spec(&wide(&x)), 5e-6);
                    let dy = values(x.len(), 2);
                    let mut dx = dy.clone();
                    rotate(&device, &mut dx, &table, shape, Turn::Backward);
                    assert_slopes(&what, &dx, &x, &dy, 30, spec);
                }
            }
        }
    }
}
