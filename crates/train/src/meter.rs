//! Where the time goes: of the run in a few sums, and on request of one step, op by op.
//!
//! Measuring reads the clock and nothing else: what is trained does not depend on it.

use std::time::{Duration, Instant};

use heldout_kernels::profile::Work;
use heldout_record::profile::{SpanKind, StepProfile, TraceSpan};
use heldout_record::{Event, TimingRecord};
use heldout_regularize::At;

use crate::error::TrainError;
use crate::horizon::Horizon;
use crate::run::{BatchLoss, Run};

/// A part of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Data,
    Gradient,
    PenaltyValue,
    Penalties,
    Clip,
    Guard,
    Movement,
    Update,
    Project,
    Average,
    Record,
    Evaluation,
    Samples,
    Checkpoint,
}

impl Part {
    /// What a profile calls it.
    fn name(self) -> &'static str {
        match self {
            Part::Data => "wait for data",
            Part::Gradient => "forward and backward",
            Part::PenaltyValue => "penalty value",
            Part::Penalties => "penalty gradient",
            Part::Clip => "gradient norm and clipping",
            Part::Guard => "guard",
            Part::Movement => "size of the update",
            Part::Update => "update",
            Part::Project => "projection",
            Part::Average => "weight average",
            Part::Record => "record",
            Part::Evaluation => "evaluation",
            Part::Samples => "samples",
            Part::Checkpoint => "checkpoint",
        }
    }

    /// Where its time counts; what counts nowhere is the rest of the run.
    fn sum(self, timing: &mut TimingRecord) -> Option<&mut f64> {
        match self {
            Part::Data => Some(&mut timing.data_seconds),
            Part::Gradient | Part::PenaltyValue | Part::Penalties | Part::Clip => {
                Some(&mut timing.step_seconds)
            }
            Part::Guard | Part::Update | Part::Project | Part::Average => {
                Some(&mut timing.step_seconds)
            }
            Part::Evaluation | Part::Movement => Some(&mut timing.evaluation_seconds),
            Part::Samples => Some(&mut timing.sample_seconds),
            Part::Checkpoint => Some(&mut timing.checkpoint_seconds),
            Part::Record => None,
        }
    }
}

/// The clockwork of a session.
#[derive(Default)]
pub struct Meter {
    /// Steps begun in this session.
    steps: u64,
    /// Time that parts inside the present one took.
    inside: Duration,
    profile: Option<Recording>,
}

/// A profile being taken.
struct Recording {
    began: Instant,
    spans: Vec<TraceSpan>,
}

/// Steps before the one that is profiled: buffers are made and clocks have settled.
const WARM_UP: u64 = 4;

impl Run<'_> {
    /// Does one part of the loop and takes its time, without that of parts inside it.
    pub fn timed<T>(&mut self, part: Part, action: impl FnOnce(&mut Self) -> T) -> T {
        let outside = std::mem::take(&mut self.meter.inside);
        let since = Instant::now();
        let result = action(self);
        let duration = since.elapsed();
        let own = duration.saturating_sub(self.meter.inside);
        self.meter.inside = outside + duration;
        let timing = &mut self.state.progress.timing;
        if let Some(sum) = part.sum(timing) {
            *sum += own.as_secs_f64();
        }
        if part == Part::Checkpoint {
            timing.checkpoint_seconds_most = timing.checkpoint_seconds_most.max(own.as_secs_f64());
        }
        self.note_span(part, since, duration);
        result
    }

    fn note_span(&mut self, part: Part, since: Instant, duration: Duration) {
        let Some(began) = self.meter.profile.as_ref().map(|profile| profile.began) else { return };
        let mut spans = Vec::new();
        if part == Part::Gradient
            && let Some(ops) = self.tape.take_profile()
        {
            let origin = ops.began - began;
            spans.extend(ops.spans.iter().map(|span| TraceSpan {
                name: span.label(),
                kind: SpanKind::Op,
                start: origin + span.start,
                duration: span.duration,
                flops: span.work.flops,
                bytes: span.work.bytes,
            }));
        }
        let work = self.work(part);
        use Part::{Average, Movement, Penalties, PenaltyValue, Project};
        let is_optional = matches!(part, PenaltyValue | Penalties | Movement | Project | Average);
        if is_optional && work.bytes == 0.0 {
            return;
        }
        let kind = if part == Part::Gradient { SpanKind::Frame } else { SpanKind::Op };
        let name = match part {
            Part::Update => format!("{} {}", self.state.optimizer.name(), part.name()),
            _ => part.name().to_owned(),
        };
        let start = since - began;
        spans.push(TraceSpan { name, kind, start, duration, flops: work.flops, bytes: work.bytes });
        if let Some(profile) = &mut self.meter.profile {
            profile.spans.extend(spans);
        }
    }

    /// What a part cannot avoid moving, each operand once; nothing where it has nothing to do.
    fn work(&self, part: Part) -> Work {
        let count = self.state.parameters.len();
        let plan = &self.setup.plan;
        match part {
            Part::PenaltyValue => Work::moved(plan.penalized_len()),
            // Weights and gradients in, gradients out.
            Part::Penalties => Work::moved(3 * plan.penalized_len()),
            Part::Clip => Work::moved(plan.transform_traffic(count)),
            // Weights and state in and out, gradients in.
            Part::Update => {
                let state = self.state.optimizer.state();
                let state: usize = state.iter().map(|(_, vector)| vector.len()).sum();
                Work::moved(3 * count + 2 * state)
            }
            Part::Project => Work::moved(2 * plan.projected_len()),
            // Weights and average in, average out.
            Part::Average => {
                let progress = &self.state.progress;
                let at = At { step: progress.step, horizon: progress.forecast.steps };
                let averages = plan.averages_due(at) + self.state.teacher.iter().count();
                Work::moved(3 * count * averages)
            }
            _ => Work::default(),
        }
    }

    /// Starts to take this step apart, where that was asked for and the run is warm, or about to
    /// end.
    pub fn begin_profile_if_asked(&mut self) {
        self.meter.steps += 1;
        if !self.control.is_profile_asked() {
            return;
        }
        let is_last = match self.setup.horizon {
            Horizon::Steps(steps) => self.state.progress.step + 1 >= steps,
            Horizon::Seconds(_) => false,
        };
        if self.meter.steps > WARM_UP || is_last {
            self.control.profile_begun();
            self.tape.start_profile();
            self.meter.profile = Some(Recording { began: Instant::now(), spans: Vec::new() });
        }
    }

    /// Writes the profile, if this step was taken apart.
    pub fn end_profile(&mut self, loss: &BatchLoss) -> Result<(), TrainError> {
        let Some(Recording { began, spans }) = self.meter.profile.take() else { return Ok(()) };
        let profile = StepProfile {
            step: self.state.progress.step,
            tokens: loss.targets,
            duration: began.elapsed(),
            device: self.setup.device.describe(),
            spans,
        };
        let path = self.folder.profile();
        profile.write(&path)?;
        let name = path.strip_prefix(&self.folder.root).unwrap_or(&path);
        self.recorder.event(Event::Profile(profile.record(&name.display().to_string())))
    }

    /// Records what the run's time went to.
    pub fn record_timing(&mut self) -> Result<(), TrainError> {
        let step = self.state.progress.step;
        if self.control.is_profile_asked() {
            let text = "no step was profiled: the run ended before its fifth one";
            self.recorder.notice(Some(step), text)?;
        }
        let timing = &self.state.progress.timing;
        let record = TimingRecord { step, seconds: self.clock.seconds(), ..timing.clone() };
        self.recorder.event(Event::Timing(record))
    }
}
