//! Measures weights that a pass reads in place of others: adapters by a small step of theirs,
//! mixout by what it makes of weights that have moved.

use crate::at::{At, Bound};
use crate::effective::{Acting, Effective};
use crate::live::{AdaptedMeasure, MixedMeasure};
use crate::probe::{Probe, loudest};
use crate::probe_noise::OwnedTokens;
use heldout_kernels::{Device, LossSpec, NoiseKey, PassKind, Tape, reduce};
use heldout_model::{Model, NoiseRates};
use heldout_optim::low_rank::Adapter;
use std::sync::Arc;

/// What a loss is taken of, and where.
struct Batch<'a> {
    model: &'a Model,
    device: &'a Arc<Device>,
    tokens: OwnedTokens,
}

impl<'a> Batch<'a> {
    fn of(probe: &Probe<'a>) -> Batch<'a> {
        let tokens = OwnedTokens::first_of(probe.batch, None);
        Batch { model: probe.model, device: probe.device, tokens }
    }
}

/// The plain loss of a probe batch, nats per token.
fn loss(of: &Batch, weights: &[f32], gradients: Option<&mut [f32]>) -> f64 {
    let mut tape = Tape::new(of.device.clone());
    let is_training = gradients.is_some();
    let noise = NoiseKey { seed: 0, step: 0, first_sequence: 0 };
    let kind =
        gradients.map_or(PassKind::Evaluate, |gradients| PassKind::TrainFirst { gradients, noise });
    let mut pass = tape.pass(weights, kind);
    let spec = LossSpec::plain(1.0 / of.tokens.ids.len() as f32);
    let report = of.tokens.loss(of.model, &mut pass, &NoiseRates::default(), &spec);
    if is_training {
        pass.backward();
    }
    report.nll_sum / report.targets.max(1) as f64
}

/// How far the small step goes: ‖ΔB‖₂ for ‖A‖₂ of about √r in every adapter.
const STEP: f64 = 1e-2;

pub(crate) fn adapted(probe: &mut Probe, bound: &Bound) -> Option<AdaptedMeasure> {
    let adapters: Vec<Adapter> = bound.acting.as_ref()?.adapters().to_vec();
    if adapters.is_empty() {
        return None;
    }
    let exported = probe.model.exported_len();
    let (start, mut weights) = (&probe.parameters[..exported], probe.parameters.to_vec());
    let at = At { step: 0, horizon: probe.horizon };
    let batch = Batch::of(probe);
    let gradients = &mut *probe.gradients;
    // Training stores values in another precision than evaluation: the two losses below are alike.
    loss(&batch, &weights, Some(gradients));
    let loss_before = loss(&batch, &weights, None);
    bound.pull_back(probe.device, &weights, gradients, at);
    let gradient = reduce::sum_of_squares(probe.device, gradients).sqrt();
    for range in adapters.iter().map(|adapter| adapter.up.clone()) {
        for (w, g) in weights[range.clone()].iter_mut().zip(&gradients[range]) {
            *w -= (STEP * f64::from(*g) / gradient) as f32;
        }
    }
    bound.merge(probe.device, start, &mut weights);
    gradients.fill(0.0);
    let loss_after = loss(&batch, &weights, None);
    Some(AdaptedMeasure {
        adapters: adapters.len() as u64,
        parameters: (probe.parameters.len() - exported) as u64,
        parameters_model: exported as u64,
        gradient,
        loss_before,
        loss_after,
    })
}

/// How far weights are moved before they are mixed.
const MOVED: f32 = 0.01;

pub(crate) fn mixed(probe: &Probe, bound: &Bound) -> Option<MixedMeasure> {
    let Effective::Mixed(planned) = &probe.plan.effective.as_ref()?.value else { return None };
    let at = loudest(&planned.rate, probe.horizon);
    let rate = at.value(&planned.rate);
    let segments = bound.acting.as_ref().map_or(&[][..], Acting::mixed);
    let (start, batch) = (probe.parameters, Batch::of(probe));
    let mut weights = start.to_vec();
    segments.iter().for_each(|s| weights[s.range.clone()].iter_mut().for_each(|w| *w += MOVED));
    let loss_moved = loss(&batch, &weights, None);
    bound.disturb(probe.device, start, &mut weights, at);
    let loss_mixed = loss(&batch, &weights, None);
    let (mut count, mut replaced, mut distance) = (0u64, 0u64, 0.0);
    for segment in segments {
        for (w, w0) in weights[segment.range.clone()].iter().zip(&start[segment.range.clone()]) {
            count += 1;
            replaced += u64::from(w == w0);
            distance += f64::from(w - w0);
        }
    }
    let kept = (count - replaced).max(1) as f64;
    Some(MixedMeasure {
        rate,
        parameters: count,
        replaced: replaced as f64 / count.max(1) as f64,
        stretch: distance / kept / f64::from(MOVED),
        loss_moved,
        loss_mixed,
    })
}
