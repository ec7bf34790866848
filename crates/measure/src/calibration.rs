//! Confidence against being right: a reliability table and the expected calibration error (Guo et
//! al. 2017, "On Calibration of Modern Neural Networks", equation 3).

use crate::resample::Metric;

/// Equal widths of confidence; 15 as in the paper.
pub const BINS: usize = 15;

/// One prediction, judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// The probability of the likeliest class.
    pub confidence: f64,
    /// 1 where that class was the right one, else 0.
    pub right: f64,
}

impl Judged {
    /// `logits`: [classes], or [V] where tokens are predicted.
    pub fn of(logits: &[f32], target: u32) -> Judged {
        let first = likeliest(logits);
        let most = f64::from(logits[first as usize]);
        let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - most).exp()).sum();
        Judged { confidence: 1.0 / sum, right: f64::from(u8::from(first == target)) }
    }
}

/// The place of the largest number; the first one on a tie.
pub fn likeliest<T: PartialOrd>(scores: &[T]) -> u32 {
    let mut best = 0;
    for (place, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = place;
        }
    }
    best as u32
}

/// The predictions of one bin of confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    pub count: u64,
    /// Sum of the confidences.
    pub confidence: f64,
    /// How many were right.
    pub right: f64,
}

/// Predictions so far, by confidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Reliability {
    /// Bin `b` holds confidences in (b/15, (b+1)/15].
    pub bins: [Bin; BINS],
}

impl Default for Reliability {
    fn default() -> Reliability {
        Reliability { bins: [Bin::default(); BINS] }
    }
}

/// The bin of a confidence: (low, high].
fn place(confidence: f64) -> usize {
    ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1
}

impl Reliability {
    /// Puts a prediction into its bin.
    pub fn add(&mut self, judged: &Judged) {
        self.add_times(judged, 1);
    }

    fn add_times(&mut self, judged: &Judged, times: u32) {
        let bin = &mut self.bins[place(judged.confidence)];
        bin.count += u64::from(times);
        bin.confidence += f64::from(times) * judged.confidence;
        bin.right += f64::from(times) * judged.right;
    }

    /// How many predictions there are.
    pub fn count(&self) -> u64 {
        self.bins.iter().map(|bin| bin.count).sum()
    }

    /// Expected calibration error: Σ n_b/N · |accuracy_b − confidence_b| over the bins, between 0
    /// and 1; 0 without predictions.
    pub fn error(&self) -> f64 {
        let all = self.count().max(1) as f64;
        self.bins.iter().map(|bin| (bin.right - bin.confidence).abs() / all).sum()
    }
}

/// The expected calibration error, resampled by example.
#[derive(Clone, Debug, PartialEq)]
pub struct CalibrationError {
    pub judged: Vec<Judged>,
}

impl Metric for CalibrationError {
    fn count(&self) -> usize {
        self.judged.len()
    }

    fn score(&self, times: &[u32]) -> f64 {
        let mut reliability = Reliability::default();
        for (judged, times) in self.judged.iter().zip(times).filter(|(_, times)| **times > 0) {
            reliability.add_times(judged, *times);
        }
        reliability.error()
    }
}
