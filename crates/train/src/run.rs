//! A run in progress and the single actions of its loop.

use std::sync::Arc;
use std::time::Instant;

use heldout_data::{DataError, Prefetch};
use heldout_kernels::Tape;
use heldout_optim::average::Start;
use heldout_optim::clip::Clipped;
use heldout_optim::guard::{RATE_FACTOR, Verdict};
use heldout_record::checkpoint;
use heldout_record::{Event, GuardRecord, RunDir, StepRecord, StopReason};
use heldout_regularize::at::At;

use crate::checkpointing;
use crate::control::Control;
use crate::error::TrainError;
use crate::horizon::{Clock, Horizon};
use crate::job::Setup;
use crate::meter::Meter;
use crate::movement::Movement;
use crate::passes::Passes;
use crate::receipts::Receipts;
use crate::recorder::Recorder;
use crate::room::Room;
use crate::saving::Saver;
use crate::state::{Ending, State};
use crate::task::Batch;

/// Everything a run works with.
pub struct Run<'a> {
    pub setup: Setup,
    pub state: State,
    pub folder: RunDir,
    pub recorder: Recorder<'a>,
    pub control: &'a Control,
    pub clock: Clock,
    pub tape: Tape,
    /// One for each parameter; the first piece of a step's batch overwrites them.
    pub gradients: Vec<f32>,
    pub receipts: Receipts,
    pub meter: Meter,
    pub movement: Movement,
    pub passes: Passes,
    prefetch: Prefetch<Result<Batch, DataError>>,
    pace: Pace,
    /// The last step that is safe on disk.
    pub saved: Option<u64>,
    /// Makes checkpoints safe while the run goes on.
    pub saver: Saver,
    /// Has memory ready for the next one.
    pub room: Room,
}

/// Tokens and time since the last step record.
struct Pace {
    since: Instant,
    tokens: u64,
}

/// Means over the target tokens of one batch, nats.
#[derive(Clone, Copy, Debug)]
pub struct BatchLoss {
    /// As trained: noise, smoothing and penalties.
    pub objective: f64,
    /// Negative log-likelihood under the noise.
    pub nll: f64,
    pub targets: u64,
}

/// What the guard lets happen to the weights.
pub enum Decision {
    Update(Clipped),
    Skip,
    End(Ending),
}

/// Batches kept ready by the prefetching thread.
const BATCHES_AHEAD: usize = 2;

/// Step records in a run of known length; more would only make the file long.
const RECORDS_MOST: u64 = 2000;

impl<'a> Run<'a> {
    pub fn new(
        setup: Setup,
        state: State,
        folder: RunDir,
        recorder: Recorder<'a>,
        control: &'a Control,
    ) -> Result<Run<'a>, TrainError> {
        let mut tape = Tape::new(setup.device.clone());
        tape.activations = setup.recipe.run.memory;
        let gradients = vec![0.0; state.parameters.len()];
        let passes = Passes::new(&setup);
        let task = setup.task.clone();
        let prefetch = Prefetch::new(Arc::new(move |step| task.batch_at(step)), BATCHES_AHEAD);
        let clock = Clock::resume(state.progress.seconds);
        Ok(Run {
            setup,
            state,
            folder,
            recorder,
            control,
            clock,
            tape,
            gradients,
            receipts: Receipts::default(),
            meter: Meter::default(),
            movement: Movement::default(),
            passes,
            prefetch,
            pace: Pace { since: Instant::now(), tokens: 0 },
            saved: None,
            saver: Saver::default(),
            room: Room::default(),
        })
    }

    /// The moment of the run that schedules are read at.
    pub fn at(&mut self) -> At {
        let progress = &mut self.state.progress;
        progress.forecast.update(&self.setup.horizon, progress.step, self.clock.seconds());
        At { step: progress.step, horizon: progress.forecast.steps }
    }

    pub fn next_batch(&mut self, step: u64) -> Result<Batch, TrainError> {
        Ok(self.prefetch.batch_at(step)?)
    }

    pub fn penalize(&mut self, at: At) {
        let device = &self.setup.device;
        self.setup.plan.penalize(device, &self.state.parameters, &mut self.gradients, at);
    }

    pub fn transform_gradients(&mut self, at: At) -> Clipped {
        let device = &self.setup.device;
        self.setup.plan.transform(device, &self.state.parameters, &mut self.gradients, at)
    }

    /// The learning rate of this step: its schedule, cut by plateaus and by recoveries.
    pub fn rate(&self, at: At) -> f64 {
        let progress = &self.state.progress;
        let scheduled = at.value(&self.setup.recipe.schedule.rate);
        scheduled * progress.plateau.factor() * progress.rate_factor
    }

    /// Looks at loss and gradient before they can reach the weights, and does what the plan says.
    pub fn guard(
        &mut self,
        at: At,
        loss: &BatchLoss,
        clipped: &Clipped,
    ) -> Result<Decision, TrainError> {
        let finding = self.state.progress.guard.observe(loss.objective, clipped.norm_before);
        let Some(cause) = finding.cause else { return Ok(Decision::Update(*clipped)) };
        let broken = !checkpointing::is_sound(&self.setup.device, &self.state);
        let (decision, action) = match finding.verdict {
            Verdict::Proceed => (Decision::Update(*clipped), "went on".to_string()),
            Verdict::Stop => {
                let detail = format!("{cause}, intervention {}", finding.interventions);
                let ending = Ending { reason: StopReason::Diverged, detail };
                (Decision::End(ending), "stopped the run".into())
            }
            Verdict::RollBack { rate_factor } => self.roll_back(rate_factor)?,
            // Skipping cannot help weights that are no numbers, were it the first alarm.
            Verdict::Skip | Verdict::ClipHarder { .. } if broken => self.roll_back(RATE_FACTOR)?,
            Verdict::Skip => (Decision::Skip, "skipped the update".into()),
            Verdict::ClipHarder { norm } => {
                let factor = (norm / clipped.norm_after).min(1.0);
                let harder = Clipped {
                    norm_after: clipped.norm_after * factor,
                    scale: clipped.scale * factor as f32,
                    ..*clipped
                };
                (Decision::Update(harder), format!("clipped the gradient to {norm:.3}"))
            }
        };
        self.recorder.event(Event::Guard(GuardRecord {
            step: at.step,
            cause: cause.to_string(),
            action,
            loss: loss.objective,
            gradient_norm: clipped.norm_before,
            z: cause.z(),
        }))?;
        Ok(decision)
    }

    /// Takes weights, moments and averages from the best checkpoint (or the last whole one) and
    /// cuts the rate from now on. The data and the step go on.
    pub fn roll_back(&mut self, rate_factor: f64) -> Result<(Decision, String), TrainError> {
        self.settle()?;
        let found = checkpoint::load_best(&self.folder)
            .or_else(|_| checkpoint::load_last(&self.folder).map(|(last, _)| last));
        let Ok(checkpoint) = found else {
            if !checkpointing::is_sound(&self.setup.device, &self.state) {
                let detail = "the weights are no longer finite and no checkpoint exists yet; \
                              lower the learning rate"
                    .to_string();
                let ending = Ending { reason: StopReason::Diverged, detail };
                return Ok((Decision::End(ending), "stopped the run".into()));
            }
            self.state.progress.rate_factor *= rate_factor;
            let action = format!(
                "skipped the update (no checkpoint to roll back to) and cut the rate to {}",
                percent(self.state.progress.rate_factor)
            );
            return Ok((Decision::Skip, action));
        };
        checkpointing::restore(&checkpoint, &self.setup.model, &mut self.state)?;
        let progress = &mut self.state.progress;
        progress.rate_factor *= rate_factor;
        progress.guard.forget_windows();
        let action = format!(
            "rolled back to the weights of step {} and cut the rate to {}",
            checkpoint.step,
            percent(progress.rate_factor)
        );
        Ok((Decision::Skip, action))
    }

    /// The optimizer's update.
    pub fn update(&mut self, at: At, rate: f64, clipped: &Clipped) {
        let update = self.setup.plan.update(at, rate, clipped);
        self.state.optimizer.update(
            &self.setup.device,
            &mut self.state.parameters,
            &mut self.gradients,
            &self.setup.plan.segments,
            &update,
        );
    }

    /// What follows an update: projections, and weights that follow from those that are trained.
    pub fn project(&mut self, at: At, rate: f64) {
        let Run { setup, state: State { parameters, start, .. }, .. } = self;
        setup.plan.project(&setup.device, parameters, at, rate);
        setup.plan.merge(&setup.device, start, parameters);
    }

    pub fn average(&mut self, at: At) {
        let State { parameters, averages, teacher, .. } = &mut self.state;
        let device = &self.setup.device;
        if let (Some(teacher), Some(decay)) = (teacher, self.setup.plan.plan().own_teacher()) {
            teacher.update_exponential(device, parameters, Start::Weights, decay);
        }
        self.setup.plan.average(device, parameters, averages, at);
    }

    /// The step is done.
    pub fn count(&mut self, loss: &BatchLoss) {
        self.state.progress.step += 1;
        self.state.progress.tokens += loss.targets;
        self.state.progress.timing.step_tokens += loss.targets;
        self.pace.tokens += loss.targets;
    }

    pub fn record(
        &mut self,
        batch: &Batch,
        loss: &BatchLoss,
        clipped: &Clipped,
        rate: f64,
    ) -> Result<(), TrainError> {
        let progress = &self.state.progress;
        self.receipts.note_first_clip(progress.step, clipped);
        let every = match self.setup.horizon {
            Horizon::Steps(steps) => (steps / RECORDS_MOST).max(1),
            Horizon::Seconds(_) => 1,
        };
        if progress.step > 1 && !progress.step.is_multiple_of(every) {
            return Ok(());
        }
        let elapsed = self.pace.since.elapsed().as_secs_f64().max(1e-9);
        let record = StepRecord {
            step: progress.step,
            tokens: progress.tokens,
            epoch: batch.epoch + 1.0 / self.setup.task.steps_per_epoch(),
            objective: loss.objective,
            loss_train: loss.nll,
            learning_rate: rate,
            gradient_norm: clipped.norm_before,
            gradient_norm_clipped: clipped.norm_after,
            tokens_per_second: self.pace.tokens as f64 / elapsed,
            seconds: self.clock.seconds(),
        };
        self.restart_pace();
        self.recorder.event(Event::Step(record))
    }

    /// What just happened was no part of the next step: its speed should not show it.
    pub fn restart_pace(&mut self) {
        self.pace = Pace { since: Instant::now(), tokens: 0 };
    }
}

fn percent(share: f64) -> String {
    format!("{}% of its schedule", (share * 1e6).round() / 1e4)
}
