//! Gradient clipping: by one global norm (Pascanu et al. 2013), by value, and adaptive per unit
//! (AGC; Brock et al. 2021, arXiv:2102.06171).
//!
//! Clipping by norm costs one read: its factor goes into [`crate::Update::gradient_scale`]. The
//! other two rewrite the gradient.

use crate::Segment;
use crate::walk::{CHUNK, each_chunk};
use heldout_kernels::{Device, reduce, simd};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a clip did, for records and receipts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clipped {
    /// ‖g‖₂ over all gradients before.
    pub norm_before: f64,
    /// ‖g‖₂ after.
    pub norm_after: f64,
    /// Factor still to be applied by the update; 1 where the gradient was rewritten.
    pub scale: f32,
    /// Share of what was clipped: of gradients (`by_value`), of units (`adaptive`), or all or
    /// nothing (`by_norm`).
    pub share: f64,
}

/// ‖g‖₂ over one flat vector, accumulated in f64.
pub fn global_norm(device: &Device, gradients: &[f32]) -> f64 {
    reduce::sum_of_squares(device, gradients).sqrt()
}

/// The factor min(1, c / (‖g‖ + 1e-6)) that brings a gradient of this norm within `limit`, as
/// `torch.nn.utils.clip_grad_norm_` computes it. A norm that is not finite gives 1: that is for
/// the explosion guard.
pub fn by_norm(norm: f64, limit: f64) -> Clipped {
    let factor = limit / (norm + 1e-6);
    let scale = if factor < 1.0 && norm.is_finite() { factor } else { 1.0 };
    Clipped {
        norm_before: norm,
        norm_after: norm * scale,
        scale: scale as f32,
        share: if scale < 1.0 { 1.0 } else { 0.0 },
    }
}

/// g ← max(−c, min(c, g)), element by element, as `torch.nn.utils.clip_grad_value_`.
pub fn by_value(device: &Device, gradients: &mut [f32], limit: f64) -> Clipped {
    let norm_before = global_norm(device, gradients);
    let limit = limit as f32;
    let clipped = AtomicU64::new(0);
    let total = gradients.len().max(1) as f64;
    each_chunk(device, CHUNK, [], [&mut *gradients], &|[], [g]| {
        let count: u32 = simd::dispatch(
            device.isa(),
            #[inline(always)]
            || {
                let mut count = 0;
                for g in g {
                    count += u32::from(g.abs() > limit);
                    // `min` and `max` would turn NaN into a number and hide it.
                    *g = if *g > limit { limit } else { *g };
                    *g = if *g < -limit { -limit } else { *g };
                }
                count
            },
        );
        clipped.fetch_add(u64::from(count), Ordering::Relaxed);
    });
    let norm_after = global_norm(device, gradients);
    let share = clipped.into_inner() as f64 / total;
    Clipped { norm_before, norm_after, scale: 1.0, share }
}

/// Least norm that a unit's weights count with, so that fresh zeros can still learn.
const UNIT_NORM_FLOOR: f64 = 1e-3;

/// For every unit (a row of a matrix, or a whole vector) of `segments` whose gradient is longer
/// than `ratio` times its weights: g ← g · ratio·max(‖w‖, 1e-3)/‖g‖.
///
/// The authors leave the last linear layer out; that is the caller's choice of segments.
pub fn adaptive(
    device: &Device,
    parameters: &[f32],
    gradients: &mut [f32],
    segments: &[Segment],
    ratio: f64,
) -> Clipped {
    let norm_before = global_norm(device, gradients);
    let clipped = AtomicU64::new(0);
    let mut units = 0;
    for segment in segments.iter().filter(|segment| !segment.is_empty()) {
        let (rows, columns) = segment.rows_and_columns();
        units += rows;
        let w = &parameters[segment.range.clone()];
        let g = &mut gradients[segment.range.clone()];
        let chunk = columns * CHUNK.div_ceil(columns);
        each_chunk(device, chunk, [w], [g], &|[w], [g]| {
            let count = w
                .chunks(columns)
                .zip(g.chunks_mut(columns))
                .filter_map(|(w, g)| clip_unit(device, w, g, ratio))
                .count();
            clipped.fetch_add(count as u64, Ordering::Relaxed);
        });
    }
    let norm_after = global_norm(device, gradients);
    let share = clipped.into_inner() as f64 / units.max(1) as f64;
    Clipped { norm_before, norm_after, scale: 1.0, share }
}

/// Clips one unit; `None` when it is within bounds.
fn clip_unit(device: &Device, w: &[f32], g: &mut [f32], ratio: f64) -> Option<()> {
    simd::dispatch(
        device.isa(),
        #[inline(always)]
        || {
            let limit = ratio * square_sum(w).sqrt().max(UNIT_NORM_FLOOR);
            let norm = square_sum(g).sqrt();
            if norm.is_nan() || norm <= limit {
                return None;
            }
            let factor = (limit / norm) as f32;
            g.iter_mut().for_each(|g| *g *= factor);
            Some(())
        },
    )
}

/// Σx² in eight lanes, whose order is fixed.
#[inline(always)]
pub(crate) fn square_sum(values: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; 8];
    let (blocks, rest) = values.as_chunks::<8>();
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane += f64::from(*x) * f64::from(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(*x) * f64::from(*x);
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::segment;
    use heldout_kernels::{Precision, Role};

    #[test]
    fn a_norm_within_the_limit_is_left_alone() {
        assert_eq!(by_norm(0.5, 1.0).scale, 1.0);
        let clipped = by_norm(4.0, 1.0);
        assert!((clipped.norm_after - 1.0).abs() < 1e-6);
        assert_eq!(clipped.share, 1.0);
        assert_eq!(by_norm(f64::NAN, 1.0).scale, 1.0);
        assert_eq!(by_norm(4.0, f64::INFINITY).scale, 1.0);
    }

    #[test]
    fn values_are_cut_at_the_limit_and_not_a_number_stays() {
        let device = Device::cpu(1, Precision::F32).expect("a processor");
        let mut g = [0.5, -3.0, 2.0, f32::NAN];
        let clipped = by_value(&device, &mut g, 1.0);
        assert_eq!(g[..3], [0.5, -1.0, 1.0]);
        assert!(g[3].is_nan());
        assert_eq!(clipped.share, 0.5);
    }

    #[test]
    fn units_are_clipped_against_their_own_weights() {
        let device = Device::cpu(2, Precision::F32).expect("a processor");
        let segments =
            [segment("w", 0..4, &[2, 2], Role::Matrix), segment("b", 5..7, &[2], Role::Bias)];
        let w = [3.0, 4.0, 0.0, 0.0, 9.0, 1.0, 0.0];
        let mut g = [6.0, 8.0, 0.0, 1.0, 7.0, 0.0, 0.01];
        let clipped = adaptive(&device, &w, &mut g, &segments, 0.1);
        let expected = [0.3, 0.4, 0.0, 1e-4, 7.0, 0.0, 0.01];
        for (found, expected) in g.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-7, "{found} {expected}");
        }
        assert_eq!(clipped.share, 2.0 / 3.0);
    }
}
