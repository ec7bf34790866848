//! The register tiles of [`super::tile`] on AVX-512 and AVX2.
#![allow(unsafe_code)]
#![cfg(target_arch = "x86_64")]

use super::tile::{Into, Raw};
use std::arch::x86_64::*;

/// Rows of the next tile out of those `left` when the largest kernel has `most` rows: one of
/// 12, 8, 6, 4, 2, 1, for which kernels exist.
#[inline(always)]
fn tile_rows(left: usize, most: usize) -> usize {
    let left = left.min(most);
    [12, 8, 6, 4, 2].into_iter().find(|&rows| rows <= left).unwrap_or(1)
}

/// sum + left·right.
#[inline]
#[target_feature(enable = "avx512f")]
fn step512(left: __m512, right: __m512, sum: __m512) -> __m512 {
    _mm512_fmadd_ps(left, right, sum)
}

/// sum + the dot products of pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn step512_pairs(left: __m512, right: __m512, sum: __m512) -> __m512 {
    // SAFETY: the same 512 bits under another name.
    unsafe {
        let pairs = |x: __m512| std::mem::transmute::<__m512, __m512bh>(x);
        _mm512_dpbf16_ps(sum, pairs(left), pairs(right))
    }
}

/// The same with f32 multiply-adds.
#[inline]
#[target_feature(enable = "avx512f")]
fn step512_emulated(left: __m512, right: __m512, sum: __m512) -> __m512 {
    let (left, right) = (_mm512_castps_si512(left), _mm512_castps_si512(right));
    let low = |x| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x));
    let upper = _mm512_set1_epi32(0xFFFF_0000_u32 as i32);
    let high = |x| _mm512_castsi512_ps(_mm512_and_si512(x, upper));
    let sum = _mm512_fmadd_ps(low(left), low(right), sum);
    _mm512_fmadd_ps(high(left), high(right), sum)
}

/// sum + left·right.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn step256(left: __m256, right: __m256, sum: __m256) -> __m256 {
    _mm256_fmadd_ps(left, right, sum)
}

/// sum + the dot products of pairs, with f32 multiply-adds.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn step256_emulated(left: __m256, right: __m256, sum: __m256) -> __m256 {
    let (left, right) = (_mm256_castps_si256(left), _mm256_castps_si256(right));
    let low = |x| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(x));
    let upper = _mm256_set1_epi32(0xFFFF_0000_u32 as i32);
    let high = |x| _mm256_castsi256_ps(_mm256_and_si256(x, upper));
    let sum = _mm256_fmadd_ps(low(left), low(right), sum);
    _mm256_fmadd_ps(high(left), high(right), sum)
}

/// to[d, r] ← from[r, d] for a block of 16×16.
///
/// # Safety
/// Needs AVX-512F; 16 rows of 16 values at either stride must be in bounds.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn transpose16(
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
) {
    // SAFETY: the caller's word.
    unsafe {
        let row = |r: usize| _mm512_loadu_ps(from.add(r * from_stride));
        // Groups of four rows, transposed within each 128-bit lane: entry j of group g holds, in
        // lane l, column 4·l + j of rows 4·g..4·g + 4.
        let mut groups = [[_mm512_setzero_ps(); 4]; 4];
        for (g, group) in groups.iter_mut().enumerate() {
            let low01 = _mm512_castps_pd(_mm512_unpacklo_ps(row(4 * g), row(4 * g + 1)));
            let high01 = _mm512_castps_pd(_mm512_unpackhi_ps(row(4 * g), row(4 * g + 1)));
            let low23 = _mm512_castps_pd(_mm512_unpacklo_ps(row(4 * g + 2), row(4 * g + 3)));
            let high23 = _mm512_castps_pd(_mm512_unpackhi_ps(row(4 * g + 2), row(4 * g + 3)));
            group[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
            group[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
            group[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
            group[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
        }
        for j in 0..4 {
            let [a, b, c, d] = groups.map(|group| group[j]);
            let even_ab = _mm512_shuffle_f32x4::<0x88>(a, b);
            let odd_ab = _mm512_shuffle_f32x4::<0xdd>(a, b);
            let even_cd = _mm512_shuffle_f32x4::<0x88>(c, d);
            let odd_cd = _mm512_shuffle_f32x4::<0xdd>(c, d);
            let store = |column: usize, line| _mm512_storeu_ps(to.add(column * to_stride), line);
            store(j, _mm512_shuffle_f32x4::<0x88>(even_ab, even_cd));
            store(4 + j, _mm512_shuffle_f32x4::<0x88>(odd_ab, odd_cd));
            store(8 + j, _mm512_shuffle_f32x4::<0xdd>(even_ab, even_cd));
            store(12 + j, _mm512_shuffle_f32x4::<0xdd>(odd_ab, odd_cd));
        }
    }
}

/// to ← pairs of neighbours in from, `to.len()` of them.
///
/// # Safety
/// Needs AVX-512F and AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn pack_along(from: &[f32], to: &mut [f32]) {
    for (from, to) in from.chunks(32).zip(to.chunks_mut(16)) {
        let low = (1u64 << from.len().min(16)) - 1;
        let high = (1u64 << from.len().saturating_sub(16)) - 1;
        let stored = (1u64 << to.len()) - 1;
        // SAFETY: the masks cut loads and stores at the ends of the slices.
        unsafe {
            let first = _mm512_maskz_loadu_ps(low as __mmask16, from.as_ptr());
            let second = _mm512_maskz_loadu_ps(high as __mmask16, from.as_ptr().wrapping_add(16));
            let pairs = _mm512_cvtne2ps_pbh(second, first);
            let pairs = std::mem::transmute::<__m512bh, __m512>(pairs);
            _mm512_mask_storeu_ps(to.as_mut_ptr(), stored as __mmask16, pairs);
        }
    }
}

/// to[i] ← the pair (low[i], high[i]); the slices are equally long.
///
/// # Safety
/// Needs AVX-512F, AVX-512BW and AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pack_across(low: &[f32], high: &[f32], to: &mut [f32]) {
    // The halves follow each other; 16-bit words i and 16 + i become neighbours.
    let order: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
    // SAFETY: the array is 512 bits.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    for ((low, high), to) in low.chunks(16).zip(high.chunks(16)).zip(to.chunks_mut(16)) {
        let mask = ((1u64 << to.len()) - 1) as __mmask16;
        // SAFETY: the mask cuts loads and stores at the ends of the slices.
        unsafe {
            let low = _mm512_maskz_loadu_ps(mask, low.as_ptr());
            let high = _mm512_maskz_loadu_ps(mask, high.as_ptr());
            let halves = _mm512_cvtne2ps_pbh(high, low);
            let halves = std::mem::transmute::<__m512bh, __m512i>(halves);
            let pairs = _mm512_permutexvar_epi16(order, halves);
            _mm512_mask_storeu_ps(to.as_mut_ptr(), mask, _mm512_castsi512_ps(pairs));
        }
    }
}

/// Tiles of up to four 512-bit vectors: `$panels` walks C, `$tile` computes R rows of V vectors
/// of which the last is cut by a mask.
macro_rules! tiles512 {
    ($features:literal, $panels:ident, $tile:ident, $step:ident) => {
        /// # Safety
        /// Needs the features; every access within m, n, k and the strides must be in bounds.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $panels(raw: Raw, m: usize, n: usize) {
            let mut j = 0;
            while j < n {
                let vectors = (n - j).div_ceil(16).min(4);
                let width = (n - j).min(vectors * 16);
                let last = width - (vectors - 1) * 16;
                let mask = (0xFFFFu32 >> (16 - last)) as __mmask16;
                let most = [12, 12, 8, 6][vectors - 1];
                let mut i = 0;
                while i < m {
                    let rows = tile_rows(m - i, most);
                    // SAFETY: the tile lies inside C; the mask cuts the last vector at n.
                    unsafe {
                        let tile = raw.at(i, j);
                        match (rows, vectors) {
                            (6, 4) => $tile::<6, 4>(tile, mask),
                            (4, 4) => $tile::<4, 4>(tile, mask),
                            (2, 4) => $tile::<2, 4>(tile, mask),
                            (1, 4) => $tile::<1, 4>(tile, mask),
                            (8, 3) => $tile::<8, 3>(tile, mask),
                            (6, 3) => $tile::<6, 3>(tile, mask),
                            (4, 3) => $tile::<4, 3>(tile, mask),
                            (2, 3) => $tile::<2, 3>(tile, mask),
                            (1, 3) => $tile::<1, 3>(tile, mask),
                            (12, 2) => $tile::<12, 2>(tile, mask),
                            (8, 2) => $tile::<8, 2>(tile, mask),
                            (6, 2) => $tile::<6, 2>(tile, mask),
                            (4, 2) => $tile::<4, 2>(tile, mask),
                            (2, 2) => $tile::<2, 2>(tile, mask),
                            (1, 2) => $tile::<1, 2>(tile, mask),
                            (12, _) => $tile::<12, 1>(tile, mask),
                            (8, _) => $tile::<8, 1>(tile, mask),
                            (6, _) => $tile::<6, 1>(tile, mask),
                            (4, _) => $tile::<4, 1>(tile, mask),
                            (2, _) => $tile::<2, 1>(tile, mask),
                            _ => $tile::<1, 1>(tile, mask),
                        }
                    }
                    i += rows;
                }
                j += width;
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn $tile<const R: usize, const V: usize>(raw: Raw, mask: __mmask16) {
            // SAFETY: rows 0..R and columns up to the mask are in bounds by the caller's word.
            unsafe {
                let mut sums = [[_mm512_setzero_ps(); V]; R];
                if raw.into == Into::Add {
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let c = raw.c.add(r * raw.ldc);
                        for (v, sum) in sums[..V - 1].iter_mut().enumerate() {
                            *sum = _mm512_loadu_ps(c.add(v * 16));
                        }
                        sums[V - 1] = _mm512_maskz_loadu_ps(mask, c.add((V - 1) * 16));
                    }
                }
                let (mut a, mut b) = (raw.a, raw.b);
                for _ in 0..raw.k {
                    let mut right = [_mm512_setzero_ps(); V];
                    for (v, right) in right[..V - 1].iter_mut().enumerate() {
                        *right = _mm512_loadu_ps(b.add(v * 16));
                    }
                    right[V - 1] = _mm512_maskz_loadu_ps(mask, b.add((V - 1) * 16));
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let left = _mm512_set1_ps(*a.add(r * raw.row));
                        for (sum, right) in sums.iter_mut().zip(right) {
                            *sum = $step(left, right, *sum);
                        }
                    }
                    a = a.wrapping_add(raw.col);
                    b = b.wrapping_add(raw.ldb);
                }
                for (r, sums) in sums.iter().enumerate() {
                    let c = raw.c.add(r * raw.ldc);
                    for (v, sum) in sums[..V - 1].iter().enumerate() {
                        _mm512_storeu_ps(c.add(v * 16), *sum);
                    }
                    _mm512_mask_storeu_ps(c.add((V - 1) * 16), mask, sums[V - 1]);
                }
            }
        }
    };
}

tiles512!("avx512f", panels512, tile512, step512);
tiles512!("avx512f,avx512bf16", panels512_pairs, tile512_pairs, step512_pairs);
tiles512!("avx512f", panels512_emulated, tile512_emulated, step512_emulated);

/// The last vector, cut by the mask if there is one: masked moves are slow.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load256<const MASKED: bool>(from: *const f32, mask: __m256i) -> __m256 {
    // SAFETY: the lanes in use are in bounds by the caller's word.
    unsafe { if MASKED { _mm256_maskload_ps(from, mask) } else { _mm256_loadu_ps(from) } }
}

/// Tiles of up to two 256-bit vectors, of at most `$most` rows.
macro_rules! tiles256 {
    ($most:literal, $panels:ident, $tile:ident, $step:ident) => {
        /// # Safety
        /// Needs AVX2 and FMA; every access within m, n, k and the strides must be in bounds.
        #[target_feature(enable = "avx2,fma")]
        pub(super) unsafe fn $panels(raw: Raw, m: usize, n: usize) {
            const ONES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
            let mut j = 0;
            while j < n {
                let vectors = (n - j).div_ceil(8).min(2);
                let width = (n - j).min(vectors * 8);
                let last = width - (vectors - 1) * 8;
                // SAFETY: 8 - last lies in 0..=7, so eight lanes from there are inside ONES.
                let mask = unsafe { _mm256_loadu_si256(ONES.as_ptr().add(8 - last).cast()) };
                let mut i = 0;
                while i < m {
                    let rows = tile_rows(m - i, $most);
                    // SAFETY: the tile lies inside C; the mask cuts the last vector at n.
                    unsafe {
                        let tile = raw.at(i, j);
                        match (rows, width) {
                            (6, 16) => $tile::<6, 2, false>(tile, mask),
                            (4, 16) => $tile::<4, 2, false>(tile, mask),
                            (2, 16) => $tile::<2, 2, false>(tile, mask),
                            (1, 16) => $tile::<1, 2, false>(tile, mask),
                            (6, 9..) => $tile::<6, 2, true>(tile, mask),
                            (4, 9..) => $tile::<4, 2, true>(tile, mask),
                            (2, 9..) => $tile::<2, 2, true>(tile, mask),
                            (1, 9..) => $tile::<1, 2, true>(tile, mask),
                            (6, _) => $tile::<6, 1, true>(tile, mask),
                            (4, _) => $tile::<4, 1, true>(tile, mask),
                            (2, _) => $tile::<2, 1, true>(tile, mask),
                            _ => $tile::<1, 1, true>(tile, mask),
                        }
                    }
                    i += rows;
                }
                j += width;
            }
        }

        #[target_feature(enable = "avx2,fma")]
        unsafe fn $tile<const R: usize, const V: usize, const MASKED: bool>(
            raw: Raw,
            mask: __m256i,
        ) {
            // SAFETY: rows 0..R and columns up to the mask are in bounds by the caller's word.
            unsafe {
                let mut sums = [[_mm256_setzero_ps(); V]; R];
                if raw.into == Into::Add {
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let c = raw.c.add(r * raw.ldc);
                        for (v, sum) in sums[..V - 1].iter_mut().enumerate() {
                            *sum = _mm256_loadu_ps(c.add(v * 8));
                        }
                        sums[V - 1] = load256::<MASKED>(c.add((V - 1) * 8), mask);
                    }
                }
                let (mut a, mut b) = (raw.a, raw.b);
                for _ in 0..raw.k {
                    let mut right = [_mm256_setzero_ps(); V];
                    for (v, right) in right[..V - 1].iter_mut().enumerate() {
                        *right = _mm256_loadu_ps(b.add(v * 8));
                    }
                    right[V - 1] = load256::<MASKED>(b.add((V - 1) * 8), mask);
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let left = _mm256_set1_ps(*a.add(r * raw.row));
                        for (sum, right) in sums.iter_mut().zip(right) {
                            *sum = $step(left, right, *sum);
                        }
                    }
                    a = a.wrapping_add(raw.col);
                    b = b.wrapping_add(raw.ldb);
                }
                for (r, sums) in sums.iter().enumerate() {
                    let c = raw.c.add(r * raw.ldc);
                    for (v, sum) in sums[..V - 1].iter().enumerate() {
                        _mm256_storeu_ps(c.add(v * 8), *sum);
                    }
                    let last = c.add((V - 1) * 8);
                    if MASKED {
                        _mm256_maskstore_ps(last, mask, sums[V - 1]);
                    } else {
                        _mm256_storeu_ps(last, sums[V - 1]);
                    }
                }
            }
        }
    };
}

tiles256!(6, panels256, tile256, step256);
tiles256!(4, panels256_emulated, tile256_emulated, step256_emulated);
