//! Copies parts of matrices into the order in which the register tiles read them.
//!
//! A *panel* holds, for each unit of K, a few neighbouring rows of a or columns of b ("lanes").
//! *Rows* keep row-major order, converted and without gaps that hurt the cache. A unit is 32
//! bits: one f32, or two bf16 that are neighbours along K (the second is zero at an odd end).
#![allow(unsafe_code)]

use super::tile::Emulate;
use crate::device::Isa;
use crate::simd::dispatch;

/// A panel to be packed: unit k of lane j goes to `out + k·step + j`.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    pub out: *mut u32,
    pub step: usize,
    /// Value k of lane j is `from + k·k_stride + j·lane_stride`.
    pub from: *const f32,
    pub k_stride: usize,
    pub lane_stride: usize,
    /// Values along K.
    pub depth: usize,
    /// Lanes in all: panels of `height` lanes, at most `step`, that start `next` units apart.
    pub lanes: usize,
    pub height: usize,
    pub next: usize,
}

impl Panel {
    /// Where unit 0 of a lane goes.
    #[inline(always)]
    fn lane(&self, lane: usize) -> *mut u32 {
        self.out.wrapping_add(lane / self.height * self.next + lane % self.height)
    }
}

/// Rows to be packed: unit k of row i goes to `out + i·step + k`.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub out: *mut u32,
    pub step: usize,
    /// Value k of row i is `from + i·row_stride + k`.
    pub from: *const f32,
    pub row_stride: usize,
    /// Values along K.
    pub depth: usize,
    pub rows: usize,
}

/// The packers of one instruction set and unit.
///
/// # Safety
/// Each needs its instruction set, readable input and writable output.
#[derive(Clone, Copy)]
pub(super) struct Packers {
    /// Lanes are neighbours in memory (`lane_stride` is 1); lanes up to a multiple of the vector
    /// may be written as zeros.
    pub copy: unsafe fn(&Panel),
    /// K is contiguous in memory (`k_stride` is 1).
    pub transpose: unsafe fn(&Panel),
    /// Any strides; slow.
    pub gather: unsafe fn(&Panel),
    pub rows: unsafe fn(&Rows),
}

impl Packers {
    /// Packs a panel, whatever its strides.
    ///
    /// # Safety
    /// As [`Packers`].
    pub unsafe fn panel(&self, panel: &Panel) {
        // SAFETY: passed on.
        unsafe {
            if panel.lane_stride == 1 {
                (self.copy)(panel);
            } else if panel.k_stride == 1 {
                (self.transpose)(panel);
            } else {
                (self.gather)(panel);
            }
        }
    }
}

/// Rounds packed f32 values to bf16 in place, where that is to be emulated.
///
/// # Safety
/// `len` values at `out` must be writable and initialized.
pub(super) unsafe fn emulate(isa: Isa, emulate: Emulate, out: *mut u32, len: usize) {
    if emulate == Emulate::No {
        return;
    }
    // SAFETY: the caller's promise.
    let values = unsafe { std::slice::from_raw_parts_mut(out, len) };
    dispatch(
        isa,
        #[inline(always)]
        || values.iter_mut().for_each(|bits| *bits = round_bits(*bits)),
    );
}

/// The bits of an f32 rounded to the nearest bf16, ties to even; a NaN stays one.
#[inline(always)]
pub(super) fn round_bits(bits: u32) -> u32 {
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
    if is_nan { bits | 0x0040_0000 } else { rounded }
}

/// [`round_bits`] of a value.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    f32::from_bits(round_bits(x.to_bits()))
}

/// Plain loops, for any strides and any processor; units are f32.
pub(super) static PLAIN: Packers =
    Packers { copy: plain_panel, transpose: plain_panel, gather: plain_panel, rows: plain_rows };

/// # Safety
/// As [`Packers`].
pub(super) unsafe fn plain_panel(panel: &Panel) {
    for k in 0..panel.depth {
        for j in 0..panel.lanes {
            // SAFETY: within the panel's input and output, for which the caller answers.
            unsafe {
                let value = *panel.from.add(k * panel.k_stride + j * panel.lane_stride);
                *panel.lane(j).add(k * panel.step) = value.to_bits();
            }
        }
    }
}

/// # Safety
/// As [`Packers`].
pub(super) unsafe fn plain_rows(rows: &Rows) {
    for i in 0..rows.rows {
        // SAFETY: within the rows' input and output, for which the caller answers.
        unsafe {
            let from = rows.from.add(i * rows.row_stride);
            std::ptr::copy_nonoverlapping(from.cast(), rows.out.add(i * rows.step), rows.depth);
        }
    }
}

/// Panels and rows of AVX-512, in f32 and in bf16.
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512 {
    use std::arch::x86_64::*;

    use super::{Packers, Panel, Rows};

    pub(in crate::gemm) static F32: Packers = Packers {
        copy: f32_copy,
        transpose: f32_transpose,
        gather: super::plain_panel,
        rows: super::plain_rows,
    };

    pub(in crate::gemm) static BF16: Packers = Packers {
        copy: bf16_copy,
        transpose: bf16_transpose,
        gather: bf16_gather,
        rows: bf16_rows,
    };

    const LANES: usize = 16;
    /// How many values along K a copy asks for in advance.
    const AHEAD: usize = 8;

    /// How values become units of 32 bits.
    ///
    /// # Safety
    /// The methods need their instruction set and readable input.
    trait Unit {
        /// Values along K in a unit.
        const PAIR: usize;
        /// One unit of each lane in the mask; `left` values along K exist.
        unsafe fn across(
            from: *const f32,
            k_stride: usize,
            left: usize,
            mask: __mmask16,
        ) -> __m512i;
        /// Sixteen units along K, of `left` values that exist.
        unsafe fn along(from: *const f32, left: usize) -> __m512i;
    }

    struct One;
    impl Unit for One {
        const PAIR: usize = 1;

        #[inline(always)]
        unsafe fn across(from: *const f32, _: usize, _: usize, mask: __mmask16) -> __m512i {
            // SAFETY: the mask holds back lanes that do not exist.
            unsafe { _mm512_maskz_loadu_epi32(mask, from.cast()) }
        }

        #[inline(always)]
        unsafe fn along(from: *const f32, left: usize) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_maskz_loadu_epi32(first(left), from.cast()) }
        }
    }

    struct Pair;
    impl Unit for Pair {
        const PAIR: usize = 2;

        #[inline(always)]
        unsafe fn across(
            from: *const f32,
            k_stride: usize,
            left: usize,
            mask: __mmask16,
        ) -> __m512i {
            // SAFETY: the masks hold back what does not exist.
            unsafe {
                let even = _mm512_maskz_loadu_ps(mask, from);
                let mask = if left > 1 { mask } else { 0 };
                let odd = _mm512_maskz_loadu_ps(mask, from.wrapping_add(k_stride));
                let halves = to_bf16(odd, even);
                _mm512_permutexvar_epi16(interleave(), halves)
            }
        }

        #[inline(always)]
        unsafe fn along(from: *const f32, left: usize) -> __m512i {
            // SAFETY: the masks hold back what does not exist.
            unsafe {
                let low = _mm512_maskz_loadu_ps(first(left), from);
                let high = from.wrapping_add(LANES);
                let high = _mm512_maskz_loadu_ps(first(left.saturating_sub(LANES)), high);
                to_bf16(high, low)
            }
        }
    }

    /// The first `count` lanes, or all sixteen.
    #[inline(always)]
    fn first(count: usize) -> __mmask16 {
        if count >= LANES { 0xffff } else { (1 << count) - 1 }
    }

    /// 32 bf16: those of `low` first.
    #[inline(always)]
    unsafe fn to_bf16(high: __m512, low: __m512) -> __m512i {
        // SAFETY: the caller has the instructions; both types are 512 plain bits.
        unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(high, low)) }
    }

    /// Positions that interleave the lower and the upper sixteen 16-bit values.
    #[inline(always)]
    unsafe fn interleave() -> __m512i {
        const ORDER: [u16; 32] = {
            let mut order = [0; 32];
            let mut lane = 0;
            while lane < 16 {
                order[2 * lane] = lane as u16;
                order[2 * lane + 1] = lane as u16 + 16;
                lane += 1;
            }
            order
        };
        // SAFETY: 64 readable bytes.
        unsafe { _mm512_loadu_si512(ORDER.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn f32_copy(panel: &Panel) {
        // SAFETY: passed on.
        unsafe { copy::<One>(panel) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn bf16_copy(panel: &Panel) {
        // SAFETY: passed on.
        unsafe { copy::<Pair>(panel) }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn f32_transpose(panel: &Panel) {
        // SAFETY: passed on.
        unsafe { transpose::<One>(panel) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn bf16_transpose(panel: &Panel) {
        // SAFETY: passed on.
        unsafe { transpose::<Pair>(panel) }
    }

    /// Whole panels first, then what is left for the last.
    #[inline(always)]
    unsafe fn copy<U: Unit>(panel: &Panel) {
        let whole = panel.lanes / panel.height;
        let (done, left) = (whole * panel.height, panel.lanes % panel.height);
        // SAFETY: two parts of the same panels.
        unsafe {
            copy_alike::<U>(panel, whole);
            if left > 0 {
                let out = panel.lane(done);
                let from = panel.from.wrapping_add(done);
                copy_alike::<U>(&Panel { out, from, height: left, ..*panel }, 1);
            }
        }
    }

    /// `panels` panels of as many lanes each. The loops are kept this bare on purpose: with more
    /// between the loads, too few of them are under way at a time when a is far away.
    #[inline(always)]
    unsafe fn copy_alike<U: Unit>(panel: &Panel, panels: usize) {
        let masks = [first(panel.height), first(panel.height.saturating_sub(LANES))];
        let vectors = panel.height.div_ceil(LANES);
        for k in (0..panel.depth).step_by(U::PAIR) {
            let mut from = panel.from.wrapping_add(k * panel.k_stride);
            let mut out = panel.out.wrapping_add(k / U::PAIR * panel.step);
            let left = panel.depth - k;
            for _ in 0..panels {
                // SAFETY: inside the panels; the masks hold back lanes beyond them.
                unsafe {
                    copy_vector::<U>(panel, out, from, left, masks[0]);
                    if vectors == 2 {
                        copy_vector::<U>(panel, out.add(LANES), from.add(LANES), left, masks[1]);
                    }
                }
                from = from.wrapping_add(panel.height);
                out = out.wrapping_add(panel.next);
            }
        }
    }

    #[inline(always)]
    unsafe fn copy_vector<U: Unit>(
        panel: &Panel,
        out: *mut u32,
        from: *const f32,
        left: usize,
        mask: __mmask16,
    ) {
        // SAFETY: the caller's promise; a prefetch is harmless anywhere.
        unsafe {
            for pair in 0..U::PAIR {
                let ahead = from.wrapping_add((AHEAD + pair) * panel.k_stride);
                _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
            }
            let units = U::across(from, panel.k_stride, left, mask);
            _mm512_storeu_epi32(out.cast(), units);
        }
    }

    #[inline(always)]
    unsafe fn transpose<U: Unit>(panel: &Panel) {
        for j in (0..panel.lanes).step_by(LANES) {
            let mask = first(panel.lanes - j);
            for k in (0..panel.depth).step_by(LANES * U::PAIR) {
                let left = panel.depth - k;
                // SAFETY: inside the panel; masks hold back what lies beyond it.
                unsafe {
                    let mut block = [_mm512_setzero_si512(); LANES];
                    for (lane, row) in block.iter_mut().enumerate() {
                        let lane = (j + lane).min(panel.lanes - 1);
                        let from = panel.from.add(lane * panel.lane_stride + k);
                        for line in 0..U::PAIR {
                            let ahead = from.wrapping_add((8 * U::PAIR + line) * LANES);
                            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                        }
                        *row = U::along(from, left);
                    }
                    transpose_block(&mut block);
                    let units = left.div_ceil(U::PAIR).min(LANES);
                    let out = panel.lane(j).add(k / U::PAIR * panel.step);
                    for (unit, row) in block[..units].iter().enumerate() {
                        _mm512_mask_storeu_epi32(out.add(unit * panel.step).cast(), mask, *row);
                    }
                }
            }
        }
    }

    /// Transposes sixteen rows of sixteen 32-bit values.
    #[inline(always)]
    unsafe fn transpose_block(rows: &mut [__m512i; LANES]) {
        // SAFETY: the caller has AVX-512F.
        unsafe {
            for i in (0..LANES).step_by(2) {
                let (a, b) = (rows[i], rows[i + 1]);
                rows[i] = _mm512_unpacklo_epi32(a, b);
                rows[i + 1] = _mm512_unpackhi_epi32(a, b);
            }
            for i in (0..LANES).step_by(4) {
                let [a, b, c, d] = [rows[i], rows[i + 1], rows[i + 2], rows[i + 3]];
                rows[i] = _mm512_unpacklo_epi64(a, c);
                rows[i + 1] = _mm512_unpackhi_epi64(a, c);
                rows[i + 2] = _mm512_unpacklo_epi64(b, d);
                rows[i + 3] = _mm512_unpackhi_epi64(b, d);
            }
            // Now rows[4·q + r] holds, in its 128-bit part p, column 4·p + r of rows 4·q ….
            for r in 0..4 {
                let [a, b, c, d] = [rows[r], rows[r + 4], rows[r + 8], rows[r + 12]];
                let ab_even = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
                let ab_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
                let cd_even = _mm512_shuffle_i32x4::<0b10_00_10_00>(c, d);
                let cd_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(c, d);
                rows[r] = _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_even, cd_even);
                rows[r + 8] = _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_even, cd_even);
                rows[r + 4] = _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_odd, cd_odd);
                rows[r + 12] = _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_odd, cd_odd);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn bf16_rows(rows: &Rows) {
        let whole = rows.depth / (2 * LANES) * (2 * LANES);
        let left = rows.depth - whole;
        for i in 0..rows.rows {
            let from = rows.from.wrapping_add(i * rows.row_stride);
            let out = rows.out.wrapping_add(i * rows.step);
            // SAFETY: inside the rows; masks hold back what lies beyond.
            unsafe {
                for k in (0..whole).step_by(2 * LANES) {
                    let from = from.add(k);
                    let ahead = from.wrapping_add(rows.row_stride);
                    _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(LANES).cast());
                    let (low, high) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(LANES)));
                    _mm512_storeu_epi32(out.add(k / 2).cast(), to_bf16(high, low));
                }
                if left > 0 {
                    let units = Pair::along(from.add(whole), left);
                    let mask = first(left.div_ceil(2));
                    _mm512_mask_storeu_epi32(out.add(whole / 2).cast(), mask, units);
                }
            }
        }
    }

    /// Any strides, one value at a time.
    unsafe fn bf16_gather(panel: &Panel) {
        for k in (0..panel.depth).step_by(2) {
            for j in 0..panel.lanes {
                // SAFETY: inside the panel.
                unsafe {
                    let from = panel.from.add(k * panel.k_stride + j * panel.lane_stride);
                    let even = super::round_bits((*from).to_bits()) >> 16;
                    let mut odd = 0;
                    if k + 1 < panel.depth {
                        odd = super::round_bits((*from.add(panel.k_stride)).to_bits());
                    }
                    *panel.lane(j).add(k / 2 * panel.step) = odd & 0xffff_0000 | even;
                }
            }
        }
    }
}

/// Panels of AVX2; units are f32.
#[cfg(target_arch = "x86_64")]
pub(super) mod avx2 {
    use std::arch::x86_64::*;

    use super::{Packers, Panel};

    pub(in crate::gemm) static F32: Packers =
        Packers { copy, transpose, gather: super::plain_panel, rows: super::plain_rows };

    const LANES: usize = 8;

    #[target_feature(enable = "avx2")]
    unsafe fn copy(panel: &Panel) {
        let counts = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        for k in 0..panel.depth {
            let from = panel.from.wrapping_add(k * panel.k_stride);
            let mut out = panel.out.wrapping_add(k * panel.step);
            for first_lane in (0..panel.lanes).step_by(panel.height) {
                let lanes = panel.height.min(panel.lanes - first_lane);
                for j in (0..lanes).step_by(LANES) {
                    let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32((lanes - j) as i32), counts);
                    // SAFETY: inside the panel; the mask holds back lanes beyond it, and a
                    // panel's steps are whole vectors.
                    unsafe {
                        let values = _mm256_maskload_ps(from.add(first_lane + j), mask);
                        _mm256_storeu_ps(out.add(j).cast(), values);
                    }
                }
                out = out.wrapping_add(panel.next);
            }
        }
    }

    #[target_feature(enable = "avx2")]
    unsafe fn transpose(panel: &Panel) {
        let whole_depth = panel.depth / LANES * LANES;
        let whole_lanes = panel.lanes / LANES * LANES;
        for j in (0..whole_lanes).step_by(LANES) {
            for k in (0..whole_depth).step_by(LANES) {
                // SAFETY: the block lies inside the panel.
                unsafe {
                    let from = panel.from.add(j * panel.lane_stride + k);
                    let out = panel.lane(j).add(k * panel.step).cast();
                    transpose_block(from, panel.lane_stride, out, panel.step);
                }
            }
        }
        // SAFETY: the parts of the panel that whole blocks do not cover.
        unsafe {
            super::plain_panel(&Panel {
                out: panel.out.add(whole_depth * panel.step),
                from: panel.from.add(whole_depth),
                depth: panel.depth - whole_depth,
                ..*panel
            });
            super::plain_panel(&Panel {
                out: panel.lane(whole_lanes),
                from: panel.from.add(whole_lanes * panel.lane_stride),
                depth: whole_depth,
                lanes: panel.lanes - whole_lanes,
                ..*panel
            });
        }
    }

    /// Transposes eight rows of eight values.
    #[target_feature(enable = "avx2")]
    unsafe fn transpose_block(from: *const f32, stride: usize, out: *mut f32, step: usize) {
        // SAFETY: passed on.
        unsafe {
            let mut rows: [__m256; 8] =
                std::array::from_fn(|i| _mm256_loadu_ps(from.add(i * stride)));
            for i in (0..8).step_by(2) {
                let (a, b) = (rows[i], rows[i + 1]);
                rows[i] = _mm256_unpacklo_ps(a, b);
                rows[i + 1] = _mm256_unpackhi_ps(a, b);
            }
            for i in (0..8).step_by(4) {
                let [a, b, c, d] = [rows[i], rows[i + 1], rows[i + 2], rows[i + 3]];
                rows[i] = _mm256_shuffle_ps::<0b01_00_01_00>(a, c);
                rows[i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(a, c);
                rows[i + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(b, d);
                rows[i + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(b, d);
            }
            for i in 0..4 {
                let (a, b) = (rows[i], rows[i + 4]);
                _mm256_storeu_ps(out.add(i * step), _mm256_permute2f128_ps::<0x20>(a, b));
                _mm256_storeu_ps(out.add((i + 4) * step), _mm256_permute2f128_ps::<0x31>(a, b));
            }
        }
    }
}
