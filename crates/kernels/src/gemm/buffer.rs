//! Packing buffers: one pair a thread, aligned, grown once and reused for ever.
#![allow(unsafe_code)]

use std::cell::RefCell;

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Memory for packed units.
#[derive(Default)]
pub(super) struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    pub const fn new() -> Buffer {
        Buffer { lines: Vec::new() }
    }

    /// The start of room for `units`, aligned to a cache line. Contents are left from before.
    pub fn room(&mut self, units: usize) -> *mut u32 {
        let lines = units.div_ceil(16);
        if self.lines.len() < lines {
            self.lines.reserve_exact(lines - self.lines.len());
            advise_huge_pages(self.lines.as_mut_ptr().cast(), lines * 64);
            self.lines.resize(lines, Line([0; 16]));
        }
        self.lines.as_mut_ptr().cast()
    }
}

/// Asks for huge pages where the buffer is large: fewer misses when it is walked.
fn advise_huge_pages(start: *mut u8, bytes: usize) {
    #[cfg(target_os = "linux")]
    {
        const HUGE: usize = 2 << 20;
        let first = (start as usize).next_multiple_of(HUGE);
        let end = (start as usize + bytes) / HUGE * HUGE;
        if end > first {
            // SAFETY: advice on whole pages inside our own allocation; it may be refused.
            unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes);
}

thread_local! {
    /// The operand that all threads read, packed by all, kept by the thread that calls.
    pub(super) static SHARED: RefCell<Buffer> = const { RefCell::new(Buffer::new()) };
    /// The part of the other operand that this thread is working on.
    pub(super) static LOCAL: RefCell<Buffer> = const { RefCell::new(Buffer::new()) };
}
