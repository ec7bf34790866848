//! Register tiles of plain Rust, for processors without a path of their own.
#![allow(unsafe_code)]

use super::pack;
use super::tile::{Emulate, Kernels, NO_ENDINGS, Tile};

const LANES: usize = 4;

pub(super) static F32: Kernels = Kernels {
    rows: 4,
    lanes: LANES,
    pair: 1,
    emulate: Emulate::No,
    packers: pack::PLAIN,
    full: [tile::<4, 1>, tile::<4, 2>],
    rest: [
        [tile::<4, 1>, tile::<4, 2>],
        [tile::<4, 1>, tile::<4, 2>],
        [tile::<2, 1>, tile::<2, 2>],
        [tile::<1, 1>, tile::<1, 2>],
    ],
    endings: NO_ENDINGS,
};

pub(super) static BF16_EMULATED: Kernels = Kernels { emulate: Emulate::Bf16, ..F32 };

/// a·b + c: one instruction where all processors of the target have it; elsewhere `mul_add` would
/// call a function.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
}

/// The tile of R rows and V groups of columns.
///
/// # Safety
/// As [`super::tile::TileKernel`].
unsafe fn tile<const R: usize, const V: usize>(tile: &Tile) {
    let mut sums = [[[0.0f32; LANES]; V]; R];
    // SAFETY: the caller answers for all accesses within rows, depth and `cols`.
    unsafe {
        if !tile.bias.is_null() {
            let bias = std::slice::from_raw_parts(tile.bias, tile.cols);
            for sums in &mut sums {
                sums.as_flattened_mut()[..tile.cols].copy_from_slice(bias);
            }
        }
        let (mut a, mut b) = (tile.a.cast::<f32>(), tile.b.cast::<f32>());
        for _ in 0..tile.depth {
            let mut columns = [[0.0f32; LANES]; V];
            if tile.cols == LANES * V {
                columns = b.cast::<[[f32; LANES]; V]>().read_unaligned();
            } else {
                for (j, column) in columns.as_flattened_mut()[..tile.cols].iter_mut().enumerate() {
                    *column = *b.add(j);
                }
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let row = *a.add(r * tile.a_row);
                for (sum, column) in sums.as_flattened_mut().iter_mut().zip(columns.as_flattened())
                {
                    *sum = multiply_add(row, *column, *sum);
                }
            }
            a = a.wrapping_add(tile.a_step);
            b = b.wrapping_add(tile.b_step);
        }
        for (r, sums) in sums.iter().enumerate() {
            let c = std::slice::from_raw_parts_mut(tile.c.add(r * tile.ldc), tile.cols);
            for (j, (c, sum)) in c.iter_mut().zip(sums.as_flattened()).enumerate() {
                let from = tile.from.wrapping_add(r * tile.from_row + j);
                *c = if tile.from.is_null() { *sum } else { *from + sum };
            }
        }
    }
}
