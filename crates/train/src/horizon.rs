//! How long a run lasts and when something is due, in steps or by the clock.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::recipe::Amount;

/// Training time over all sessions of a run; stops are not counted.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    before: f64,
    since: Instant,
}

impl Clock {
    /// Goes on from `seconds` that earlier sessions used.
    pub fn resume(seconds: f64) -> Clock {
        Clock { before: seconds, since: Instant::now() }
    }

    /// Seconds so far.
    pub fn seconds(&self) -> f64 {
        self.before + self.since.elapsed().as_secs_f64()
    }
}

/// The length of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Horizon {
    Steps(u64),
    Seconds(f64),
}

impl Horizon {
    /// Turns epochs and tokens into steps.
    pub fn new(amount: Amount, steps_per_epoch: f64, tokens_per_step: u64) -> Horizon {
        let steps = |n: f64| Horizon::Steps((n.ceil() as u64).max(1));
        match amount {
            Amount::Steps(n) => Horizon::Steps(n),
            Amount::Epochs(n) => steps(n * steps_per_epoch - 1e-9),
            Amount::Tokens(n) => steps(n as f64 / tokens_per_step as f64),
            Amount::Seconds(s) => Horizon::Seconds(s),
            other => unreachable!("a recipe takes no horizon of {other}"),
        }
    }

    pub fn is_reached(&self, step: u64, seconds: f64) -> bool {
        match *self {
            Horizon::Steps(n) => step >= n,
            Horizon::Seconds(limit) => seconds >= limit,
        }
    }
}

/// Steps that a run with a time limit is expected to make, for schedules: they then end when the
/// time does. Kept in the checkpoint, so that a resumed run goes on along the same curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    pub steps: u64,
}

/// Before the first step is timed.
const STEPS_GUESSED: u64 = 1000;

impl Forecast {
    pub fn new(horizon: &Horizon) -> Forecast {
        match *horizon {
            Horizon::Steps(steps) => Forecast { steps },
            Horizon::Seconds(_) => Forecast { steps: STEPS_GUESSED },
        }
    }

    /// Looks at the clock after steps 1, 2, 4, 8 and then every 16.
    pub fn update(&mut self, horizon: &Horizon, step: u64, seconds: f64) {
        let Horizon::Seconds(limit) = *horizon else { return };
        if step == 0 || !(step.is_multiple_of(16) || step.is_power_of_two()) {
            return;
        }
        let per_step = (seconds / step as f64).max(1e-9);
        let left = ((limit - seconds).max(0.0) / per_step).ceil() as u64;
        self.steps = step + left.max(1);
    }
}

/// Something that is due again and again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cadence {
    Steps(u64),
    Seconds(f64),
    /// Only when the run ends, which is always due.
    End,
}

impl Cadence {
    /// Turns epochs and shares of the horizon into steps or seconds.
    pub fn new(amount: Amount, horizon: &Horizon, steps_per_epoch: f64) -> Cadence {
        let steps = |n: f64| Cadence::Steps((n.round() as u64).max(1));
        match (amount, *horizon) {
            (Amount::Steps(n), _) => Cadence::Steps(n),
            (Amount::Epochs(n), _) => steps(n * steps_per_epoch),
            (Amount::Seconds(s), _) => Cadence::Seconds(s),
            (Amount::Share(share), Horizon::Steps(n)) => steps(share * n as f64),
            (Amount::Share(share), Horizon::Seconds(s)) => Cadence::Seconds(share * s),
            _ => Cadence::End,
        }
    }

    /// Whether it is due after `step`, when it was last done at `since` seconds.
    pub fn is_due(&self, step: u64, seconds: f64, since: f64) -> bool {
        match *self {
            Cadence::Steps(n) => step > 0 && step.is_multiple_of(n),
            Cadence::Seconds(s) => seconds - since >= s,
            Cadence::End => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn horizons_turn_into_steps() {
        let check = |amount, expected| assert_eq!(Horizon::new(amount, 100.0, 512), expected);
        check(Amount::Steps(7), Horizon::Steps(7));
        check(Amount::Epochs(2.5), Horizon::Steps(250));
        check(Amount::Epochs(0.001), Horizon::Steps(1));
        check(Amount::Tokens(1000), Horizon::Steps(2));
        check(Amount::Seconds(60.0), Horizon::Seconds(60.0));
    }

    #[test]
    fn a_time_limit_becomes_a_forecast_of_steps() {
        let horizon = Horizon::Seconds(100.0);
        let mut forecast = Forecast::new(&horizon);
        assert_eq!(forecast.steps, STEPS_GUESSED);
        forecast.update(&horizon, 8, 4.0);
        assert_eq!(forecast.steps, 200);
        forecast.update(&horizon, 9, 50.0);
        assert_eq!(forecast.steps, 200, "not looked at between");
        forecast.update(&horizon, 16, 120.0);
        assert_eq!(forecast.steps, 17, "past the limit the next step is the last");
    }

    #[test]
    fn cadences_follow_their_unit() {
        let horizon = Horizon::Steps(1000);
        let check = |amount, expected| assert_eq!(Cadence::new(amount, &horizon, 40.0), expected);
        check(Amount::Share(0.05), Cadence::Steps(50));
        check(Amount::Epochs(0.5), Cadence::Steps(20));
        check(Amount::End, Cadence::End);
        let timed = Cadence::new(Amount::Share(0.1), &Horizon::Seconds(60.0), 40.0);
        assert_eq!(timed, Cadence::Seconds(6.0));
        assert!(timed.is_due(3, 7.0, 1.0) && !timed.is_due(3, 6.9, 1.0));
        assert!(Cadence::Steps(5).is_due(10, 0.0, 0.0) && !Cadence::Steps(5).is_due(11, 0.0, 0.0));
    }
}
