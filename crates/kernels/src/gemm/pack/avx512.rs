//! Panels and rows of AVX-512, in f32 and in bf16.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Packers, Panel, Rows};

pub(in crate::gemm) static F32: Packers = Packers {
    copy: f32_copy,
    transpose: f32_transpose,
    copy_halves: None,
    gather: super::plain_panel,
    rows: super::plain_rows,
};

pub(in crate::gemm) static BF16: Packers = Packers {
    copy: bf16_copy,
    transpose: bf16_transpose,
    copy_halves: Some(halves_copy),
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
    /// What is read.
    type In;
    /// One unit of each lane in the mask; `left` values along K exist.
    unsafe fn across(
        from: *const Self::In,
        k_stride: usize,
        left: usize,
        mask: __mmask16,
    ) -> __m512i;
}

/// Units whose values can be read along K.
trait Along: Unit<In = f32> {
    /// Sixteen units along K, of `left` values that exist.
    unsafe fn along(from: *const f32, left: usize) -> __m512i;
}

struct One;
impl Unit for One {
    const PAIR: usize = 1;
    type In = f32;

    #[inline(always)]
    unsafe fn across(from: *const f32, _: usize, _: usize, mask: __mmask16) -> __m512i {
        // SAFETY: the mask holds back lanes that do not exist.
        unsafe { _mm512_maskz_loadu_epi32(mask, from.cast()) }
    }
}

impl Along for One {
    #[inline(always)]
    unsafe fn along(from: *const f32, left: usize) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_maskz_loadu_epi32(first(left), from.cast()) }
    }
}

struct Pair;
impl Unit for Pair {
    const PAIR: usize = 2;
    type In = f32;

    #[inline(always)]
    unsafe fn across(from: *const f32, k_stride: usize, left: usize, mask: __mmask16) -> __m512i {
        // SAFETY: the masks hold back what does not exist.
        unsafe {
            let even = _mm512_maskz_loadu_ps(mask, from);
            let mask = if left > 1 { mask } else { 0 };
            let odd = _mm512_maskz_loadu_ps(mask, from.wrapping_add(k_stride));
            let halves = to_bf16(odd, even);
            _mm512_permutexvar_epi16(interleave(), halves)
        }
    }
}

impl Along for Pair {
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

/// Pairs of what is bf16 already.
struct Halves;
impl Unit for Halves {
    const PAIR: usize = 2;
    type In = u16;

    #[inline(always)]
    unsafe fn across(from: *const u16, k_stride: usize, left: usize, mask: __mmask16) -> __m512i {
        // SAFETY: the masks hold back what does not exist.
        unsafe {
            let even = _mm256_maskz_loadu_epi16(mask, from.cast());
            let mask = if left > 1 { mask } else { 0 };
            let odd = _mm256_maskz_loadu_epi16(mask, from.wrapping_add(k_stride).cast());
            let odd = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(odd));
            _mm512_or_si512(odd, _mm512_cvtepu16_epi32(even))
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn halves_copy(panel: &Panel) {
    // SAFETY: passed on.
    unsafe { copy::<Halves>(panel) }
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
            let from = panel.from.cast::<U::In>().wrapping_add(done).cast();
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
        let mut from = panel.from.cast::<U::In>().wrapping_add(k * panel.k_stride);
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
    from: *const U::In,
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

/// Blocks of sixteen lanes by sixteen units; panels are whole vectors high.
#[inline(always)]
unsafe fn transpose<U: Along>(panel: &Panel) {
    debug_assert!(panel.height.is_multiple_of(LANES));
    let block = LANES * U::PAIR;
    let whole = panel.depth / block * block;
    for j in (0..panel.lanes).step_by(LANES) {
        let from = panel.from.wrapping_add(j * panel.lane_stride);
        let out = panel.lane(j);
        let lanes = LANES.min(panel.lanes - j);
        let mut k = 0;
        // SAFETY: inside the panel.
        unsafe {
            while lanes == LANES && k < whole {
                let out = out.add(k / U::PAIR * panel.step);
                transpose_whole::<U>(panel, from.add(k), out);
                k += block;
            }
            while k < panel.depth {
                let out = out.add(k / U::PAIR * panel.step);
                transpose_rest::<U>(panel, from.add(k), out, (lanes, panel.depth - k));
                k += block;
            }
        }
    }
}

/// A whole block.
#[inline(always)]
unsafe fn transpose_whole<U: Along>(panel: &Panel, from: *const f32, out: *mut u32) {
    // SAFETY: the caller's promise; prefetches are harmless anywhere.
    unsafe {
        let mut block = [_mm512_setzero_si512(); LANES];
        for (lane, row) in block.iter_mut().enumerate() {
            let from = from.wrapping_add(lane * panel.lane_stride);
            for line in 0..U::PAIR {
                let ahead = from.wrapping_add((4 * U::PAIR + line) * LANES);
                _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
            }
            *row = U::along(from, LANES * U::PAIR);
        }
        transpose_block(&mut block);
        for (unit, row) in block.iter().enumerate() {
            _mm512_storeu_epi32(out.add(unit * panel.step).cast(), *row);
        }
    }
}

/// A block of fewer lanes or values than a whole one.
#[inline(always)]
unsafe fn transpose_rest<U: Along>(
    panel: &Panel,
    from: *const f32,
    out: *mut u32,
    (lanes, depth): (usize, usize),
) {
    // SAFETY: the caller's promise; masks hold back what lies beyond.
    unsafe {
        let mut block = [_mm512_setzero_si512(); LANES];
        for (lane, row) in block.iter_mut().enumerate().take(lanes) {
            *row = U::along(from.add(lane * panel.lane_stride), depth);
        }
        transpose_block(&mut block);
        let units = depth.div_ceil(U::PAIR).min(LANES);
        for (unit, row) in block[..units].iter().enumerate() {
            let mask = first(lanes);
            _mm512_mask_storeu_epi32(out.add(unit * panel.step).cast(), mask, *row);
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
