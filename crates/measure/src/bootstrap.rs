//! Bootstrap intervals of any statistic of a few values: the replicates' quantiles, or BCa.
//!
//! Formulas: Efron & Tibshirani, *An Introduction to the Bootstrap* (1993), chapters 13 and 14. For
//! scores of thousands of examples see [`crate::resample`], which draws the same resamples.

use heldout_base::rng::{Random, streams};

use crate::normal::{normal_cdf, normal_quantile};

/// The two ends of an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// How bootstrap replicates become an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// The replicates' own quantiles.
    Percentile,
    /// Corrected for bias and for acceleration (BCa): better for skewed statistics.
    Bca,
}

/// Which examples each resample draws: `n` numbers below `n`, with replacement, a pure function of
/// the seed and the resample's number.
pub(crate) fn draw(seed: u64, resample: usize, out: &mut [u32]) {
    let n = u32::try_from(out.len()).expect("fewer than 2^32 examples are resampled");
    Random::new(seed, streams::BOOTSTRAP, resample as u64).fill_below(n, out);
}

/// A bootstrap interval for `statistic` over `values`, from `resamples` draws with replacement.
/// The same seed gives the same interval. `None` for fewer than two values.
pub fn bootstrap(
    values: &[f64],
    statistic: &dyn Fn(&[f64]) -> f64,
    method: Bootstrap,
    level: f64,
    resamples: usize,
    seed: u64,
) -> Option<Interval> {
    assert!(level > 0.0 && level < 1.0, "level is a share between 0 and 1, got {level}");
    if values.len() < 2 || resamples == 0 {
        return None;
    }
    let mut drawn = vec![0; values.len()];
    let mut sample = vec![0.0; values.len()];
    let mut replicates: Vec<f64> = (0..resamples)
        .map(|resample| {
            draw(seed, resample, &mut drawn);
            for (slot, index) in sample.iter_mut().zip(&drawn) {
                *slot = values[*index as usize];
            }
            statistic(&sample)
        })
        .collect();
    replicates.sort_by(f64::total_cmp);
    let tail = (1.0 - level) / 2.0;
    let (low, high) = match method {
        Bootstrap::Percentile => (tail, 1.0 - tail),
        Bootstrap::Bca => bca_levels(values, statistic, &replicates, tail),
    };
    Some(Interval { low: quantile(&replicates, low), high: quantile(&replicates, high) })
}

/// BCa's adjusted tail levels: z₀ from the share of replicates below the estimate, the
/// acceleration from the jackknife's skewness.
fn bca_levels(
    values: &[f64],
    statistic: &dyn Fn(&[f64]) -> f64,
    sorted: &[f64],
    tail: f64,
) -> (f64, f64) {
    let observed = statistic(values);
    // Ties count half, as in SciPy, so that a discrete statistic is not biased.
    let below = sorted.iter().filter(|&&r| r < observed).count() as f64;
    let equal = sorted.iter().filter(|&&r| r == observed).count() as f64;
    let share = (below + equal / 2.0) / sorted.len() as f64;
    if share <= 0.0 || share >= 1.0 {
        return (tail, 1.0 - tail);
    }
    let z0 = normal_quantile(share);
    let jackknife: Vec<f64> = (0..values.len())
        .map(|left_out| {
            let rest: Vec<f64> = values
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != left_out)
                .map(|(_, v)| *v)
                .collect();
            statistic(&rest)
        })
        .collect();
    let center = jackknife.iter().sum::<f64>() / jackknife.len() as f64;
    let square: f64 = jackknife.iter().map(|v| (center - v).powi(2)).sum();
    let cube: f64 = jackknife.iter().map(|v| (center - v).powi(3)).sum();
    let acceleration = if square > 0.0 { cube / (6.0 * square.powf(1.5)) } else { 0.0 };
    let adjust = |level: f64| {
        let z = z0 + normal_quantile(level);
        normal_cdf(z0 + z / (1.0 - acceleration * z))
    };
    (adjust(tail), adjust(1.0 - tail))
}

/// Linear interpolation between order statistics (the usual type 7).
pub fn quantile(sorted: &[f64], level: f64) -> f64 {
    let position = level.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn bootstrap_agrees_with_scipy() {
        // SciPy draws other resamples, so the ends agree within the bootstrap's own noise.
        let close = |a: f64, b: f64| assert!((a - b).abs() <= 0.03, "{a} is not {b}");
        let skewed: Vec<f64> = (1..=40).map(|i| f64::from(i * i) / 100.0).collect();
        let p = bootstrap(&skewed, &mean, Bootstrap::Percentile, 0.95, 20_000, 1).unwrap();
        let b = bootstrap(&skewed, &mean, Bootstrap::Bca, 0.95, 20_000, 1).unwrap();
        close(p.low, 4.06349375);
        close(p.high, 7.078);
        close(b.low, 4.13138458272);
        close(b.high, 7.158);
        assert_eq!(bootstrap(&skewed, &mean, Bootstrap::Bca, 0.95, 20_000, 1), Some(b));
    }

    proptest! {
        #[test]
        fn intervals_are_ordered_and_never_panic(
            values in proptest::collection::vec(-1e3f64..1e3, 2..20)
        ) {
            let b = bootstrap(&values, &mean, Bootstrap::Bca, 0.9, 50, 3).unwrap();
            prop_assert!(b.low <= b.high);
        }
    }
}
