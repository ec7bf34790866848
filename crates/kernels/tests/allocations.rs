//! A training pass asks the system for no memory once its first two are done, on any thread.
#![allow(unsafe_code)]

mod little;

use std::alloc::{GlobalAlloc, Layout as Size, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use heldout_kernels::*;
use little::*;

/// The system's allocator, counting.
struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, size: Size) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on.
        unsafe { System.alloc(size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, size: Size) {
        // SAFETY: passed on.
        unsafe { System.dealloc(at, size) }
    }

    unsafe fn realloc(&self, at: *mut u8, size: Size, new: usize) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on.
        unsafe { System.realloc(at, size, new) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PASSES: u64 = 12;

#[test]
fn passes_after_the_second_allocate_nothing() {
    let little = Little::new();
    let parameters = little.parameters();
    let mut gradients = vec![0.0; parameters.len()];
    let (ids, spec) = (ids(4), LossSpec::plain(0.01));
    let targets = targets(&ids);
    for precision in [Precision::F32, Precision::Bf16] {
        let device = Arc::new(Device::cpu(2, precision).expect("a device"));
        let mut tape = Tape::new(device);
        let mut counts = Vec::new();
        for step in 0..PASSES {
            let before = CALLS.load(Ordering::Relaxed);
            let noise = NoiseKey { seed: 1, step, first_sequence: 0 };
            let kind = PassKind::TrainFirst { gradients: &mut gradients, noise };
            let mut pass = tape.pass(&parameters, kind);
            little.loss(&mut pass, &ids, &targets, 0.1, &spec);
            pass.backward();
            drop(pass);
            counts.push(CALLS.load(Ordering::Relaxed) - before);
        }
        assert!(counts[0] > 0, "the count works: {counts:?}");
        // On a busy machine the other thread may sleep through the first passes; what it works in
        // is taken when it first wakes.
        let late: u64 = counts[2..].iter().sum();
        let passes_late = counts[2..].iter().filter(|count| **count > 0).count();
        assert!(late <= 2 && passes_late <= 1, "{precision:?}: {counts:?}");
    }
}
