//! Normal noise by the vector: a pure function of (seed, stream, step, index), added in place.
//!
//! Philox makes four words of 32 bits for a counter, and Box and Muller (1958) four normals of
//! them: √(−2 ln u)·cos 2πv and √(−2 ln u)·sin 2πv with u = (word + ½)/2³² and v = word/2³², in
//! f32. The tails reach 6.76 σ; sines and cosines are right to 9e-8, the logarithm to 1e-7.
//! Multiplications and additions are rounded separately, so that every instruction set gives the
//! same bits.

use std::f32::consts::TAU;

use heldout_base::rng::{Random, philox4x32_10};

use crate::device::Isa;
use crate::math::ln;
use crate::simd::dispatch;

/// Counters side by side: as many as fit the widest register.
const LANES: usize = 16;
/// Normals that they make. The k-th word of counter 16·g + l makes normal 64·g + 16·k + l.
const GROUP: usize = 4 * LANES;
/// 2⁻³².
const UNIT: f32 = 1.0 / 4_294_967_296.0;

/// values[i] ← values[i] + std·n(first + i), n standard normal and the same for each index however
/// the values are cut.
pub fn add_normals(isa: Isa, values: &mut [f32], random: &Random, first: u64, std: f32) {
    dispatch(
        isa,
        #[inline(always)]
        || {
            let mut rest = values;
            let mut index = first;
            while !rest.is_empty() {
                let normals = group(random, index / GROUP as u64);
                let normals = &normals[(index % GROUP as u64) as usize..];
                let count = normals.len().min(rest.len());
                let (now, later) = rest.split_at_mut(count);
                for (value, normal) in now.iter_mut().zip(normals) {
                    *value += std * normal;
                }
                rest = later;
                index += count as u64;
            }
        },
    );
}

/// The normals 64·number to 64·number + 63.
#[inline(always)]
fn group(random: &Random, number: u64) -> [f32; GROUP] {
    let ([low, step, stream, high], key) = random.counter(number * LANES as u64);
    let mut normals = [0.0; GROUP];
    let (first, second) = normals.split_at_mut(2 * LANES);
    let (a, b) = first.split_at_mut(LANES);
    let (c, d) = second.split_at_mut(LANES);
    for lane in 0..LANES {
        // The low word does not overflow within a group: groups begin at multiples of 16.
        let words = philox4x32_10([low + lane as u32, step, stream, high], key);
        (a[lane], b[lane]) = pair(words[0], words[1]);
        (c[lane], d[lane]) = pair(words[2], words[3]);
    }
    normals
}

/// Two independent normals of two random words.
#[inline(always)]
fn pair(radius: u32, angle: u32) -> (f32, f32) {
    let radius = (-2.0 * ln((radius as f32 + 0.5) * UNIT)).sqrt();
    let (sine, cosine) = sin_cos(angle);
    (radius * cosine, radius * sine)
}

/// Sine and cosine of 2π·word/2³².
#[inline(always)]
fn sin_cos(word: u32) -> (f32, f32) {
    // The nearest quarter of a turn, and what is left of the word: an eighth to either side.
    let quarter = word.wrapping_add(1 << 29) >> 30;
    let r = word.wrapping_sub(quarter << 30) as i32 as f32 * UNIT;
    let s = r * r;
    // Fitted by `tests/golden/fit_math.py`.
    let sine = r * (((-75.240_05 * s + 81.588_13) * s - 41.341_63) * s + TAU);
    let cosine = (((59.220_406 * s - 85.442_856) * s + 64.939_316) * s - 19.739_208) * s + 1.0;
    let is_odd = quarter & 1 == 1;
    let (x, y) = if is_odd { (sine, cosine) } else { (cosine, sine) };
    let flip = |value: f32, sign: u32| f32::from_bits(value.to_bits() ^ (sign << 30 & 1 << 31));
    (flip(y, quarter), flip(x, quarter + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::devices;
    use heldout_base::rng::streams;

    fn normals(isa: Isa, first: u64, count: usize, step: u64) -> Vec<f32> {
        let mut values = vec![0.0; count];
        let random = Random::new(7, streams::TEST, step);
        add_normals(isa, &mut values, &random, first, 1.0);
        values
    }

    #[test]
    fn every_instruction_set_and_every_cut_gives_the_same_bits() {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let whole = normals(Isa::Portable, 0, 1000, 3);
        for device in devices() {
            for (first, count) in [(0, 1000), (1, 1), (63, 2), (64, 64), (100, 777), (999, 1)] {
                let part = normals(device.isa(), first, count, 3);
                let expected = &whole[first as usize..first as usize + count];
                assert_eq!(bits(&part), bits(expected), "{} {first}", device.describe());
            }
            // Where the low word of the counter begins anew.
            let far = normals(device.isa(), (1 << 34) - 70, 140, 3);
            assert_eq!(bits(&far), bits(&normals(Isa::Portable, (1 << 34) - 70, 140, 3)));
        }
        assert_ne!(whole, normals(Isa::Portable, 0, 1000, 4));
    }

    #[test]
    fn sines_and_cosines_are_right_all_around() {
        let words = (0..1 << 16).map(|i: u32| i << 16).chain([1, u32::MAX, (1 << 29) - 1, 1 << 29]);
        for word in words {
            let (sine, cosine) = sin_cos(word);
            let (s, c) = (f64::from(word) / 4_294_967_296.0 * std::f64::consts::TAU).sin_cos();
            let error = (f64::from(sine) - s).abs().max((f64::from(cosine) - c).abs());
            assert!(error < 1.5e-7, "{word}: {error:.1e}");
        }
    }

    #[test]
    fn pairs_are_those_of_the_formula() {
        let random = Random::new(7, streams::TEST, 0);
        let found = normals(Isa::Portable, 0, 64 * 100, 0);
        for (index, found) in found.iter().enumerate() {
            let (group, word, lane) = (index / GROUP, index % GROUP / LANES, index % LANES);
            let (counter, key) = random.counter((group * LANES + lane) as u64);
            let words = philox4x32_10(counter, key);
            let (u, v) = (words[word / 2 * 2], words[word / 2 * 2 + 1]);
            let radius = (-2.0 * ((f64::from(u) + 0.5) / 4_294_967_296.0).ln()).sqrt();
            let angle = f64::from(v) / 4_294_967_296.0 * std::f64::consts::TAU;
            let expected = radius * if word % 2 == 0 { angle.cos() } else { angle.sin() };
            // Near u = 1 the radius has the grid of f32 there: 2⁻²⁵ below 1 is 2.4e-4 of it.
            assert!((f64::from(*found) - expected).abs() < 3e-4, "{index}: {found} {expected}");
        }
    }

    #[test]
    fn the_distribution_is_a_normal_one() {
        const N: usize = 1 << 18;
        let mut draws: Vec<f64> =
            normals(devices()[0].isa(), 0, N, 1).iter().map(|x| f64::from(*x)).collect();
        let n = N as f64;
        let moment = |power: i32| draws.iter().map(|x| x.powi(power)).sum::<f64>() / n;
        // Five standard errors of each moment: √(E x²ᵏ − (E xᵏ)²)/√n.
        for (power, expected, variance) in
            [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)]
        {
            let bound = 5.0 * (variance / n).sqrt();
            assert!((moment(power) - expected).abs() < bound, "x^{power}: {}", moment(power));
        }
        // Neighbours, and places a lane or a word apart, know nothing of each other.
        for distance in [1, LANES, 2 * LANES, GROUP] {
            let product = draws.iter().zip(&draws[distance..]).map(|(a, b)| a * b);
            let correlation = product.sum::<f64>() / (N - distance) as f64;
            assert!(correlation.abs() < 5.0 / n.sqrt(), "{distance}: {correlation}");
        }
        // Kolmogorov and Smirnov: √n·D exceeds 1.95 with a chance of one in a thousand.
        draws.sort_by(f64::total_cmp);
        let below = |x: f64| 0.5 + 0.5 * f64::from(crate::math::erf((x / 2f64.sqrt()) as f32));
        let gap = |(i, x): (usize, &f64)| {
            let p = below(*x);
            (p - i as f64 / n).abs().max((p - (i + 1) as f64 / n).abs())
        };
        let most = draws.iter().enumerate().map(gap).fold(0.0, f64::max);
        assert!(most * n.sqrt() < 1.95, "√n·D = {}", most * n.sqrt());
        // The tails: 0.27% beyond 3 σ.
        let far = draws.iter().filter(|x| x.abs() > 3.0).count() as f64 / n;
        assert!((far - 0.002_699_8).abs() < 5.0 * (0.0027 / n).sqrt(), "{far}");
    }
}
