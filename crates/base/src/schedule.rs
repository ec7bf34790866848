//! Schedules: a rate or knob as a function of the step. A constant is a schedule with one value.
//!
//! Letters: t the step, counted from 0 (the update about to be made); T the horizon in steps;
//! W the warm-up in steps; p = (t − W)/(T − W) the progress after the warm-up, held in [0, 1].

use serde::{Deserialize, Serialize};

pub use crate::schedule_cards::CARDS;

/// A knob or rate over the run: a warm-up to `peak`, then a shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The value that the warm-up reaches and from which the shape leads on, in the knob's unit.
    pub peak: f64,
    /// Update number n (from 1) of the first W has the value peak·n/W: none is wasted on zero.
    pub warmup: Span,
    /// What follows.
    pub shape: Shape,
}

/// A stretch of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// So many steps.
    Steps(u64),
    /// A share of the horizon, 0 to 1.
    Share(f64),
}

impl Span {
    /// Of no length.
    pub const NONE: Span = Span::Steps(0);

    /// The length in steps (a share is rounded to the nearest step).
    pub fn steps(&self, horizon: u64) -> u64 {
        match *self {
            Span::Steps(steps) => steps,
            Span::Share(share) => (share * horizon as f64).round() as u64,
        }
    }

    /// Whether the span has no length whatever the horizon.
    pub fn is_none(&self) -> bool {
        matches!(self, Span::Steps(0) | Span::Share(0.0))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Span::Steps(1) => f.write_str("1 step"),
            Span::Steps(steps) => write!(f, "{steps} steps"),
            Span::Share(share) => f.write_str(&percent(*share)),
        }
    }
}

/// What follows the warm-up. Every `end`, `start` and `floor` is a share of the peak.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// peak
    Constant,
    /// peak·e^(−rate·p): `rate` is the decay over the whole run, in nats.
    Exponential {
        /// k in e^(−k·p).
        rate: f64,
    },
    /// peak·factor^⌊(t − W)/every⌋ (torch `StepLR`)
    Step {
        /// Steps from one drop to the next.
        every: Span,
        /// What each drop multiplies by.
        factor: f64,
    },
    /// peak·(end + (1 − end)·(1 − p)^power)
    Polynomial {
        /// The exponent.
        power: f64,
        /// Where it ends.
        end: f64,
    },
    /// peak·(1 − (1 − end)·p)
    Linear {
        /// Where it ends.
        end: f64,
    },
    /// peak·(end + (1 − end)·(1 + cos πp)/2) (Loshchilov & Hutter 2017)
    Cosine {
        /// Where it ends.
        end: f64,
    },
    /// peak·√(W/t) (Vaswani et al. 2017, "Noam"; scaled so that the warm-up reaches the peak).
    InverseSqrt,
    /// Cosine up from `start` to the peak over the share `up`, then cosine down to `end`, reached
    /// at the last step (Smith & Topin 2018; torch `OneCycleLR` with two phases).
    OneCycle {
        /// Share of the run that goes up, 0 to 1.
        up: f64,
        /// Where it starts.
        start: f64,
        /// Where it ends.
        end: f64,
    },
    /// Flat, then linear to `end` over the last share `decay` (Hu et al. 2024, MiniCPM).
    WarmupStableDecay {
        /// Share of the horizon that decays, 0 to 1.
        decay: f64,
        /// Where it ends.
        end: f64,
    },
    /// peak times [`PlateauState::factor`]: cut when the held-out loss stops improving.
    Plateau {
        /// What each cut multiplies by.
        factor: f64,
        /// Evaluations without improvement that are borne before a cut.
        patience: u64,
        /// The factor never falls below this.
        floor: f64,
    },
}

impl Shape {
    /// The name in recipes and of the card.
    pub fn name(&self) -> &'static str {
        match self {
            Shape::Constant => "constant",
            Shape::Exponential { .. } => "exponential",
            Shape::Step { .. } => "step",
            Shape::Polynomial { .. } => "polynomial",
            Shape::Linear { .. } => "linear",
            Shape::Cosine { .. } => "cosine",
            Shape::InverseSqrt => "inverse-sqrt",
            Shape::OneCycle { .. } => "one-cycle",
            Shape::WarmupStableDecay { .. } => "warmup-stable-decay",
            Shape::Plateau { .. } => "plateau",
        }
    }

    /// The value as a share of the peak at step t ≥ W.
    fn share(&self, t: u64, warmup: u64, horizon: u64) -> f64 {
        let since = t - warmup;
        let length = horizon.saturating_sub(warmup).max(1);
        let p = (since as f64 / length as f64).min(1.0);
        let between = |end: f64, weight: f64| end + (1.0 - end) * weight;
        match *self {
            Shape::Constant | Shape::Plateau { .. } => 1.0,
            Shape::Exponential { rate } => (-rate * p).exp(),
            Shape::Step { every, factor } => {
                factor.powf((since / every.steps(horizon).max(1)) as f64)
            }
            Shape::Polynomial { power, end } => between(end, (1.0 - p).powf(power)),
            Shape::Linear { end } => between(end, 1.0 - p),
            Shape::Cosine { end } => between(end, half_cosine(p)),
            Shape::InverseSqrt => {
                let scale = warmup.max(1) as f64;
                (scale / (t as f64).max(scale)).sqrt()
            }
            Shape::OneCycle { up, start, end } => one_cycle(since, length, [up, start, end]),
            Shape::WarmupStableDecay { decay, end } => {
                let falling = (decay * horizon as f64).round().max(1.0);
                let left = horizon.saturating_sub(t) as f64;
                between(end, (left / falling).min(1.0))
            }
        }
    }
}

/// From 1 at p = 0 to 0 at p = 1.
fn half_cosine(p: f64) -> f64 {
    0.5 * (1.0 + (std::f64::consts::PI * p).cos())
}

/// The two phases of a cycle of `length` steps, step `since` counted from 0.
fn one_cycle(since: u64, length: u64, [up, start, end]: [f64; 3]) -> f64 {
    let at = since as f64;
    let top = up * length as f64 - 1.0;
    let last = length as f64 - 1.0;
    if at <= top && top > 0.0 {
        return 1.0 + (start - 1.0) * half_cosine(at / top);
    }
    let top = top.max(0.0);
    if last <= top {
        return end;
    }
    end + (1.0 - end) * half_cosine(((at - top) / (last - top)).clamp(0.0, 1.0))
}

impl Schedule {
    /// One value for the whole run.
    pub fn constant(value: f64) -> Self {
        Self { peak: value, warmup: Span::NONE, shape: Shape::Constant }
    }

    /// The value for the update about to be made: `step` counts from 0, `horizon` is the length
    /// of the run in steps. From the horizon on, the value stays where the shape ends.
    pub fn value(&self, step: u64, horizon: u64) -> f64 {
        let warmup = self.warmup.steps(horizon);
        if step < warmup {
            return self.peak * ((step + 1) as f64 / warmup as f64);
        }
        self.peak * self.shape.share(step, warmup, horizon)
    }

    /// Whether the value never changes.
    pub fn is_constant(&self) -> bool {
        self.warmup.is_none() && self.shape == Shape::Constant
    }

    /// Whether the value is zero at every step.
    pub fn is_zero(&self) -> bool {
        self.peak == 0.0
    }

    /// The schedule in words, as `heldout plan` prints it: "3e-4, warm-up over 100 steps, then
    /// cosine to 10%".
    pub fn describe(&self) -> String {
        let peak = short_number(self.peak);
        let shape = self.shape.describe();
        match (self.warmup.is_none(), shape.as_deref()) {
            (true, None) => peak,
            (true, Some(shape)) => format!("{peak}, {shape}"),
            (false, None) => format!("{peak}, warm-up over {}", self.warmup),
            (false, Some(shape)) => format!("{peak}, warm-up over {}, then {shape}", self.warmup),
        }
    }

    /// Checks that every number makes sense on its own; a recipe adds the knob's own range.
    pub fn check(&self) -> Result<(), ScheduleError> {
        at_least("value", self.peak.abs(), 0.0)?;
        if let Span::Share(share) = self.warmup {
            within("warmup", share, 0.0, 1.0)?;
        }
        self.shape.check(&self.warmup)
    }
}

impl Shape {
    /// The shape in words; nothing for a constant.
    fn describe(&self) -> Option<String> {
        let text = match self {
            Shape::Constant => return None,
            Shape::Exponential { rate } => {
                format!("exponential to {}", percent((-rate).exp()))
            }
            Shape::Step { every, factor } => {
                format!("times {} every {every}", short_number(*factor))
            }
            Shape::Polynomial { power, end } => {
                format!("polynomial (power {}) to {}", short_number(*power), percent(*end))
            }
            Shape::Linear { end } => format!("linear to {}", percent(*end)),
            Shape::Cosine { end } => format!("cosine to {}", percent(*end)),
            Shape::InverseSqrt => "inverse square root".to_owned(),
            Shape::OneCycle { up, start, end } => format!(
                "one cycle: up from {} over {}, down to {}",
                percent(*start),
                percent(*up),
                percent(*end)
            ),
            Shape::WarmupStableDecay { decay, end } => {
                format!("stable, linear to {} over the last {}", percent(*end), percent(*decay))
            }
            Shape::Plateau { factor, patience, floor } => format!(
                "times {} after {patience} evaluations without improvement, not below {}",
                short_number(*factor),
                percent(*floor)
            ),
        };
        Some(text)
    }

    fn check(&self, warmup: &Span) -> Result<(), ScheduleError> {
        match *self {
            Shape::Constant => Ok(()),
            Shape::Exponential { rate } => at_least("rate", rate, 0.0),
            Shape::Step { every, factor } => {
                if every.is_none() {
                    return Err(ScheduleError::Range {
                        what: "every",
                        found: 0.0,
                        allowed: "at least 1 step".to_owned(),
                    });
                }
                if let Span::Share(share) = every {
                    within("every", share, 0.0, 1.0)?;
                }
                at_least("factor", factor, 0.0)
            }
            Shape::Polynomial { power, end } => {
                at_least("power", power, 0.0)?;
                at_least("end", end, 0.0)
            }
            Shape::Linear { end } | Shape::Cosine { end } => at_least("end", end, 0.0),
            Shape::InverseSqrt if warmup.is_none() => Err(ScheduleError::NeedsWarmup),
            Shape::InverseSqrt => Ok(()),
            Shape::OneCycle { up, start, end } => {
                within("up", up, 0.0, 1.0)?;
                within("start", start, 0.0, 1.0)?;
                within("end", end, 0.0, 1.0)
            }
            Shape::WarmupStableDecay { decay, end } => {
                within("decay", decay, 0.0, 1.0)?;
                within("end", end, 0.0, 1.0)
            }
            Shape::Plateau { factor, floor, .. } => {
                within("factor", factor, 0.0, 1.0)?;
                within("floor", floor, 0.0, 1.0)
            }
        }
    }
}

/// A schedule whose numbers make no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// A number outside its range (or not a number).
    #[error("{what} = {found} is not allowed in a schedule; give {allowed}")]
    Range {
        /// The field.
        what: &'static str,
        /// What was given.
        found: f64,
        /// What may be given.
        allowed: String,
    },
    /// The inverse square root takes its time scale from the warm-up.
    #[error("inverse-sqrt takes its time scale from the warm-up; give one, such as 100 steps")]
    NeedsWarmup,
}

fn at_least(what: &'static str, found: f64, least: f64) -> Result<(), ScheduleError> {
    if found.is_finite() && found >= least {
        return Ok(());
    }
    let allowed = format!("a number of at least {least}");
    Err(ScheduleError::Range { what, found, allowed })
}

fn within(what: &'static str, found: f64, low: f64, high: f64) -> Result<(), ScheduleError> {
    if low <= found && found <= high {
        return Ok(());
    }
    let allowed = format!("a number between {low} and {high}");
    Err(ScheduleError::Range { what, found, allowed })
}

/// Relative improvement below which an evaluation counts as none (torch's default).
const PLATEAU_THRESHOLD: f64 = 1e-4;

/// The state of reduce-on-plateau: kept and checkpointed by the trainer, multiplied into the rate.
///
/// Follows torch `ReduceLROnPlateau` (mode "min", relative threshold 1e-4, no cool-down).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlateauState {
    best: Option<f64>,
    evaluations_without_improvement: u64,
    factor: f64,
}

impl Default for PlateauState {
    fn default() -> Self {
        Self::new()
    }
}

impl PlateauState {
    /// Before the first evaluation: factor 1.
    pub fn new() -> Self {
        Self { best: None, evaluations_without_improvement: 0, factor: 1.0 }
    }

    /// Takes one evaluation's loss. Does nothing unless `shape` is [`Shape::Plateau`].
    /// A loss that is not a number is no improvement.
    pub fn observe(&mut self, shape: &Shape, loss: f64) {
        let Shape::Plateau { factor, patience, floor } = *shape else { return };
        let bar = self.best.map_or(f64::INFINITY, |best| best * (1.0 - PLATEAU_THRESHOLD));
        if loss < bar {
            self.best = Some(loss);
            self.evaluations_without_improvement = 0;
            return;
        }
        self.evaluations_without_improvement += 1;
        if self.evaluations_without_improvement > patience {
            self.factor = (self.factor * factor).max(floor);
            self.evaluations_without_improvement = 0;
        }
    }

    /// What to multiply the scheduled value by.
    pub fn factor(&self) -> f64 {
        self.factor
    }
}

/// A number as a person would write it: `0.1`, `3e-4`, `2000`.
pub fn short_number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-3..1e7).contains(&size) || !value.is_finite() {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}

/// A share as a percentage with at most three digits behind the point.
fn percent(share: f64) -> String {
    let text = format!("{:.3}", share * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}
