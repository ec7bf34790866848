//! Confidence against being right: a reliability table, the expected calibration error, and the
//! temperature that would mend it (Guo et al. 2017, "On Calibration of Modern Neural Networks").

use heldout_measure::calibration::BINS;
use heldout_record::examination::{Calibration, CalibrationBin};

pub use heldout_measure::calibration::{Judged, Reliability, likeliest};

/// The reliability table as a record, and what it comes to.
pub fn table(reliability: &Reliability, fit: &Fit) -> Calibration {
    let bins = &reliability.bins;
    let targets = reliability.count();
    let all = targets.max(1) as f64;
    let bin = |place: usize| {
        let count = bins[place].count.max(1) as f64;
        CalibrationBin {
            low: place as f64 / BINS as f64,
            high: (place + 1) as f64 / BINS as f64,
            count: bins[place].count,
            confidence: bins[place].confidence / count,
            accuracy: bins[place].right / count,
        }
    };
    Calibration {
        targets,
        error: reliability.error(),
        confidence: bins.iter().map(|bin| bin.confidence).sum::<f64>() / all,
        accuracy: bins.iter().map(|bin| bin.right).sum::<f64>() / all,
        bins: (0..BINS).map(bin).collect(),
        temperature: fit.temperature,
        temperature_gain: fit.gain,
    }
}

/// The temperature with the lowest loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    pub temperature: f64,
    /// Loss at temperature 1 less the loss at this one, nats per token.
    pub gain: f64,
}

/// Passes over the predictions at most.
const PASSES: usize = 12;
/// 1/T is looked for between this and its inverse.
const LEAST: f64 = 0.05;

/// Loss at 1/T = β, with its first two derivatives in β; means over the predictions.
struct Curve {
    loss: f64,
    slope: f64,
    bend: f64,
}

/// Calls back with the logits and the target of every prediction.
type Predictions<'a> = dyn FnMut(&mut dyn FnMut(&[f32], u32)) + 'a;

/// Fits the temperature by Newton's method on β = 1/T, in which the loss is convex: its slope is
/// E[z] − z_target and its bend Var[z] under softmax(βz). `predictions` gives all of them once a
/// call, the same each time.
pub fn fit_temperature(predictions: &mut Predictions) -> Fit {
    let mut beta = 1.0;
    let first = curve(beta, predictions);
    let (mut now, mut lowest) = (Curve { ..first }, (beta, first.loss));
    for _ in 1..PASSES {
        if now.bend <= 0.0 || !now.slope.is_finite() {
            break;
        }
        // Far from the minimum a full step may overshoot.
        let next = (beta - now.slope / now.bend).clamp(beta / 2.0, beta * 2.0);
        let next = next.clamp(LEAST, 1.0 / LEAST);
        if (next - beta).abs() < 1e-6 {
            break;
        }
        beta = next;
        now = curve(beta, predictions);
        if now.loss < lowest.1 {
            lowest = (beta, now.loss);
        }
    }
    Fit { temperature: 1.0 / lowest.0, gain: (first.loss - lowest.1).max(0.0) }
}

fn curve(beta: f64, predictions: &mut Predictions) -> Curve {
    let (mut loss, mut slope, mut bend, mut count) = (0.0, 0.0, 0.0, 0u64);
    predictions(&mut |logits, target| {
        let most = f64::from(logits[likeliest(logits) as usize]);
        let (mut sum, mut first, mut second) = (0.0, 0.0, 0.0);
        for logit in logits {
            // Relative to the largest, so that nothing overflows.
            let z = f64::from(*logit) - most;
            let weight = (beta * z).exp();
            sum += weight;
            first += weight * z;
            second += weight * z * z;
        }
        let z_target = f64::from(logits[target as usize]) - most;
        let mean = first / sum;
        loss += sum.ln() - beta * z_target;
        slope += mean - z_target;
        bend += second / sum - mean * mean;
        count += 1;
    });
    let n = count.max(1) as f64;
    Curve { loss: loss / n, slope: slope / n, bend: bend / n }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    /// `calibration.json`, made by `make_calibration.py` with numpy and scipy.
    #[derive(Deserialize)]
    struct Golden {
        logits: Vec<Vec<f32>>,
        targets: Vec<u32>,
        error: f64,
        confidence: f64,
        accuracy: f64,
        bins: Vec<(u64, f64, f64)>,
        temperature: f64,
        gain: f64,
    }

    #[test]
    fn the_table_and_the_temperature_are_those_of_numpy_and_scipy() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/calibration.json");
        let text = std::fs::read(path).expect("a golden file");
        let golden: Vec<Golden> = serde_json::from_slice(&text).expect("golden files are JSON");
        assert!(golden.len() >= 3, "one sure, one unsure, one in between");
        for case in &golden {
            let mut reliability = Reliability::default();
            for (logits, target) in case.logits.iter().zip(&case.targets) {
                reliability.add(&Judged::of(logits, *target));
            }
            let fit = fit_temperature(&mut |see| {
                case.logits.iter().zip(&case.targets).for_each(|(row, target)| see(row, *target));
            });
            let found = table(&reliability, &fit);
            let close = |a: f64, b: f64, tolerance: f64| {
                assert!((a - b).abs() < tolerance, "{a} is not {b}");
            };
            close(found.error, case.error, 1e-9);
            close(found.confidence, case.confidence, 1e-9);
            close(found.accuracy, case.accuracy, 1e-9);
            for (bin, (count, confidence, accuracy)) in found.bins.iter().zip(&case.bins) {
                assert_eq!(bin.count, *count);
                close(bin.confidence, *confidence, 1e-9);
                close(bin.accuracy, *accuracy, 1e-9);
            }
            // Scipy minimises to about 1e-8 in T; the loss is flat there.
            close(found.temperature, case.temperature, 1e-4 * case.temperature);
            close(found.temperature_gain, case.gain, 1e-8);
        }
    }

    #[test]
    fn no_predictions_give_no_error() {
        let fit = fit_temperature(&mut |_| {});
        assert_eq!(fit, Fit { temperature: 1.0, gain: 0.0 });
        assert_eq!(table(&Reliability::default(), &fit).error, 0.0);
    }
}
