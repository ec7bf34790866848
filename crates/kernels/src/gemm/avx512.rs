//! Register tiles of AVX-512: 14×32 values of c in 28 registers, f32 and bf16.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::finish::Kept;
use super::pack;
use super::round::Route;
use super::tile::{Emulate, Endings, Kernels, NO_ENDINGS, Outputs, Tile};
use crate::math::fused_x86;

const LANES: usize = 16;
/// Rows of the full tile.
const ROWS: usize = 14;

pub(super) static F32: Kernels = Kernels {
    rows: ROWS,
    lanes: LANES,
    pair: 1,
    emulate: Emulate::No,
    packers: pack::avx512::F32,
    full: [f32_tile::<ROWS, 1>, f32_tile::<ROWS, 2>],
    rest: [
        [f32_tile::<8, 1>, f32_tile::<8, 2>],
        [f32_tile::<4, 1>, f32_tile::<4, 2>],
        [f32_tile::<2, 1>, f32_tile::<2, 2>],
        [f32_tile::<1, 1>, f32_tile::<1, 2>],
    ],
    endings: Endings { narrow: None, gelu: Some(f32_gelu) },
};

pub(super) static BF16_EMULATED: Kernels =
    Kernels { emulate: Emulate::Bf16, endings: NO_ENDINGS, ..F32 };

pub(super) static BF16: Kernels = Kernels {
    rows: ROWS,
    lanes: LANES,
    pair: 2,
    emulate: Emulate::No,
    packers: pack::avx512::BF16,
    full: [bf16_tile::<ROWS, 1>, bf16_tile::<ROWS, 2>],
    rest: [
        [bf16_tile::<8, 1>, bf16_tile::<8, 2>],
        [bf16_tile::<4, 1>, bf16_tile::<4, 2>],
        [bf16_tile::<2, 1>, bf16_tile::<2, 2>],
        [bf16_tile::<1, 1>, bf16_tile::<1, 2>],
    ],
    endings: Endings { narrow: Some(bf16_narrow), gelu: Some(bf16_gelu) },
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
    unsafe { to_c(tile, product::<R, V, F32Dot>(tile)) }
}

/// # Safety
/// As [`super::tile::TileKernel`], for the whole tile.
#[target_feature(enable = "avx512f")]
unsafe fn f32_gelu(tile: &Tile) {
    // SAFETY: passed on; c is f32.
    unsafe { gelu(tile, product::<ROWS, 2, F32Dot>(tile), |_, _, _| {}) }
}

/// # Safety
/// As [`super::tile::TileKernel`].
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bf16_tile<const R: usize, const V: usize>(tile: &Tile) {
    // SAFETY: passed on.
    unsafe { to_c(tile, product::<R, V, Bf16Dot>(tile)) }
}

/// # Safety
/// As [`super::tile::TileKernel`], for the whole tile.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bf16_narrow(tile: &Tile) {
    // SAFETY: passed on.
    unsafe {
        let sums = product::<ROWS, 2, Bf16Dot>(tile);
        let to = tile.outputs.narrow.unwrap_or(std::ptr::null_mut());
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                store_halves(to.add(r * tile.outputs.row + v * LANES), *sum, Route::Cached);
            }
        }
    }
}

/// # Safety
/// As [`super::tile::TileKernel`], for the whole tile.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bf16_gelu(tile: &Tile) {
    // SAFETY: passed on.
    unsafe {
        gelu(
            tile,
            product::<ROWS, 2, Bf16Dot>(tile),
            #[inline(always)]
            |to, value, route| store_halves(to, value, route),
        );
    }
}

/// Sixteen values as bf16.
///
/// # Safety
/// Needs the instructions, and 32 writable bytes, aligned where they go past the cache.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn store_halves(to: *mut u16, value: __m512, route: Route) {
    // SAFETY: the caller's promise; both types are 256 plain bits.
    unsafe {
        let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value));
        match route {
            Route::Cached => _mm256_storeu_si256(to.cast(), halves),
            Route::PastTheCache => _mm256_stream_si256(to.cast(), halves),
        }
    }
}

/// Keeps the values of a whole tile where [`Outputs::pre`] says, and puts their GELU into c, or
/// where [`Outputs::narrow`] says; `halves` writes bf16.
///
/// # Safety
/// All that is written must be writable, and the instructions of `halves` there.
#[inline(always)]
unsafe fn gelu(tile: &Tile, sums: [[__m512; 2]; ROWS], halves: impl Fn(*mut u16, __m512, Route)) {
    // A loop that is not unrolled would otherwise keep the sums in memory all along.
    let mut values = [0.0f32; ROWS * 2 * LANES];
    let &Tile { c, ldc, outputs: Outputs { pre, route, narrow, row }, .. } = tile;
    // SAFETY: the caller's promise.
    unsafe {
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(values.as_mut_ptr().add((2 * r + v) * LANES), *sum);
            }
        }
        for (i, values) in values.as_chunks::<LANES>().0.iter().enumerate() {
            let (at, value) = (i / 2 * row + i % 2 * LANES, _mm512_loadu_ps(values.as_ptr()));
            match pre {
                None => {}
                Some(Kept::Halves(pre)) => {
                    let to = pre.add(at);
                    let near = !to.addr().is_multiple_of(32);
                    halves(to, value, if near { Route::Cached } else { route });
                }
                Some(Kept::Floats(pre)) => {
                    let to = pre.add(at);
                    if route == Route::PastTheCache && to.addr().is_multiple_of(64) {
                        _mm512_stream_ps(to, value);
                    } else {
                        _mm512_storeu_ps(to, value);
                    }
                }
            }
            let value = fused_x86::gelu_tanh(value);
            match narrow {
                Some(to) => halves(to.add(at), value, Route::Cached),
                None => _mm512_storeu_ps(c.add(i / 2 * ldc + i % 2 * LANES), value),
            }
        }
    }
}

/// The values of the tile of R rows and V vectors.
///
/// # Safety
/// As [`super::tile::TileKernel`].
#[inline(always)]
unsafe fn product<const R: usize, const V: usize, D: Dot>(tile: &Tile) -> [[__m512; V]; R] {
    // SAFETY: the caller answers for all accesses within rows, depth and `cols`.
    unsafe {
        let mask = mask_of::<V>(tile);
        let (near, row) = match tile.from.is_null() {
            true => (tile.c.cast_const(), tile.ldc),
            false => (tile.from, tile.from_row),
        };
        if !streams::<V>(tile) {
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
        if !tile.from.is_null() {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    let mask = if v + 1 == V { mask } else { 0xffff };
                    let old = tile.from.add(r * tile.from_row + v * LANES);
                    *sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, old), *sum);
                }
            }
        }
        sums
    }
}

/// c ← the values of the tile.
///
/// # Safety
/// As [`super::tile::TileKernel`].
#[inline(always)]
unsafe fn to_c<const R: usize, const V: usize>(tile: &Tile, sums: [[__m512; V]; R]) {
    // SAFETY: the caller answers for all accesses within rows and `cols`.
    unsafe {
        let mask = mask_of::<V>(tile);
        let streamed = streams::<V>(tile);
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let at = tile.c.add(r * tile.ldc + v * LANES);
                if streamed {
                    _mm512_stream_ps(at, *sum);
                } else if v + 1 < V || mask == 0xffff {
                    // What was written under a mask is slow to be read again soon.
                    _mm512_storeu_ps(at, *sum);
                } else {
                    _mm512_mask_storeu_ps(at, mask, *sum);
                }
            }
        }
    }
}

/// The columns in use of the last of V vectors.
#[inline(always)]
fn mask_of<const V: usize>(tile: &Tile) -> __mmask16 {
    (0xffff_u32 >> (LANES * V - tile.cols)) as __mmask16
}

/// Whether c is written past the cache, which takes whole lines.
#[inline(always)]
fn streams<const V: usize>(tile: &Tile) -> bool {
    let aligned = (tile.c.addr() | (4 * tile.ldc)).is_multiple_of(64);
    tile.route == Route::PastTheCache && aligned && tile.cols == V * LANES
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
