//! Lion (Chen et al. 2023, program 1): u = sign(β₁m + (1−β₁)g), w ← w − η·u, m ← β₂m + (1−β₂)g.

use crate::card::{beta1, beta2, rate};
use crate::optimizer::restore_into;
use crate::segment::assert_segments;
use crate::walk::{Piece, Vectors, all, each_segment_chunk};
use crate::{OptimError, Optimizer, Segment, Update};
use heldout_base::card::{Card, Kind, Knob, Stage};
use heldout_kernels::{Device, simd};
use serde::{Deserialize, Serialize};

/// The knobs of Lion.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LionKnobs {
    /// Weight of the momentum in the step.
    pub beta1: f64,
    /// Weight of the momentum in the next momentum.
    pub beta2: f64,
}

impl Default for LionKnobs {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.99 }
    }
}

/// Lion's state: the momentum.
pub struct Lion {
    knobs: LionKnobs,
    momentum: Vec<f32>,
}

impl Lion {
    pub(crate) fn new(knobs: LionKnobs, segments: &[Segment]) -> Self {
        let len = segments.iter().map(Segment::len).sum();
        Self { knobs, momentum: vec![0.0; len] }
    }
}

#[derive(Clone, Copy)]
struct Factors {
    gradient_scale: f32,
    coupled_decay: f32,
    kept: f32,
    rate: f32,
    beta1: f32,
    one_less_beta1: f32,
    beta2: f32,
    one_less_beta2: f32,
}

impl Optimizer for Lion {
    fn name(&self) -> &'static str {
        CARD.name
    }

    fn update(
        &mut self,
        device: &Device,
        parameters: &mut [f32],
        gradients: &mut [f32],
        segments: &[Segment],
        update: &Update,
    ) {
        assert_segments(segments, parameters.len());
        let LionKnobs { beta1, beta2 } = self.knobs;
        let vectors =
            Vectors { read: [], full: [parameters, gradients], compact: [&mut self.momentum] };
        each_segment_chunk(device, segments, all, vectors, &|piece| {
            let (decay, rate) = (f64::from(piece.segment.decay), update.rate_on(piece.segment));
            let factors = Factors {
                gradient_scale: update.gradient_scale,
                coupled_decay: (update.coupled_decay * decay) as f32,
                kept: (1.0 - rate * update.decoupled_decay * decay) as f32,
                rate: rate as f32,
                beta1: beta1 as f32,
                one_less_beta1: (1.0 - beta1) as f32,
                beta2: beta2 as f32,
                one_less_beta2: (1.0 - beta2) as f32,
            };
            simd::dispatch(
                device.isa(),
                #[inline(always)]
                || lion_chunk(piece, factors),
            );
        });
    }

    fn state(&self) -> Vec<(String, &[f32])> {
        vec![("momentum".to_owned(), &self.momentum)]
    }

    fn restore(
        &mut self,
        state: &mut dyn FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), OptimError> {
        restore_into(&mut self.momentum, CARD.name, "momentum", state)
    }
}

#[inline(always)]
fn lion_chunk(piece: Piece<0, 2, 1>, k: Factors) {
    let Piece { full: [w, g], compact: [momentum], .. } = piece;
    for ((w, g), momentum) in w.iter_mut().zip(g).zip(momentum) {
        let gradient = *g * k.gradient_scale + k.coupled_decay * *w;
        let direction = *momentum * k.beta1 + k.one_less_beta1 * gradient;
        // The sign of zero is zero here: a parameter without gradient stays where it is.
        let sign = f32::from(direction > 0.0) - f32::from(direction < 0.0);
        *w = *w * k.kept - k.rate * sign;
        *momentum = *momentum * k.beta2 + k.one_less_beta2 * gradient;
    }
}

/// What it says about itself.
pub const CARD: Card = Card {
    name: "lion",
    kind: Kind::Optimizer,
    stage: Stage::Optimizer,
    purpose: "Step by the sign of an interpolated momentum: every parameter moves by the rate.",
    paper: "Chen et al. 2023, Symbolic Discovery of Optimization Algorithms, arXiv:2302.06675",
    when_to_use: "Memory is short; large batches; with weight-decay 3 to 10 times AdamW's.",
    when_to_avoid: "Small noisy batches; the rate must be 3 to 10 times smaller than AdamW's.",
    cost: "One vector of state; 20 bytes of memory traffic a parameter and step.",
    knobs: KNOBS,
};

const KNOBS: &[Knob] = &[rate(1e-4, 1e-6, 1e-3), beta1(0.9), beta2(0.99)];
