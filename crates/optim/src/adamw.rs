//! AdamW (Loshchilov & Hutter 2019, algorithm 2): Adam whose weight decay w ← w − η·λ·w stands
//! apart from the gradient and so is not divided by √v̂.
//!
//! The mathematics of the step is [`crate::adam`]'s; the difference is where decay comes in, which
//! [`crate::Update`] says. Without weight decay the two are the same.

use crate::Segment;
use crate::adam::{Adam, AdamKnobs};
use crate::card::{EPSILON, beta1, beta2, rate};
use heldout_base::card::{Card, Kind, Knob, Stage};

/// AdamW over all segments.
pub(crate) fn new(knobs: AdamKnobs, segments: &[Segment]) -> Adam {
    Adam::new("adamw", knobs, segments)
}

/// What it says about itself.
pub const CARD: Card = Card {
    name: "adamw",
    kind: Kind::Optimizer,
    stage: Stage::Optimizer,
    purpose: "Adam with weight decay apart from the gradient; the usual choice for transformers.",
    paper: "Loshchilov & Hutter 2019, Decoupled Weight Decay Regularization, arXiv:1711.05101",
    when_to_use: "Nearly always; together with weight-decay, without which it equals adam.",
    when_to_avoid: "Memory for two vectors of state is lacking (use lion or sgd).",
    cost: "Two vectors of state; 28 bytes of memory traffic a parameter and step.",
    knobs: KNOBS,
};

const KNOBS: &[Knob] = &[rate(1e-3, 1e-5, 1e-2), beta1(0.9), beta2(0.999), EPSILON];
