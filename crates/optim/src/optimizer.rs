//! What every optimizer does: one fused pass that turns gradients into new parameters.

use crate::{OptimError, Segment};
use heldout_kernels::Device;

/// The numbers of one update that do not belong to the optimizer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Learning rate η of this step.
    pub rate: f64,
    /// Multiplies every gradient on the way in: the factor of global-norm clipping, else 1.
    pub gradient_scale: f32,
    /// λ of w ← w − η·λ·w, taken before the step, where a segment's `decay` is 1
    /// (Loshchilov & Hutter 2019).
    pub decoupled_decay: f64,
    /// λ of g ← g + λ·w, after clipping, where a segment's `decay` is 1; it passes through the
    /// optimizer's moments.
    pub coupled_decay: f64,
}

impl Update {
    /// A plain update: no clipping, no decay.
    pub fn at_rate(rate: f64) -> Self {
        Self { rate, gradient_scale: 1.0, decoupled_decay: 0.0, coupled_decay: 0.0 }
    }

    /// The learning rate of a segment.
    pub(crate) fn rate_on(&self, segment: &Segment) -> f64 {
        self.rate * f64::from(segment.rate)
    }
}

/// An optimizer with its state.
pub trait Optimizer: Send {
    /// The registry's name, such as `adamw`.
    fn name(&self) -> &'static str;

    /// Makes one update. `gradients` may be worked in: what it holds afterwards means nothing.
    ///
    /// `parameters` and `gradients` are the whole flat vectors; `segments` must be the list that
    /// the optimizer was built with, where `decay` alone may change. Nothing is allocated after the
    /// first call. To skip a step, do not call it.
    fn update(
        &mut self,
        device: &Device,
        parameters: &mut [f32],
        gradients: &mut [f32],
        segments: &[Segment],
        update: &Update,
    );

    /// Named flat vectors that, with the parameters, fully determine all later updates.
    fn state(&self) -> Vec<(String, &[f32])>;

    /// Takes back what [`Optimizer::state`] gave, bit for bit.
    fn restore(
        &mut self,
        state: &mut dyn FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), OptimError>;
}

/// Number of updates made, in a form that fits among the flat vectors of a saved state.
///
/// Two digits of base 2²⁴, each exact in `f32`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct UpdateCount {
    digits: [f32; 2],
}

const DIGIT: u64 = 1 << 24;

impl UpdateCount {
    pub(crate) const STATE_NAME: &'static str = "updates";

    pub(crate) fn get(&self) -> u64 {
        self.digits[0] as u64 + DIGIT * self.digits[1] as u64
    }

    /// Counts one more and returns the new total: 1 for the first update.
    pub(crate) fn advance(&mut self) -> u64 {
        let next = self.get() + 1;
        self.digits = [(next % DIGIT) as f32, (next / DIGIT) as f32];
        next
    }

    pub(crate) fn state(&self) -> (String, &[f32]) {
        (Self::STATE_NAME.to_owned(), &self.digits)
    }

    pub(crate) fn restore(
        &mut self,
        optimizer: &str,
        state: &mut dyn FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), OptimError> {
        restore_into(&mut self.digits, optimizer, Self::STATE_NAME, state)
    }
}

/// Overwrites one state vector with the saved one of that name.
pub(crate) fn restore_into(
    vector: &mut [f32],
    optimizer: &str,
    name: &str,
    state: &mut dyn FnMut(&str) -> Option<Vec<f32>>,
) -> Result<(), OptimError> {
    let saved = state(name).ok_or_else(|| OptimError::MissingState {
        optimizer: optimizer.to_owned(),
        vector: name.to_owned(),
    })?;
    if saved.len() != vector.len() {
        return Err(OptimError::StateLength {
            optimizer: optimizer.to_owned(),
            vector: name.to_owned(),
            expected: vector.len(),
            found: saved.len(),
        });
    }
    vector.copy_from_slice(&saved);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_exact_past_what_one_f32_can_hold() {
        let mut count = UpdateCount { digits: [(DIGIT - 1) as f32, 3.0] };
        assert_eq!(count.get(), 4 * DIGIT - 1);
        assert_eq!(count.advance(), 4 * DIGIT);
        assert_eq!(count.advance(), 4 * DIGIT + 1);
        let mut restored = UpdateCount::default();
        restored.restore("adam", &mut |_| Some(count.digits.to_vec())).expect("two digits");
        assert_eq!(restored, count);
    }
}
