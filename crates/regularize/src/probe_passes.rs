//! Measures what takes more than one pass, or more than the model: the climb, two noisy passes and
//! heads that look further ahead on the run's model and a probe batch; a lesson on made-up logits.

use crate::at::At;
use crate::live::{AheadMeasure, ClimbMeasure, LessonMeasure, TwinsMeasure};
use crate::probe::{Probe, loudest};
use crate::probe_noise::OwnedTokens;
use heldout_kernels::{
    EmbeddingNoise, Joint, LossReport, LossSpec, NoiseKey, PassKind, Tape, TeacherRows, Teaching,
    Twins, Weight, reduce,
};
use heldout_model::{NoiseRates, Objective};
use heldout_optim::ascent::{self, Metric};

pub(crate) fn climb(probe: &mut Probe) -> Option<ClimbMeasure> {
    let at = loudest(&probe.plan.probe.climb.as_ref()?.value.radius, probe.horizon);
    let (radius, metric) = probe.plan.climb_at(at)?;
    let batch = OwnedTokens::first_of(probe.batch, probe.marks);
    let rates = probe.plan.noise_at(at);
    let mut tape = Tape::new(probe.device.clone());
    let mut loss = |parameters: &[f32], gradients: &mut [f32], rates: &NoiseRates| -> f64 {
        let noise = NoiseKey { seed: probe.seed, step: at.step, first_sequence: 0 };
        let mut pass = tape.pass(parameters, PassKind::Train { gradients, noise });
        let spec = LossSpec::plain(1.0 / batch.ids.len() as f32);
        let report = batch.loss(probe.model, &mut pass, rates, &spec);
        pass.backward();
        report.nll_sum / report.targets.max(1) as f64
    };
    let loss_before = loss(probe.parameters, probe.gradients, &rates);
    let mut climbed = vec![0.0; probe.parameters.len()];
    let (device, gradients) = (probe.device, &mut *probe.gradients);
    ascent::climb(device, probe.parameters, gradients, &mut climbed, radius, metric);
    let moved = distance(probe.parameters, &climbed, metric);
    let loss_uphill = loss(&climbed, gradients, &rates);
    gradients.fill(0.0);
    Some(ClimbMeasure { radius, moved, loss_before, loss_uphill })
}

/// How far apart two sets of weights are in the climb's metric.
fn distance(from: &[f32], to: &[f32], metric: Metric) -> f64 {
    let step = |(from, to): (&f32, &f32)| {
        let size = match metric {
            Metric::Euclidean => 1.0,
            Metric::Relative => f64::from(from.abs()) + 0.01,
        };
        ((f64::from(*to) - f64::from(*from)) / size).powi(2)
    };
    from.iter().zip(to).map(step).sum::<f64>().sqrt()
}

/// One training pass over the probe batch, without smoothing or penalties; the gradient's scale is
/// that of a mean.
fn pass(
    probe: &mut Probe,
    at: At,
    objective: impl Fn(&OwnedTokens) -> Objective<'static>,
) -> LossReport {
    let batch = OwnedTokens::first_of(probe.batch, probe.marks);
    let rates = probe.plan.noise_at(at);
    let mut tape = Tape::new(probe.device.clone());
    let noise = NoiseKey { seed: probe.seed, step: at.step, first_sequence: 0 };
    let kind = PassKind::Train { gradients: probe.gradients, noise };
    let mut pass = tape.pass(probe.parameters, kind);
    let objective = Objective { marks: batch.marks.as_deref(), ..objective(&batch) };
    let report = batch.objective(probe.model, &mut pass, &rates, &objective);
    pass.backward();
    report
}

pub(crate) fn twins(probe: &mut Probe) -> Option<TwinsMeasure> {
    let schedule = &probe.plan.probe.twins.as_ref()?.value;
    let at = loudest(schedule, probe.horizon);
    let strength = probe.plan.twins_at(at)?;
    let mut objective = |strength: f32| {
        let report = pass(probe, at, |batch| Objective {
            spec: LossSpec::plain(1.0),
            joint: Joint {
                twins: Some(Twins { strength, seq_len: batch.seq_len }),
                ..Joint::default()
            },
            ahead: 0.0,
            marks: None,
        });
        report.objective_sum / report.targets.max(1) as f64
    };
    let added = objective(strength) - objective(0.0);
    probe.gradients.fill(0.0);
    let strength = at.value(schedule);
    Some(TwinsMeasure { strength, divergence: added / strength, added })
}

pub(crate) fn ahead(probe: &mut Probe) -> Option<AheadMeasure> {
    let planned = &probe.plan.ahead.as_ref()?.value;
    let at = loudest(&planned.weight, probe.horizon);
    let weight = probe.plan.ahead_at(at);
    let report = pass(probe, at, |batch| Objective {
        spec: LossSpec::plain(1.0 / batch.ids.len() as f32),
        joint: Joint::default(),
        ahead: weight,
        marks: None,
    });
    let own = &probe.gradients[probe.model.exported_len()..];
    let gradient = reduce::sum_of_squares(probe.device, own).sqrt();
    let parameters = own.len() as u64;
    probe.gradients.fill(0.0);
    let heads = probe.model.heads_ahead() as u64;
    let (weight, tokens) = (at.value(&planned.weight), report.targets.max(1) as f64);
    let added = (report.objective_sum - report.nll_sum) / tokens;
    let loss = added / (weight * heads.max(1) as f64);
    Some(AheadMeasure { heads, parameters, weight, loss, gradient })
}

/// With one feature that is always 1, heads are logits. The right class is 0, which has the model's
/// only logit of 1; the teacher's stands at class 1. Then KL = (e^(1/T) − 1)/(T·Z) with
/// Z = e^(1/T) + V − 1.
pub(crate) fn lesson(probe: &mut Probe) -> Option<LessonMeasure> {
    let schedule = &probe.plan.loss.teaching.as_ref()?.value.share;
    let at = loudest(schedule, probe.horizon);
    let (share, temperature) = probe.plan.teaching_at(at)?;
    let vocabulary = probe.model.config.classes();
    let feature = Weight { offset: 0, rows: 1, cols: 1 };
    let head = Weight { offset: 1, rows: vocabulary, cols: 1 };
    let mut parameters = vec![0.0; 1 + vocabulary];
    (parameters[0], parameters[1]) = (1.0, 1.0);
    let mut taught = vec![0.0; vocabulary];
    taught[1] = 1.0;
    let teachers = [TeacherRows { hidden: &[1.0], head: &taught, cols: 1 }];
    let teaching = Teaching { share, temperature, teachers: &teachers };
    let joint = Joint { twins: None, teaching: Some(teaching) };
    let mut tape = Tape::new(probe.device.clone());
    let mut pass = tape.pass(&parameters, PassKind::Evaluate);
    let x = pass.embedding(feature, &[0], None, 1, EmbeddingNoise::default());
    let report = pass.joint_cross_entropy(x, head, &[0], &LossSpec::plain(1.0), &joint);
    let teaching = &probe.plan.loss.teaching.as_ref()?.value;
    let (share, temperature) = (at.value(schedule), teaching.temperature);
    let others = vocabulary as f64 - 1.0;
    let hard = (std::f64::consts::E + others).ln() - 1.0;
    let top = (1.0 / temperature).exp();
    let soft = (top - 1.0) / (temperature * (top + others));
    let expected = (1.0 - share) * hard + share * temperature * temperature * soft;
    Some(LessonMeasure { share, temperature, found: report.objective_sum, expected })
}
