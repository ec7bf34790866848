//! Products of small matrices on the calling thread, for the tiles of attention.
#![allow(unsafe_code)]

use super::buffer::Buffer;
use super::pack::{Panel, Rows, emulate};
use super::tile::{Emulate, Kernels, Left, Tile, kernels};
use super::{Accumulate, Mat};
use crate::device::{Device, Isa, Precision};

/// Products of small matrices, with the memory to pack them in: keep one for each thread.
///
/// Made for a few dozen to a few hundred rows and columns and K up to some hundreds; all of K is
/// summed in registers, in order. In f32 nothing is packed unless neither of b's strides helps:
/// rows of b are read in place, columns (K·Qᵀ and the like) are transposed first.
pub struct Small {
    isa: Isa,
    kernels: &'static Kernels,
    left: Buffer,
    right: Buffer,
}

impl Small {
    /// Products as this device's instruction set and precision make them.
    pub fn new(device: &Device) -> Small {
        Small::with_precision(device, device.precision())
    }

    /// The same with a precision of its own, say f32 where accuracy is worth more than speed.
    pub fn with_precision(device: &Device, precision: Precision) -> Small {
        let kernels = kernels(device.isa(), precision);
        Small { isa: device.isa(), kernels, left: Buffer::new(), right: Buffer::new() }
    }

    /// c[M,N] (rows `ldc` values apart) = alpha·a[M,K]·b[K,N] (+ c).
    pub fn product(
        &mut self,
        c: &mut [f32],
        ldc: usize,
        alpha: f32,
        a: Mat,
        b: Mat,
        accumulate: Accumulate,
    ) {
        let (rows, cols) = (a.rows, b.cols);
        assert_eq!(a.cols, b.rows, "inner sizes of a product differ");
        if rows == 0 || cols == 0 {
            return;
        }
        assert!(ldc >= cols && c.len() >= (rows - 1) * ldc + cols, "c is too small");
        let (a, b) = (a.checked(), b.checked());
        let depth = a.cols.div_ceil(self.kernels.pair);
        let left = self.left(&a);
        let (b_start, b_panel, b_step) = self.right(&b);
        let width = self.kernels.cols();
        for (panel, col) in (0..cols).step_by(width).enumerate() {
            let cols = width.min(cols - col);
            let mut row = 0;
            while row < rows {
                let (height, kernels) = self.kernels.next(rows - row);
                let (a, a_row, a_step) = left.tile(row);
                let tile = Tile {
                    depth,
                    a,
                    a_row,
                    a_step,
                    b: b_start.wrapping_add(panel * b_panel),
                    b_step,
                    c: c[row * ldc + col..].as_mut_ptr(),
                    ldc,
                    cols,
                    alpha,
                    accumulate,
                };
                // SAFETY: the tile lies inside a, b and c as checked above; the device has the
                // instructions of its kernels.
                unsafe { kernels[usize::from(cols > self.kernels.lanes)](&tile) };
                row += height;
            }
        }
    }

    /// Whether units are f32 values as they lie in memory.
    fn reads_in_place(&self) -> bool {
        self.kernels.pair == 1 && self.kernels.emulate == Emulate::No
    }

    /// a as tiles read it.
    fn left(&mut self, a: &Mat) -> Left {
        let (units, rows) = (a.cols.div_ceil(self.kernels.pair), self.kernels.rows);
        if self.reads_in_place() {
            return Left::Any { start: a.at(0, 0).cast(), row: a.row_stride, step: a.col_stride };
        }
        if a.col_stride == 1 {
            let step = (units.div_ceil(16) | 1) * 16;
            let out = self.left.room(a.rows * step);
            let (from, row_stride) = (a.at(0, 0), a.row_stride);
            let job = Rows { out, step, from, row_stride, depth: a.cols, rows: a.rows };
            // SAFETY: a was checked, and there is room.
            unsafe {
                (self.kernels.packers.rows)(&job);
                emulate(self.isa, self.kernels.emulate, out, a.rows * step);
            }
            return Left::Any { start: out, row: step, step: 1 };
        }
        let step = rows.next_multiple_of(self.kernels.lanes);
        let out = self.left.room(a.rows.div_ceil(rows) * step * units);
        self.pack(out, step, &a.t(), rows);
        Left::Panels { start: out, rows, step, depth: units }
    }

    /// b as tiles read it: start, distance of panels, step along K.
    fn right(&mut self, b: &Mat) -> (*const u32, usize, usize) {
        let width = self.kernels.cols();
        if self.reads_in_place() && b.col_stride == 1 {
            return (b.at(0, 0).cast(), width, b.row_stride);
        }
        let units = b.rows.div_ceil(self.kernels.pair);
        let out = self.right.room(units * b.cols.next_multiple_of(width));
        self.pack(out, width, b, width);
        (out, width * units, width)
    }

    /// Packs b (its columns are the lanes) in panels of `height` lanes.
    fn pack(&self, out: *mut u32, step: usize, b: &Mat, height: usize) {
        let units = b.rows.div_ceil(self.kernels.pair);
        let panel = Panel {
            out,
            step,
            from: b.at(0, 0),
            k_stride: b.row_stride,
            lane_stride: b.col_stride,
            depth: b.rows,
            lanes: b.cols,
            height,
            next: units * step,
        };
        // SAFETY: b was checked, and the caller made room.
        unsafe {
            self.kernels.packers.panel(&panel);
            let all = b.cols.div_ceil(height) * panel.next;
            emulate(self.isa, self.kernels.emulate, out, all);
        }
    }
}
