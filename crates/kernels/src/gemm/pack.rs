//! Copies parts of matrices into the order in which the register tiles read them.
//!
//! A *panel* holds, for each unit of K, a few neighbouring rows of a or columns of b ("lanes").
//! *Rows* keep row-major order, converted and without gaps that hurt the cache. A unit is 32
//! bits: one f32, or two bf16 that are neighbours along K (the second is zero at an odd end).
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;

use super::tile::Emulate;
use crate::device::Isa;
use crate::simd::dispatch;
use crate::values::Storage;

/// A panel to be packed: unit k of lane j goes to `out + k·step + j`.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    pub out: *mut u32,
    /// What `from` points to.
    pub storage: Storage,
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
    /// As `copy`, from bf16 ([`Panel::from`] then points to these); where pairs are units.
    pub copy_halves: Option<unsafe fn(&Panel)>,
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
            if panel.storage == Storage::Halves {
                let copy = self.copy_halves.filter(|_| panel.lane_stride == 1);
                copy.expect("other bf16 operands have been widened")(panel);
            } else if panel.lane_stride == 1 {
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
pub(super) static PLAIN: Packers = Packers {
    copy: plain_panel,
    transpose: plain_panel,
    copy_halves: None,
    gather: plain_panel,
    rows: plain_rows,
};

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
