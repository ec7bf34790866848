//! Medians, ranges and least squares, as few as the benchmark needs.

/// The middle value, or the mean of the two middle ones; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]),
    }
}

/// Median, least and greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// Of values that need not be sorted.
    pub fn of(values: &[f64]) -> Spread {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Spread { median: median(values), low, high }
    }
}

/// y ≈ intercept + slope·x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    pub slope: f64,
    pub intercept: f64,
    /// Share of y's variance that the line explains.
    pub r_squared: f64,
}

/// Least squares over points (x, y).
pub fn fit(points: &[(f64, f64)]) -> Line {
    let n = points.len() as f64;
    let mean_x = points.iter().map(|p| p.0).sum::<f64>() / n;
    let mean_y = points.iter().map(|p| p.1).sum::<f64>() / n;
    let xx: f64 = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
    let xy: f64 = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
    let yy: f64 = points.iter().map(|p| (p.1 - mean_y).powi(2)).sum();
    let slope = xy / xx;
    Line { slope, intercept: mean_y - slope * mean_x, r_squared: xy * xy / (xx * yy) }
}

/// The exponent b of y ≈ a·xᵇ: the slope of the line through the logarithms.
pub fn exponent(points: &[(f64, f64)]) -> f64 {
    let logarithms: Vec<(f64, f64)> = points.iter().map(|p| (p.0.ln(), p.1.ln())).collect();
    fit(&logarithms).slope
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        assert_eq!(Spread::of(&[2.0, 9.0, 1.0]), Spread { median: 2.0, low: 1.0, high: 9.0 });
    }

    #[test]
    fn a_line_and_a_power_are_found_again() {
        let line = fit(&[(1.0, 5.0), (2.0, 7.0), (4.0, 11.0)]);
        assert!((line.slope - 2.0).abs() < 1e-12 && (line.intercept - 3.0).abs() < 1e-12);
        assert!((line.r_squared - 1.0).abs() < 1e-12);
        assert!(fit(&[(1.0, 5.0), (2.0, 0.0), (4.0, 11.0)]).r_squared < 0.7);
        let squares: Vec<(f64, f64)> = (1..6).map(|x| (x as f64, 3.0 * (x * x) as f64)).collect();
        assert!((exponent(&squares) - 2.0).abs() < 1e-12);
    }
}
