//! Products with few rows, as in generation: every weight is read once, in order, and unpacked.
//!
//! c[i, j] = Σ a[i, k]·b[k, j] where K is contiguous in both: dot products of rows of a with
//! columns of b (rows of a weight). Sums run in sixteen lanes that are folded in a fixed order,
//! the same on every instruction set and however the weights are stored.
//!
//! Such products are as fast as memory: each thread walks a region of its own from one end to the
//! other, and asks for what comes next ahead of its use.
#![allow(unsafe_code)]

use std::ops::Range;

use super::blocked::{Product, SERIAL};
use super::buffer::LOCAL;
use super::finish::{Block, Finish};
use super::pack::round;
use super::{Accumulate, Mat};
#[cfg(target_arch = "x86_64")]
use crate::device::Isa;
use crate::device::{Device, Precision};
use crate::values::{Storage, View};

/// Most rows of c for which unpacked dot products pay; rounding is repeated for every few rows.
const ROWS_F32: usize = 8;
pub(super) const ROWS_BF16: usize = 4;
const LANES: usize = 16;
/// Weights in a task, about: large enough to be worth a fork, small enough to share evenly.
const TASK: usize = 1 << 15;
/// Columns that are computed side by side.
const WIDE: usize = 4;

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
pub(super) fn run(device: &Device, product: Product) {
    let Product { isa, a, b, c, ldc, accumulate, finish, .. } = product;
    let (cols, stride) = (b.cols, b.col_stride);
    match device.precision() {
        Precision::F32 => {
            let weights = Weights { start: b.at(0, 0), stride, cols };
            share(device, &a, weights, Out { isa, c, ldc, accumulate, finish });
        }
        Precision::Bf16 => {
            let weights = Weights { start: b.at(0, 0).cast::<Rounding>(), stride, cols };
            share(device, &a, weights, Out { isa, c, ldc, accumulate, finish });
        }
    }
}

/// b, column by column.
#[derive(Clone, Copy)]
pub(super) struct Weights<W> {
    pub start: *const W,
    /// Distance between columns.
    pub stride: usize,
    pub cols: usize,
}

/// c, and what becomes of the sums.
pub(super) struct Out<'a> {
    pub isa: Isa,
    pub c: *mut f32,
    pub ldc: usize,
    pub accumulate: Accumulate,
    pub finish: Finish<'a>,
}

/// A product whose columns are the tasks.
struct Job<'a, W> {
    /// Rows one after another, rounded if the weights are.
    a: &'a [f32],
    rows: usize,
    depth: usize,
    weights: Weights<W>,
    out: Out<'a>,
}

// SAFETY: c and what `finish` writes are cut into disjoint columns, one task each.
unsafe impl<W> Sync for Job<'_, W> {}

/// Computes a·b on the device's threads.
pub(super) fn share<W: Stored>(device: &Device, a: &Mat, weights: Weights<W>, out: Out) {
    let (rows, depth, cols) = (a.rows, a.cols, weights.cols);
    LOCAL.with_borrow_mut(|local| {
        let row_values = local.room(rows * depth).cast::<f32>();
        // SAFETY: the buffer has been zeroed or written before, and has that room.
        let row_values = unsafe { std::slice::from_raw_parts_mut(row_values, rows * depth) };
        gather(a, row_values, device.precision());
        let job = Job { a: row_values, rows, depth, weights, out };
        // SAFETY: the columns of a call are disjoint from those of every other.
        let task = |cols: Range<usize>| unsafe { columns(&job, cols) };
        if rows * cols * depth < SERIAL {
            return task(0..cols);
        }
        let width = (TASK / depth.max(1)).next_multiple_of(WIDE).clamp(WIDE, 512);
        let tasks = cols.div_ceil(width);
        // Tasks are handed out in order, so that each thread finds its next one where it is.
        let regions = device.threads().min(tasks);
        let each = tasks.div_ceil(regions);
        device.pool().run(regions * each, &|number| {
            let first = (number % regions * each + number / regions) * width;
            task(first.min(cols)..(first + width).min(cols));
        });
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
/// The methods need the instruction set, and loads as many readable values as they are to load.
pub(super) trait Lanes: Copy {
    unsafe fn zero() -> Self;
    /// Sixteen values.
    unsafe fn load(from: *const f32) -> Self;
    /// Sixteen bfloat16.
    unsafe fn widen(from: *const u16) -> Self;
    unsafe fn rounded(self) -> Self;
    /// self + a·b.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    unsafe fn values(self) -> [f32; LANES];
}

/// How a weight lies in memory, and what it is in a product.
///
/// # Safety
/// As [`Lanes`].
pub(super) trait Stored: Copy {
    unsafe fn load<L: Lanes>(from: *const Self) -> L;
    fn value(self) -> f32;
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const f32) -> L {
        // SAFETY: passed on.
        unsafe { L::load(from) }
    }

    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

/// An f32 that is rounded to bfloat16 when it is used.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Rounding(f32);

impl Stored for Rounding {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Rounding) -> L {
        // SAFETY: passed on; the type is an f32.
        unsafe { L::load(from.cast()).rounded() }
    }

    #[inline(always)]
    fn value(self) -> f32 {
        round(self.0)
    }
}

/// The bits of a bfloat16.
impl Stored for u16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u16) -> L {
        // SAFETY: passed on.
        unsafe { L::widen(from) }
    }

    #[inline(always)]
    fn value(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }
}

/// Some columns of c, and their epilogue.
///
/// # Safety
/// No other thread may use these columns.
unsafe fn columns<W: Stored>(job: &Job<W>, cols: Range<usize>) {
    let Out { isa, c, ldc, finish, .. } = &job.out;
    // SAFETY: the device has found the instruction set; otherwise passed on.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => x86::columns512(job, cols.clone()),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::columns256(job, cols.clone()),
            _ => groups::<Plain, W>(job, cols.clone()),
        }
    }
    let (offset, ldc, rows) = (cols.start, *ldc, job.rows);
    let (c, col, cols) = (c.wrapping_add(offset), cols.start, cols.len());
    let block = Block { c, offset, ldc, stride: ldc, rows, col, cols, out: None };
    // SAFETY: passed on.
    unsafe { finish.apply(&block) };
}

/// Goes through the columns in fours and then singly, and for each through the rows.
///
/// # Safety
/// As [`columns`], and the instruction set of L.
#[inline(always)]
unsafe fn groups<L: Lanes, W: Stored>(job: &Job<W>, cols: Range<usize>) {
    let mut col = cols.start;
    while col < cols.end {
        let wide = cols.end - col >= WIDE;
        let mut row = 0;
        while row < job.rows {
            let tall = job.rows - row >= 4;
            // SAFETY: rows and columns lie inside the product.
            unsafe {
                match (tall, wide) {
                    (true, true) => dots::<L, W, 4, WIDE>(job, row, col),
                    (true, false) => dots::<L, W, 4, 1>(job, row, col),
                    (false, true) => dots::<L, W, 1, WIDE>(job, row, col),
                    (false, false) => dots::<L, W, 1, 1>(job, row, col),
                }
            }
            row += if tall { 4 } else { 1 };
        }
        col += if wide { WIDE } else { 1 };
    }
}

/// The dot products of R rows with C columns.
///
/// # Safety
/// As [`groups`]; the rows and columns must lie inside the product.
#[inline(always)]
unsafe fn dots<L: Lanes, W: Stored, const R: usize, const C: usize>(
    job: &Job<W>,
    row: usize,
    col: usize,
) {
    let (depth, stride) = (job.depth, job.weights.stride);
    let rows = job.a.as_ptr().wrapping_add(row * depth);
    let columns = job.weights.start.wrapping_add(col * stride);
    // SAFETY: reads stay below `depth` in each row and column; c's part is this task's.
    unsafe {
        let mut sums = [[L::zero(); C]; R];
        let whole = depth / LANES * LANES;
        for k in (0..whole).step_by(LANES) {
            let values: [L; C] = std::array::from_fn(
                #[inline(always)]
                |c| {
                    let from = columns.add(c * stride + k);
                    prefetch(from.wrapping_add(2 * C * stride));
                    W::load(from)
                },
            );
            add_products(&mut sums, rows.add(k), depth, values);
        }
        if whole < depth {
            let values: [L; C] = std::array::from_fn(
                #[inline(always)]
                |c| {
                    let mut tail = [0.0; LANES];
                    for (k, value) in tail[..depth - whole].iter_mut().enumerate() {
                        *value = (*columns.add(c * stride + whole + k)).value();
                    }
                    L::load(tail.as_ptr())
                },
            );
            let mut tails = [[0.0; LANES]; R];
            for (r, tail) in tails.iter_mut().enumerate() {
                let from = rows.add(r * depth + whole);
                std::ptr::copy_nonoverlapping(from, tail.as_mut_ptr(), depth - whole);
            }
            add_products(&mut sums, tails.as_ptr().cast(), LANES, values);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (c, sum) in sums.iter().enumerate() {
                let sum = fold(sum.values());
                let at = job.out.c.add((row + r) * job.out.ldc + col + c);
                *at = if job.out.accumulate == Accumulate::Add { *at + sum } else { sum };
            }
        }
    }
}

/// Adds the products of C values with those of R rows, which are `distance` apart.
///
/// # Safety
/// As [`Lanes`]; sixteen values of each row must be readable.
#[inline(always)]
unsafe fn add_products<L: Lanes, const R: usize, const C: usize>(
    sums: &mut [[L; C]; R],
    rows: *const f32,
    distance: usize,
    values: [L; C],
) {
    for (r, sums) in sums.iter_mut().enumerate() {
        // SAFETY: passed on.
        unsafe {
            let row = L::load(rows.add(r * distance));
            for (sum, values) in sums.iter_mut().zip(values) {
                *sum = sum.add_product(row, values);
            }
        }
    }
}

/// Asks for the line ahead of its use.
#[inline(always)]
fn prefetch<W>(at: *const W) {
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
    unsafe fn load(from: *const f32) -> Plain {
        // SAFETY: the caller's promise.
        Plain(unsafe { from.cast::<[f32; LANES]>().read() })
    }

    #[inline(always)]
    unsafe fn widen(from: *const u16) -> Plain {
        // SAFETY: the caller's promise.
        let halves = unsafe { from.cast::<[u16; LANES]>().read() };
        Plain(halves.map(Stored::value))
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

    use super::{Job, LANES, Lanes, Stored, groups};

    /// # Safety
    /// As [`super::columns`]; needs AVX-512.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
    pub unsafe fn columns512<W: Stored>(job: &Job<W>, cols: Range<usize>) {
        // SAFETY: passed on.
        unsafe { groups::<Zmm, W>(job, cols) }
    }

    /// # Safety
    /// As [`super::columns`]; needs AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn columns256<W: Stored>(job: &Job<W>, cols: Range<usize>) {
        // SAFETY: passed on.
        unsafe { groups::<Ymm, W>(job, cols) }
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
        unsafe fn load(from: *const f32) -> Zmm {
            unsafe { Zmm(_mm512_loadu_ps(from)) }
        }

        #[inline(always)]
        unsafe fn widen(from: *const u16) -> Zmm {
            unsafe {
                let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                Zmm(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves)))
            }
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

    /// Eight bfloat16.
    ///
    /// # Safety
    /// Needs AVX2 and eight readable values.
    #[inline(always)]
    unsafe fn widened256(from: *const u16) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe {
            let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
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
        unsafe fn load(from: *const f32) -> Ymm {
            unsafe { Ymm(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }

        #[inline(always)]
        unsafe fn widen(from: *const u16) -> Ymm {
            unsafe { Ymm(widened256(from), widened256(from.add(8))) }
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
