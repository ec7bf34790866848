//! Adam (Kingma & Ba 2015, algorithm 1):
//! m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², w ← w − η·m̂/(√v̂ + ε), with m̂ = m/(1−β₁ᵗ) and
//! v̂ = v/(1−β₂ᵗ). The order of operations is that of `torch.optim.Adam`.

use crate::card::{EPSILON, beta1, beta2, rate};
use crate::optimizer::{UpdateCount, restore_into};
use crate::segment::assert_segments;
use crate::walk::{Piece, Vectors, all, each_segment_chunk};
use crate::{OptimError, Optimizer, Segment, Update};
use heldout_base::card::{Card, Kind, Knob, Stage};
use heldout_kernels::{Device, simd};
use serde::{Deserialize, Serialize};

/// The knobs of Adam and AdamW.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamKnobs {
    /// β₁, the share of m kept per update.
    pub beta1: f64,
    /// β₂, the share of v kept per update.
    pub beta2: f64,
    /// ε, added to the root of v̂.
    pub epsilon: f64,
}

impl Default for AdamKnobs {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// Adam's state over all parameters, or over those segments that its owner chooses.
pub struct Adam {
    name: &'static str,
    knobs: AdamKnobs,
    chosen: fn(&Segment) -> bool,
    moments: Moments,
}

/// What Adam remembers: running means of g and g² over its segments, and how many there were.
struct Moments {
    updates: UpdateCount,
    mean: Vec<f32>,
    variance: Vec<f32>,
}

impl Adam {
    /// Adam over `len` parameters in all, under the registry's name `name`.
    pub(crate) fn new(name: &'static str, knobs: AdamKnobs, segments: &[Segment]) -> Self {
        Self::over(name, knobs, segments, all)
    }

    /// Adam over the segments that `chosen` accepts; the others are not touched.
    pub(crate) fn over(
        name: &'static str,
        knobs: AdamKnobs,
        segments: &[Segment],
        chosen: fn(&Segment) -> bool,
    ) -> Self {
        let len = segments.iter().filter(|segment| chosen(segment)).map(Segment::len).sum();
        let moments = Moments {
            updates: UpdateCount::default(),
            mean: vec![0.0; len],
            variance: vec![0.0; len],
        };
        Self { name, knobs, chosen, moments }
    }
}

/// The scalars of one step, computed once in f64.
#[derive(Clone, Copy)]
struct Factors {
    gradient_scale: f32,
    coupled_decay: f32,
    /// 1 − η·λ.
    kept: f32,
    one_less_beta1: f32,
    beta2: f32,
    one_less_beta2: f32,
    /// η / (1 − β₁ᵗ).
    step_size: f32,
    /// √(1 − β₂ᵗ).
    root_correction: f32,
    epsilon: f32,
}

impl Optimizer for Adam {
    fn name(&self) -> &'static str {
        self.name
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
        let AdamKnobs { beta1, beta2, epsilon } = self.knobs;
        let count = self.moments.updates.advance() as f64;
        let mean_correction = 1.0 - beta1.powf(count);
        let root_correction = (1.0 - beta2.powf(count)).sqrt();
        let vectors = Vectors {
            read: [],
            full: [parameters, gradients],
            compact: [&mut self.moments.mean, &mut self.moments.variance],
        };
        each_segment_chunk(device, segments, self.chosen, vectors, &|piece| {
            let (decay, rate) = (f64::from(piece.segment.decay), update.rate_on(piece.segment));
            let factors = Factors {
                gradient_scale: update.gradient_scale,
                coupled_decay: (update.coupled_decay * decay) as f32,
                kept: (1.0 - rate * update.decoupled_decay * decay) as f32,
                one_less_beta1: (1.0 - beta1) as f32,
                beta2: beta2 as f32,
                one_less_beta2: (1.0 - beta2) as f32,
                step_size: (rate / mean_correction) as f32,
                root_correction: root_correction as f32,
                epsilon: epsilon as f32,
            };
            simd::dispatch(
                device.isa(),
                #[inline(always)]
                || adam_chunk(piece, factors),
            );
        });
    }

    fn state(&self) -> Vec<(String, &[f32])> {
        vec![
            self.moments.updates.state(),
            ("mean".to_owned(), &self.moments.mean),
            ("variance".to_owned(), &self.moments.variance),
        ]
    }

    fn restore(
        &mut self,
        state: &mut dyn FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), OptimError> {
        self.moments.updates.restore(self.name, state)?;
        restore_into(&mut self.moments.mean, self.name, "mean", state)?;
        restore_into(&mut self.moments.variance, self.name, "variance", state)
    }
}

#[inline(always)]
fn adam_chunk(piece: Piece<0, 2, 2>, k: Factors) {
    let Piece { full: [w, g], compact: [mean, variance], .. } = piece;
    for (((w, g), mean), variance) in w.iter_mut().zip(g).zip(mean).zip(variance) {
        let gradient = *g * k.gradient_scale + k.coupled_decay * *w;
        *mean += (gradient - *mean) * k.one_less_beta1;
        *variance = *variance * k.beta2 + k.one_less_beta2 * gradient * gradient;
        let denominator = variance.sqrt() / k.root_correction + k.epsilon;
        *w = *w * k.kept - k.step_size * *mean / denominator;
    }
}

/// What it says about itself.
pub const CARD: Card = Card {
    name: "adam",
    kind: Kind::Optimizer,
    stage: Stage::Optimizer,
    purpose: "Scale every parameter's step by running averages of its gradient and its square.",
    paper: "Kingma & Ba 2015, Adam, arXiv:1412.6980",
    when_to_use: "No decay, or decay inside the gradient (l2, coupled weight-decay).",
    when_to_avoid: "Weight decay is in use: AdamW keeps it apart from the moments and does better.",
    cost: "Two vectors of state; 28 bytes of memory traffic a parameter and step.",
    knobs: KNOBS,
};

const KNOBS: &[Knob] = &[rate(1e-3, 1e-5, 1e-2), beta1(0.9), beta2(0.999), EPSILON];
