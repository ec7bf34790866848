//! Averages of the weights, second sets that are evaluated and saved on their own: exponential
//! (Polyak & Juditsky 1992; Tarvainen & Valpola 2017), w̄ ← w̄ + (1 − β′)·(w − w̄); equal (SWA;
//! Izmailov et al. 2018), w̄ ← w̄ + (w − w̄)/(n + 1); or over a few kept sets of weights (Vaswani
//! et al. 2017).

use crate::OptimError;
use crate::optimizer::restore_into;
use crate::walk::{CHUNK, each_chunk};
use heldout_kernels::{Device, simd};
use serde::{Deserialize, Serialize};

/// How the exponential average treats its beginning.
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

/// Which of the weights offered to [`Averaged::keep`] are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// The last ones.
    Last,
    /// Those with the least loss; of equals the earlier.
    Best,
}

/// The average and what it needs to go on after a stop. One average follows one of the three rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Averaged {
    weights: Vec<f32>,
    /// What [`Averaged::keep`] keeps, in the order of `counts.kept`.
    kept: Vec<Vec<f32>>,
    counts: Counts,
}

/// The small numbers of an average's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Sets of weights taken in.
    pub updates: u64,
    /// Σ (1−β)·βᵏ over what was taken in: 1 − βᵗ for a constant β; exponential averages alone.
    pub mass: f64,
    /// Of each kept set of weights.
    #[serde(default)]
    pub kept: Vec<Kept>,
}

/// Where kept weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Updates made until then.
    pub step: u64,
    /// Their held-out loss.
    pub loss: f64,
}

impl Averaged {
    /// An average that starts as a copy of `parameters` and has taken in nothing.
    pub fn new(parameters: &[f32]) -> Self {
        Self { weights: parameters.to_vec(), kept: Vec::new(), counts: Counts::default() }
    }

    /// Takes in the weights after an update; `decay` is β of this step, in [0, 1).
    pub fn update_exponential(
        &mut self,
        device: &Device,
        parameters: &[f32],
        start: Start,
        decay: f64,
    ) {
        let taken = self.taken(start, decay);
        move_towards(device, &mut self.weights, parameters, taken);
    }

    /// 1 − β′ of this update.
    fn taken(&mut self, start: Start, decay: f64) -> f64 {
        let Counts { updates, mass, .. } = &mut self.counts;
        *updates += 1;
        *mass = decay * *mass + (1.0 - decay);
        let t = *updates as f64;
        match start {
            Start::Weights => 1.0 - decay,
            Start::Corrected if *mass > 0.0 => (1.0 - decay) / *mass,
            Start::Corrected => 0.0,
            Start::WarmUp => 1.0 - decay.min((1.0 + t) / (10.0 + t)),
        }
    }

    /// Takes in weights so that all that were taken in count alike.
    pub fn update_equal(&mut self, device: &Device, parameters: &[f32]) {
        self.counts.updates += 1;
        move_towards(device, &mut self.weights, parameters, 1.0 / self.counts.updates as f64);
    }

    /// Offers weights and their held-out loss: the average is the mean of the `most` that are kept.
    /// A loss that is not finite, or a second offer of the newest step, changes nothing.
    pub fn keep(
        &mut self,
        device: &Device,
        parameters: &[f32],
        offer: Kept,
        most: usize,
        which: Which,
    ) {
        let kept = &mut self.counts.kept;
        if !offer.loss.is_finite() || kept.iter().any(|one| one.step == offer.step) {
            return;
        }
        let place = match which {
            _ if kept.len() < most => None,
            Which::Last => oldest(kept),
            Which::Best => worst(kept).filter(|place| offer.loss < kept[*place].loss),
        };
        match place {
            Some(place) => {
                kept[place] = offer;
                self.kept[place].copy_from_slice(parameters);
            }
            None if kept.len() < most => {
                kept.push(offer);
                self.kept.push(parameters.to_vec());
            }
            None => return,
        }
        self.counts.updates += 1;
        for (place, kept) in self.kept.iter().enumerate() {
            move_towards(device, &mut self.weights, kept, 1.0 / (place + 1) as f64);
        }
    }

    /// The averaged weights, laid out as the parameters.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The sets of weights that [`Averaged::keep`] has kept.
    pub fn kept(&self) -> &[Vec<f32>] {
        &self.kept
    }

    /// The small numbers to save beside the weights.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// ‖w̄ − w‖₂ / ‖w‖₂.
    pub fn relative_distance(&self, parameters: &[f32]) -> f64 {
        let square = |x: f32| f64::from(x) * f64::from(x);
        let distance: f64 =
            self.weights.iter().zip(parameters).map(|(average, w)| square(average - w)).sum();
        let norm: f64 = parameters.iter().map(|w| square(*w)).sum();
        if norm > 0.0 { (distance / norm).sqrt() } else { distance.sqrt() }
    }

    /// Takes back weights, kept ones and counts, bit for bit.
    pub fn restore(
        &mut self,
        weights: Vec<f32>,
        kept: Vec<Vec<f32>>,
        counts: Counts,
    ) -> Result<(), OptimError> {
        let mut weights = Some(weights);
        restore_into(&mut self.weights, "average", "weights", &mut |_| weights.take())?;
        if let Some(short) = kept.iter().find(|kept| kept.len() != self.weights.len()) {
            return Err(OptimError::StateLength {
                optimizer: "average".to_owned(),
                vector: "kept".to_owned(),
                expected: self.weights.len(),
                found: short.len(),
            });
        }
        assert_eq!(kept.len(), counts.kept.len(), "one set of weights for each kept step");
        (self.kept, self.counts) = (kept, counts);
        Ok(())
    }
}

/// average ← average + share·(w − average); exactly w where the share is 1.
fn move_towards(device: &Device, average: &mut [f32], w: &[f32], share: f64) {
    if share == 1.0 {
        // Whatever stood there before, an overflow included, must leave no trace.
        return average.copy_from_slice(w);
    }
    let share = share as f32;
    each_chunk(device, CHUNK, [w], [average], &|[w], [average]| {
        simd::dispatch(
            device.isa(),
            #[inline(always)]
            || {
                average
                    .iter_mut()
                    .zip(w)
                    .for_each(|(average, w)| *average += share * (w - *average))
            },
        );
    });
}

fn oldest(kept: &[Kept]) -> Option<usize> {
    (0..kept.len()).min_by_key(|place| kept[*place].step)
}

fn worst(kept: &[Kept]) -> Option<usize> {
    (0..kept.len()).max_by(|a, b| {
        let (a, b) = (&kept[*a], &kept[*b]);
        a.loss.total_cmp(&b.loss).then(a.step.cmp(&b.step))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use heldout_kernels::Precision;

    fn averages(start: Start, decay: f64, weights: &[f32]) -> Vec<f32> {
        let device = Device::cpu(1, Precision::F32).expect("a processor");
        let mut average = Averaged::new(&[0.0]);
        let step = |w: &f32| {
            average.update_exponential(&device, &[*w], start, decay);
            average.weights()[0]
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
        let take = |average: &mut Averaged, t| {
            average.update_exponential(&device, &weights(t), Start::Corrected, 0.9);
        };
        let mut whole = Averaged::new(&weights(0));
        (1..5).for_each(|t| take(&mut whole, t));
        let mut resumed = Averaged::new(&weights(0));
        let saved = (whole.weights().to_vec(), whole.counts().clone());
        resumed.restore(saved.0, Vec::new(), saved.1).expect("the same length");
        for t in 5..9 {
            take(&mut whole, t);
            take(&mut resumed, t);
        }
        assert_eq!(whole, resumed);
        assert!(resumed.restore(vec![0.0], Vec::new(), Counts::default()).is_err());
        assert!(whole.relative_distance(&weights(8)) > 0.0);
        assert_eq!(whole.relative_distance(whole.weights()), 0.0);
    }

    #[test]
    fn the_equal_average_is_the_mean_and_forgets_where_it_began() {
        let device = Device::cpu(1, Precision::F32).expect("a processor");
        let mut average = Averaged::new(&[f32::MAX]);
        for (w, expected) in [(1.0, 1.0), (2.0, 1.5), (6.0, 3.0), (-1.0, 2.0)] {
            average.update_equal(&device, &[w]);
            assert_eq!(average.weights(), [expected]);
        }
        assert_eq!(average.counts().updates, 4);
    }

    #[test]
    fn the_last_or_the_best_are_kept() {
        let device = Device::cpu(1, Precision::F32).expect("a processor");
        let check = |which, expected: [f32; 5]| {
            let mut average = Averaged::new(&[9.0]);
            let offers = [(1.0, 3.0), (2.0, 1.0), (4.0, f64::NAN), (8.0, 2.0), (16.0, 5.0)];
            for (step, ((w, loss), expected)) in (1..).zip(offers.into_iter().zip(expected)) {
                average.keep(&device, &[w], Kept { step, loss }, 2, which);
                assert_eq!(average.weights(), [expected], "{which:?} {step}");
                let (weights, kept) = (average.weights().to_vec(), average.kept().to_vec());
                let counts = average.counts().clone();
                average = Averaged::new(&[9.0]);
                average.restore(weights, kept, counts).expect("its own state");
            }
        };
        check(Which::Last, [1.0, 1.5, 1.5, 5.0, 12.0]);
        check(Which::Best, [1.0, 1.5, 1.5, 5.0, 5.0]);
    }
}
