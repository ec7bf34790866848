//! Rotary positions (Su et al. 2021) in Llama's convention: a head's halves are rotated together.
//!
//! For i < D/2 and angle φ = position·θ^(−2i/D): y[i] = x[i]·cos φ − x[i + D/2]·sin φ and
//! y[i + D/2] = x[i + D/2]·cos φ + x[i]·sin φ. Applied in place to query and key heads; backward
//! is the rotation by −φ.

use crate::device::Device;
use crate::ops::HeadShape;
use crate::parallel;
use crate::simd::dispatch;

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
pub(crate) fn rotate(
    device: &Device,
    qkv: &mut [f32],
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
                            let (a, b, sin) = (*low, *high, sign * sin);
                            *low = a * cos - b * sin;
                            *high = b * cos + a * sin;
                        }
                    }
                }
            },
        );
    });
}
