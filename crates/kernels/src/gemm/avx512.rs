//! Register tiles of AVX-512: 14×32 values of c in 28 registers, f32 and bf16.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::pack;
use super::round::Route;
use super::tile::{Emulate, Kernels, Tile};

const LANES: usize = 16;

pub(super) static F32: Kernels = Kernels {
    rows: 14,
    lanes: LANES,
    pair: 1,
    emulate: Emulate::No,
    packers: pack::avx512::F32,
    full: [f32_tile::<14, 1>, f32_tile::<14, 2>],
    rest: [
        [f32_tile::<8, 1>, f32_tile::<8, 2>],
        [f32_tile::<4, 1>, f32_tile::<4, 2>],
        [f32_tile::<2, 1>, f32_tile::<2, 2>],
        [f32_tile::<1, 1>, f32_tile::<1, 2>],
    ],
};

pub(super) static BF16_EMULATED: Kernels = Kernels { emulate: Emulate::Bf16, ..F32 };

pub(super) static BF16: Kernels = Kernels {
    rows: 14,
    lanes: LANES,
    pair: 2,
    emulate: Emulate::No,
    packers: pack::avx512::BF16,
    full: [bf16_tile::<14, 1>, bf16_tile::<14, 2>],
    rest: [
        [bf16_tile::<8, 1>, bf16_tile::<8, 2>],
        [bf16_tile::<4, 1>, bf16_tile::<4, 2>],
        [bf16_tile::<2, 1>, bf16_tile::<2, 2>],
        [bf16_tile::<1, 1>, bf16_tile::<1, 2>],
    ],
};

/// sum + a·b for one unit in each lane.
///
/// # Safety
/// Needs the instructions of its input type.
trait Dot {
    unsafe fn dot(sum: __m512, a: __m512i, b: __m512i) -> __m512;
}

struct F32Dot;
impl Dot for F32Dot {
    #[inline(always)]
    unsafe fn dot(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum) }
    }
}

struct Bf16Dot;
impl Dot for Bf16Dot {
    #[inline(always)]
    unsafe fn dot(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: the trait's contract; both types are 512 plain bits.
        unsafe {
            let a = std::mem::transmute::<__m512i, __m512bh>(a);
            let b = std::mem::transmute::<__m512i, __m512bh>(b);
            _mm512_dpbf16_ps(sum, a, b)
        }
    }
}

/// # Safety
/// As [`super::tile::TileKernel`].
#[target_feature(enable = "avx512f")]
unsafe fn f32_tile<const R: usize, const V: usize>(tile: &Tile) {
    // SAFETY: passed on.
    unsafe { product::<R, V, F32Dot>(tile) }
}

/// # Safety
/// As [`super::tile::TileKernel`].
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bf16_tile<const R: usize, const V: usize>(tile: &Tile) {
    // SAFETY: passed on.
    unsafe { product::<R, V, Bf16Dot>(tile) }
}

/// The tile of R rows and V vectors.
///
/// # Safety
/// As [`super::tile::TileKernel`].
#[inline(always)]
unsafe fn product<const R: usize, const V: usize, D: Dot>(tile: &Tile) {
    // SAFETY: the caller answers for all accesses within rows, depth and `cols`.
    unsafe {
        let mask = _cvtu32_mask16(0xffff >> (LANES * V - tile.cols));
        let aligned = (tile.c.addr() | (4 * tile.ldc)).is_multiple_of(64);
        let streamed = tile.route == Route::PastTheCache && aligned && tile.cols == V * LANES;
        let (near, row) = match tile.from.is_null() {
            true => (tile.c.cast_const(), tile.ldc),
            false => (tile.from, tile.from_row),
        };
        if !streamed {
            for r in 0..R {
                _mm_prefetch::<_MM_HINT_T0>(near.wrapping_add(r * row).cast());
            }
        }
        let mut start = [_mm512_setzero_ps(); V];
        if !tile.bias.is_null() {
            start = load_columns::<V>(tile.bias.cast(), mask).map(|v| _mm512_castsi512_ps(v));
        }
        let mut sums = [start; R];
        let (mut a, mut b, mut ahead) = (tile.a, tile.b, tile.ahead);
        for _ in 0..tile.depth {
            _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
            ahead = ahead.wrapping_byte_add(tile.ahead_step);
            let columns = load_columns::<V>(b, mask);
            for (r, sums) in sums.iter_mut().enumerate() {
                let row = _mm512_set1_epi32(*a.add(r * tile.a_row) as i32);
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = D::dot(*sum, row, column);
                }
            }
            a = a.wrapping_add(tile.a_step);
            b = b.wrapping_add(tile.b_step);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let mask = if v + 1 == V { mask } else { 0xffff };
                let at = tile.c.add(r * tile.ldc + v * LANES);
                let mut value = *sum;
                if !tile.from.is_null() {
                    let old = tile.from.add(r * tile.from_row + v * LANES);
                    value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, old), value);
                }
                if streamed {
                    _mm512_stream_ps(at, value);
                } else {
                    _mm512_mask_storeu_ps(at, mask, value);
                }
            }
        }
    }
}

/// V vectors of units; of the last only those in the mask.
///
/// # Safety
/// All lanes but those outside the mask must be readable.
#[inline(always)]
unsafe fn load_columns<const V: usize>(b: *const u32, mask: __mmask16) -> [__m512i; V] {
    // SAFETY: passed on.
    std::array::from_fn(|v| unsafe {
        if v + 1 == V {
            _mm512_maskz_loadu_epi32(mask, b.add(v * LANES).cast())
        } else {
            _mm512_loadu_epi32(b.add(v * LANES).cast())
        }
    })
}
