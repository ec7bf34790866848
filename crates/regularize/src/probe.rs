//! Measures, before the first step, that what the plan says happens in the code that training runs.

use crate::at::{At, Bound};
use crate::live::{
    ActedMeasure, AverageMeasure, ClipMeasure, DecayMeasure, GuardMeasure, Live, PatienceMeasure,
    TieMeasure,
};
use crate::patience::{EarlyStopping, Evaluation, Outlook, Patience, PatienceState};
use crate::plan::{Average, PenaltyNorm, Plan, Projection, StopRule};
use crate::{probe_effective, probe_loss, probe_noise, probe_passes, probe_update};
use heldout_base::schedule::Schedule;
use heldout_kernels::{Device, Layout, Role};
use heldout_model::{Model, Tokens};
use heldout_optim::average::{Averaged, Kept};
use heldout_optim::guard::{ExplosionGuard, GuardSpec, Verdict};
use heldout_optim::{OptimizerSpec, Segment, Update, build, penalty, sparse};
use std::sync::Arc;

/// What the probe needs of a run.
pub struct Probe<'a> {
    /// What is to be proven.
    pub plan: &'a Plan,
    /// As it will be trained.
    pub model: &'a Model,
    /// Where it will be trained.
    pub device: &'a Arc<Device>,
    /// The weights that training starts from.
    pub parameters: &'a [f32],
    /// As long as the parameters; used as working memory and left at zero.
    pub gradients: &'a mut [f32],
    /// Some training batch; its first tokens are enough.
    pub batch: Tokens<'a>,
    /// Which of its tokens are marked, where the plan spares the others.
    pub marks: Option<&'a [u32]>,
    /// Seed of the run's noise.
    pub seed: u64,
    /// Length of the run in updates.
    pub horizon: u64,
    /// The learning rate's highest value.
    pub rate: f64,
    /// The run's optimizer.
    pub optimizer: &'a OptimizerSpec,
}

/// Measures everything in the plan that shows before the first step. Costs one small forward pass
/// per noise site and next to nothing besides.
pub fn measure(probe: &mut Probe) -> Live {
    let plan = probe.plan;
    let bound = Bound::new(plan, probe.model.layout());
    let (sites, neftune) = (probe_noise::measure(probe), probe_noise::neftune(probe));
    let guide = probe_noise::guide(probe);
    let trained = plan.frozen.as_ref().map(|_| probe_update::trained(probe, &bound));
    probe.gradients.fill(0.0);
    let adapted = probe_effective::adapted(probe, &bound);
    Live {
        sites,
        guide,
        smoothing: probe_loss::smoothing(probe),
        z_loss: probe_loss::z_loss(probe),
        confidence: probe_loss::confidence(probe),
        focus: probe_loss::focus(probe),
        neftune,
        trained,
        adapted,
        mixed: probe_effective::mixed(probe, &bound),
        layer_rates: plan.layer_rates.as_ref().map(|_| probe_update::layer_rates(probe, &bound)),
        gradient_noise: probe_update::gradient_noise(probe, &bound),
        max_norm: probe_update::max_norm(probe, &bound),
        climb: probe_passes::climb(probe),
        twins: probe_passes::twins(probe),
        lesson: probe_passes::lesson(probe),
        ahead: probe_passes::ahead(probe),
        acted: acted(probe, &bound),
        decay: plan.decay.as_ref().map(|decay| {
            let at = loudest(&decay.value.rate, probe.horizon);
            decay_measure(probe, &bound, at)
        }),
        tie: plan.tie.as_ref().map(|_| tie(probe.model)),
        clip: (!plan.gradient.is_empty()).then(|| clip(probe)),
        averages: plan
            .averages
            .iter()
            .map(|average| (average.owner.clone(), average_measure(probe, &average.value)))
            .collect(),
        guard: plan.recovery.as_ref().map(|guard| try_guard(guard.value)),
        patience: plan.stop.first().map(|rule| match &rule.value {
            StopRule::EarlyStopping(rule) => try_patience(rule),
        }),
        ..Live::default()
    }
}

/// The moment at which a schedule is highest.
pub(crate) fn loudest(schedule: &Schedule, horizon: u64) -> At {
    let stride = (horizon / 1000).max(1);
    let mut best = At { step: 0, horizon };
    for step in (0..horizon).step_by(stride as usize) {
        let at = At { step, horizon };
        if at.value(schedule) > best.value(schedule) {
            best = at;
        }
    }
    best
}

fn acted(probe: &Probe, bound: &Bound) -> std::collections::BTreeMap<String, ActedMeasure> {
    let plan = probe.plan;
    let total = probe.parameters.len() as u64;
    let probe_segment = [unit_segment(0, Role::Matrix, 1.0)];
    let measure = |owner: &str, penalty: f64, change: f64| {
        let segments = bound.acted_on(owner);
        let measure = ActedMeasure {
            tensors: segments.len() as u64,
            parameters: segments.iter().map(Segment::len).sum::<usize>() as u64,
            parameters_total: total,
            penalty,
            change,
        };
        (owner.to_owned(), measure)
    };
    let penalties = plan.loss.penalties.iter().map(|owned| {
        let strength = loudest(&owned.value.strength, probe.horizon).value(&owned.value.strength);
        let (mut gradient, segments) = ([0.0], bound.acted_on(&owned.owner));
        let (device, unit) = (probe.device, &probe_segment);
        let size = match owned.value.norm {
            PenaltyNorm::L1 => {
                penalty::add_l1_gradient(device, &[1.0], &mut gradient, unit, strength);
                penalty::l1_norm(device, probe.parameters, segments)
            }
            PenaltyNorm::L2 => {
                penalty::add_l2_gradient(device, &[1.0], &mut gradient, unit, strength);
                penalty::l2_norm_squared(device, probe.parameters, segments)
            }
        };
        measure(&owned.owner, strength * size, f64::from(gradient[0]))
    });
    let projections = plan.projections.iter().filter_map(|owned| match &owned.value {
        Projection::MaxNorm { .. } => None,
        Projection::SoftThreshold { strength, .. } => {
            let strength = loudest(strength, probe.horizon).value(strength);
            let mut weight = [1.0];
            sparse::soft_threshold(
                probe.device,
                &mut weight,
                &probe_segment,
                probe.rate * strength,
            );
            let size =
                penalty::l1_norm(probe.device, probe.parameters, bound.acted_on(&owned.owner));
            Some(measure(&owned.owner, strength * size, f64::from(weight[0]) - 1.0))
        }
    });
    penalties.chain(projections).collect()
}

/// A segment of one element, two-dimensional where its role is.
pub(crate) fn unit_segment(offset: usize, role: Role, decay: f32) -> Segment {
    let shape = if matches!(role, Role::Bias | Role::Gain) { vec![1] } else { vec![1, 1] };
    let (name, range) = (format!("probe.{offset}"), offset..offset + 1);
    Segment { name, range, shape, role, decay, rate: 1.0 }
}

/// One update of the run's own optimizer, without gradient, on one weight of 1 per tensor.
fn decay_measure(probe: &Probe, bound: &Bound, at: At) -> DecayMeasure {
    let tensors = &bound.segments;
    let segments: Vec<Segment> = tensors
        .iter()
        .enumerate()
        .map(|(index, tensor)| unit_segment(index, tensor.role, tensor.decay))
        .collect();
    let mut weights = vec![1.0; segments.len()];
    let mut gradients = vec![0.0; segments.len()];
    let (decoupled_decay, coupled_decay) = probe.plan.decay_at(at);
    let update = Update { decoupled_decay, coupled_decay, ..Update::at_rate(probe.rate) };
    let mut optimizer = build(probe.optimizer, &segments);
    optimizer.update(probe.device, &mut weights, &mut gradients, &segments, &update);

    let is_decayed = |weight: f32| weight != 1.0;
    let decayed = || tensors.iter().zip(&weights).filter(|(_, weight)| is_decayed(**weight));
    let farthest = |expected: f32| {
        let chosen = tensors.iter().zip(&weights).filter(|(tensor, _)| tensor.decay == expected);
        let weights = chosen.map(|(_, weight)| f64::from(*weight));
        weights
            .fold(1.0, |far, w| if (w - 1.0_f64).abs() > (far - 1.0_f64).abs() { w } else { far })
    };
    DecayMeasure {
        tensors: decayed().count() as u64,
        parameters: decayed().map(|(tensor, _)| tensor.len()).sum::<usize>() as u64,
        parameters_total: probe.parameters.len() as u64,
        multiplier: farthest(1.0),
        multiplier_exempt: farthest(0.0),
    }
}

fn tie(model: &Model) -> TieMeasure {
    let heads = model.layout().parameters.iter().filter(|p| p.role == Role::Head).count();
    let parameters_saved = (model.config.vocabulary * model.config.width) as u64;
    TieMeasure { heads: heads as u64, parameters_saved }
}

/// The plan's transforms on a layout of one matrix, whose gradient is far beyond any limit.
fn clip(probe: &Probe) -> ClipMeasure {
    const HUGE: f32 = 1e9;
    let mut layout = Layout::default();
    layout.push("probe", &[4, 8], Role::Matrix);
    // Adaptive clipping leaves output layers out, and a layout without a head counts as tied.
    layout.push("probe.head", &[1, 1], Role::Head);
    let mut gradients = vec![HUGE; layout.len];
    gradients[layout.len - 1] = 0.0;
    // Whether kinds of tensors are trained does not matter here.
    let plan = Plan { frozen: None, ..probe.plan.clone() };
    let bound = Bound::new(&plan, &layout);
    let parameters = vec![1.0; layout.len];
    let at = At { step: 0, horizon: probe.horizon };
    let clipped = bound.transform(probe.device, &parameters, &mut gradients, at);
    ClipMeasure { norm_before: clipped.norm_before, norm_after: clipped.norm_after }
}

fn average_measure(probe: &Probe, average: &Average) -> AverageMeasure {
    let mut averaged = Averaged::new(&[0.0]);
    let mut highest = None;
    for (step, weight) in [(1, [0.0]), (2, [1.0])] {
        match average {
            Average::Ema { decay, start } => {
                let decay = loudest(decay, probe.horizon).value(decay);
                averaged.update_exponential(probe.device, &weight, *start, decay);
                highest = Some(decay);
            }
            Average::Equal { .. } => averaged.update_equal(probe.device, &weight),
            Average::Checkpoints { count, which } => {
                let kept = Kept { step, loss: 1.0 };
                averaged.keep(probe.device, &weight, kept, *count, *which);
            }
        }
    }
    AverageMeasure {
        decay: highest,
        samples: average.samples(probe.horizon),
        after_jump: f64::from(averaged.weights()[0]),
    }
}

fn verdict_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Proceed => "proceeds",
        Verdict::Skip => "skips the step",
        Verdict::ClipHarder { .. } => "clips harder",
        Verdict::RollBack { .. } => "rolls back to the best weights and cuts the rate",
        Verdict::Stop => "stops the run",
    }
}

fn try_guard(spec: GuardSpec) -> GuardMeasure {
    let even_length = (spec.window + spec.least) as u64;
    let mut guard = ExplosionGuard::new(spec);
    let mut false_alarms = 0;
    for observation in 0..even_length {
        // A gentle fall with a ripple.
        let loss =
            4.0 - 0.5 * observation as f64 / even_length as f64 + 0.02 * (observation % 3) as f64;
        let norm = 1.0 + 0.2 * (observation % 5) as f64;
        false_alarms += u64::from(guard.observe(loss, norm).cause.is_some());
    }
    let mut spiked = guard.clone();
    let spike = spiked.observe(3.5, 1e12);
    let nan = guard.observe(f64::NAN, 1.0);
    GuardMeasure {
        on_nan: verdict_words(nan.verdict).to_owned(),
        on_spike: verdict_words(spike.verdict).to_owned(),
        z: spike.cause.and_then(|cause| cause.z()).unwrap_or(0.0),
        false_alarms,
        even_length,
    }
}

/// Feeds a flat series, with a thousand evaluations or so to the patience, until the rule stops it.
fn try_patience(rule: &EarlyStopping) -> PatienceMeasure {
    const MOST: u64 = 10_000_000;
    let (steps, epochs) = match rule.patience {
        Patience::Evaluations(_) => (1, 1.0),
        Patience::Steps(count) => ((count / 1000).max(1), 1.0),
        Patience::Epochs(count) => (1, count / 1000.0),
    };
    let mut state = PatienceState::default();
    for index in 0..MOST {
        let (step, epoch) = (index * steps, index as f64 * epochs);
        if rule.observe(&mut state, Evaluation { step, epoch, value: 1.0 }) == Outlook::Stop {
            let waited = match rule.patience {
                Patience::Evaluations(_) => index as f64,
                Patience::Steps(_) => step as f64,
                Patience::Epochs(_) => epoch,
            };
            return PatienceMeasure { waited };
        }
    }
    PatienceMeasure { waited: f64::INFINITY }
}
