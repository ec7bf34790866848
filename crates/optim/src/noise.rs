//! Gradient noise (Neelakantan et al. 2015, arXiv:1511.06807): g ← g + N(0, σ²), whose variance
//! σ² = η/(1+t)^γ falls with the step t.

use crate::Segment;
use heldout_base::rng::{Random, streams};
use heldout_kernels::Device;
use heldout_kernels::normal::add_normals;

/// σ of step `step` (from 0): √(η/(1+t)^γ), equation 1 of the paper.
pub fn deviation(eta: f64, gamma: f64, step: u64) -> f64 {
    (eta / (1.0 + step as f64).powf(gamma)).sqrt()
}

/// Elements that share one task.
const CHUNK: usize = 16 * 1024;

/// g ← g + σ·n on `segments`, n standard normal: one draw for each place in the flat vector and
/// each step, whatever the threads and the segments.
pub fn add_noise(
    device: &Device,
    gradients: &mut [f32],
    segments: &[Segment],
    deviation: f64,
    seed: u64,
    step: u64,
) {
    let random = Random::new(seed, streams::GRADIENT_NOISE, step);
    let std = deviation as f32;
    for segment in segments {
        let start = segment.range.start;
        let g = &mut gradients[segment.range.clone()];
        device.pool().for_each_chunk(g, CHUNK, &|number, part| {
            let first = (start + number * CHUNK) as u64;
            add_normals(device.isa(), part, &random, first, std);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::segment;
    use heldout_kernels::{Precision, Role};

    const LEN: usize = 5 * CHUNK + 13;

    fn noise(threads: usize, cuts: &[usize], step: u64) -> Vec<f32> {
        let device = Device::cpu(threads, Precision::F32).expect("a processor");
        let ends = cuts.iter().copied().chain([LEN]);
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let segments: Vec<Segment> = starts
            .zip(ends)
            .map(|(start, end)| segment("g", start..end, &[end - start], Role::Matrix))
            .collect();
        let mut g = vec![0.0; LEN];
        add_noise(&device, &mut g, &segments, 0.5, 7, step);
        g
    }

    #[test]
    fn draws_depend_on_place_and_step_alone() {
        let whole = noise(1, &[], 3);
        assert_eq!(whole, noise(3, &[], 3));
        assert_eq!(whole, noise(2, &[1, 300, CHUNK + 5], 3));
        assert_ne!(whole, noise(1, &[], 4));
    }

    #[test]
    fn the_moments_are_those_of_a_normal() {
        let draws = noise(2, &[], 0);
        let n = draws.len() as f64;
        let moment = |power: i32| draws.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / n;
        // Six standard errors of each: σ/√n, σ²·√(2/n), σ⁴·√(96/n) with σ = ½.
        assert!(moment(1).abs() < 6.0 * 0.5 / n.sqrt());
        assert!((moment(2) - 0.25).abs() < 6.0 * 0.25 * (2.0 / n).sqrt());
        assert!((moment(4) - 3.0 * 0.0625).abs() < 6.0 * 0.0625 * (96.0 / n).sqrt());
    }

    #[test]
    fn the_deviation_falls_as_the_paper_says() {
        assert_eq!(deviation(0.25, 0.55, 0), 0.5);
        assert!((deviation(0.3, 0.55, 99).powi(2) - 0.3 / 100f64.powf(0.55)).abs() < 1e-15);
        assert_eq!(deviation(1.0, 0.0, 10), 1.0);
    }
}
