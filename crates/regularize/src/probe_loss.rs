//! Measures the objective: calls the loss on made-up logits and reads the target distribution off
//! its values.
//!
//! With one feature that is always 1, the head's weights are the logits. If the classes in a set S
//! have the logit 1 and all others 0, then objective − nll = [t ∈ S] − q(S), where q is the target
//! distribution and t the right class.

use crate::live::{ConfidenceMeasure, FocusMeasure, SmoothingMeasure, ZLossMeasure};
use crate::plan::SmoothingTo;
use crate::probe::{Probe, loudest};
use heldout_kernels::{
    ClassLoss, EmbeddingNoise, LossReport, LossSpec, PassKind, Smoothing, Tape, Weight,
};

pub(crate) fn smoothing(probe: &Probe) -> Option<SmoothingMeasure> {
    let smoothing = &probe.plan.loss.smoothing.as_ref()?.value;
    let at = loudest(&smoothing.amount, probe.horizon);
    let spec = LossSpec { z_loss: 0.0, confidence: 0.0, ..probe.plan.loss_at(at, 1.0) };
    let vocabulary = probe.model.config.classes();
    let k = match smoothing.to {
        SmoothingTo::Likeliest { k } => k,
        SmoothingTo::All | SmoothingTo::Wrong => vocabulary - 1,
    };
    // The right class is 0. S = {0} shows what left it, S = {1..=k} what the likeliest got.
    let moved = excess(probe, 0..1, &spec);
    let on_likeliest = -excess(probe, 1..k + 1, &spec);
    Some(SmoothingMeasure {
        amount: at.value(&smoothing.amount),
        moved,
        on_likeliest,
        k: k as u64,
        vocabulary: vocabulary as u64,
    })
}

pub(crate) fn z_loss(probe: &Probe) -> Option<ZLossMeasure> {
    let schedule = &probe.plan.loss.z_loss.as_ref()?.value;
    let at = loudest(schedule, probe.horizon);
    let strength = at.value(schedule);
    let whole = probe.plan.loss_at(at, 1.0);
    let plain = LossSpec { smoothing: Smoothing::None, confidence: 0.0, ..whole };
    let log_z = (probe.model.config.classes() as f64 - 1.0 + std::f64::consts::E).ln();
    let found = excess(probe, 0..1, &plain);
    Some(ZLossMeasure { strength, found, expected: strength * log_z * log_z })
}

pub(crate) fn confidence(probe: &Probe) -> Option<ConfidenceMeasure> {
    let schedule = &probe.plan.loss.confidence.as_ref()?.value;
    let at = loudest(schedule, probe.horizon);
    let strength = at.value(schedule);
    let whole = probe.plan.loss_at(at, 1.0);
    let plain = LossSpec { smoothing: Smoothing::None, z_loss: 0.0, ..whole };
    let (e, vocabulary) = (std::f64::consts::E, probe.model.config.classes() as f64);
    let z = vocabulary - 1.0 + e;
    // The mean logit is that of the one raised class.
    let entropy = z.ln() - e / z;
    let found = excess(probe, 0..1, &plain);
    Some(ConfidenceMeasure { strength, found, expected: -strength * entropy })
}

/// An example of two classes whose right one has the logit ln 3: p = ¾.
pub(crate) fn focus(probe: &Probe) -> Option<FocusMeasure> {
    let schedule = &probe.plan.labelled.focus.as_ref()?.value;
    let at = loudest(schedule, probe.horizon);
    let gamma = probe.plan.focus_at(at);
    let logits = Weight { offset: 0, rows: 1, cols: 2 };
    let mut tape = Tape::new(probe.device.clone());
    let parameters = [3f32.ln(), 0.0];
    let mut pass = tape.pass(&parameters, PassKind::Evaluate);
    let x = pass.embedding(logits, &[0], None, 1, EmbeddingNoise::default());
    let loss = ClassLoss { focus: gamma, ..ClassLoss::plain(1.0) };
    let LossReport { objective_sum, nll_sum, .. } = pass.class_loss(x, &[0], &loss);
    let expected = 0.25_f64.powf(f64::from(gamma));
    Some(FocusMeasure {
        gamma: f64::from(gamma),
        sure: 0.75,
        found: objective_sum / nll_sum,
        expected,
    })
}

/// Objective less negative log-likelihood, nats, for the right class 0 and logits of 1 in `raised`.
fn excess(probe: &Probe, raised: std::ops::Range<usize>, spec: &LossSpec) -> f64 {
    let vocabulary = probe.model.config.classes();
    let feature = Weight { offset: 0, rows: 1, cols: 1 };
    let head = Weight { offset: 1, rows: vocabulary, cols: 1 };
    let mut parameters = vec![0.0; 1 + vocabulary];
    parameters[0] = 1.0;
    head.of_mut(&mut parameters)[raised].fill(1.0);
    let mut tape = Tape::new(probe.device.clone());
    let mut pass = tape.pass(&parameters, PassKind::Evaluate);
    let x = pass.embedding(feature, &[0], None, 1, EmbeddingNoise::default());
    let LossReport { objective_sum, nll_sum, .. } = pass.cross_entropy(x, head, &[0], spec);
    objective_sum - nll_sum
}
