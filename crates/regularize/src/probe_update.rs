//! Measures what changes gradients, updates and weights: noise, rates, bounds, what is trained.

use crate::at::{At, Bound};
use crate::live::{GradientNoiseMeasure, LayerRatesMeasure, MaxNormMeasure, TrainedMeasure};
use crate::plan::{GradientTransform, Plan, Projection};
use crate::probe::{Probe, loudest, unit_segment};
use heldout_kernels::{Layout, Role};
use heldout_optim::{Segment, Update, build, max_norm as rows, noise};

/// How many gradients of one are left after the run's transforms.
pub(crate) fn trained(probe: &mut Probe, bound: &Bound) -> TrainedMeasure {
    let at = At { step: 0, horizon: probe.horizon };
    probe.gradients.fill(1.0);
    bound.transform(probe.device, probe.parameters, probe.gradients, at);
    let parameters = probe.gradients.iter().filter(|g| **g != 0.0).count() as u64;
    TrainedMeasure {
        parameters,
        tensors: bound.segments.len() as u64,
        parameters_total: probe.parameters.len() as u64,
    }
}

/// One update of the run's own optimizer on one weight per tensor, against one at the full rate.
pub(crate) fn layer_rates(probe: &Probe, bound: &Bound) -> LayerRatesMeasure {
    let moved = |rate: fn(&Segment) -> f32| -> Vec<f64> {
        let unit = |(index, tensor): (usize, &Segment)| Segment {
            rate: rate(tensor),
            ..unit_segment(index, tensor.role, 0.0)
        };
        let segments: Vec<Segment> = bound.segments.iter().enumerate().map(unit).collect();
        let (mut weights, mut gradients) = (vec![0.0; segments.len()], vec![1.0; segments.len()]);
        let mut optimizer = build(probe.optimizer, &segments);
        let update = Update::at_rate(probe.rate);
        optimizer.update(probe.device, &mut weights, &mut gradients, &segments, &update);
        weights.iter().map(|weight| f64::from(*weight)).collect()
    };
    let shares = moved(|tensor| tensor.rate).into_iter().zip(moved(|_| 1.0));
    let shares: Vec<f64> = shares.map(|(own, full)| own / full).collect();
    let rates = bound.segments.iter().map(|tensor| f64::from(tensor.rate));
    LayerRatesMeasure {
        lowest: shares.iter().copied().fold(f64::INFINITY, f64::min),
        expected: rates.fold(f64::INFINITY, f64::min),
        highest: shares.iter().copied().fold(0.0, f64::max),
    }
}

/// The plan's noise alone, on a gradient of zeros.
pub(crate) fn gradient_noise(probe: &Probe, bound: &Bound) -> Option<GradientNoiseMeasure> {
    const SIDE: usize = 128;
    let transform = probe.plan.gradient.iter().find_map(|owned| match &owned.value {
        GradientTransform::Noise { eta, gamma } => Some((owned, eta, *gamma)),
        _ => None,
    });
    let (owned, eta, gamma) = transform?;
    let at = loudest(eta, probe.horizon);
    let mut layout = Layout::default();
    layout.push("probe", &[SIDE, SIDE], Role::Matrix);
    let plan = Plan { gradient: vec![owned.clone()], ..Plan::default() };
    let mut alone = Bound::new(&plan, &layout);
    alone.seed = probe.seed;
    let mut gradients = vec![0.0; layout.len];
    let clipped = alone.transform(probe.device, &vec![0.0; layout.len], &mut gradients, at);
    Some(GradientNoiseMeasure {
        deviation: noise::deviation(at.value(eta), gamma, at.step),
        found: clipped.norm_after / SIDE as f64,
        draws: layout.len as u64,
        parameters: bound.trained_len() as u64,
    })
}

/// The bound on a row twice as long, and on the first weights.
pub(crate) fn max_norm(probe: &Probe, bound: &Bound) -> Option<MaxNormMeasure> {
    let projections = probe.plan.projections.iter();
    let (owner, limit) = projections.into_iter().find_map(|owned| match &owned.value {
        Projection::MaxNorm { limit, .. } => Some((&owned.owner, limit)),
        Projection::SoftThreshold { .. } => None,
    })?;
    let limit = At { step: 0, horizon: probe.horizon }.value(limit);
    let mut row = [2.0 * limit as f32];
    let unit = [unit_segment(0, Role::Matrix, 0.0)];
    rows::max_norm(probe.device, &mut row, &unit, limit);
    let segments = bound.acted_on(owner);
    Some(MaxNormMeasure {
        limit,
        after: f64::from(row[0]),
        parameters: segments.iter().map(Segment::len).sum::<usize>() as u64,
        parameters_total: probe.parameters.len() as u64,
        beyond: rows::share_at_limit(probe.device, probe.parameters, segments, limit),
    })
}
