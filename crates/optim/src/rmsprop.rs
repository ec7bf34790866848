//! RMSprop (Tieleman & Hinton 2012, lecture 6.5): v ← αv + (1−α)g², w ← w − η·g/(√v + ε);
//! centred (Graves 2013): v − m² in place of v, with m the running mean of g; with momentum:
//! b ← μb + g/(√v + ε), w ← w − η·b. Order of operations as in `torch.optim.RMSprop`.

use crate::card::{number, rate, searched, word};
use crate::optimizer::restore_into;
use crate::segment::assert_segments;
use crate::walk::{Piece, Vectors, all, each_segment_chunk};
use crate::{OptimError, Optimizer, Segment, Update};
use heldout_base::card::{Card, Kind, Knob, Search, Stage};
use heldout_kernels::{Device, simd};
use serde::{Deserialize, Serialize};

/// Whether the running mean of the gradient is taken off its second moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Centered {
    /// v − m² in place of v.
    Yes,
    /// v.
    No,
}

/// The knobs of RMSprop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RmsPropKnobs {
    /// α, the share of v kept per update.
    pub alpha: f64,
    /// ε, added to the root of v.
    pub epsilon: f64,
    /// μ; 0 is none and has no state.
    pub momentum: f64,
    /// Whether v is taken around the mean.
    pub centered: Centered,
}

impl Default for RmsPropKnobs {
    fn default() -> Self {
        Self { alpha: 0.99, epsilon: 1e-8, momentum: 0.0, centered: Centered::No }
    }
}

/// RMSprop's state; `mean` and `momentum` are empty where not in use.
pub struct RmsProp {
    knobs: RmsPropKnobs,
    variance: Vec<f32>,
    mean: Vec<f32>,
    momentum: Vec<f32>,
}

impl RmsProp {
    pub(crate) fn new(knobs: RmsPropKnobs, segments: &[Segment]) -> Self {
        let len = segments.iter().map(Segment::len).sum();
        let mean = if knobs.centered == Centered::Yes { vec![0.0; len] } else { Vec::new() };
        let momentum = if knobs.momentum > 0.0 { vec![0.0; len] } else { Vec::new() };
        Self { knobs, variance: vec![0.0; len], mean, momentum }
    }
}

#[derive(Clone, Copy)]
struct Factors {
    gradient_scale: f32,
    coupled_decay: f32,
    kept: f32,
    rate: f32,
    alpha: f32,
    one_less_alpha: f32,
    momentum: f32,
    epsilon: f32,
}

impl Optimizer for RmsProp {
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
        let knobs = self.knobs;
        let vectors = Vectors {
            read: [],
            full: [parameters, gradients],
            compact: [&mut self.variance, &mut self.mean, &mut self.momentum],
        };
        each_segment_chunk(device, segments, all, vectors, &|piece| {
            let (decay, rate) = (f64::from(piece.segment.decay), update.rate_on(piece.segment));
            let factors = Factors {
                gradient_scale: update.gradient_scale,
                coupled_decay: (update.coupled_decay * decay) as f32,
                kept: (1.0 - rate * update.decoupled_decay * decay) as f32,
                rate: rate as f32,
                alpha: knobs.alpha as f32,
                one_less_alpha: (1.0 - knobs.alpha) as f32,
                momentum: knobs.momentum as f32,
                epsilon: knobs.epsilon as f32,
            };
            simd::dispatch(
                device.isa(),
                #[inline(always)]
                || rmsprop_chunk(piece, knobs.centered, factors),
            );
        });
    }

    fn state(&self) -> Vec<(String, &[f32])> {
        vec![
            ("variance".to_owned(), &self.variance),
            ("mean".to_owned(), &self.mean),
            ("momentum".to_owned(), &self.momentum),
        ]
    }

    fn restore(
        &mut self,
        state: &mut dyn FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), OptimError> {
        restore_into(&mut self.variance, CARD.name, "variance", state)?;
        restore_into(&mut self.mean, CARD.name, "mean", state)?;
        restore_into(&mut self.momentum, CARD.name, "momentum", state)
    }
}

/// Three short passes over a chunk that stays in cache: g becomes the scaled gradient, then the
/// direction g/(√v + ε), then the step.
#[inline(always)]
fn rmsprop_chunk(piece: Piece<0, 2, 3>, centered: Centered, k: Factors) {
    let Piece { full: [w, g], compact: [variance, mean, momentum], .. } = piece;
    for ((w, g), variance) in w.iter().zip(g.iter_mut()).zip(variance.iter_mut()) {
        *g = *g * k.gradient_scale + k.coupled_decay * *w;
        *variance = *variance * k.alpha + k.one_less_alpha * *g * *g;
    }
    match centered {
        Centered::No => {
            for (g, variance) in g.iter_mut().zip(variance) {
                *g /= variance.sqrt() + k.epsilon;
            }
        }
        Centered::Yes => {
            for ((g, variance), mean) in g.iter_mut().zip(variance).zip(mean) {
                *mean += (*g - *mean) * k.one_less_alpha;
                // Rounding can take the difference below zero when the gradient is constant.
                let around_mean = (*variance - *mean * *mean).max(0.0);
                *g /= around_mean.sqrt() + k.epsilon;
            }
        }
    }
    if !momentum.is_empty() {
        for (g, momentum) in g.iter_mut().zip(momentum) {
            *momentum = *momentum * k.momentum + *g;
            *g = *momentum;
        }
    }
    for (w, g) in w.iter_mut().zip(g) {
        *w = *w * k.kept - k.rate * *g;
    }
}

/// What it says about itself.
pub const CARD: Card = Card {
    name: "rmsprop",
    kind: Kind::Optimizer,
    stage: Stage::Optimizer,
    purpose: "Divide every gradient by a running root mean square of itself.",
    paper: "Tieleman & Hinton 2012, lecture 6.5; centred: Graves 2013, arXiv:1308.0850",
    when_to_use: "Recurrent or non-stationary problems; one vector of state less than Adam.",
    when_to_avoid: "The first steps matter: without bias correction they are large; warm up.",
    cost: "One vector of state, one more each for centred and momentum.",
    knobs: KNOBS,
};

const KNOBS: &[Knob] = &[
    rate(1e-3, 1e-5, 1e-2),
    searched(
        number("alpha", "share kept", "Decay of the running mean of g².", 0.99, (0.0, 0.999_999)),
        Search::Uniform(0.9, 0.999),
    ),
    number("epsilon", "", "Added to the root mean square.", 1e-8, (0.0, 1.0)),
    number("momentum", "share kept", "How much of the last step is kept.", 0.0, (0.0, 0.9999)),
    word("centered", "Take the mean of g off its second moment.", "no", &["yes", "no"]),
];
