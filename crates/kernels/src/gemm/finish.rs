//! What follows a product, block by block while the block is in cache: bias and activation.
#![allow(unsafe_code)]

use super::Epilogue;
use crate::device::Isa;
use crate::math::{Activation, gelu_erf, gelu_tanh, relu, silu};
use crate::simd::dispatch;

/// An [`Epilogue`] that several threads apply to blocks of their own.
pub(super) struct Finish<'a> {
    pub isa: Isa,
    pub bias: Option<&'a [f32]>,
    pub activation: Activation,
    /// Laid out like c.
    pub pre: Option<*mut f32>,
}

/// A block of c.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Value (0, 0) of the block, and how far it is from the start of c.
    pub c: *mut f32,
    pub offset: usize,
    pub ldc: usize,
    pub rows: usize,
    /// First column, and number of columns.
    pub col: usize,
    pub cols: usize,
}

const LANES: usize = 16;

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
        if let Some(pre) = &pre {
            assert!(rows == 0 || pre.len() >= (rows - 1) * ldc + cols, "pre is too small");
        }
        Finish { isa, bias, activation, pre: pre.map(|pre| pre.as_mut_ptr()) }
    }

    /// Applies the epilogue to a block.
    ///
    /// # Safety
    /// The block must lie inside c and be no other thread's.
    pub unsafe fn apply(&self, block: &Block) {
        if self.bias.is_none() && self.activation == Activation::None && self.pre.is_none() {
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
                Activation::GeluTanh => self.map(block, gelu_tanh),
                Activation::GeluErf => self.map(block, gelu_erf),
                Activation::Silu => self.map(block, silu),
                Activation::Relu => self.map(block, relu),
            }
        }
    }

    /// # Safety
    /// As [`Finish::apply`].
    unsafe fn map(&self, block: &Block, f: impl Fn(f32) -> f32) {
        let bias = self.bias.map(|bias| &bias[block.col..block.col + block.cols]);
        dispatch(
            self.isa,
            #[inline(always)]
            || {
                for i in 0..block.rows {
                    // SAFETY: row i of the block, in c and in pre, which is laid out like it.
                    let (row, pre) = unsafe {
                        let row = block.c.add(i * block.ldc);
                        let pre = self.pre.map(|pre| pre.add(block.offset + i * block.ldc));
                        let slice = |at| std::slice::from_raw_parts_mut(at, block.cols);
                        (slice(row), pre.map(slice))
                    };
                    map_row(row, bias, pre, &f);
                }
            },
        );
    }
}

/// One row, in pieces of a fixed length, which compile to straight vector code.
#[inline(always)]
fn map_row(
    row: &mut [f32],
    bias: Option<&[f32]>,
    pre: Option<&mut [f32]>,
    f: &impl Fn(f32) -> f32,
) {
    if let Some(bias) = bias {
        let (pieces, tail) = row.as_chunks_mut::<LANES>();
        let (bias_pieces, bias_tail) = bias.as_chunks::<LANES>();
        for (piece, bias) in pieces.iter_mut().zip(bias_pieces) {
            for (x, bias) in piece.iter_mut().zip(bias) {
                *x += bias;
            }
        }
        for (x, bias) in tail.iter_mut().zip(bias_tail) {
            *x += bias;
        }
    }
    if let Some(pre) = pre {
        pre.copy_from_slice(row);
    }
    let (pieces, tail) = row.as_chunks_mut::<LANES>();
    for piece in pieces {
        for x in piece {
            *x = f(*x);
        }
    }
    for x in tail {
        *x = f(*x);
    }
}
