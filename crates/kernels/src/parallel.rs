//! Ways to share slices among the pool's tasks; results never depend on who does which part.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::device::Device;
use crate::pool::{Disjoint, Ends, Side};

/// The `index`-th of equal runs of `size` elements that cut `0..len`; the last may be short.
pub(crate) fn run_of(index: usize, size: usize, len: usize) -> Range<usize> {
    index * size..((index + 1) * size).min(len)
}

/// Calls `body(range)` for runs of `grain` indices that cover `0..len`.
pub(crate) fn ranges(
    device: &Device,
    len: usize,
    grain: usize,
    body: impl Fn(Range<usize>) + Sync,
) {
    let grain = grain.max(1);
    let tasks = len.div_ceil(grain);
    if tasks <= 1 {
        if len > 0 {
            body(0..len);
        }
        return;
    }
    device.pool().run(tasks, &|task| body(run_of(task, grain, len)));
}

/// Threads that [`with_scratch`] puts to work on so many items.
pub(crate) fn workers(device: &Device, items: usize) -> usize {
    device.threads().min(items).max(1)
}

/// Calls `body(item, scratch)` for every item; each of the [`workers`] has an equal part of
/// `scratch`, with whatever an earlier item left there.
pub(crate) fn with_scratch(
    device: &Device,
    items: usize,
    scratch: &mut [f32],
    body: impl Fn(usize, &mut [f32]) + Sync,
) {
    let workers = workers(device, items);
    let share = scratch.len() / workers;
    let scratch = Disjoint::new(scratch);
    let items = Ends::new(items);
    device.pool().run(workers, &|worker| {
        // SAFETY: every worker index runs once and takes its own run of `share` elements.
        let scratch = unsafe { scratch.range(run_of(worker, share, share * workers)) };
        items.each(Side::of(worker), |item| body(item, scratch));
    });
}

/// Rows a task should take so that it moves about 64 KiB and the pool can balance.
pub(crate) fn grain_of(cols: usize) -> usize {
    (16_384 / cols.max(1)).max(1)
}

/// Cuts `rows` into at most [`PARTIALS`] equal chunks; the cut depends on `rows` alone, so sums
/// that are formed by chunk and then combined in order are the same for any number of threads.
pub(crate) fn partial_chunk(rows: usize) -> usize {
    rows.div_ceil(PARTIALS).max(8)
}

/// Most chunks that [`partial_chunk`] cuts.
pub(crate) const PARTIALS: usize = 32;
