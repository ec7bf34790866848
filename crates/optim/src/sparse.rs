//! The proximal step of λΣ|w|: w ← sign(w)·max(|w| − θ, 0) with θ = η·λ, after the update. Unlike
//! a subgradient it makes weights exactly zero (Parikh & Boyd 2014, section 6.5.2).

use crate::Segment;
use crate::walk::{Piece, Vectors, all, each_segment_chunk};
use heldout_kernels::{Device, reduce, simd};

/// Pulls every parameter of `segments` towards zero by `threshold`, times the segment's share of
/// the learning rate, and not past it.
pub fn soft_threshold(
    device: &Device,
    parameters: &mut [f32],
    segments: &[Segment],
    threshold: f64,
) {
    let vectors = Vectors { read: [], full: [parameters], compact: [] };
    each_segment_chunk(device, segments, all, vectors, &|piece| {
        let threshold = (threshold * f64::from(piece.segment.rate)) as f32;
        simd::dispatch(
            device.isa(),
            #[inline(always)]
            || {
                let Piece { full: [w], .. } = piece;
                for w in w {
                    *w = (w.abs() - threshold).max(0.0).copysign(*w);
                }
            },
        );
    });
}

/// Share of exactly zero parameters in `segments`; 0 when there are none.
pub fn sparsity(device: &Device, parameters: &[f32], segments: &[Segment]) -> f64 {
    let total: usize = segments.iter().map(Segment::len).sum();
    let zero: u64 =
        segments.iter().map(|s| reduce::count_zero(device, &parameters[s.range.clone()])).sum();
    if total == 0 { 0.0 } else { zero as f64 / total as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::segment;
    use heldout_kernels::{Precision, Role};

    #[test]
    fn small_weights_become_zero_and_the_others_shrink() {
        let device = Device::cpu(1, Precision::F32).expect("a processor");
        let chosen = [segment("w", 1..6, &[5], Role::Matrix)];
        let mut w = [0.1, 0.5, -0.5, 0.1, -0.25, 0.0, 0.1];
        soft_threshold(&device, &mut w, &chosen, 0.25);
        assert_eq!(w, [0.1, 0.25, -0.25, 0.0, 0.0, 0.0, 0.1]);
        assert_eq!(sparsity(&device, &w, &chosen), 0.6);
        assert_eq!(sparsity(&device, &w, &[]), 0.0);
    }
}
