//! A linear axis: a range and round tick values with their labels.

use crate::format;

/// A range of values with round ticks inside it.
pub(crate) struct Axis {
    low: f64,
    high: f64,
    pub ticks: Vec<Tick>,
    wanted: usize,
}

pub(crate) struct Tick {
    pub value: f64,
    pub label: String,
}

impl Axis {
    /// An axis over `low..=high` with about `wanted` ticks. A range of no width is widened.
    pub fn new(low: f64, high: f64, wanted: usize) -> Axis {
        let (low, high) = if high - low > f64::EPSILON * low.abs().max(high.abs()).max(1e-300) * 8.0
        {
            (low, high)
        } else {
            let margin = (low.abs() * 0.05).max(0.5);
            (low - margin, low + margin)
        };
        let mut axis = Axis { low, high, ticks: Vec::new(), wanted };
        axis.place_ticks();
        axis
    }

    /// The same axis with 4% of air at both ends, so that extremes do not lie on the frame.
    pub fn padded(self) -> Axis {
        let air = (self.high - self.low) * 0.04;
        Axis::new(self.low - air, self.high + air, self.wanted)
    }

    /// Position of a value as a share of the range; outside 0..=1 when outside the range.
    pub fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// The axis label; indented to stand over the tick labels.
    pub fn labelled(&self, label: &str) -> String {
        format!(" {label}")
    }

    fn place_ticks(&mut self) {
        let rough = (self.high - self.low) / self.wanted.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|m| m * power)
            .find(|s| *s >= rough * 0.999)
            .unwrap_or(10.0 * power);
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let first = (self.low / step).ceil();
        let last = (self.high / step).floor();
        self.ticks = (0..64)
            .map(|i| first + f64::from(i))
            .take_while(|k| *k <= last)
            .map(|k| Tick { value: k * step, label: label(k * step, decimals) })
            .collect();
    }
}

fn label(value: f64, decimals: usize) -> String {
    if value.abs() >= 1e15 {
        return format!("{value:.0e}");
    }
    if decimals == 0 && value >= 0.0 {
        return format::count(value.round() as u64);
    }
    format::fixed(value, decimals)
}
