//! The explosion guard: watches loss and log‖g‖ before every update and says what to do.
//!
//! A value that is not finite is caught at once. Otherwise each series is compared with a window
//! of its own past by a z-score, upwards only: a falling loss never raises an alarm. The window's
//! spread has a floor, so that the very even series of full-batch descent raise none either. An
//! outlier enters the window no higher than the alarm's threshold: it cannot hide the next one,
//! yet a lasting new level is accepted after a while.
//!
//! Dropping batches cannot help where the weights themselves went wrong, so what is done about an
//! alarm escalates: skip (or clip), then roll back, then stop.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What the guard does about an explosion, until its limit is used up. Then [`Policy::Skip`] and
/// [`Policy::ClipHarder`] roll back, up to [`ROLL_BACKS`] times in a run, and the others stop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Drop the batch's gradient.
    Skip,
    /// Clip this gradient to the window's mean norm; one that is not finite is skipped.
    ClipHarder,
    /// Go back to the best weights and multiply the rate by `rate_factor` from then on.
    RollBack {
        /// What the rate is multiplied by.
        rate_factor: f64,
    },
    /// End the run.
    Stop,
}

/// The guard's settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardSpec {
    /// Observations that the z-score looks back on.
    pub window: usize,
    /// Observations before z-scores are trusted; values that are not finite are caught from the
    /// first one.
    pub least: usize,
    /// z above which a value is an explosion; `None` looks for values that are not finite alone.
    pub threshold: Option<f64>,
    /// What to do about an explosion.
    pub policy: Policy,
    /// Interventions within the last `window` observations after which the guard goes further: from
    /// skipping or clipping to a roll-back, from roll-backs to the end of the run.
    pub limit: usize,
}

impl Default for GuardSpec {
    fn default() -> Self {
        Self { window: 200, least: 20, threshold: Some(6.0), policy: Policy::Skip, limit: 10 }
    }
}

impl GuardSpec {
    /// Stops at the first value that is not finite and looks at nothing else: what a run does that
    /// asked for no guard.
    pub fn non_finite_only() -> Self {
        Self { threshold: None, policy: Policy::Stop, limit: 1, ..Self::default() }
    }
}

/// What to do with the update about to be made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Make the update.
    Proceed,
    /// Make no update; clear the gradient.
    Skip,
    /// Clip the global norm to this before updating.
    ClipHarder { norm: f64 },
    /// Restore the best weights and multiply the rate by this from now on.
    RollBack { rate_factor: f64 },
    /// End the run: it has diverged.
    Stop,
}

/// What raised the alarm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cause {
    /// The loss is infinite or not a number.
    LossNotFinite,
    /// ‖g‖ is infinite or not a number.
    GradientNotFinite,
    /// The loss is far above its window.
    LossExploded {
        /// Standard deviations above the mean.
        z: f64,
    },
    /// log‖g‖ is far above its window.
    GradientExploded {
        /// Standard deviations above the mean.
        z: f64,
    },
}

impl Cause {
    /// The z-score, where there is one.
    pub fn z(&self) -> Option<f64> {
        match self {
            Cause::LossExploded { z } | Cause::GradientExploded { z } => Some(*z),
            _ => None,
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::LossNotFinite => write!(f, "the loss is not finite"),
            Cause::GradientNotFinite => write!(f, "the gradient is not finite"),
            Cause::LossExploded { z } => {
                write!(f, "the loss is {z:.1} standard deviations above its recent mean")
            }
            Cause::GradientExploded { z } => {
                write!(f, "log‖g‖ is {z:.1} standard deviations above its recent mean")
            }
        }
    }
}

/// One observation's outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finding {
    /// What to do.
    pub verdict: Verdict,
    /// `None` exactly when the verdict is to proceed.
    pub cause: Option<Cause>,
    /// Interventions within the window, this one included.
    pub interventions: usize,
}

/// The guard and its whole state; serialise it with the checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplosionGuard {
    spec: GuardSpec,
    observations: u64,
    loss: Window,
    log_norm: Window,
    /// Numbers of the observations that were intervened in, oldest first.
    interventions: VecDeque<u64>,
    interventions_total: u64,
    /// Roll-backs because skipping or clipping did not help.
    #[serde(default)]
    escalations: u32,
}

/// How often a run whose limit of skipped or clipped updates is used up is rolled back before it is
/// stopped.
pub const ROLL_BACKS: u32 = 3;
/// What such a roll-back multiplies the rate by.
pub const RATE_FACTOR: f64 = 0.5;
/// Least standard deviation of the loss: a hundredth of its mean, at least 0.01 nats.
const LOSS_SPREAD_FLOOR: f64 = 0.01;
/// Least standard deviation of log‖g‖: at the usual threshold of six an alarm is eleven times the
/// usual norm. With 0.1, a healthy run whose norms had been even was stopped at twice to five times
/// of it, which clipping is there for.
const LOG_NORM_SPREAD_FLOOR: f64 = 0.4;

impl ExplosionGuard {
    /// A guard that has seen nothing yet.
    pub fn new(spec: GuardSpec) -> Self {
        Self {
            spec,
            observations: 0,
            loss: Window::default(),
            log_norm: Window::default(),
            interventions: VecDeque::new(),
            interventions_total: 0,
            escalations: 0,
        }
    }

    /// Judges the update about to be made from its loss (nats per token) and ‖g‖₂ before clipping.
    pub fn observe(&mut self, loss: f64, gradient_norm: f64) -> Finding {
        self.observations += 1;
        let cause = self.judge(loss, gradient_norm);
        let Some(cause) = cause else {
            return Finding {
                verdict: Verdict::Proceed,
                cause: None,
                interventions: self.recent_interventions(),
            };
        };
        self.interventions.push_back(self.observations);
        self.interventions_total += 1;
        let interventions = self.recent_interventions();
        let is_used_up = interventions >= self.spec.limit.max(1);
        let verdict = if is_used_up { self.escalate() } else { self.remedy(cause) };
        Finding { verdict, cause: Some(cause), interventions }
    }

    /// How often the guard has stepped in since the run began.
    pub fn interventions_total(&self) -> u64 {
        self.interventions_total
    }

    /// The settings it was made with.
    pub fn spec(&self) -> &GuardSpec {
        &self.spec
    }

    /// Forgets the windows, not the interventions: after a roll-back the series start elsewhere.
    pub fn forget_windows(&mut self) {
        self.loss = Window::default();
        self.log_norm = Window::default();
    }

    fn judge(&mut self, loss: f64, gradient_norm: f64) -> Option<Cause> {
        if !loss.is_finite() {
            return Some(Cause::LossNotFinite);
        }
        if !gradient_norm.is_finite() {
            return Some(Cause::GradientNotFinite);
        }
        let spec = self.spec;
        let threshold = spec.threshold?;
        let loss_floor = LOSS_SPREAD_FLOOR * self.loss.mean().abs().max(1.0);
        let loss_z = self.loss.admit(loss, loss_floor, threshold, &spec);
        // A gradient of zero says nothing about explosions.
        let log_norm = gradient_norm.max(f64::MIN_POSITIVE).ln();
        let norm_z = if gradient_norm > 0.0 {
            self.log_norm.admit(log_norm, LOG_NORM_SPREAD_FLOOR, threshold, &spec)
        } else {
            0.0
        };
        if loss_z > threshold {
            return Some(Cause::LossExploded { z: loss_z });
        }
        (norm_z > threshold).then_some(Cause::GradientExploded { z: norm_z })
    }

    fn remedy(&self, cause: Cause) -> Verdict {
        match self.spec.policy {
            Policy::Skip => Verdict::Skip,
            // Without a number there is nothing to clip.
            Policy::ClipHarder if cause.z().is_none() => Verdict::Skip,
            Policy::ClipHarder => Verdict::ClipHarder { norm: self.log_norm.mean().exp() },
            Policy::RollBack { rate_factor } => Verdict::RollBack { rate_factor },
            Policy::Stop => Verdict::Stop,
        }
    }

    /// What comes after the policy. A roll-back starts the count of interventions anew.
    fn escalate(&mut self) -> Verdict {
        let is_mild = matches!(self.spec.policy, Policy::Skip | Policy::ClipHarder);
        if !is_mild || self.escalations >= ROLL_BACKS {
            return Verdict::Stop;
        }
        self.escalations += 1;
        self.interventions.clear();
        Verdict::RollBack { rate_factor: RATE_FACTOR }
    }

    fn recent_interventions(&mut self) -> usize {
        let horizon = self.observations.saturating_sub(self.spec.window as u64);
        while self.interventions.front().is_some_and(|&at| at <= horizon) {
            self.interventions.pop_front();
        }
        self.interventions.len()
    }
}

/// The last values of one series, outliers pulled in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Window {
    values: VecDeque<f64>,
}

impl Window {
    /// z of `value` against the window (0 while it is too short); then takes it in.
    fn admit(&mut self, value: f64, spread_floor: f64, threshold: f64, spec: &GuardSpec) -> f64 {
        let mean = self.mean();
        let spread = self.deviation(mean).max(spread_floor);
        let trusted = self.values.len() >= spec.least.max(2);
        let z = if trusted { (value - mean) / spread } else { 0.0 };
        let highest = if trusted { mean + threshold * spread } else { f64::INFINITY };
        self.values.push_back(value.min(highest));
        if self.values.len() > spec.window {
            self.values.pop_front();
        }
        z
    }

    /// 0 for an empty window. Recomputed each time: a running sum would drift.
    fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len().max(1) as f64
    }

    fn deviation(&self, mean: f64) -> f64 {
        let squares: f64 = self.values.iter().map(|value| (value - mean).powi(2)).sum();
        (squares / self.values.len().saturating_sub(1).max(1) as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heldout_base::rng::{Random, Stream};

    /// Noise with the given standard deviation, the same in every run of the test.
    fn noise(seed: u64, step: u64, deviation: f64) -> f64 {
        Random::new(seed, Stream(1), step).normal(0) * deviation
    }

    /// A training run as they go: loss from 4.2 to 1.5, gradient norm rising at first.
    fn healthy(seed: u64, step: u64, loss_noise: f64) -> (f64, f64) {
        let t = step as f64;
        let loss = 1.5 + 2.7 * (-t / 300.0).exp() + noise(seed, step, loss_noise);
        let rise = 1.0 + 3.0 * (t / 400.0).min(1.0);
        (loss, rise * noise(seed + 1000, step, 0.25).exp())
    }

    #[test]
    fn a_normally_falling_loss_never_raises_an_alarm() {
        for seed in 0..20 {
            for loss_noise in [0.0, 1e-4, 0.02, 0.1] {
                let mut guard = ExplosionGuard::new(GuardSpec::default());
                for step in 0..2000 {
                    let (loss, norm) = healthy(seed, step, loss_noise);
                    let finding = guard.observe(loss, norm);
                    assert_eq!(finding.verdict, Verdict::Proceed, "{seed} {step} {finding:?}");
                }
            }
        }
    }

    #[test]
    fn a_norm_of_a_few_times_the_usual_is_left_to_clipping() {
        for (times, is_alarm) in [(5.0, false), (9.0, false), (14.0, true), (100.0, true)] {
            let mut guard = ExplosionGuard::new(GuardSpec::default());
            for step in 0..300 {
                guard.observe(2.0, 0.7 * noise(3, step, 0.05).exp());
            }
            let finding = guard.observe(2.0, 0.7 * times);
            assert_eq!(finding.cause.is_some(), is_alarm, "{times}: {finding:?}");
        }
    }

    #[test]
    fn a_full_batch_run_without_noise_raises_none_either() {
        let mut guard = ExplosionGuard::new(GuardSpec::default());
        for step in 0..3000 {
            let loss = 4.0 / (1.0 + f64::from(step) / 50.0) + 0.01 * f64::from(step % 2);
            let norm = 2.0 / (1.0 + f64::from(step) / 80.0);
            assert_eq!(guard.observe(loss, norm).verdict, Verdict::Proceed, "{step}");
        }
    }

    #[test]
    fn not_a_number_is_caught_from_the_first_step() {
        let mut guard = ExplosionGuard::new(GuardSpec::default());
        assert_eq!(guard.observe(f64::NAN, 1.0).cause, Some(Cause::LossNotFinite));
        assert_eq!(guard.observe(f64::INFINITY, 1.0).verdict, Verdict::Skip);
        let finding = guard.observe(1.0, f64::INFINITY);
        assert_eq!(finding.cause, Some(Cause::GradientNotFinite));
        assert_eq!(finding.interventions, 3);
    }

    #[test]
    fn spikes_are_found_and_the_policy_is_followed() {
        let check = |policy: Policy, loss: f64, norm: f64, expected: &dyn Fn(Verdict) -> bool| {
            let mut guard = ExplosionGuard::new(GuardSpec { policy, ..GuardSpec::default() });
            for step in 0..500 {
                let (loss, norm) = healthy(3, step, 0.05);
                guard.observe(loss, norm);
            }
            let finding = guard.observe(loss, norm);
            assert!(expected(finding.verdict), "{policy:?}: {finding:?}");
            assert!(finding.cause.is_some());
            let (loss, norm) = healthy(3, 501, 0.05);
            assert_eq!(guard.observe(loss, norm).verdict, Verdict::Proceed);
        };
        check(Policy::Skip, 9.0, 4.0, &|v| v == Verdict::Skip);
        check(Policy::Skip, 2.0, 1e6, &|v| v == Verdict::Skip);
        check(Policy::Stop, 9.0, 4.0, &|v| v == Verdict::Stop);
        let roll_back = Policy::RollBack { rate_factor: 0.5 };
        check(roll_back, 9.0, 4.0, &|v| v == Verdict::RollBack { rate_factor: 0.5 });
        check(
            Policy::ClipHarder,
            2.0,
            1e6,
            &|v| matches!(v, Verdict::ClipHarder { norm } if (2.0..6.0).contains(&norm)),
        );
        check(Policy::ClipHarder, f64::NAN, 4.0, &|v| v == Verdict::Skip);
    }

    #[test]
    fn a_divergence_is_found_and_the_limit_ends_the_run() {
        let mut guard = ExplosionGuard::new(GuardSpec { limit: 4, ..GuardSpec::default() });
        for step in 0..300 {
            let (loss, norm) = healthy(5, step, 0.05);
            guard.observe(loss, norm);
        }
        let verdicts: Vec<Verdict> =
            (0..40).map(|k| guard.observe(2.5 * 1.2_f64.powi(k), 4.0).verdict).collect();
        let first = verdicts.iter().position(|v| *v != Verdict::Proceed).expect("an alarm");
        assert!(first < 10, "{verdicts:?}");
        assert_eq!(verdicts[first], Verdict::Skip);
        let back = verdicts.iter().position(|v| matches!(v, Verdict::RollBack { .. }));
        assert_eq!(back, Some(first + 3), "the fourth alarm goes further: {verdicts:?}");
    }

    #[test]
    fn skipping_escalates_to_roll_backs_and_then_to_the_end() {
        let nan = |guard: &mut ExplosionGuard| {
            std::iter::repeat_with(|| guard.observe(f64::NAN, 1.0).verdict).take(12).collect()
        };
        for policy in [Policy::Skip, Policy::ClipHarder] {
            let spec = GuardSpec { limit: 3, policy, ..GuardSpec::default() };
            let verdicts: Vec<Verdict> = nan(&mut ExplosionGuard::new(spec));
            let back = Verdict::RollBack { rate_factor: RATE_FACTOR };
            let turn = [Verdict::Skip, Verdict::Skip, back];
            let end = [Verdict::Skip, Verdict::Skip, Verdict::Stop];
            assert_eq!(verdicts, [turn, turn, turn, end].concat(), "{policy:?}");
        }
        // Who asks for roll-backs or a stop gets nothing else.
        let policy = Policy::RollBack { rate_factor: 0.1 };
        let spec = GuardSpec { limit: 3, policy, ..GuardSpec::default() };
        let verdicts: Vec<Verdict> = nan(&mut ExplosionGuard::new(spec));
        let back = Verdict::RollBack { rate_factor: 0.1 };
        assert_eq!(verdicts[..3], [back, back, Verdict::Stop]);
    }

    #[test]
    fn a_lasting_new_level_is_accepted_in_time() {
        let spec = GuardSpec { limit: 1000, ..GuardSpec::default() };
        let mut guard = ExplosionGuard::new(spec);
        for step in 0..300 {
            guard.observe(2.0 + noise(1, step, 0.02), 1.0);
        }
        let alarms = (0..300)
            .filter(|&step| guard.observe(2.6 + noise(2, step, 0.02), 1.0).cause.is_some())
            .count();
        assert!((1..100).contains(&alarms), "{alarms}");
        assert_eq!(guard.interventions_total(), alarms as u64);
    }

    #[test]
    fn old_interventions_are_forgiven_and_state_survives_a_stop() {
        let spec = GuardSpec { limit: 3, window: 50, ..GuardSpec::default() };
        let mut guard = ExplosionGuard::new(spec);
        for step in 0..600 {
            let (loss, norm) = healthy(7, step, 0.05);
            let loss = if step % 40 == 39 { f64::NAN } else { loss };
            assert_ne!(guard.observe(loss, norm).verdict, Verdict::Stop, "{step}");
        }
        let saved = serde_json::to_string(&guard).expect("plain data");
        let mut resumed: ExplosionGuard = serde_json::from_str(&saved).expect("its own state");
        assert_eq!(resumed, guard);
        for step in 600..700 {
            let (loss, norm) = healthy(7, step, 0.05);
            assert_eq!(resumed.observe(loss, norm), guard.observe(loss, norm));
        }
    }

    #[test]
    fn without_a_guard_only_values_that_are_not_finite_stop_the_run() {
        let mut guard = ExplosionGuard::new(GuardSpec::non_finite_only());
        for step in 0..100 {
            assert_eq!(guard.observe(f64::from(step) * 100.0, 1.0).verdict, Verdict::Proceed);
        }
        assert_eq!(guard.observe(f64::NAN, 1.0).verdict, Verdict::Stop);
    }
}
