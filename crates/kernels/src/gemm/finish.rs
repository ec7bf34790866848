//! What follows a product, block by block while the block is in cache: bias and activation.
#![allow(unsafe_code)]

use super::Epilogue;
use super::round::{Route, Rows};
use super::tile::{Endings, Outputs, TileKernel};
use crate::device::Isa;
use crate::math::{Activation, fused, gelu_erf, gelu_tanh, relu, silu, tanh};
use crate::simd::dispatch;
use crate::values::ViewMut;

/// An [`Epilogue`] that several threads apply to blocks of their own.
pub(super) struct Finish<'a> {
    pub isa: Isa,
    pub bias: Option<&'a [f32]>,
    pub activation: Activation,
    /// Laid out like c.
    pub pre: Option<Kept>,
    /// How `pre` is written.
    route: Route,
}

/// Where values go, shared by threads.
#[derive(Clone, Copy)]
pub(super) enum Kept {
    Floats(*mut f32),
    Halves(*mut u16),
}

/// A block of c.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Value (0, 0) of the block and the distance of its rows.
    pub c: *mut f32,
    pub ldc: usize,
    /// How far the block is from the start of the result, and the distance of rows there.
    pub offset: usize,
    pub stride: usize,
    /// Where the block goes, if `c` is only a stopover.
    pub out: Option<Kept>,
    pub rows: usize,
    /// First column, and number of columns.
    pub col: usize,
    pub cols: usize,
}

/// Bytes that may still be in the cache when backward comes.
const NEAR: usize = 2 << 20;
const LANES: usize = 64;

impl<'a> Finish<'a> {
    /// Checks an epilogue against c[rows, cols] with rows `ldc` apart.
    pub fn new(isa: Isa, epilogue: Epilogue<'a>, size: (usize, usize), ldc: usize) -> Finish<'a> {
        let (bias, activation, pre) = match epilogue {
            Epilogue::None => (None, Activation::None, None),
            Epilogue::Bias(bias) => (Some(bias), Activation::None, None),
            Epilogue::BiasActivation { bias, activation, pre } => (bias, activation, pre),
        };
        let (rows, cols) = size;
        if let Some(bias) = bias {
            assert_eq!(bias.len(), cols, "a bias needs one value a column");
        }
        let mut route = Route::Cached;
        let pre = pre.map(|pre| {
            let (len, bytes, kept) = match pre {
                ViewMut::Floats(v) => (v.len(), size_of_val(v), Kept::Floats(v.as_mut_ptr())),
                ViewMut::Halves(v) => (v.len(), size_of_val(v), Kept::Halves(v.as_mut_ptr())),
            };
            assert!(rows == 0 || len >= (rows - 1) * ldc + cols, "pre is too small");
            if bytes > NEAR {
                route = Route::PastTheCache;
            }
            kept
        });
        Finish { isa, bias, activation, pre, route }
    }

    /// The tile that ends in all that follows, if there is one; `narrow` where the result is bf16.
    pub fn ending(&self, endings: &Endings, narrow: Option<*mut u16>) -> Option<TileKernel> {
        let halves = narrow.is_some() || matches!(self.pre, Some(Kept::Halves(_)));
        match self.activation {
            // Nothing there writes bf16.
            _ if halves && endings.narrow.is_none() => None,
            Activation::GeluTanh => endings.gelu,
            Activation::None if self.pre.is_none() && narrow.is_some() => endings.narrow,
            _ => None,
        }
    }

    /// Where such a tile puts its values, `offset` values from the start of the result.
    pub fn outputs(&self, narrow: Option<*mut u16>, offset: usize, row: usize) -> Outputs {
        let pre = self.pre.map(|pre| match pre {
            Kept::Floats(pre) => Kept::Floats(pre.wrapping_add(offset)),
            Kept::Halves(pre) => Kept::Halves(pre.wrapping_add(offset)),
        });
        let narrow = narrow.map(|narrow| narrow.wrapping_add(offset));
        Outputs { pre, route: self.route, narrow, row }
    }

    /// Where the bias of the columns from `col` on lies, or null.
    pub fn bias_at(&self, col: usize) -> *const f32 {
        self.bias.map_or(std::ptr::null(), |bias| bias[col..].as_ptr())
    }

    /// Adds the bias, then activates.
    ///
    /// # Safety
    /// The block must lie inside c and be no other thread's.
    pub unsafe fn apply(&self, block: &Block) {
        if let Some(bias) = self.bias {
            let bias = &bias[block.col..block.col + block.cols];
            for i in 0..block.rows {
                // SAFETY: row i of the block.
                let row = unsafe { block.row(i) };
                row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
            }
        }
        // SAFETY: passed on.
        unsafe { self.activate(block) };
        self.publish();
    }

    /// Keeps the values of a block whose bias has been added, and activates them.
    ///
    /// # Safety
    /// As [`Finish::apply`].
    #[inline]
    pub unsafe fn activate(&self, block: &Block) {
        if self.is_plain() && block.out.is_none() {
            return;
        }
        // SAFETY: passed on.
        unsafe {
            match self.activation {
                Activation::None => self.map(
                    block,
                    #[inline(always)]
                    |x| x,
                ),
                Activation::GeluTanh if self.isa.has_fused() => {
                    self.map(block, fused::gelu_tanh);
                }
                Activation::Silu if self.isa.has_fused() => self.map(block, fused::silu),
                Activation::GeluTanh => self.map(block, gelu_tanh),
                Activation::GeluErf => self.map(block, gelu_erf),
                Activation::Silu => self.map(block, silu),
                Activation::Relu => self.map(block, relu),
                Activation::Tanh => self.map(block, tanh),
            }
        }
    }

    /// Whether c is left as it is, or in need of no more than a bias.
    pub fn is_plain(&self) -> bool {
        self.activation == Activation::None && self.pre.is_none()
    }

    /// Asks for the memory that a block's values before the activation go to, `offset` values
    /// from the start of the result: it arrives while they are computed.
    #[inline]
    pub fn expect(&self, offset: usize, stride: usize, rows: usize) {
        if self.route == Route::Cached {
            match self.pre {
                None => {}
                Some(Kept::Halves(pre)) => ask(pre.wrapping_add(offset), stride, rows),
                Some(Kept::Floats(pre)) => {
                    let pre = pre.wrapping_add(offset);
                    ask(pre, stride, rows);
                    ask(pre.wrapping_add(16), stride, rows);
                }
            }
        }
    }

    /// Makes what was streamed past the cache visible to other threads, before a task ends.
    pub fn publish(&self) {
        self.route.publish();
    }

    /// # Safety
    /// As [`Finish::apply`].
    unsafe fn map(&self, block: &Block, f: impl Fn(f32) -> f32) {
        // SAFETY: rows of the block, in c, and in pre and out, which are laid out alike.
        unsafe {
            match self.pre {
                None => {}
                Some(Kept::Halves(pre)) => {
                    block.rows_to(pre.add(block.offset), self.route).run(self.isa);
                }
                Some(Kept::Floats(pre)) => {
                    block.rows_to(pre.add(block.offset), self.route).run(self.isa);
                }
            }
            if self.activation != Activation::None {
                dispatch(
                    self.isa,
                    #[inline(always)]
                    || block.map(&f),
                );
            }
            match block.out {
                None => {}
                Some(Kept::Halves(out)) => block.rows_to(out, Route::Cached).run(self.isa),
                Some(Kept::Floats(out)) => block.rows_to(out, Route::Cached).run(self.isa),
            }
        }
    }
}

/// Asks for the line at each of the rows `stride` values apart.
pub(super) fn ask<T>(start: *const T, stride: usize, rows: usize) {
    #[cfg(target_arch = "x86_64")]
    for row in 0..rows {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is harmless anywhere, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(row * stride).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, stride, rows);
}

impl Block {
    /// # Safety
    /// As [`Finish::apply`]; one row at a time.
    #[inline(always)]
    unsafe fn row(&self, i: usize) -> &'static mut [f32] {
        // SAFETY: passed on; the caller drops it before the block goes.
        unsafe { std::slice::from_raw_parts_mut(self.c.add(i * self.ldc), self.cols) }
    }

    /// The block, to be written to `to`, which is laid out like the result.
    fn rows_to<T>(&self, to: *mut T, route: Route) -> Rows<T> {
        let Block { c: from, ldc: from_stride, stride: to_stride, rows, cols, .. } = *self;
        Rows { from, from_stride, to, to_stride, rows, cols, route }
    }

    /// Every value to its image.
    ///
    /// # Safety
    /// As [`Finish::apply`].
    #[inline(always)]
    unsafe fn map(&self, f: &impl Fn(f32) -> f32) {
        // SAFETY: passed on; without gaps between rows they are one.
        unsafe {
            if self.ldc == self.cols {
                return map(std::slice::from_raw_parts_mut(self.c, self.rows * self.cols), f);
            }
            for i in 0..self.rows {
                map(self.row(i), f);
            }
        }
    }
}

/// In pieces of a fixed length, which compile to straight vector code.
#[inline(always)]
fn map(row: &mut [f32], f: &impl Fn(f32) -> f32) {
    let (pieces, tail) = row.as_chunks_mut::<LANES>();
    for piece in pieces {
        for x in piece {
            *x = f(*x);
        }
    }
    // A row of a tile is half as long.
    let (pieces, tail) = tail.as_chunks_mut::<{ LANES / 2 }>();
    for piece in pieces {
        for x in piece {
            *x = f(*x);
        }
    }
    for x in tail {
        *x = f(*x);
    }
}
