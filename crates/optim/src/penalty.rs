//! Penalties on the weights, added to the gradient before it is clipped, as a loss that contains
//! them would: l1 adds λ·sign(w) (a subgradient of λΣ|w|), l2 adds 2λw (the gradient of λΣw²).

use crate::Segment;
use crate::walk::{Piece, Vectors, all, each_segment_chunk};
use heldout_kernels::{Device, reduce, simd};

/// g ← g + λ·sign(w) on `segments`; sign(0) = 0.
pub fn add_l1_gradient(
    device: &Device,
    parameters: &[f32],
    gradients: &mut [f32],
    segments: &[Segment],
    strength: f64,
) {
    let strength = strength as f32;
    let vectors = Vectors { read: [parameters], full: [gradients], compact: [] };
    each_segment_chunk(device, segments, all, vectors, &|piece| {
        simd::dispatch(
            device.isa(),
            #[inline(always)]
            || {
                let Piece { read: [w], full: [g], .. } = piece;
                for (w, g) in w.iter().zip(g) {
                    *g += strength * (f32::from(*w > 0.0) - f32::from(*w < 0.0));
                }
            },
        );
    });
}

/// g ← g + 2λw on `segments`.
pub fn add_l2_gradient(
    device: &Device,
    parameters: &[f32],
    gradients: &mut [f32],
    segments: &[Segment],
    strength: f64,
) {
    let twice = (2.0 * strength) as f32;
    let vectors = Vectors { read: [parameters], full: [gradients], compact: [] };
    each_segment_chunk(device, segments, all, vectors, &|piece| {
        simd::dispatch(
            device.isa(),
            #[inline(always)]
            || {
                let Piece { read: [w], full: [g], .. } = piece;
                w.iter().zip(g).for_each(|(w, g)| *g += twice * w);
            },
        );
    });
}

/// Σ|w| over `segments`.
pub fn l1_norm(device: &Device, parameters: &[f32], segments: &[Segment]) -> f64 {
    segments.iter().map(|s| reduce::abs_sum(device, &parameters[s.range.clone()])).sum()
}

/// Σw² over `segments`.
pub fn l2_norm_squared(device: &Device, parameters: &[f32], segments: &[Segment]) -> f64 {
    segments.iter().map(|s| reduce::sum_of_squares(device, &parameters[s.range.clone()])).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::segment;
    use heldout_kernels::{Precision, Role};

    #[test]
    fn gradients_are_the_slopes_of_the_penalties() {
        let device = Device::cpu(1, Precision::F32).expect("a processor");
        let chosen = [segment("w", 1..4, &[3], Role::Matrix)];
        let w = [9.0, 0.5, -2.0, 0.0, 9.0];
        let mut g = [1.0; 5];
        add_l1_gradient(&device, &w, &mut g, &chosen, 0.25);
        assert_eq!(g, [1.0, 1.25, 0.75, 1.0, 1.0]);
        add_l2_gradient(&device, &w, &mut g, &chosen, 0.25);
        assert_eq!(g, [1.0, 1.5, -0.25, 1.0, 1.0]);
        assert_eq!(l1_norm(&device, &w, &chosen), 2.5);
        assert_eq!(l2_norm_squared(&device, &w, &chosen), 4.25);
    }
}
