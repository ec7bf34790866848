//! Max-norm (Srebro & Shraibman 2005; Srivastava et al. 2014, section 5.1): after the update each
//! unit's incoming weights, a row of a matrix, are brought back into the ball ‖w_row‖₂ ≤ c.

use crate::Segment;
use crate::clip::square_sum;
use crate::walk::{CHUNK, each_chunk};
use heldout_kernels::{Device, simd};
use std::sync::atomic::{AtomicU64, Ordering};

/// For every row of `segments` (a whole vector is one row) that is longer than `limit`:
/// w ← w · limit/‖w‖₂. Rows that are not finite are left for the explosion guard.
pub fn max_norm(device: &Device, parameters: &mut [f32], segments: &[Segment], limit: f64) {
    for segment in segments.iter().filter(|segment| !segment.is_empty()) {
        let (_, columns) = segment.rows_and_columns();
        let w = &mut parameters[segment.range.clone()];
        each_chunk(device, rows_chunk(columns), [], [w], &|[], [w]| {
            simd::dispatch(
                device.isa(),
                #[inline(always)]
                || w.chunks_mut(columns).for_each(|row| project(row, limit)),
            );
        });
    }
}

/// Whole rows, about a chunk of them.
fn rows_chunk(columns: usize) -> usize {
    columns * CHUNK.div_ceil(columns)
}

#[inline(always)]
fn project(row: &mut [f32], limit: f64) {
    let norm = square_sum(row).sqrt();
    if norm > limit && norm.is_finite() {
        let factor = (limit / norm) as f32;
        row.iter_mut().for_each(|w| *w *= factor);
    }
}

/// Shorter than the limit by at most this share counts as being at it: what rounding leaves.
const AT_LIMIT: f64 = 1e-5;

/// Share of the rows of `segments` whose norm is `limit`; 0 when there are none.
pub fn share_at_limit(
    device: &Device,
    parameters: &[f32],
    segments: &[Segment],
    limit: f64,
) -> f64 {
    let (mut rows_total, at_limit) = (0, AtomicU64::new(0));
    for segment in segments.iter().filter(|segment| !segment.is_empty()) {
        let (rows, columns) = segment.rows_and_columns();
        rows_total += rows;
        let w = &parameters[segment.range.clone()];
        let is_at = |row: &&[f32]| square_sum(row).sqrt() >= limit * (1.0 - AT_LIMIT);
        device.pool().run(w.len().div_ceil(rows_chunk(columns)), &|chunk| {
            let part = w.chunks(rows_chunk(columns)).nth(chunk).expect("as many as were counted");
            let count = part.chunks(columns).filter(is_at).count();
            at_limit.fetch_add(count as u64, Ordering::Relaxed);
        });
    }
    if rows_total == 0 { 0.0 } else { at_limit.into_inner() as f64 / rows_total as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::segment;
    use heldout_kernels::{Precision, Role};

    #[test]
    fn long_rows_come_back_to_the_ball_and_short_ones_stay() {
        let device = Device::cpu(2, Precision::F32).expect("a processor");
        let chosen =
            [segment("w", 1..7, &[3, 2], Role::Matrix), segment("b", 8..10, &[2], Role::Bias)];
        let mut w = [9.0, 3.0, 4.0, 0.3, 0.4, f32::NAN, 1.0, 9.0, 6.0, 8.0];
        max_norm(&device, &mut w, &chosen, 1.0);
        let expected = [9.0, 0.6, 0.8, 0.3, 0.4, f32::NAN, 1.0, 9.0, 0.6, 0.8];
        for (found, expected) in w.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-7 || found.is_nan(), "{found} {expected}");
        }
        assert_eq!(share_at_limit(&device, &w, &chosen, 1.0), 0.5);
        assert_eq!(share_at_limit(&device, &w, &chosen, 2.0), 0.0);
        assert_eq!(share_at_limit(&device, &w, &[], 1.0), 0.0);
    }

    #[test]
    fn the_threads_do_not_matter() {
        let wide = [segment("w", 0..5 * CHUNK, &[5 * CHUNK / 64, 64], Role::Matrix)];
        let made = |threads| {
            let device = Device::cpu(threads, Precision::F32).expect("a processor");
            let mut w: Vec<f32> = (0..5 * CHUNK).map(|i| (i * 7919 % 1000) as f32).collect();
            max_norm(&device, &mut w, &wide, 100.0);
            w
        };
        assert_eq!(made(1), made(3));
    }
}
