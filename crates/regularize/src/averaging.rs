//! The plan's averages: when each takes in the weights.

use crate::at::{At, Bound};
use crate::plan::Average;
use heldout_kernels::Device;
use heldout_optim::average::{Averaged, Kept};

impl Average {
    /// Whether the weights after the update made at `at` are taken in.
    pub fn is_due(&self, at: At) -> bool {
        match self {
            Average::Ema { .. } => true,
            Average::Equal { start, every } => {
                let done = at.step + 1;
                done as f64 > start * at.horizon as f64 && done.is_multiple_of(*every)
            }
            Average::Checkpoints { .. } => false,
        }
    }

    /// Sets of weights that a run of so many steps takes in; `None` where that does not follow from
    /// the steps.
    pub fn samples(&self, horizon: u64) -> Option<u64> {
        match self {
            Average::Ema { .. } => Some(horizon),
            Average::Equal { start, every } => {
                let before = (start * horizon as f64).floor() as u64;
                Some(horizon / every - before / every)
            }
            Average::Checkpoints { .. } => None,
        }
    }
}

impl Bound {
    /// Lets the averages take in the weights after the update made at `at`.
    pub fn average(&self, device: &Device, parameters: &[f32], averages: &mut [Averaged], at: At) {
        for (average, planned) in averages.iter_mut().zip(&self.plan().averages) {
            if !planned.value.is_due(at) {
                continue;
            }
            match &planned.value {
                Average::Ema { decay, start } => {
                    average.update_exponential(device, parameters, *start, at.value(decay));
                }
                Average::Equal { .. } => average.update_equal(device, parameters),
                Average::Checkpoints { .. } => {}
            }
        }
    }

    /// Offers weights that were just evaluated to the averages over evaluations.
    pub fn average_evaluated(
        &self,
        device: &Device,
        parameters: &[f32],
        averages: &mut [Averaged],
        evaluated: Kept,
    ) {
        for (average, planned) in averages.iter_mut().zip(&self.plan().averages) {
            if let Average::Checkpoints { count, which } = planned.value {
                average.keep(device, parameters, evaluated, count, which);
            }
        }
    }

    /// How many averages take in the weights after the update made at `at`.
    pub fn averages_due(&self, at: At) -> usize {
        self.plan().averages.iter().filter(|average| average.value.is_due(at)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    #[test]
    fn each_average_is_of_its_own_weights() {
        use heldout_base::schedule::Schedule;
        use heldout_kernels::{Layout, Precision, Role};
        use heldout_optim::average::{Start, Which};

        let mut plan = Plan::default();
        let (decay, start) = (Schedule::constant(0.5), Start::Corrected);
        let (equal, last) = (Average::Equal { start: 0.5, every: 2 }, Which::Last);
        plan.add_average("ema", Average::Ema { decay, start }).expect("the first");
        plan.add_average("swa", equal).expect("another owner");
        let kept = Average::Checkpoints { count: 2, which: last };
        plan.add_average("checkpoint-averaging", kept).expect("a third");
        let mut layout = Layout::default();
        layout.push("w", &[1], Role::Bias);
        let bound = Bound::new(&plan, &layout);
        let device = Device::cpu(1, Precision::F32).expect("a processor");
        let mut averages = vec![Averaged::new(&[0.0]); 3];
        // The weight after step t is t²; an evaluation follows every fourth step.
        for step in 0..12 {
            let w = [((step + 1) * (step + 1)) as f32];
            bound.average(&device, &w, &mut averages, At { step, horizon: 12 });
            if (step + 1) % 4 == 0 {
                let kept = Kept { step: step + 1, loss: 1.0 };
                bound.average_evaluated(&device, &w, &mut averages, kept);
            }
        }
        let weighted: f64 = (1..=12).map(|t: i32| f64::from(t * t) * 0.5f64.powi(13 - t)).sum();
        let expected = [
            weighted / (1.0 - 0.5f64.powi(12)),
            (64.0 + 100.0 + 144.0) / 3.0,
            (64.0 + 144.0) / 2.0,
        ];
        for (average, expected) in averages.iter().zip(expected) {
            let found = f64::from(average.weights()[0]);
            assert!((found - expected).abs() < 1e-5 * expected, "{found} {expected}");
        }
    }

    #[test]
    fn the_tail_is_counted_as_it_is_taken() {
        for (start, every) in [(0.0, 1), (0.75, 1), (0.5, 3), (0.73, 2), (0.99, 1), (0.9, 7)] {
            let average = Average::Equal { start, every };
            for horizon in [1, 2, 7, 24, 100] {
                let due = (0..horizon).filter(|step| average.is_due(At { step: *step, horizon }));
                let count = due.count() as u64;
                assert_eq!(average.samples(horizon), Some(count), "{average:?} {horizon}");
            }
        }
        let average = Average::Equal { start: 0.75, every: 1 };
        assert!(!average.is_due(At { step: 74, horizon: 100 }), "75 updates are the first part");
        assert!(average.is_due(At { step: 75, horizon: 100 }));
    }
}
