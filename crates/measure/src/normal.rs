//! The normal distribution and its quantiles.

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

/// Where the increasing `cdf` reaches `p`, looked for in `-bound..bound`.
pub fn bisect(p: f64, bound: f64, cdf: &dyn Fn(f64) -> f64) -> f64 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_scipy() {
        let close = |a: f64, b: f64, tolerance: f64| assert!((a - b).abs() < tolerance, "{a} {b}");
        close(normal_cdf(1.3), 0.9031995154143897, 1e-14);
        close(normal_cdf(-3.7), 0.00010779973347738823, 1e-15);
        close(normal_quantile(0.975), 1.959_963_984_540_054, 1e-12);
    }
}
