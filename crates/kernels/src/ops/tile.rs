//! Small single-threaded products on register tiles, for attention: C[m,n] (+)= A[m,k]·B[k,n].
//!
//! Nothing is packed: B and C have unit column stride and are read and written as they lie, A
//! may have any strides and is broadcast. Each element of C is one chain of fused
//! multiply-adds in the order of k, on every instruction set alike (the portable path rounds the
//! product, too).
#![allow(unsafe_code)]

use crate::device::Isa;

/// The left operand: element (i, p) is `data[i * row + p * col]`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub col: usize,
}

/// The right operand: element (p, j) is `data[p * row + j]`.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    pub data: &'a [f32],
    pub row: usize,
}

/// Sizes of a product.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// Whether C is replaced or added to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    Overwrite,
    Add,
}

/// C (+)= A·B where C's element (i, j) is `c[i * ldc + j]`.
pub(crate) fn product(
    isa: Isa,
    c: &mut [f32],
    ldc: usize,
    a: Left,
    b: Right,
    size: Size,
    into: Into,
) {
    let Size { m, n, k } = size;
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * ldc + n <= c.len(), "tile product: C is too short");
    assert!(k == 0 || (m - 1) * a.row + (k - 1) * a.col < a.data.len(), "tile product: A");
    assert!(k == 0 || (k - 1) * b.row + n <= b.data.len(), "tile product: B is too short");
    let raw = Raw {
        c: c.as_mut_ptr(),
        ldc,
        a: a.data.as_ptr(),
        row: a.row,
        col: a.col,
        b: b.data.as_ptr(),
        ldb: b.row,
        k,
        into,
    };
    match isa {
        // SAFETY: the device found the instruction set; the assertions above bound every access.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::panels512(raw, m, n) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::panels256(raw, m, n) },
        // SAFETY: the assertions above bound every access.
        _ => unsafe { panels_portable(raw, m, n) },
    }
}

/// The operands without their bounds, positioned at the current tile.
#[derive(Clone, Copy)]
struct Raw {
    c: *mut f32,
    ldc: usize,
    a: *const f32,
    row: usize,
    col: usize,
    b: *const f32,
    ldb: usize,
    k: usize,
    into: Into,
}

impl Raw {
    /// The operands for the tile whose first element is (i, j).
    ///
    /// # Safety
    /// (i, j) must lie inside C.
    #[inline(always)]
    unsafe fn at(self, i: usize, j: usize) -> Raw {
        // SAFETY: row i of A and column j of B and (i, j) of C are inside by the caller's word.
        unsafe {
            Raw {
                c: self.c.add(i * self.ldc + j),
                a: self.a.wrapping_add(i * self.row),
                b: self.b.wrapping_add(j),
                ..self
            }
        }
    }
}

/// Rows of the next tile out of those `left` when the largest kernel has `most` rows: one of
/// 12, 8, 6, 4, 2, 1, for which kernels exist.
#[inline(always)]
fn tile_rows(left: usize, most: usize) -> usize {
    let left = left.min(most);
    [12, 8, 6, 4, 2].into_iter().find(|&rows| rows <= left).unwrap_or(1)
}

/// # Safety
/// Every access within m, n, k and the strides must be in bounds.
unsafe fn panels_portable(raw: Raw, m: usize, n: usize) {
    const WIDE: usize = 16;
    let mut j = 0;
    while j < n {
        let width = (n - j).min(WIDE);
        for i in 0..m {
            // SAFETY: i < m and j + width <= n.
            unsafe {
                let tile = raw.at(i, j);
                let mut sums = [0.0f32; WIDE];
                if raw.into == Into::Add {
                    for (v, sum) in sums[..width].iter_mut().enumerate() {
                        *sum = *tile.c.add(v);
                    }
                }
                for p in 0..raw.k {
                    let left = *tile.a.add(p * raw.col);
                    let right = std::slice::from_raw_parts(tile.b.add(p * raw.ldb), width);
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum += left * right;
                    }
                }
                for (v, sum) in sums[..width].iter().enumerate() {
                    *tile.c.add(v) = *sum;
                }
            }
        }
        j += width;
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Into, Raw, tile_rows};
    use std::arch::x86_64::*;

    /// # Safety
    /// Needs AVX-512F; every access within m, n, k and the strides must be in bounds.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn panels512(raw: Raw, m: usize, n: usize) {
        let mut j = 0;
        while j < n {
            let vectors = (n - j).div_ceil(16).min(4);
            let width = (n - j).min(vectors * 16);
            let last = width - (vectors - 1) * 16;
            let mask = (0xFFFFu32 >> (16 - last)) as __mmask16;
            let most = match vectors {
                1 | 2 => 12,
                3 => 8,
                _ => 6,
            };
            let mut i = 0;
            while i < m {
                let rows = tile_rows(m - i, most);
                // SAFETY: the tile lies inside C; the mask cuts the last vector at n.
                unsafe {
                    let tile = raw.at(i, j);
                    match (rows, vectors) {
                        (6, 4) => tile512::<6, 4>(tile, mask),
                        (4, 4) => tile512::<4, 4>(tile, mask),
                        (2, 4) => tile512::<2, 4>(tile, mask),
                        (1, 4) => tile512::<1, 4>(tile, mask),
                        (8, 3) => tile512::<8, 3>(tile, mask),
                        (6, 3) => tile512::<6, 3>(tile, mask),
                        (4, 3) => tile512::<4, 3>(tile, mask),
                        (2, 3) => tile512::<2, 3>(tile, mask),
                        (1, 3) => tile512::<1, 3>(tile, mask),
                        (12, 2) => tile512::<12, 2>(tile, mask),
                        (8, 2) => tile512::<8, 2>(tile, mask),
                        (6, 2) => tile512::<6, 2>(tile, mask),
                        (4, 2) => tile512::<4, 2>(tile, mask),
                        (2, 2) => tile512::<2, 2>(tile, mask),
                        (1, 2) => tile512::<1, 2>(tile, mask),
                        (12, _) => tile512::<12, 1>(tile, mask),
                        (8, _) => tile512::<8, 1>(tile, mask),
                        (6, _) => tile512::<6, 1>(tile, mask),
                        (4, _) => tile512::<4, 1>(tile, mask),
                        (2, _) => tile512::<2, 1>(tile, mask),
                        _ => tile512::<1, 1>(tile, mask),
                    }
                }
                i += rows;
            }
            j += width;
        }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn tile512<const R: usize, const V: usize>(raw: Raw, mask: __mmask16) {
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
                        *sum = _mm512_fmadd_ps(left, right, *sum);
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

    /// # Safety
    /// Needs AVX2 and FMA; every access within m, n, k and the strides must be in bounds.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn panels256(raw: Raw, m: usize, n: usize) {
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
                let rows = tile_rows(m - i, 6);
                // SAFETY: the tile lies inside C; the mask cuts the last vector at n.
                unsafe {
                    let tile = raw.at(i, j);
                    match (rows, width) {
                        (6, 16) => tile256::<6, 2, false>(tile, mask),
                        (4, 16) => tile256::<4, 2, false>(tile, mask),
                        (2, 16) => tile256::<2, 2, false>(tile, mask),
                        (1, 16) => tile256::<1, 2, false>(tile, mask),
                        (6, 9..) => tile256::<6, 2, true>(tile, mask),
                        (4, 9..) => tile256::<4, 2, true>(tile, mask),
                        (2, 9..) => tile256::<2, 2, true>(tile, mask),
                        (1, 9..) => tile256::<1, 2, true>(tile, mask),
                        (6, _) => tile256::<6, 1, true>(tile, mask),
                        (4, _) => tile256::<4, 1, true>(tile, mask),
                        (2, _) => tile256::<2, 1, true>(tile, mask),
                        _ => tile256::<1, 1, true>(tile, mask),
                    }
                }
                i += rows;
            }
            j += width;
        }
    }

    /// The last vector, cut by the mask if there is one: masked moves are slow.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn load256<const MASKED: bool>(from: *const f32, mask: __m256i) -> __m256 {
        // SAFETY: the lanes in use are in bounds by the caller's word.
        unsafe { if MASKED { _mm256_maskload_ps(from, mask) } else { _mm256_loadu_ps(from) } }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile256<const R: usize, const V: usize, const MASKED: bool>(raw: Raw, mask: __m256i) {
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
                        *sum = _mm256_fmadd_ps(left, right, *sum);
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{isas, values};

    #[test]
    fn agrees_with_the_triple_loop_at_odd_sizes() {
        for isa in isas() {
            for (m, n, k) in
                [(1, 1, 1), (7, 5, 3), (13, 65, 17), (6, 64, 64), (9, 40, 0), (5, 100, 33)]
            {
                for into in [Into::Overwrite, Into::Add] {
                    let (a, b) = (values(m * k, 1), values(k * n, 2));
                    let mut c = values(m * (n + 3), 3);
                    let mut expected: Vec<f64> = c.iter().map(|&c| c as f64).collect();
                    for i in 0..m {
                        for j in 0..n {
                            let old =
                                if into == Into::Add { expected[i * (n + 3) + j] } else { 0.0 };
                            let dot: f64 =
                                (0..k).map(|p| a[p * m + i] as f64 * b[p * n + j] as f64).sum();
                            expected[i * (n + 3) + j] = old + dot;
                        }
                    }
                    let left = Left { data: &a, row: 1, col: m };
                    let right = Right { data: &b, row: n };
                    product(isa, &mut c, n + 3, left, right, Size { m, n, k }, into);
                    for (c, expected) in c.iter().zip(&expected) {
                        assert!((*c as f64 - expected).abs() < 1e-5, "{isa:?} {m} {n} {k}");
                    }
                }
            }
        }
    }
}
#[cfg(test)]
mod speed {
    use super::*;
    use crate::testing::values;
    #[test]
    #[ignore]
    fn speed() {
        for (m, n, k, arow, acol, what) in [
            (12, 256, 64, 64, 1, "S"),
            (12, 128, 64, 64, 1, "S"),
            (12, 64, 64, 64, 1, "S"),
            (12, 12, 64, 64, 1, "S"),
            (12, 64, 256, 256, 1, "PV"),
            (12, 64, 128, 256, 1, "PV"),
            (12, 64, 36, 1, 256, "dV"),
            (12, 64, 48, 1, 256, "dV"),
            (48, 256, 64, 64, 1, "S"),
            (48, 64, 256, 256, 1, "PV"),
            (48, 32, 256, 256, 1, "PV32"),
            (48, 256, 32, 32, 1, "S32"),
            (48, 128, 256, 256, 1, "PV128"),
        ] {
            let (a, b, mut c) = (values(256 * 256, 1), values(256 * 256, 2), values(256 * 256, 3));
            let left = Left { data: &a, row: arow, col: acol };
            let right = Right { data: &b, row: n };
            for isa in crate::testing::isas() {
                let mut best = f64::MAX;
                for _ in 0..5 {
                    let start = std::time::Instant::now();
                    for _ in 0..1000 {
                        product(isa, &mut c, n, left, right, Size { m, n, k }, Into::Overwrite);
                    }
                    best = best.min(start.elapsed().as_secs_f64() / 1000.0);
                }
                print!(
                    "{what} {m}x{n}x{k} {isa:?} {:.1} GF/s   ",
                    2e-9 * (m * n * k) as f64 / best
                );
            }
            println!();
        }
    }
}
