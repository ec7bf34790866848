//! Exponential moving average of the weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017):
//! w̄ ← w̄ + (1 − β′)·(w − w̄), a second set of weights that is evaluated and saved on its own.

use crate::OptimError;
use crate::optimizer::restore_into;
use crate::walk::{CHUNK, each_chunk};
use heldout_kernels::{Device, simd};
use serde::{Deserialize, Serialize};

/// How the average treats its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// From the weights of the first step, as if they had been there for ever: β′ = β.
    Weights,
    /// The exact weighted mean of what was seen: β′ = β·(1−βᵗ⁻¹)/(1−βᵗ), as Adam corrects its
    /// moments.
    Corrected,
    /// Short memory that lengthens: β′ = min(β, (1+t)/(10+t)), t from 1.
    WarmUp,
}

/// The average and what it needs to go on after a stop.
#[derive(Clone, Debug, PartialEq)]
pub struct Ema {
    start: Start,
    weights: Vec<f32>,
    counts: EmaCounts,
}

/// The scalars of an average's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EmaCounts {
    /// Updates taken in.
    pub updates: u64,
    /// Σ (1−β)·βᵏ over what was taken in: 1 − βᵗ for a constant β.
    pub mass: f64,
}

impl Ema {
    /// An average that starts as a copy of `parameters`.
    pub fn new(start: Start, parameters: &[f32]) -> Self {
        Self { start, weights: parameters.to_vec(), counts: EmaCounts::default() }
    }

    /// Takes in the weights after an update; `decay` is β of this step, in [0, 1).
    pub fn update(&mut self, device: &Device, parameters: &[f32], decay: f64) {
        let taken = self.taken(decay) as f32;
        each_chunk(device, CHUNK, [parameters], [&mut self.weights], &|[w], [average]| {
            simd::dispatch(
                device.isa(),
                #[inline(always)]
                || {
                    average
                        .iter_mut()
                        .zip(w)
                        .for_each(|(average, w)| *average += taken * (w - *average))
                },
            );
        });
    }

    /// 1 − β′ of this update.
    fn taken(&mut self, decay: f64) -> f64 {
        let EmaCounts { updates, mass } = &mut self.counts;
        *updates += 1;
        *mass = decay * *mass + (1.0 - decay);
        let t = *updates as f64;
        match self.start {
            Start::Weights => 1.0 - decay,
            Start::Corrected if *mass > 0.0 => (1.0 - decay) / *mass,
            Start::Corrected => 0.0,
            Start::WarmUp => 1.0 - decay.min((1.0 + t) / (10.0 + t)),
        }
    }

    /// The averaged weights, laid out as the parameters.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The scalars to save beside the weights.
    pub fn counts(&self) -> EmaCounts {
        self.counts
    }

    /// ‖w̄ − w‖₂ / ‖w‖₂.
    pub fn relative_distance(&self, parameters: &[f32]) -> f64 {
        let square = |x: f32| f64::from(x) * f64::from(x);
        let distance: f64 =
            self.weights.iter().zip(parameters).map(|(average, w)| square(average - w)).sum();
        let norm: f64 = parameters.iter().map(|w| square(*w)).sum();
        if norm > 0.0 { (distance / norm).sqrt() } else { distance.sqrt() }
    }

    /// Takes back weights and counts, bit for bit.
    pub fn restore(&mut self, weights: Vec<f32>, counts: EmaCounts) -> Result<(), OptimError> {
        let mut weights = Some(weights);
        restore_into(&mut self.weights, "ema", "weights", &mut |_| weights.take())?;
        self.counts = counts;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heldout_kernels::Precision;

    fn averages(start: Start, decay: f64, weights: &[f32]) -> Vec<f32> {
        let device = Device::cpu(1, Precision::F32).expect("a processor");
        let mut ema = Ema::new(start, &[0.0]);
        let step = |w: &f32| {
            ema.update(&device, &[*w], decay);
            ema.weights()[0]
        };
        weights.iter().map(step).collect()
    }

    #[test]
    fn each_start_follows_its_formula() {
        let check = |start, expected: [f32; 3]| {
            let found = averages(start, 0.5, &[1.0, 2.0, 4.0]);
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{start:?}: {found} {expected}");
            }
        };
        check(Start::Weights, [0.5, 1.25, 2.625]);
        // (½·1)/½, (¼·1 + ½·2)/¾, (⅛·1 + ¼·2 + ½·4)/⅞.
        check(Start::Corrected, [1.0, 5.0 / 3.0, 3.0]);
        // β′ = 2/11, 3/12, 4/13.
        check(Start::WarmUp, [0.818_181_8, 1.704_545_5, 3.293_706_2]);
    }

    #[test]
    fn a_restored_average_goes_on_with_the_same_bits() {
        let device = Device::cpu(2, Precision::F32).expect("a processor");
        let weights = |t: usize| (0..50).map(|i| ((i * 7 + t * 3) % 11) as f32).collect::<Vec<_>>();
        let mut whole = Ema::new(Start::Corrected, &weights(0));
        for t in 1..5 {
            whole.update(&device, &weights(t), 0.9);
        }
        let mut resumed = Ema::new(Start::Corrected, &weights(0));
        resumed.restore(whole.weights().to_vec(), whole.counts()).expect("the same length");
        for t in 5..9 {
            whole.update(&device, &weights(t), 0.9);
            resumed.update(&device, &weights(t), 0.9);
        }
        assert_eq!(whole, resumed);
        assert!(resumed.restore(vec![0.0], EmaCounts::default()).is_err());
        assert!(whole.relative_distance(&weights(8)) > 0.0);
        assert_eq!(whole.relative_distance(whole.weights()), 0.0);
    }
}
