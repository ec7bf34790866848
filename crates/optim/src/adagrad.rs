//! Adagrad (Duchi, Hazan & Singer 2011): s ← s + g², w ← w − η·g/(√s + ε).
//! Order of operations as in `torch.optim.Adagrad`, whose rate decay is a schedule's business here.

use crate::card::{number, rate};
use crate::optimizer::restore_into;
use crate::segment::assert_segments;
use crate::walk::{Piece, Vectors, all, each_segment_chunk};
use crate::{OptimError, Optimizer, Segment, Update};
use heldout_base::card::{Card, Kind, Knob, Stage};
use heldout_kernels::{Device, simd};
use serde::{Deserialize, Serialize};

/// The knobs of Adagrad.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdagradKnobs {
    /// ε, added to the root of the sum.
    pub epsilon: f64,
    /// What the sum of squares starts from.
    pub initial_sum: f64,
}

impl Default for AdagradKnobs {
    fn default() -> Self {
        Self { epsilon: 1e-10, initial_sum: 0.0 }
    }
}

/// Adagrad's state: the sum of squares of each gradient.
pub struct Adagrad {
    knobs: AdagradKnobs,
    sum: Vec<f32>,
}

impl Adagrad {
    pub(crate) fn new(knobs: AdagradKnobs, segments: &[Segment]) -> Self {
        let len = segments.iter().map(Segment::len).sum();
        Self { knobs, sum: vec![knobs.initial_sum as f32; len] }
    }
}

impl Optimizer for Adagrad {
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
        let epsilon = self.knobs.epsilon as f32;
        let vectors = Vectors { read: [], full: [parameters, gradients], compact: [&mut self.sum] };
        each_segment_chunk(device, segments, all, vectors, &|piece| {
            let (decay, rate) = (f64::from(piece.segment.decay), update.rate_on(piece.segment));
            let kept = (1.0 - rate * update.decoupled_decay * decay) as f32;
            let coupled = (update.coupled_decay * decay) as f32;
            let (scale, rate) = (update.gradient_scale, rate as f32);
            simd::dispatch(
                device.isa(),
                #[inline(always)]
                || {
                    let Piece { full: [w, g], compact: [sum], .. } = piece;
                    for ((w, g), sum) in w.iter_mut().zip(g).zip(sum) {
                        let gradient = *g * scale + coupled * *w;
                        *sum += gradient * gradient;
                        *w = *w * kept - rate * gradient / (sum.sqrt() + epsilon);
                    }
                },
            );
        });
    }

    fn state(&self) -> Vec<(String, &[f32])> {
        vec![("sum".to_owned(), &self.sum)]
    }

    fn restore(
        &mut self,
        state: &mut dyn FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), OptimError> {
        restore_into(&mut self.sum, CARD.name, "sum", state)
    }
}

/// What it says about itself.
pub const CARD: Card = Card {
    name: "adagrad",
    kind: Kind::Optimizer,
    stage: Stage::Optimizer,
    purpose: "Divide every gradient by the root of the sum of all its squares so far.",
    paper: "Duchi, Hazan & Singer 2011",
    when_to_use: "Sparse gradients: rare tokens keep large steps.",
    when_to_avoid: "Long runs: its steps only ever shrink.",
    cost: "One vector of state; 20 bytes of memory traffic a parameter and step.",
    knobs: KNOBS,
};

const KNOBS: &[Knob] = &[
    rate(1e-2, 1e-4, 0.3),
    number("epsilon", "", "Added to the root of the sum.", 1e-10, (0.0, 1.0)),
    number("initial-sum", "", "What the sum of squares starts from.", 0.0, (0.0, 1e6)),
];
