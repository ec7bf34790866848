//! Register tiles of AVX2 and FMA: 6×16 values of c in 12 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::pack;
use super::tile::{Emulate, Kernels, NO_ENDINGS, Tile};

const LANES: usize = 8;

pub(super) static F32: Kernels = Kernels {
    rows: 6,
    lanes: LANES,
    pair: 1,
    emulate: Emulate::No,
    packers: pack::avx2::F32,
    full: [tile::<6, 1>, tile::<6, 2>],
    rest: [
        [tile::<6, 1>, tile::<6, 2>], // Not reached: six rows make a full tile.
        [tile::<4, 1>, tile::<4, 2>],
        [tile::<2, 1>, tile::<2, 2>],
        [tile::<1, 1>, tile::<1, 2>],
    ],
    endings: NO_ENDINGS,
};

pub(super) static BF16_EMULATED: Kernels = Kernels { emulate: Emulate::Bf16, ..F32 };

/// The tile of R rows and V vectors.
///
/// # Safety
/// As [`super::tile::TileKernel`].
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const R: usize, const V: usize>(tile: &Tile) {
    // SAFETY: the caller answers for all accesses within rows, depth and `cols`.
    unsafe {
        let last = tile.cols - LANES * (V - 1);
        let mask = first_lanes(last);
        for r in 0..R {
            _mm_prefetch::<_MM_HINT_T0>(tile.c.add(r * tile.ldc).cast());
        }
        let mut start = [_mm256_setzero_ps(); V];
        if !tile.bias.is_null() {
            start = std::array::from_fn(|v| {
                let mask = if v + 1 == V { mask } else { first_lanes(LANES) };
                _mm256_maskload_ps(tile.bias.add(v * LANES), mask)
            });
        }
        let mut sums = [start; R];
        let (mut a, mut b) = (tile.a.cast::<f32>(), tile.b.cast::<f32>());
        for _ in 0..tile.depth {
            let columns: [__m256; V] = std::array::from_fn(|v| {
                if v + 1 == V {
                    _mm256_maskload_ps(b.add(v * LANES), mask)
                } else {
                    _mm256_loadu_ps(b.add(v * LANES))
                }
            });
            for (r, sums) in sums.iter_mut().enumerate() {
                let row = _mm256_broadcast_ss(&*a.add(r * tile.a_row));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = _mm256_fmadd_ps(row, column, *sum);
                }
            }
            a = a.wrapping_add(tile.a_step);
            b = b.wrapping_add(tile.b_step);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let mask = if v + 1 == V { mask } else { first_lanes(LANES) };
                let at = tile.c.add(r * tile.ldc + v * LANES);
                let mut value = *sum;
                if !tile.from.is_null() {
                    let old = tile.from.add(r * tile.from_row + v * LANES);
                    value = _mm256_add_ps(_mm256_maskload_ps(old, mask), value);
                }
                _mm256_maskstore_ps(at, mask, value);
            }
        }
    }
}

/// A mask of the first `count` lanes, 0 ≤ count ≤ 8.
#[inline]
#[target_feature(enable = "avx2")]
fn first_lanes(count: usize) -> __m256i {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
}
