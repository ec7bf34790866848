//! Scores with percentile-bootstrap intervals over examples, and two systems compared on the same
//! examples.
//!
//! A resample is given to a metric as how often each example was drawn, so that a corpus score
//! (BLEU, macro F1, AUROC) is computed again from what is kept per example, and nothing is counted
//! or tokenized twice. Resample `r` of a seed draws the same examples for every metric and system.
//!
//! Efron & Tibshirani 1993, chapters 13 and 16; Koehn 2004, "Statistical significance tests for
//! machine translation evaluation"; Riezler & Maxwell 2005, "On some pitfalls in automatic
//! evaluation and significance testing for MT".

use crate::bootstrap::{Interval, draw, quantile};
use crate::error::MeasureError;

/// A score of a set of examples, some of which may count more than once, or not at all.
pub trait Metric {
    /// How many examples there are.
    fn count(&self) -> usize;

    /// The score of the set in which example `i` occurs `times[i]` times; `times` has
    /// [`count`](Self::count) entries that sum to at least 1. NaN where the score is not defined.
    fn score(&self, times: &[u32]) -> f64;
}

/// How intervals are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resampling {
    pub resamples: usize,
    /// The share that the interval covers.
    pub level: f64,
    pub seed: u64,
}

impl Default for Resampling {
    fn default() -> Resampling {
        Resampling { resamples: 1000, level: 0.95, seed: 1 }
    }
}

impl Resampling {
    fn check(&self) -> Result<(), MeasureError> {
        if self.resamples < 2 {
            return Err(MeasureError::Resamples { resamples: self.resamples });
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(MeasureError::Level { level: self.level });
        }
        Ok(())
    }

    /// From the replicates' quantiles; replicates that are not defined are left out.
    fn interval(&self, replicates: &mut Vec<f64>) -> Interval {
        replicates.retain(|replicate| !replicate.is_nan());
        if replicates.is_empty() {
            return Interval { low: f64::NAN, high: f64::NAN };
        }
        replicates.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        Interval { low: quantile(replicates, tail), high: quantile(replicates, 1.0 - tail) }
    }
}

/// A score and its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    pub value: f64,
    pub interval: Interval,
    pub examples: usize,
    /// Resamples on which the score was not defined (AUROC of a resample with one class): the
    /// interval is that of the others, and NaN where there are none.
    pub undefined: usize,
}

/// Two systems, `a` and `b`, on the same examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Score of `a` less score of `b`.
    pub difference: f64,
    pub interval: Interval,
    /// Two-sided: how often resampling alone moves the difference as far from its mean as it is
    /// from zero, (count + 1) / (resamples + 1).
    pub p: f64,
    pub undefined: usize,
}

/// The mean of one value per example: accuracy from 0 and 1, exact match, ROUGE's F, a loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Mean {
    pub values: Vec<f64>,
}

impl Metric for Mean {
    fn count(&self) -> usize {
        self.values.len()
    }

    fn score(&self, times: &[u32]) -> f64 {
        const PARTS: usize = 8;
        let (mut sums, mut counts) = ([0.0; PARTS], [0; PARTS]);
        let values = self.values.chunks_exact(PARTS);
        let drawn = times.chunks_exact(PARTS);
        let rest = values.remainder().iter().zip(drawn.remainder());
        // Several sums side by side, so that one addition need not wait for the last.
        for (value, times) in values.zip(drawn) {
            for part in 0..PARTS {
                // As i32, which every processor can convert by the vector.
                sums[part] += f64::from(times[part] as i32) * value[part];
                counts[part] += times[part];
            }
        }
        let (mut sum, mut count) = (sums.iter().sum::<f64>(), counts.iter().sum::<u32>());
        for (value, times) in rest {
            sum += f64::from(*times) * value;
            count += times;
        }
        sum / f64::from(count)
    }
}

/// Sums rows of per-example counts `times` over: what BLEU and chrF are computed from.
pub(crate) fn weighted_sum<const D: usize>(rows: &[[u64; D]], times: &[u32]) -> [u64; D] {
    let mut sum = [0; D];
    for (row, times) in rows.iter().zip(times) {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += u64::from(*times) * value;
        }
    }
    sum
}

/// The score of all examples, each once.
pub fn value(metric: &dyn Metric) -> f64 {
    metric.score(&vec![1; metric.count()])
}

/// The score with its bootstrap interval.
///
/// # Errors
/// No examples, a score that is not defined on them, or a resampling that is none.
pub fn measure(metric: &dyn Metric, resampling: &Resampling) -> Result<Measured, MeasureError> {
    let whole = defined(metric)?;
    resampling.check()?;
    let mut replicates = replicates(&[metric], resampling, &|scores| scores[0]);
    let interval = resampling.interval(&mut replicates);
    Ok(Measured {
        value: whole,
        interval,
        examples: metric.count(),
        undefined: resampling.resamples - replicates.len(),
    })
}

/// The paired bootstrap: both systems on the same resamples.
///
/// # Errors
/// Systems with different numbers of examples, and what [`measure`] refuses.
pub fn compare(
    a: &dyn Metric,
    b: &dyn Metric,
    resampling: &Resampling,
) -> Result<Comparison, MeasureError> {
    if a.count() != b.count() {
        return Err(MeasureError::Lengths { predictions: a.count(), references: b.count() });
    }
    let difference = defined(a)? - defined(b)?;
    resampling.check()?;
    let mut replicates = replicates(&[a, b], resampling, &|scores| scores[0] - scores[1]);
    let interval = resampling.interval(&mut replicates);
    let mean = replicates.iter().sum::<f64>() / replicates.len() as f64;
    let as_far = replicates.iter().filter(|r| (*r - mean).abs() >= difference.abs()).count();
    Ok(Comparison {
        difference,
        interval,
        p: (as_far + 1) as f64 / (replicates.len() + 1) as f64,
        undefined: resampling.resamples - replicates.len(),
    })
}

fn defined(metric: &dyn Metric) -> Result<f64, MeasureError> {
    if metric.count() == 0 {
        return Err(MeasureError::Empty);
    }
    let value = value(metric);
    if value.is_nan() {
        let why = "these examples give no number";
        return Err(MeasureError::Undefined { metric: "this score", why });
    }
    Ok(value)
}

/// What `join` makes of the metrics' scores, for each resample.
fn replicates(
    metrics: &[&dyn Metric],
    resampling: &Resampling,
    join: &dyn Fn(&[f64]) -> f64,
) -> Vec<f64> {
    let count = metrics[0].count();
    let (mut drawn, mut times) = (vec![0; count], vec![0; count]);
    let mut scores = vec![0.0; metrics.len()];
    (0..resampling.resamples)
        .map(|resample| {
            draw(resampling.seed, resample, &mut drawn);
            times.fill(0);
            for index in &drawn {
                times[*index as usize] += 1;
            }
            for (score, metric) in scores.iter_mut().zip(metrics) {
                *score = metric.score(&times);
            }
            join(&scores)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mean_of(values: &[f64]) -> Mean {
        Mean { values: values.to_vec() }
    }

    #[test]
    fn the_interval_of_a_share_is_the_binomial_one() {
        // 700 of 1000 right: p ± 1.96·√(p(1−p)/n), within the bootstrap's own noise.
        let values: Vec<f64> = (0..1000).map(|i| f64::from(u8::from(i % 10 < 7))).collect();
        let resampling = Resampling { resamples: 20_000, ..Resampling::default() };
        let found = measure(&mean_of(&values), &resampling).unwrap();
        let half = 1.96 * (0.7f64 * 0.3 / 1000.0).sqrt();
        assert!((found.value - 0.7).abs() < 1e-12);
        assert!((found.interval.low - (0.7 - half)).abs() < 0.0015, "{found:?}");
        assert!((found.interval.high - (0.7 + half)).abs() < 0.0015, "{found:?}");
        assert_eq!(found.undefined, 0);
        assert_eq!(measure(&mean_of(&values), &resampling).unwrap(), found);
    }

    #[test]
    fn a_difference_has_the_p_of_the_paired_z_test() {
        // Differences with mean 0.02 and standard deviation 0.2 over 400 examples: z = 2.
        let a: Vec<f64> = (0..400).map(|i| if i % 2 == 0 { 0.22 } else { -0.18 }).collect();
        let b = vec![0.0; 400];
        let resampling = Resampling { resamples: 20_000, ..Resampling::default() };
        let found = compare(&mean_of(&a), &mean_of(&b), &resampling).unwrap();
        assert!((found.difference - 0.02).abs() < 1e-12);
        assert!((found.p - 0.0455).abs() < 0.008, "{found:?}");
        assert!((found.interval.low - 0.0004).abs() < 0.0011, "{found:?}");
        let back = compare(&mean_of(&b), &mean_of(&a), &resampling).unwrap();
        assert_eq!((back.difference, back.p), (-found.difference, found.p));
        assert_eq!(compare(&mean_of(&a), &mean_of(&a), &resampling).unwrap().p, 1.0);
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let default = Resampling::default();
        assert_eq!(measure(&mean_of(&[]), &default), Err(MeasureError::Empty));
        let none = Resampling { resamples: 0, ..default };
        let wide = Resampling { level: 1.0, ..default };
        let one = mean_of(&[1.0]);
        assert_eq!(measure(&one, &none), Err(MeasureError::Resamples { resamples: 0 }));
        assert_eq!(measure(&one, &wide), Err(MeasureError::Level { level: 1.0 }));
        assert!(matches!(
            compare(&one, &mean_of(&[1.0, 2.0]), &default),
            Err(MeasureError::Lengths { predictions: 1, references: 2 })
        ));
        assert!(matches!(
            measure(&mean_of(&[f64::NAN]), &default),
            Err(MeasureError::Undefined { .. })
        ));
    }

    proptest! {
        #[test]
        fn intervals_lie_within_the_values(
            values in proptest::collection::vec(0.0f64..1.0, 1..60)
        ) {
            let resampling = Resampling { resamples: 60, ..Resampling::default() };
            let found = measure(&mean_of(&values), &resampling).unwrap();
            prop_assert!(found.interval.low <= found.interval.high);
            prop_assert!(found.interval.low >= 0.0 && found.interval.high <= 1.0);
            let naive = values.iter().sum::<f64>() / values.len() as f64;
            prop_assert!((found.value - naive).abs() < 1e-12);
        }
    }
}
