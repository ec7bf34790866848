//! A copy of the parameters in bfloat16, for passes that read every weight for a few rows.

use crate::device::Device;
use crate::math::to_bf16;
use crate::parameters::Weight;
use crate::simd::dispatch;

/// The flat vector of parameters, each rounded to the nearest bfloat16 (ties to even): 2 bytes a
/// parameter, beside the f32 it was made of. See [`crate::PassKind::EvaluateRounded`].
pub struct RoundedWeights {
    halves: Vec<u16>,
}

/// Parameters that a task rounds.
const GRAIN: usize = 1 << 18;

impl RoundedWeights {
    /// Rounds the parameters on the device's threads: one pass over memory.
    pub fn new(device: &Device, parameters: &[f32]) -> RoundedWeights {
        let mut halves = vec![0u16; parameters.len()];
        crate::pages::advise_huge(&mut halves);
        let isa = device.isa();
        device.pool().for_each_chunk(&mut halves, GRAIN, &|number, part| {
            let values = &parameters[number * GRAIN..][..part.len()];
            dispatch(
                isa,
                #[inline(always)]
                || {
                    for (half, value) in part.iter_mut().zip(values) {
                        *half = to_bf16(*value);
                    }
                },
            );
        });
        RoundedWeights { halves }
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.halves.len()
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.halves.is_empty()
    }

    /// The elements of a weight: the upper halves of their f32.
    pub fn of(&self, weight: Weight) -> &[u16] {
        &self.halves[weight.range()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{devices, values};

    #[test]
    fn every_parameter_is_rounded_to_the_nearest() {
        let mut parameters = values(GRAIN + 77, 1);
        let odd = [f32::NAN, f32::INFINITY, -0.0, 257.0 / 256.0, 259.0 / 256.0, 1e-40];
        parameters[..odd.len()].copy_from_slice(&odd);
        for device in devices() {
            let rounded = RoundedWeights::new(&device, &parameters);
            assert_eq!(rounded.len(), parameters.len());
            let all = Weight { offset: 0, rows: 1, cols: parameters.len() };
            for (half, x) in rounded.of(all).iter().zip(&parameters) {
                assert_eq!(*half, half::bf16::from_f32(*x).to_bits(), "{x} {}", device.describe());
            }
        }
    }
}
