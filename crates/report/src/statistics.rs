//! Means with their errors, and the paired t-test (Student's t through the regularized incomplete
//! beta function). Bootstrap intervals and the normal distribution are those of `measure`.

use heldout_measure::normal::bisect;

pub use heldout_measure::bootstrap::{Bootstrap, Interval, bootstrap};
pub use heldout_measure::normal::{normal_cdf, normal_quantile};

/// A mean with its standard error (sample standard deviation over √n), of `n` values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub mean: f64,
    pub standard_error: f64,
    pub n: usize,
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

    proptest! {
        #[test]
        fn intervals_hold_the_mean_and_never_panic(
            values in proptest::collection::vec(-1e3f64..1e3, 2..20)
        ) {
            let e = estimate(&values).unwrap();
            let i = normal_interval(e.mean, e.standard_error, 0.95);
            prop_assert!(i.low <= e.mean && e.mean <= i.high);
        }
    }
}
