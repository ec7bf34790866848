//! The memory of a tensor: f32, or bf16 where products would round its values anyway.
//!
//! In bf16 precision the tensors of a training pass that only products and attention read are
//! kept in bf16: half the memory, half the traffic, and no conversion when they are packed. The
//! residual stream, statistics, parameters and their gradients are f32 always.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::arena::{Arena, Buffer};
use crate::device::Isa;
use crate::gemm;
use crate::math::{from_bf16, to_bf16};

/// How elements are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Storage {
    #[default]
    Floats,
    /// bf16.
    Halves,
}

impl Storage {
    /// Of an element.
    pub fn bytes(self) -> usize {
        match self {
            Storage::Floats => 4,
            Storage::Halves => 2,
        }
    }
}

/// A stored element.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    fn get(self) -> f32;
    fn of(value: f32) -> Self;
    /// The elements themselves, if they are f32.
    fn floats(all: &[Self]) -> Option<&[f32]>;
    /// The elements themselves, if they are bf16.
    fn halves(all: &[Self]) -> Option<&[u16]>;
    /// to ← from, rounded where elements are narrower: with the instruction set's own rounding.
    fn store(isa: Isa, from: &[f32], to: &mut [Self]);
    /// A view that holds this type: the wiring of the tape stores tensors of one op alike.
    fn read(view: View<'_>) -> &[Self];
    /// The same to write.
    fn write(view: ViewMut<'_>) -> &mut [Self];
}

const ALIKE: &str = "tensors of one op are stored alike";

impl Element for f32 {
    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    #[inline(always)]
    fn of(value: f32) -> f32 {
        value
    }

    #[inline(always)]
    fn floats(all: &[f32]) -> Option<&[f32]> {
        Some(all)
    }

    #[inline(always)]
    fn halves(_: &[f32]) -> Option<&[u16]> {
        None
    }

    fn store(_: Isa, from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }

    fn read(view: View<'_>) -> &[f32] {
        let View::Floats(all) = view else { unreachable!("{ALIKE}") };
        all
    }

    fn write(view: ViewMut<'_>) -> &mut [f32] {
        let ViewMut::Floats(all) = view else { unreachable!("{ALIKE}") };
        all
    }
}

/// The bits of a bf16.
impl Element for u16 {
    #[inline(always)]
    fn get(self) -> f32 {
        from_bf16(self)
    }

    #[inline(always)]
    fn of(value: f32) -> u16 {
        to_bf16(value)
    }

    #[inline(always)]
    fn floats(_: &[u16]) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    fn halves(all: &[u16]) -> Option<&[u16]> {
        Some(all)
    }

    fn store(isa: Isa, from: &[f32], to: &mut [u16]) {
        gemm::round_into(isa, from, to);
    }

    fn read(view: View<'_>) -> &[u16] {
        let View::Halves(all) = view else { unreachable!("{ALIKE}") };
        all
    }

    fn write(view: ViewMut<'_>) -> &mut [u16] {
        let ViewMut::Halves(all) = view else { unreachable!("{ALIKE}") };
        all
    }
}

/// Elements to read.
#[derive(Clone, Copy, Debug)]
pub enum View<'a> {
    /// f32.
    Floats(&'a [f32]),
    /// The bits of bf16.
    Halves(&'a [u16]),
}

impl<'a> View<'a> {
    /// Some of the elements.
    pub(crate) fn part(self, range: Range<usize>) -> View<'a> {
        match self {
            View::Floats(all) => View::Floats(&all[range]),
            View::Halves(all) => View::Halves(&all[range]),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            View::Floats(all) => all.len(),
            View::Halves(all) => all.len(),
        }
    }
}

/// Elements to write.
#[derive(Debug)]
pub enum ViewMut<'a> {
    /// f32.
    Floats(&'a mut [f32]),
    /// The bits of bf16.
    Halves(&'a mut [u16]),
}

impl ViewMut<'_> {
    /// The same for a shorter time.
    pub(crate) fn reborrow(&mut self) -> ViewMut<'_> {
        match self {
            ViewMut::Floats(all) => ViewMut::Floats(all),
            ViewMut::Halves(all) => ViewMut::Halves(all),
        }
    }
}

/// Evaluates an expression with a view's slice, whatever its elements.
macro_rules! with_elements {
    ($view:expr, $slice:ident => $body:expr) => {
        match $view {
            $crate::values::View::Floats($slice) => $body,
            $crate::values::View::Halves($slice) => $body,
        }
    };
    (mut $view:expr, $slice:ident => $body:expr) => {
        match $view {
            $crate::values::ViewMut::Floats($slice) => $body,
            $crate::values::ViewMut::Halves($slice) => $body,
        }
    };
}
pub(crate) use with_elements;

/// A loan of memory for elements.
#[derive(Debug, Default)]
pub(crate) struct Values {
    buffer: Buffer,
    storage: Storage,
    len: usize,
}

impl Values {
    /// Room for `len` elements with unspecified contents.
    pub fn take(arena: &mut Arena, storage: Storage, len: usize) -> Values {
        let floats = match storage {
            Storage::Floats => len,
            Storage::Halves => len.div_ceil(2),
        };
        Values { buffer: arena.take(floats), storage, len }
    }

    /// f32 in memory that was already on loan.
    pub fn floats(buffer: Buffer) -> Values {
        Values { storage: Storage::Floats, len: buffer.len(), buffer }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// A copy in memory of its own.
    pub fn copied(&self, arena: &mut Arena) -> Values {
        let mut copy = Values::take(arena, self.storage, self.len);
        copy.buffer.copy_from_slice(&self.buffer);
        copy
    }

    /// A copy as f32, where the elements are bf16.
    pub fn widened(&self, arena: &mut Arena) -> Option<Buffer> {
        let View::Halves(halves) = self.view() else { return None };
        let mut wide = arena.take(self.len);
        for (wide, half) in wide.iter_mut().zip(halves) {
            *wide = half.get();
        }
        Some(wide)
    }

    pub fn give(self, arena: &mut Arena) {
        arena.give(self.buffer);
    }

    pub fn view(&self) -> View<'_> {
        match self.storage {
            Storage::Floats => View::Floats(&self.buffer),
            Storage::Halves => View::Halves(&as_halves(&self.buffer)[..self.len]),
        }
    }

    pub fn view_mut(&mut self) -> ViewMut<'_> {
        match self.storage {
            Storage::Floats => ViewMut::Floats(&mut self.buffer),
            Storage::Halves => ViewMut::Halves(&mut as_halves_mut(&mut self.buffer)[..self.len]),
        }
    }

    /// The elements, which are f32 by the wiring of the tape.
    pub fn as_floats(&self) -> &[f32] {
        assert_eq!(self.storage, Storage::Floats, "these values are kept in f32");
        &self.buffer
    }

    /// The elements, which are f32 by the wiring of the tape.
    pub fn as_floats_mut(&mut self) -> &mut [f32] {
        assert_eq!(self.storage, Storage::Floats, "these values are kept in f32");
        &mut self.buffer
    }
}

/// Memory of f32 as 16-bit values, two for each.
pub(crate) fn as_halves(floats: &[f32]) -> &[u16] {
    // SAFETY: the same bytes, less strictly aligned, and any bits are a value of either type.
    unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), 2 * floats.len()) }
}

/// Memory of f32 as 16-bit values, two for each.
pub(crate) fn as_halves_mut(floats: &mut [f32]) -> &mut [u16] {
    // SAFETY: as above; the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), 2 * floats.len()) }
}
