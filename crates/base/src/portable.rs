//! Logarithm, sine and cosine from +, −, × and ÷ alone: the same bits on every machine, whatever
//! its mathematical library, so that initial weights are the same everywhere.

/// 1/3, 1/5, ..., 1/23.
const ODD: [f64; 11] = {
    let mut shares = [0.0; 11];
    let mut k = 0;
    while k < 11 {
        shares[k] = 1.0 / (2 * k + 3) as f64;
        k += 1;
    }
    shares
};

/// 1/(2k·(2k + 1)) and 1/(2k·(2k − 1)) for k = 1, ..., 8.
const FACTORS: [[f64; 2]; 8] = {
    let mut factors = [[0.0; 2]; 8];
    let mut k = 1;
    while k <= 8 {
        let n = (2 * k) as f64;
        factors[k - 1] = [1.0 / (n * (n + 1.0)), 1.0 / (n * (n - 1.0))];
        k += 1;
    }
    factors
};

/// ln x for a normal x > 0; relative error below 4·10⁻¹⁶ for x in (0, 1].
#[inline]
pub fn ln(x: f64) -> f64 {
    // x = 2^e·m with m in [√½, √2): the offset puts the boundary at √½.
    const ROOT_HALF: u64 = 0x3FE6_A09E_667F_3BCD;
    let bits = x.to_bits().wrapping_sub(ROOT_HALF);
    let exponent = (bits as i64) >> 52;
    let m = f64::from_bits((bits & ((1 << 52) - 1)).wrapping_add(ROOT_HALF));
    // ln m = 2·artanh s = 2·(s + s³/3 + s⁵/5 + …) with |s| < 0.172.
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let series = ODD.iter().rev().fold(0.0, |series, share| series * z + share);
    let tail = 2.0 * s * (z * series);
    exponent as f64 * std::f64::consts::LN_2 + (2.0 * s + tail)
}

/// (sin 2πu, cos 2πu) for u in [0, 1] on a grid of 2⁻⁵³; absolute error below 3·10⁻¹⁶.
#[inline]
pub fn sin_cos_turns(u: f64) -> (f64, f64) {
    // The nearest quarter turn; what remains is exact and within an eighth.
    let quarter = (4.0 * u + 0.5) as i32;
    let angle = (u - 0.25 * f64::from(quarter)) * std::f64::consts::TAU;
    let z = angle * angle;
    // Taylor: sin to the 17th power, cos to the 16th, nested: 1 − z/(2·3)·(1 − z/(4·5)·(…)).
    let (mut sine, mut cosine) = (1.0, 1.0);
    for [for_sine, for_cosine] in FACTORS.iter().rev() {
        sine = 1.0 - z * for_sine * sine;
        cosine = 1.0 - z * for_cosine * cosine;
    }
    sine *= angle;
    let (a, b) = if quarter & 1 == 0 { (sine, cosine) } else { (cosine, sine) };
    let sine = if quarter & 2 == 0 { a } else { -a };
    let cosine = if (quarter + 1) & 2 == 0 { b } else { -b };
    (sine, cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values over many orders of magnitude, and the ends.
    fn samples() -> impl Iterator<Item = f64> {
        let grid = 1.0 / (1u64 << 53) as f64;
        let spread = (1..20_000).map(|i| f64::from(i) / 20_000.0);
        let small = (0..53).flat_map(move |k| [1, 3].map(|n| n as f64 * grid * 2f64.powi(k) / 4.0));
        let near = (0..100).map(move |i| 1.0 - f64::from(i) * grid);
        spread.chain(small.filter(move |x| *x >= grid && *x <= 1.0)).chain(near)
    }

    #[test]
    fn ln_agrees_with_the_library() {
        for x in samples() {
            let (found, expected) = (ln(x), x.ln());
            let error = (found - expected).abs();
            assert!(error <= 4e-16 * expected.abs(), "ln {x}: {found} instead of {expected}");
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn sine_and_cosine_agree_with_the_library() {
        for u in samples().chain([0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875]) {
            let (sine, cosine) = sin_cos_turns(u);
            // Halving the argument's own rounding error: compare on the reduced angle.
            let (expected_sine, expected_cosine) = (u * std::f64::consts::TAU).sin_cos();
            let bound = 3e-16 + 9e-16 * u;
            assert!((sine - expected_sine).abs() < bound, "sin {u}: {sine} {expected_sine}");
            assert!((cosine - expected_cosine).abs() < bound, "cos {u}: {cosine}");
            assert!((sine * sine + cosine * cosine - 1.0).abs() < 1e-15);
        }
        assert_eq!(sin_cos_turns(0.5), (0.0, -1.0));
        assert_eq!(sin_cos_turns(0.25), (1.0, 0.0));
        assert_eq!(sin_cos_turns(0.75), (-1.0, 0.0));
    }
}
