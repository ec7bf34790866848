//! Buffers that a step takes and gives back, so that after the first step nothing is allocated.
//!
//! A [`Buffer`] is a 64-byte-aligned f32 slice. Fresh ones come from the allocator (zeroed pages,
//! touched only when used); those given back are kept by size class and handed out again, with
//! whatever they held before. Touching fresh pages costs as much as the arithmetic on them, and
//! a store that straddles cache lines costs two: hence reuse and alignment.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

/// Elements in a cache line of 64 bytes.
const LINE: usize = 16;

/// A 64-byte-aligned run of f32 on loan from an [`Arena`]. Its contents are unspecified at first.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    memory: Vec<f32>,
    start: usize,
    len: usize,
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

impl Buffer {
    fn new(class: usize) -> Buffer {
        let mut memory = vec![0.0f32; class + LINE];
        crate::pages::advise_huge(&mut memory);
        // `align_offset` may refuse; the buffer is then merely unaligned.
        let start = memory.as_ptr().align_offset(LINE * size_of::<f32>());
        let start = if start < LINE { start } else { 0 };
        Buffer { memory, start, len: 0 }
    }
}

/// Size classes grow by an eighth, so at most that share of a buffer is never touched.
fn class_of(len: usize) -> usize {
    let len = len.max(LINE);
    let step = (len.next_power_of_two() / 16).max(LINE);
    len.next_multiple_of(step)
}

/// The buffers that are not on loan, by size class, and what was ever allocated.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    free: BTreeMap<usize, Vec<Buffer>>,
    free_ids: Vec<Vec<u32>>,
    bytes: usize,
    allocations: u64,
}

impl Arena {
    /// A buffer of `len` elements with unspecified contents.
    pub fn take(&mut self, len: usize) -> Buffer {
        let class = class_of(len);
        let reused = self.free.get_mut(&class).and_then(Vec::pop);
        let mut buffer = reused.unwrap_or_else(|| {
            self.allocations += 1;
            self.bytes += (class + LINE) * size_of::<f32>();
            Buffer::new(class)
        });
        buffer.len = len;
        buffer
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Buffer) {
        if buffer.memory.is_empty() {
            return;
        }
        self.free.entry(buffer.memory.len() - LINE).or_default().push(buffer);
    }

    /// A copy of `ids` in a vector that was given back before, if one is free.
    pub fn take_ids(&mut self, ids: &[u32]) -> Vec<u32> {
        let mut copy = self.free_ids.pop().unwrap_or_default();
        copy.clear();
        if copy.capacity() < ids.len() {
            self.allocations += 1;
            self.bytes += (ids.len() - copy.capacity()) * size_of::<u32>();
        }
        copy.extend_from_slice(ids);
        copy
    }

    /// Takes a vector of ids back.
    pub fn give_ids(&mut self, ids: Vec<u32>) {
        self.free_ids.push(ids);
    }

    /// Bytes ever allocated, on loan or free.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Fresh allocations so far.
    pub fn allocations(&self) -> u64 {
        self.allocations
    }

    /// Returns the free buffers to the system.
    pub fn shrink(&mut self) {
        for (class, buffers) in std::mem::take(&mut self.free) {
            self.bytes -= buffers.len() * (class + LINE) * size_of::<f32>();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_round_allocates_nothing() {
        let mut arena = Arena::default();
        for _ in 0..3 {
            let loans: Vec<Buffer> = [1, 100, 1000, 1000, 4097].map(|len| arena.take(len)).into();
            for (buffer, len) in loans.iter().zip([1, 100, 1000, 1000, 4097]) {
                assert_eq!(buffer.len(), len);
                assert_eq!(buffer.as_ptr() as usize % 64, 0);
            }
            loans.into_iter().for_each(|buffer| arena.give(buffer));
            let ids = arena.take_ids(&[1, 2, 3]);
            arena.give_ids(ids);
            assert_eq!(arena.allocations(), 6);
        }
        assert!(arena.bytes() < 4 * (1 + 100 + 2000 + 4097) * 5 / 4 + 5 * 128 + 12);
        arena.shrink();
        assert_eq!(arena.bytes(), 12);
    }

    #[test]
    fn classes_waste_at_most_an_eighth() {
        for len in [1, 15, 16, 17, 255, 1000, 70_000, 1_000_003] {
            let class = class_of(len);
            assert!(class >= len && class <= (len + len / 8).max(len + LINE), "{len} {class}");
        }
    }
}
