//! SGD with momentum: b ← μ·b + (1−τ)·g, w ← w − η·b, or w ← w − η·(g + μ·b) with Nesterov's
//! look-ahead (Polyak 1964; Nesterov 1983; Sutskever et al. 2013). The first update sets b = g.
//! Definition and order of operations are those of `torch.optim.SGD`.

use crate::card::{number, rate, searched, word};
use crate::gradient_descent::descend;
use crate::optimizer::{UpdateCount, restore_into};
use crate::segment::assert_segments;
use crate::walk::{Piece, Vectors, all, each_segment_chunk};
use crate::{OptimError, Optimizer, Segment, Update};
use heldout_base::card::{Card, Kind, Knob, Search, Stage};
use heldout_kernels::{Device, simd};
use serde::{Deserialize, Serialize};

/// Where momentum is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nesterov {
    /// After the momentum's step.
    Yes,
    /// Before it.
    No,
}

/// The knobs of SGD.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SgdKnobs {
    /// μ; 0 is plain descent without state.
    pub momentum: f64,
    /// τ, the share of a new gradient that is left out.
    pub dampening: f64,
    /// Whether to look ahead.
    pub nesterov: Nesterov,
}

impl Default for SgdKnobs {
    fn default() -> Self {
        Self { momentum: 0.9, dampening: 0.0, nesterov: Nesterov::No }
    }
}

/// SGD's state: empty without momentum.
pub struct Sgd {
    knobs: SgdKnobs,
    updates: UpdateCount,
    momentum: Vec<f32>,
}

impl Sgd {
    pub(crate) fn new(knobs: SgdKnobs, segments: &[Segment]) -> Self {
        let len = if knobs.momentum == 0.0 { 0 } else { segments.iter().map(Segment::len).sum() };
        Self { knobs, updates: UpdateCount::default(), momentum: vec![0.0; len] }
    }
}

#[derive(Clone, Copy)]
struct Factors {
    gradient_scale: f32,
    coupled_decay: f32,
    kept: f32,
    rate: f32,
    momentum: f32,
    /// 1 − τ, or 1 at the first update.
    taken: f32,
}

impl Optimizer for Sgd {
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
        let count = self.updates.advance();
        if self.momentum.is_empty() {
            return descend(device, parameters, gradients, segments, update);
        }
        let SgdKnobs { momentum, dampening, nesterov } = self.knobs;
        let taken = if count == 1 { 1.0 } else { 1.0 - dampening };
        let vectors =
            Vectors { read: [], full: [parameters, gradients], compact: [&mut self.momentum] };
        each_segment_chunk(device, segments, all, vectors, &|piece| {
            let (decay, rate) = (f64::from(piece.segment.decay), update.rate_on(piece.segment));
            let factors = Factors {
                gradient_scale: update.gradient_scale,
                coupled_decay: (update.coupled_decay * decay) as f32,
                kept: (1.0 - rate * update.decoupled_decay * decay) as f32,
                rate: rate as f32,
                momentum: momentum as f32,
                taken: taken as f32,
            };
            simd::dispatch(
                device.isa(),
                #[inline(always)]
                || match nesterov {
                    Nesterov::No => momentum_chunk(piece, factors),
                    Nesterov::Yes => nesterov_chunk(piece, factors),
                },
            );
        });
    }

    fn state(&self) -> Vec<(String, &[f32])> {
        vec![self.updates.state(), ("momentum".to_owned(), &self.momentum)]
    }

    fn restore(
        &mut self,
        state: &mut dyn FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), OptimError> {
        self.updates.restore(CARD.name, state)?;
        restore_into(&mut self.momentum, CARD.name, "momentum", state)
    }
}

#[inline(always)]
fn momentum_chunk(piece: Piece<0, 2, 1>, k: Factors) {
    let Piece { full: [w, g], compact: [momentum], .. } = piece;
    for ((w, g), momentum) in w.iter_mut().zip(g).zip(momentum) {
        let gradient = *g * k.gradient_scale + k.coupled_decay * *w;
        *momentum = *momentum * k.momentum + k.taken * gradient;
        *w = *w * k.kept - k.rate * *momentum;
    }
}

#[inline(always)]
fn nesterov_chunk(piece: Piece<0, 2, 1>, k: Factors) {
    let Piece { full: [w, g], compact: [momentum], .. } = piece;
    for ((w, g), momentum) in w.iter_mut().zip(g).zip(momentum) {
        let gradient = *g * k.gradient_scale + k.coupled_decay * *w;
        *momentum = *momentum * k.momentum + k.taken * gradient;
        *w = *w * k.kept - k.rate * (gradient + k.momentum * *momentum);
    }
}

/// What it says about itself.
pub const CARD: Card = Card {
    name: "sgd",
    kind: Kind::Optimizer,
    stage: Stage::Optimizer,
    purpose: "Gradient descent with a running sum of past steps, optionally looking ahead.",
    paper: "Polyak 1964; Nesterov 1983; Sutskever et al. 2013",
    when_to_use: "Memory is short, or its implicit regularization is wanted and time is plenty.",
    when_to_avoid: "Transformers with little time to tune the rate.",
    cost: "One vector of state; 20 bytes of memory traffic a parameter and step.",
    knobs: KNOBS,
};

const KNOBS: &[Knob] = &[
    rate(0.1, 1e-3, 1.0),
    searched(
        number("momentum", "share kept", "How much of the last step is kept.", 0.9, (0.0, 0.9999)),
        Search::Uniform(0.8, 0.99),
    ),
    number("dampening", "share", "Share of each new gradient left out.", 0.0, (0.0, 1.0)),
    word("nesterov", "Take the gradient as if the momentum step were made.", "no", &["yes", "no"]),
];
