//! Products with few rows, as in generation: every weight is read once, in order, and unpacked.
//!
//! c[i, j] = Σ a[i, k]·b[k, j] where K is contiguous in both: dot products of rows of a with
//! columns of b (rows of a weight). Sums run in sixteen lanes that are folded in a fixed order,
//! the same on every instruction set.
#![allow(unsafe_code)]

use std::ops::Range;

use super::blocked::{Product, SERIAL};
use super::buffer::LOCAL;
use super::finish::Block;
use super::pack::round;
use super::{Accumulate, Mat};
#[cfg(target_arch = "x86_64")]
use crate::device::Isa;
use crate::device::{Device, Precision};
use crate::values::{Storage, View};

/// Most rows of c for which unpacked dot products pay; rounding is repeated for every few rows.
const ROWS_F32: usize = 8;
const ROWS_BF16: usize = 4;
const LANES: usize = 16;
/// Weights in a task, about: large enough to be worth a fork, small enough to share evenly.
const TASK: usize = 1 << 15;

/// Whether this is a product for this file.
pub(super) fn fits(a: &Mat, b: &Mat, precision: Precision) -> bool {
    let most = match precision {
        Precision::F32 => ROWS_F32,
        Precision::Bf16 => ROWS_BF16,
    };
    let floats = a.storage() == Storage::Floats && b.storage() == Storage::Floats;
    floats && a.rows <= most && b.row_stride == 1
}

/// Computes the product on the device's threads.
pub(super) fn run(device: &Device, product: &Product) {
    let (rows, cols, depth) = (product.a.rows, product.b.cols, product.a.cols);
    LOCAL.with_borrow_mut(|local| {
        let a = local.room(rows * depth).cast::<f32>();
        // SAFETY: the buffer has been zeroed or written before, and has that room.
        let a = unsafe { std::slice::from_raw_parts_mut(a, rows * depth) };
        gather(&product.a, a, device.precision());
        let a = &*a;
        let width = (TASK / depth.max(1)).next_multiple_of(4).clamp(4, 512);
        let task = |number: usize| {
            let cols = number * width..cols.min((number + 1) * width);
            // SAFETY: each task has columns of its own.
            unsafe { columns(product, a, cols, device.precision()) }
        };
        if rows * cols * depth < SERIAL {
            (0..cols.div_ceil(width)).for_each(task);
        } else {
            device.pool().run(cols.div_ceil(width), &task);
        }
    });
}

/// Copies a's rows one after another, rounded if the precision says so.
fn gather(a: &Mat, rows: &mut [f32], precision: Precision) {
    let View::Floats(data) = a.data else { unreachable!("bf16 operands do not fit") };
    for (i, row) in rows.chunks_exact_mut(a.cols.max(1)).enumerate() {
        for (k, value) in row.iter_mut().enumerate() {
            let x = data[i * a.row_stride + k * a.col_stride];
            *value = if precision == Precision::Bf16 { round(x) } else { x };
        }
    }
}

/// Sixteen sums side by side, as one instruction set holds them.
///
/// # Safety
/// The methods need the instruction set, and `load` as many readable values as it is to load.
trait Lanes: Copy {
    unsafe fn zero() -> Self;
    /// The first `count` of sixteen values (all, if there are more); zeros behind them.
    unsafe fn load(from: *const f32, count: usize) -> Self;
    unsafe fn rounded(self) -> Self;
    /// self + a·b.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    unsafe fn values(self) -> [f32; LANES];
}

/// Some columns of c, and their epilogue.
///
/// # Safety
/// No other thread may use these columns.
unsafe fn columns(product: &Product, a: &[f32], cols: Range<usize>, precision: Precision) {
    // SAFETY: the device has found the instruction set; otherwise passed on.
    unsafe {
        match product.isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => x86::columns512(product, a, cols.clone(), precision),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::columns256(product, a, cols.clone(), precision),
            _ => groups::<Plain>(product, a, cols.clone(), precision),
        }
    }
    let (offset, ldc, stride, rows) = (cols.start, product.ldc, product.ldc, product.a.rows);
    let (c, col, cols) = (product.c.wrapping_add(offset), cols.start, cols.len());
    // SAFETY: passed on.
    unsafe {
        let block = Block { c, offset, ldc, stride, rows, col, cols, out: None };
        product.finish.apply(&block);
    };
}

/// Goes through the columns in fours and then singly, and for each through the rows.
///
/// # Safety
/// As [`columns`], and the instruction set of L.
#[inline(always)]
unsafe fn groups<L: Lanes>(product: &Product, a: &[f32], cols: Range<usize>, precision: Precision) {
    let mut col = cols.start;
    while col < cols.end {
        let wide = cols.end - col >= 4;
        let mut row = 0;
        while row < product.a.rows {
            let tall = product.a.rows - row >= 4;
            // SAFETY: rows and columns lie inside the product.
            unsafe {
                match (tall, wide, precision) {
                    (true, true, Precision::F32) => dots::<L, 4, 4, false>(product, a, row, col),
                    (true, true, Precision::Bf16) => dots::<L, 4, 4, true>(product, a, row, col),
                    (true, false, Precision::F32) => dots::<L, 4, 1, false>(product, a, row, col),
                    (true, false, Precision::Bf16) => dots::<L, 4, 1, true>(product, a, row, col),
                    (false, true, Precision::F32) => dots::<L, 1, 4, false>(product, a, row, col),
                    (false, true, Precision::Bf16) => dots::<L, 1, 4, true>(product, a, row, col),
                    (false, false, Precision::F32) => dots::<L, 1, 1, false>(product, a, row, col),
                    (false, false, Precision::Bf16) => dots::<L, 1, 1, true>(product, a, row, col),
                }
            }
            row += if tall { 4 } else { 1 };
        }
        col += if wide { 4 } else { 1 };
    }
}

/// The dot products of R rows with C columns, these rounded to bf16 if BF16 says so.
///
/// # Safety
/// As [`groups`]; the rows and columns must lie inside the product.
#[inline(always)]
unsafe fn dots<L: Lanes, const R: usize, const C: usize, const BF16: bool>(
    product: &Product,
    a: &[f32],
    row: usize,
    col: usize,
) {
    let depth = product.a.cols;
    let stride = product.b.col_stride;
    let rows = a.as_ptr().wrapping_add(row * depth);
    let columns = product.b.at(0, col);
    // SAFETY: reads stay below `depth` in each row and column; c's part is this task's.
    unsafe {
        let mut sums = [[L::zero(); C]; R];
        for k in (0..depth).step_by(LANES) {
            let values: [L; C] = std::array::from_fn(|c| {
                let from = columns.add(c * stride + k);
                prefetch(from.wrapping_add(C * stride));
                let values = L::load(from, depth - k);
                if BF16 { values.rounded() } else { values }
            });
            for (r, sums) in sums.iter_mut().enumerate() {
                let row = L::load(rows.add(r * depth + k), depth - k);
                for (sum, values) in sums.iter_mut().zip(values) {
                    *sum = sum.add_product(row, values);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (c, sum) in sums.iter().enumerate() {
                let sum = fold(sum.values());
                let at = product.c.add((row + r) * product.ldc + col + c);
                *at = if product.accumulate == Accumulate::Add { *at + sum } else { sum };
            }
        }
    }
}

/// Asks for the line ahead of its use.
#[inline(always)]
fn prefetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, harmless for any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// The sum of the lanes, halved again and again.
#[inline(always)]
fn fold(lanes: [f32; LANES]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Plain arrays.
#[derive(Clone, Copy)]
struct Plain([f32; LANES]);

impl Lanes for Plain {
    unsafe fn zero() -> Plain {
        Plain([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32, count: usize) -> Plain {
        let mut values = [0.0; LANES];
        // SAFETY: the caller's promise.
        let from = unsafe { std::slice::from_raw_parts(from, count.min(LANES)) };
        values[..from.len()].copy_from_slice(from);
        Plain(values)
    }

    #[inline(always)]
    unsafe fn rounded(self) -> Plain {
        Plain(self.0.map(round))
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Plain, b: Plain) -> Plain {
        Plain(std::array::from_fn(|i| self.0[i] + a.0[i] * b.0[i]))
    }

    #[inline(always)]
    unsafe fn values(self) -> [f32; LANES] {
        self.0
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::mem::transmute;
    use std::ops::Range;

    use super::{LANES, Lanes, Product, groups};
    use crate::device::Precision;

    /// # Safety
    /// As [`super::columns`]; needs AVX-512.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
    pub unsafe fn columns512(
        product: &Product,
        a: &[f32],
        cols: Range<usize>,
        precision: Precision,
    ) {
        // SAFETY: passed on.
        unsafe { groups::<Zmm>(product, a, cols, precision) }
    }

    /// # Safety
    /// As [`super::columns`]; needs AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn columns256(
        product: &Product,
        a: &[f32],
        cols: Range<usize>,
        precision: Precision,
    ) {
        // SAFETY: passed on.
        unsafe { groups::<Ymm>(product, a, cols, precision) }
    }

    #[derive(Clone, Copy)]
    struct Zmm(__m512);

    // SAFETY throughout: the trait's contract.
    impl Lanes for Zmm {
        #[inline(always)]
        unsafe fn zero() -> Zmm {
            unsafe { Zmm(_mm512_setzero_ps()) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32, count: usize) -> Zmm {
            let mask = if count >= LANES { 0xffff } else { (1 << count) - 1 };
            unsafe { Zmm(_mm512_maskz_loadu_ps(mask, from)) }
        }

        #[inline(always)]
        unsafe fn rounded(self) -> Zmm {
            // As `super::round`.
            unsafe {
                let bits = _mm512_castps_si512(self.0);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
                let rounded = _mm512_and_si512(
                    _mm512_add_epi32(bits, half),
                    _mm512_set1_epi32(0xffff_0000_u32 as i32),
                );
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
                let rounded = _mm512_castsi512_ps(rounded);
                Zmm(_mm512_mask_blend_ps(nan, rounded, self.0))
            }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Zmm, b: Zmm) -> Zmm {
            unsafe { Zmm(_mm512_fmadd_ps(a.0, b.0, self.0)) }
        }

        #[inline(always)]
        unsafe fn values(self) -> [f32; LANES] {
            unsafe { transmute(self.0) }
        }
    }

    /// As [`super::round`], for eight values.
    ///
    /// # Safety
    /// Needs AVX2.
    #[inline(always)]
    unsafe fn rounded256(values: __m256) -> __m256 {
        // SAFETY: registers only.
        unsafe {
            let bits = _mm256_castps_si256(values);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let mask = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            let rounded = _mm256_and_si256(_mm256_add_epi32(bits, half), mask);
            let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(values, values);
            _mm256_blendv_ps(_mm256_castsi256_ps(rounded), values, nan)
        }
    }

    #[derive(Clone, Copy)]
    struct Ymm(__m256, __m256);

    // SAFETY throughout: the trait's contract.
    impl Lanes for Ymm {
        #[inline(always)]
        unsafe fn zero() -> Ymm {
            unsafe { Ymm(_mm256_setzero_ps(), _mm256_setzero_ps()) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32, count: usize) -> Ymm {
            unsafe {
                if count >= LANES {
                    return Ymm(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)));
                }
                let mut values = [0.0f32; LANES];
                values[..count].copy_from_slice(std::slice::from_raw_parts(from, count));
                transmute(values)
            }
        }

        #[inline(always)]
        unsafe fn rounded(self) -> Ymm {
            unsafe { Ymm(rounded256(self.0), rounded256(self.1)) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Ymm, b: Ymm) -> Ymm {
            unsafe { Ymm(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
        }

        #[inline(always)]
        unsafe fn values(self) -> [f32; LANES] {
            unsafe { transmute(self) }
        }
    }
}
