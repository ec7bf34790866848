//! How far an update moves the weights: ‖Δw‖₂/‖w‖₂, measured where an evaluation follows.
//!
//! It tells a learning rate that is too low or too high before the losses do. Reading the weights
//! before and after costs two passes over them, in steps that are evaluated only.

use crate::horizon::Horizon;
use crate::run::Run;
use crate::state::Weights;

/// Weights compared at most; of larger models evenly spaced pieces stand for the rest.
const WEIGHTS_MOST: usize = 1 << 22;

/// Length of a piece.
const PIECE: usize = 1 << 14;

/// The last update that was measured.
#[derive(Debug, Default)]
pub struct Movement {
    /// The pieces before the update; empty when none is being measured.
    before: Vec<f32>,
    /// The step that the update led to, and the ratio.
    last: Option<(u64, f64)>,
}

/// Where the pieces of `count` weights start.
fn pieces(count: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let all = count.div_ceil(PIECE);
    let stride = all.div_ceil(WEIGHTS_MOST / PIECE).max(1);
    (0..all).step_by(stride).map(move |piece| piece * PIECE..((piece + 1) * PIECE).min(count))
}

impl Movement {
    /// The ratio of the update that led to `step`; averages move by a rule of their own.
    pub fn ratio_of(&self, weights: Weights, step: u64) -> Option<f64> {
        self.last.filter(|(at, _)| *at == step && weights == Weights::Raw).map(|(_, ratio)| ratio)
    }

    /// Keeps the weights as they are before an update.
    fn begin(&mut self, parameters: &[f32]) {
        self.before.clear();
        pieces(parameters.len()).for_each(|piece| self.before.extend(&parameters[piece]));
    }

    /// Compares them with what the update to `step` made of them, and frees the copy.
    fn end(&mut self, parameters: &[f32], step: u64) {
        if self.before.is_empty() {
            return;
        }
        let before = std::mem::take(&mut self.before);
        let after = pieces(parameters.len()).flat_map(|piece| &parameters[piece]);
        let (mut moved, mut size) = (0.0, 0.0);
        for (before, after) in before.iter().zip(after) {
            moved += f64::from(after - before).powi(2);
            size += f64::from(*before).powi(2);
        }
        // Weights that were all zero have no size to compare with.
        self.last = (size > 0.0).then(|| (step, (moved / size).sqrt()));
    }
}

impl Run<'_> {
    /// Call before an update.
    pub fn begin_movement(&mut self) {
        let (step, seconds) = (self.state.progress.step + 1, self.clock.seconds());
        let since = self.state.progress.evaluated_at_seconds;
        let is_last = match self.setup.horizon {
            Horizon::Steps(steps) => step >= steps,
            Horizon::Seconds(limit) => seconds >= limit,
        };
        if is_last || self.setup.evaluate_every.is_due(step, seconds, since) {
            self.movement.begin(&self.state.parameters);
        }
    }

    /// Call after the update and what follows it in the same step.
    pub fn end_movement(&mut self) {
        self.movement.end(&self.state.parameters, self.state.progress.step + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_norms() {
        let mut movement = Movement::default();
        movement.end(&[1.0], 1);
        assert_eq!(movement.ratio_of(Weights::Raw, 1), None, "nothing was begun");
        movement.begin(&[3.0, 4.0]);
        movement.end(&[3.0, 4.5], 7);
        assert_eq!(movement.ratio_of(Weights::Raw, 7), Some(0.1));
        assert_eq!(movement.ratio_of(Weights::Average(0), 7), None);
        assert_eq!(movement.ratio_of(Weights::Raw, 8), None, "it belongs to another step");
    }

    #[test]
    fn large_models_are_judged_by_evenly_spaced_pieces() {
        for count in [1, PIECE, PIECE + 1, WEIGHTS_MOST, 3 * WEIGHTS_MOST + 5] {
            let taken: usize = pieces(count).map(|piece| piece.len()).sum();
            assert!(taken <= WEIGHTS_MOST && taken >= count.min(WEIGHTS_MOST / 2), "{count}");
        }
    }
}
