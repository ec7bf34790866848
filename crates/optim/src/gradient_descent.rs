//! Gradient descent: w ← w − η·g (Cauchy 1847), on the whole data (full batch), on one window
//! (stochastic) or on some (mini-batch); which of them is a matter of the batch, not of the update.

use crate::card::rate;
use crate::segment::assert_segments;
use crate::walk::{Piece, Vectors, all, each_segment_chunk};
use crate::{OptimError, Optimizer, Segment, Update};
use heldout_base::card::{Card, Kind, Knob, Stage};
use heldout_kernels::{Device, simd};

/// Plain descent; it has no state.
pub struct GradientDescent;

impl Optimizer for GradientDescent {
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
        descend(device, parameters, gradients, segments, update);
    }

    fn state(&self) -> Vec<(String, &[f32])> {
        Vec::new()
    }

    fn restore(
        &mut self,
        _state: &mut dyn FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), OptimError> {
        Ok(())
    }
}

/// w ← (1 − ηλ)·w − η·(scale·g + λ′·w) over all segments.
pub(crate) fn descend(
    device: &Device,
    parameters: &mut [f32],
    gradients: &mut [f32],
    segments: &[Segment],
    update: &Update,
) {
    let vectors = Vectors { read: [], full: [parameters, gradients], compact: [] };
    each_segment_chunk(device, segments, all, vectors, &|piece| {
        let (decay, rate) = (f64::from(piece.segment.decay), update.rate_on(piece.segment));
        let kept = (1.0 - rate * update.decoupled_decay * decay) as f32;
        let coupled = (update.coupled_decay * decay) as f32;
        let (scale, rate) = (update.gradient_scale, rate as f32);
        simd::dispatch(
            device.isa(),
            #[inline(always)]
            || {
                let Piece { full: [w, g], .. } = piece;
                for (w, g) in w.iter_mut().zip(g) {
                    let gradient = *g * scale + coupled * *w;
                    *w = *w * kept - rate * gradient;
                }
            },
        );
    });
}

/// What it says about itself.
pub const CARD: Card = Card {
    name: "gradient-descent",
    kind: Kind::Optimizer,
    stage: Stage::Optimizer,
    purpose: "Step against the gradient, nothing else.",
    paper: "Cauchy 1847; Robbins & Monro 1951 for stochastic batches",
    when_to_use: "Full-batch studies, convex problems, teaching.",
    when_to_avoid: "Transformers in earnest: adaptive optimizers need far fewer steps.",
    cost: "No state; 12 bytes of memory traffic a parameter and step.",
    knobs: KNOBS,
};

const KNOBS: &[Knob] = &[rate(0.1, 1e-3, 10.0)];
