//! Sums and scans over long flat vectors, with the same bits for any number of threads.

use std::cell::RefCell;

use crate::device::{Device, Isa};
use crate::simd::dispatch;

/// Values per partial sum; fixed, so that the order of additions is too.
pub const CHUNK: usize = 16384;
const LANES: usize = 16;

thread_local! {
    static PARTIALS: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
}

/// Σ x², accumulated in f64.
pub fn sum_of_squares(device: &Device, values: &[f32]) -> f64 {
    let isa = device.isa();
    chunked_sum(device, values, &|chunk| {
        lanes_sum(
            isa,
            chunk,
            #[inline(always)]
            |x| f64::from(x) * f64::from(x),
        )
    })
}

/// Σ |x|, accumulated in f64.
pub fn abs_sum(device: &Device, values: &[f32]) -> f64 {
    let isa = device.isa();
    chunked_sum(device, values, &|chunk| {
        lanes_sum(
            isa,
            chunk,
            #[inline(always)]
            |x| f64::from(x.abs()),
        )
    })
}

/// How many values are zero (of either sign).
pub fn count_zero(device: &Device, values: &[f32]) -> u64 {
    let isa = device.isa();
    chunked_sum(device, values, &|chunk| {
        dispatch(
            isa,
            #[inline(always)]
            || f64::from(chunk.iter().map(|&x| u32::from(x == 0.0)).sum::<u32>()),
        )
    }) as u64
}

/// Whether any value is infinite or not a number.
pub fn has_non_finite(device: &Device, values: &[f32]) -> bool {
    let isa = device.isa();
    chunked_sum(device, values, &|chunk| {
        dispatch(
            isa,
            #[inline(always)]
            || {
                let bad = chunk.iter().map(|x| u32::from(x.to_bits() & 0x7f80_0000 == 0x7f80_0000));
                f64::from(bad.sum::<u32>())
            },
        )
    }) > 0.0
}

/// x ← factor·x.
pub fn scale(device: &Device, values: &mut [f32], factor: f32) {
    let isa = device.isa();
    device.pool().for_each_chunk(values, CHUNK, &|_, chunk| {
        dispatch(
            isa,
            #[inline(always)]
            || chunk.iter_mut().for_each(|x| *x *= factor),
        );
    });
}

/// Sums `f` over one chunk in 16 lanes, folded at the end in a fixed order.
#[inline(always)]
fn lanes_sum(isa: Isa, chunk: &[f32], f: impl Fn(f32) -> f64) -> f64 {
    dispatch(
        isa,
        #[inline(always)]
        || {
            let mut lanes = [0.0f64; LANES];
            let (blocks, tail) = chunk.as_chunks::<LANES>();
            for block in blocks {
                for (lane, &x) in lanes.iter_mut().zip(block) {
                    *lane += f(x);
                }
            }
            for (lane, &x) in lanes.iter_mut().zip(tail) {
                *lane += f(x);
            }
            lanes.iter().sum()
        },
    )
}

/// Partial sums of fixed chunks, added in order.
fn chunked_sum(device: &Device, values: &[f32], sum: &(dyn Fn(&[f32]) -> f64 + Sync)) -> f64 {
    let chunks = values.len().div_ceil(CHUNK);
    if chunks <= 1 {
        return if chunks == 0 { 0.0 } else { sum(values) };
    }
    PARTIALS.with_borrow_mut(|partials| {
        partials.clear();
        partials.resize(chunks, 0.0);
        device.pool().for_each_chunk(partials, 1, &|chunk, partial| {
            let start = chunk * CHUNK;
            let end = values.len().min(start + CHUNK);
            partial[0] = sum(&values[start..end]);
        });
        partials.iter().sum()
    })
}
