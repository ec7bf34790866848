//! Means with their errors, bootstrap intervals, and the paired t-test.
//!
//! Sample formulas: Efron & Tibshirani, *An Introduction to the Bootstrap* (1993), chapters 13
//! and 14; Student's t through the regularized incomplete beta function.

use heldout_base::rng::{Random, streams};

/// A mean with its standard error (sample standard deviation over √n), of `n` values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub mean: f64,
    pub standard_error: f64,
    pub n: usize,
}

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

/// Two treatments measured on the same units (seeds, folds): is the mean difference zero?
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairedT {
    /// Mean of `a − b`.
    pub difference: f64,
    pub standard_error: f64,
    pub t: f64,
    pub degrees: f64,
    /// Two-sided.
    pub p: f64,
    /// 95% interval of the difference.
    pub interval: Interval,
}

/// Mean and standard error; `None` for fewer than two values, whose error is unknown.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let mean = mean(values);
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some(Estimate { mean, standard_error: (variance / n).sqrt(), n: values.len() })
}

/// The difference of two independent means: errors add in quadrature.
pub fn difference(a: Estimate, b: Estimate) -> Estimate {
    Estimate {
        mean: a.mean - b.mean,
        standard_error: a.standard_error.hypot(b.standard_error),
        n: a.n.min(b.n),
    }
}

/// The interval mean ± z·SE that covers `level` (0.95, say) when the mean is nearly normal, as a
/// mean over thousands of tokens is.
pub fn normal_interval(mean: f64, standard_error: f64, level: f64) -> Interval {
    let z = normal_quantile(0.5 + level / 2.0);
    Interval { low: mean - z * standard_error, high: mean + z * standard_error }
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
    let n = values.len();
    let mut draw = vec![0.0; n];
    let mut replicates: Vec<f64> = (0..resamples)
        .map(|r| {
            let random = Random::new(seed, streams::BOOTSTRAP, r as u64);
            for (i, slot) in draw.iter_mut().enumerate() {
                *slot = values[random.below(i as u64, n as u64) as usize];
            }
            statistic(&draw)
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

/// The paired t-test on `a[i] − b[i]`. `None` for fewer than two pairs or unequal lengths.
pub fn paired_t(a: &[f64], b: &[f64]) -> Option<PairedT> {
    if a.len() != b.len() {
        return None;
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(x, y)| x - y).collect();
    let Estimate { mean, standard_error, n } = estimate(&differences)?;
    let degrees = (n - 1) as f64;
    let t = if standard_error > 0.0 {
        mean / standard_error
    } else {
        mean.signum() * f64::INFINITY * f64::from(mean != 0.0)
    };
    let t = if t.is_nan() { 0.0 } else { t };
    let half = student_quantile(0.975, degrees) * standard_error;
    Some(PairedT {
        difference: mean,
        standard_error,
        t,
        degrees,
        p: 2.0 * student_cdf(-t.abs(), degrees),
        interval: Interval { low: mean - half, high: mean + half },
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
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
    let center = mean(&jackknife);
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
fn quantile(sorted: &[f64], level: f64) -> f64 {
    let position = level.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

/// Φ(x), to about 1e-15 relative to 1.
pub fn normal_cdf(x: f64) -> f64 {
    // Φ(x) = ½ + φ(x)·(x + x³/3 + x⁵/15 + …) converges quickly for moderate x;
    // beyond 8 the tail is below 1e-15.
    if x.abs() > 8.0 {
        return f64::from(x > 0.0);
    }
    let (mut sum, mut term, mut k) = (x, x, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        k += 2.0;
        term *= x * x / k;
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// Φ⁻¹(p) for p in (0, 1), by bisection of [`normal_cdf`]: exact enough, and nothing to mistype.
pub fn normal_quantile(p: f64) -> f64 {
    bisect(p, 8.0, &normal_cdf)
}

/// The cumulative distribution of Student's t with `degrees` of freedom.
pub fn student_cdf(t: f64, degrees: f64) -> f64 {
    if t.is_infinite() {
        return f64::from(t > 0.0);
    }
    let tail = incomplete_beta(degrees / 2.0, 0.5, degrees / (degrees + t * t)) / 2.0;
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// The quantile of Student's t with `degrees` of freedom for p in (0, 1), by bisection.
pub fn student_quantile(p: f64, degrees: f64) -> f64 {
    bisect(p, 1e6, &|t| student_cdf(t, degrees))
}

fn bisect(p: f64, bound: f64, cdf: &dyn Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (-bound, bound);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if cdf(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// Iₓ(a, b) by its continued fraction (modified Lentz).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return f64::from(x >= 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front =
        (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    let tiny = 1e-300;
    let guard = |v: f64| if v.abs() < tiny { tiny } else { v };
    let (mut f, mut c, mut d) = (1.0, 1.0, 0.0);
    for i in 0..500 {
        let m = f64::from(i / 2);
        let numerator = match i {
            0 => 1.0,
            i if i % 2 == 0 => m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            _ => -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        };
        d = 1.0 / guard(1.0 + numerator * d);
        c = guard(1.0 + numerator / c);
        f *= c * d;
        if (1.0 - c * d).abs() < 1e-15 {
            break;
        }
    }
    front * (f - 1.0)
}

/// ln Γ(x) for x > 0: Stirling's series after shifting x past 16.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 16.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series = inverse
        * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square * (1.0 / 1680.0))));
    (x - 0.5) * x.ln() - x + (2.0 * std::f64::consts::PI).sqrt().ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: [f64; 8] = [1.52, 1.49, 1.55, 1.60, 1.47, 1.58, 1.51, 1.50];
    const B: [f64; 8] = [1.50, 1.48, 1.52, 1.55, 1.49, 1.53, 1.50, 1.47];

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b} within {tolerance}");
    }

    #[test]
    fn distributions_agree_with_scipy() {
        close(normal_cdf(1.3), 0.9031995154143897, 1e-14);
        close(normal_cdf(-3.7), 0.00010779973347738823, 1e-15);
        close(normal_quantile(0.975), 1.959_963_984_540_054, 1e-12);
        close(student_cdf(2.1, 5.0), 0.9551233750577006, 1e-12);
        close(student_cdf(-0.4, 30.0), 0.345995258257096, 1e-12);
        close(student_quantile(0.975, 7.0), 2.364624251592784, 1e-9);
    }

    #[test]
    fn paired_t_agrees_with_scipy() {
        let test = paired_t(&A, &B).unwrap();
        close(test.t, 2.74954541697, 1e-10);
        close(test.p, 0.0285226673288, 1e-10);
        close(test.interval.low, 0.00314987567312, 1e-10);
        close(test.interval.high, 0.0418501243269, 1e-10);
    }

    #[test]
    fn estimates() {
        let e = estimate(&A).unwrap();
        close(e.mean, 1.5275, 1e-12);
        close(e.standard_error, 0.0160078105936, 1e-12);
        assert_eq!(estimate(&[1.0]), None);
        let same = paired_t(&A, &A).unwrap();
        assert_eq!((same.t, same.p), (0.0, 1.0));
    }

    #[test]
    fn bootstrap_agrees_with_scipy() {
        // SciPy draws other resamples, so the ends agree within the bootstrap's own noise.
        let skewed: Vec<f64> = (1..=40).map(|i| f64::from(i * i) / 100.0).collect();
        let p = bootstrap(&skewed, &mean, Bootstrap::Percentile, 0.95, 20_000, 1).unwrap();
        let b = bootstrap(&skewed, &mean, Bootstrap::Bca, 0.95, 20_000, 1).unwrap();
        close(p.low, 4.06349375, 0.03);
        close(p.high, 7.078, 0.03);
        close(b.low, 4.13138458272, 0.03);
        close(b.high, 7.158, 0.03);
        assert_eq!(bootstrap(&skewed, &mean, Bootstrap::Bca, 0.95, 20_000, 1), Some(b));
    }

    proptest! {
        #[test]
        fn intervals_hold_the_mean_and_never_panic(
            values in proptest::collection::vec(-1e3f64..1e3, 2..20)
        ) {
            let e = estimate(&values).unwrap();
            let i = normal_interval(e.mean, e.standard_error, 0.95);
            prop_assert!(i.low <= e.mean && e.mean <= i.high);
            let b = bootstrap(&values, &mean, Bootstrap::Bca, 0.9, 50, 3).unwrap();
            prop_assert!(b.low <= b.high);
        }
    }
}
