//! The climb of sharpness-aware minimisation: w + ε with ε = ρ·g/‖g‖₂ (Foret et al. 2021,
//! arXiv:2010.01412, eq. 2), or ε = ρ·T²g/‖T·g‖₂ with T = |w| + η element by element (ASAM, Kwon et
//! al. 2021, arXiv:2102.11600, eq. 9), which does not change when weights are rescaled.
//!
//! The weights themselves are only read: nothing has to be put back.

use crate::walk::{CHUNK, each_chunk};
use heldout_kernels::{Device, reduce, simd};
use serde::{Deserialize, Serialize};

/// In which metric ε is ρ long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// ‖ε‖₂ = ρ.
    #[default]
    Euclidean,
    /// ‖ε / (|w| + η)‖₂ = ρ: every weight moves in proportion to its size.
    Relative,
}

/// η: what weights of zero count as (Kwon et al. 2021, section 5).
const FLOOR: f32 = 0.01;

/// `climbed` ← w + ε for the gradient g, and ‖g‖₂ (or ‖T·g‖₂) in front of it. Where that norm is
/// zero or not finite there is no uphill, and `climbed` is w.
///
/// # Panics
/// If the vectors differ in length.
pub fn climb(
    device: &Device,
    parameters: &[f32],
    gradients: &[f32],
    climbed: &mut [f32],
    radius: f64,
    metric: Metric,
) -> f64 {
    let scaled = |w: f32, g: f32| match metric {
        Metric::Euclidean => g,
        Metric::Relative => (w.abs() + FLOOR) * g,
    };
    each_chunk(device, CHUNK, [parameters, gradients], [&mut *climbed], &|[w, g], [out]| {
        simd::dispatch(
            device.isa(),
            #[inline(always)]
            || {
                for ((out, w), g) in out.iter_mut().zip(w).zip(g) {
                    *out = scaled(*w, *g);
                }
            },
        );
    });
    let norm = reduce::sum_of_squares(device, climbed).sqrt();
    let factor = if norm > 0.0 && norm.is_finite() { (radius / norm) as f32 } else { 0.0 };
    each_chunk(device, CHUNK, [parameters], [climbed], &|[w], [out]| {
        simd::dispatch(
            device.isa(),
            #[inline(always)]
            || {
                for (out, w) in out.iter_mut().zip(w) {
                    // A gradient that is no number must not reach the weights through a zero.
                    *out = if factor == 0.0 { *w } else { w + factor * scaled(*w, *out) };
                }
            },
        );
    });
    norm
}

#[cfg(test)]
mod tests {
    use super::*;
    use heldout_kernels::Precision;

    fn climbed(w: &[f32], g: &[f32], radius: f64, metric: Metric) -> (Vec<f32>, f64) {
        let device = Device::cpu(2, Precision::F32).expect("a processor");
        let mut out = vec![f32::NAN; w.len()];
        let norm = climb(&device, w, g, &mut out, radius, metric);
        (out, norm)
    }

    #[test]
    fn the_step_is_as_long_as_the_radius() {
        let (out, norm) = climbed(&[1.0, 2.0], &[3.0, -4.0], 0.5, Metric::Euclidean);
        assert_eq!((out, norm), (vec![1.3, 1.6], 5.0));
    }

    #[test]
    fn a_relative_step_moves_weights_by_their_size() {
        let (w, g) = ([1.0f32, -2.0, 0.0], [0.5f32, 1.0, 4.0]);
        let (out, norm) = climbed(&w, &g, 0.1, Metric::Relative);
        let t: Vec<f64> = w.iter().map(|w| f64::from(w.abs()) + 0.01).collect();
        let tg: Vec<f64> = t.iter().zip(&g).map(|(t, g)| t * f64::from(*g)).collect();
        let expected = tg.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((norm - expected).abs() < 1e-6);
        for index in 0..3 {
            let step = 0.1 * t[index] * tg[index] / expected;
            assert!((f64::from(out[index]) - f64::from(w[index]) - step).abs() < 1e-6);
        }
    }

    #[test]
    fn without_an_uphill_the_weights_stay() {
        for g in [[0.0, 0.0], [f32::NAN, 1.0], [f32::INFINITY, 1.0]] {
            let (out, _) = climbed(&[1.5, -2.5], &g, 0.1, Metric::Euclidean);
            assert_eq!(out, [1.5, -2.5]);
        }
    }
}
