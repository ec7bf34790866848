//! What a register-tile kernel is given, and the kernels there are for each instruction set.

use super::finish::Kept;
use super::pack::Packers;
use super::round::Route;
#[cfg(target_arch = "x86_64")]
use crate::device::Device;
use crate::device::{Isa, Precision};

/// One product of a few rows of a with a few vectors of columns of b, all sums in registers.
///
/// Inputs are counted in units of 32 bits: one f32, or two bf16 that are neighbours along K.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// Units along K.
    pub depth: usize,
    /// Unit (i, k) of a is `a + i·a_row + k·a_step`.
    pub a: *const u32,
    pub a_row: usize,
    pub a_step: usize,
    /// Unit (k, j) of b is `b + k·b_step + j`.
    pub b: *const u32,
    pub b_step: usize,
    /// Value (i, j) of c is `c + i·ldc + j`.
    pub c: *mut f32,
    pub ldc: usize,
    /// Columns in use; reads of b and accesses of c beyond them do not happen.
    pub cols: usize,
    /// What the sums of each column start from, or null for 0.
    pub bias: *const f32,
    /// What a·b is added to: rows `from_row` values apart, or null for 0.
    pub from: *const f32,
    pub from_row: usize,
    /// What later tiles read: with each unit along K the line at `ahead` is asked for, which then
    /// goes on by `ahead_step` bytes. Any address will do.
    pub ahead: *const u32,
    pub ahead_step: usize,
    /// How c is written.
    pub route: Route,
    /// Where [`Kernels::ending`] put the values besides, or instead.
    pub outputs: Outputs,
}

/// Where a tile that ends in more than c puts its values; rows lie `row` values apart everywhere.
#[derive(Clone, Copy)]
pub(super) struct Outputs {
    /// The values before the activation, and how they are written.
    pub pre: Option<Kept>,
    pub route: Route,
    /// The result as bf16, in place of c.
    pub narrow: Option<*mut u16>,
    pub row: usize,
}

/// Full tiles that end in what else would be another pass over a stopover.
#[derive(Clone, Copy)]
pub(super) struct Endings {
    /// The result as bf16 ([`Outputs::narrow`]).
    pub narrow: Option<TileKernel>,
    /// The tanh form of GELU.
    pub gelu: Option<TileKernel>,
}

/// None: the pass is made.
pub(super) const NO_ENDINGS: Endings = Endings { narrow: None, gelu: None };

/// Rows of a for some units of K, as tiles read them.
#[derive(Clone, Copy)]
pub(super) enum Left {
    /// Rows `row` units apart, units along K `step` apart.
    Any { start: *const u32, row: usize, step: usize },
    /// Panels of as many rows as a full tile has, of `depth` steps of `step` units.
    Panels { start: *const u32, rows: usize, step: usize, depth: usize },
}

impl Left {
    /// Where a tile that starts at `row` reads: its start, row distance, and step along K.
    pub fn tile(self, row: usize) -> (*const u32, usize, usize) {
        match self {
            Left::Any { start, row: stride, step } => {
                (start.wrapping_add(row * stride), stride, step)
            }
            Left::Panels { start, rows, step, depth } => {
                (start.wrapping_add(row / rows * step * depth + row % rows), 1, step)
            }
        }
    }
}

/// A compiled register tile.
///
/// # Safety
/// Needs the instruction set of its table and a [`Tile`] whose every access is in bounds.
pub(super) type TileKernel = unsafe fn(&Tile);

/// Heights of tiles besides the full one; rows are cut greedily, so any number can be covered.
pub(super) const HEIGHTS: [usize; 4] = [8, 4, 2, 1];

/// The kernels of one instruction set and input type.
pub(super) struct Kernels {
    /// Rows of the full tile.
    pub rows: usize,
    /// Values in a vector of columns; a tile is one or two vectors wide.
    pub lanes: usize,
    /// Values along K in one unit: 1 for f32, 2 for bf16.
    pub pair: usize,
    /// Whether inputs are rounded to bf16 but kept as f32, where no bf16 instruction exists.
    pub emulate: Emulate,
    /// How a and b are packed for these tiles.
    pub packers: Packers,
    /// Full tile, one and two vectors wide.
    pub full: [TileKernel; 2],
    /// The heights of [`HEIGHTS`], one and two vectors wide.
    pub rest: [[TileKernel; 2]; 4],
    /// Other ends of the full tile of two whole vectors.
    pub endings: Endings,
}

/// Whether packed f32 values are rounded to bf16.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Emulate {
    No,
    Bf16,
}

impl Kernels {
    /// Columns of the full tile, and the width of a packed panel of b.
    pub fn cols(&self) -> usize {
        2 * self.lanes
    }

    /// The height of the next tile when `left` rows are left, and its kernels.
    #[inline]
    pub fn next(&self, left: usize) -> (usize, &[TileKernel; 2]) {
        if left >= self.rows {
            return (self.rows, &self.full);
        }
        for (height, kernels) in HEIGHTS.into_iter().zip(&self.rest) {
            if height <= left {
                return (height, kernels);
            }
        }
        unreachable!("asked for a tile of no rows")
    }
}

/// The kernels for an instruction set and precision.
pub(super) fn kernels(isa: Isa, precision: Precision) -> &'static Kernels {
    match (isa, precision) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, Precision::F32) => &super::avx512::F32,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, Precision::Bf16) if Device::native_bf16() => &super::avx512::BF16,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, Precision::Bf16) => &super::avx512::BF16_EMULATED,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, Precision::F32) => &super::avx2::F32,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, Precision::Bf16) => &super::avx2::BF16_EMULATED,
        (_, Precision::F32) => &super::portable::F32,
        (_, Precision::Bf16) => &super::portable::BF16_EMULATED,
    }
}
