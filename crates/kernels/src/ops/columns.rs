//! Sums over rows, for gradients of vectors: chunks of rows first, then the chunks in order.

use std::ops::Range;

use crate::arena::{Arena, Buffer};
use crate::device::Device;
use crate::parallel;
use crate::pool::Disjoint;
use crate::simd::dispatch;

/// Calls `body(rows, partial)` for every chunk of rows; `partial` is a zeroed row of `cols` sums
/// for that chunk alone. Returns the partial sums, to be given to [`combine`] and the arena.
pub(crate) fn partial_sums(
    device: &Device,
    arena: &mut Arena,
    rows: usize,
    cols: usize,
    body: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Buffer {
    let chunk = parallel::partial_chunk(rows);
    let chunks = rows.div_ceil(chunk);
    let mut partials = arena.take(chunks * cols);
    device.pool().for_each_chunk(&mut partials, cols, &|index, partial| {
        partial.fill(0.0);
        body(parallel::run_of(index, chunk, rows), partial);
    });
    partials
}

/// gradient[c] += Σ over chunks of partials[chunk][first + c], in the order of the chunks; the
/// partial rows are `cols` wide.
pub(crate) fn combine(
    device: &Device,
    gradient: &mut [f32],
    partials: &[f32],
    cols: usize,
    first: usize,
) {
    let isa = device.isa();
    let len = gradient.len();
    let parts = Disjoint::new(gradient);
    parallel::ranges(device, len, 1024, |range| {
        #[allow(unsafe_code)]
        // SAFETY: the ranges of `ranges` are disjoint.
        let part = unsafe { parts.range(range.clone()) };
        dispatch(
            isa,
            #[inline(always)]
            || {
                for partial in partials.chunks_exact(cols) {
                    let partial = &partial[first + range.start..first + range.end];
                    for (sum, value) in part.iter_mut().zip(partial) {
                        *sum += value;
                    }
                }
            },
        );
    });
}
