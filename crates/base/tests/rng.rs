//! Statistics of the generator: fixed seeds, so these pass or fail for good.

use heldout_base::rng::{LIMIT, Random, Stream, philox4x32_10, streams};

const N: u64 = 200_000;

fn random(step: u64) -> Random {
    Random::new(42, streams::TEST, step)
}

/// Mean, variance, and the third and fourth standardised moments.
fn moments(values: &[f64]) -> [f64; 4] {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let power = |p: i32| values.iter().map(|v| (v - mean).powi(p)).sum::<f64>() / n;
    let variance = power(2);
    [mean, variance, power(3) / variance.powf(1.5), power(4) / (variance * variance)]
}

#[test]
fn uniform_is_uniform() {
    let values: Vec<f64> = (0..N).map(|i| random(0).uniform(i)).collect();
    assert!(values.iter().all(|v| (0.0..1.0).contains(v)));
    let [mean, variance, ..] = moments(&values);
    let n = N as f64;
    assert!((mean - 0.5).abs() < 4.0 * (1.0 / 12.0 / n).sqrt(), "mean {mean}");
    assert!((variance - 1.0 / 12.0).abs() < 4.0 * (1.0 / 180.0 / n).sqrt(), "variance {variance}");
    // 256 cells: chi-square has mean 255 and standard deviation √510.
    let mut cells = [0u32; 256];
    for v in &values {
        cells[(v * 256.0) as usize] += 1;
    }
    let expected = n / 256.0;
    let chi: f64 = cells.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
    assert!((chi - 255.0).abs() < 4.0 * 510f64.sqrt(), "chi-square {chi}");
    // Neighbours are uncorrelated: the lag-1 correlation has standard deviation 1/√n.
    for lag in [1, 2, 3, 4, 64] {
        let pairs = values.iter().zip(&values[lag..]);
        let covariance = pairs.map(|(a, b)| (a - 0.5) * (b - 0.5)).sum::<f64>() / n;
        assert!((covariance * 12.0).abs() < 4.0 / n.sqrt(), "lag {lag}: {covariance}");
    }
}

#[test]
fn normal_is_normal() {
    let mut values: Vec<f64> = (0..N).map(|i| random(1).normal(i)).collect();
    let n = N as f64;
    let [mean, variance, skew, kurtosis] = moments(&values);
    assert!(mean.abs() < 4.0 / n.sqrt(), "mean {mean}");
    assert!((variance - 1.0).abs() < 4.0 * (2.0 / n).sqrt(), "variance {variance}");
    assert!(skew.abs() < 4.0 * (6.0 / n).sqrt(), "skew {skew}");
    assert!((kurtosis - 3.0).abs() < 4.0 * (24.0 / n).sqrt(), "kurtosis {kurtosis}");
    let product: f64 = values.chunks(2).map(|p| p[0] * p[1]).sum::<f64>() / (n / 2.0);
    assert!(product.abs() < 4.0 / (n / 2.0).sqrt(), "the two of a pair: {product}");
    // Shares beyond 1, 2 and 3 standard deviations.
    for (bound, share) in [(1.0, 0.317_310_508), (2.0, 0.045_500_264), (3.0, 0.002_699_796)] {
        let found = values.iter().filter(|v| v.abs() > bound).count() as f64 / n;
        let spread: f64 = (share * (1.0 - share) / n).sqrt();
        assert!((found - share).abs() < 4.0 * spread, "beyond {bound}: {found}");
    }
    values.sort_by(f64::total_cmp);
    assert!((3.9..6.0).contains(&values[values.len() - 1]), "{}", values[values.len() - 1]);
}

#[test]
fn every_bit_is_fair() {
    let mut ones = [0u32; 32];
    for i in 0..N {
        let bits = random(2).bits(i);
        for (at, count) in ones.iter_mut().enumerate() {
            *count += bits >> at & 1;
        }
    }
    for (at, &count) in ones.iter().enumerate() {
        let error = f64::from(count) - N as f64 / 2.0;
        assert!(error.abs() < 4.0 * (N as f64 / 4.0).sqrt(), "bit {at}: {count} of {N}");
    }
}

#[test]
fn below_is_even_and_in_range() {
    for n in [1u64, 2, 3, 7, 10] {
        let mut counts = vec![0u64; n as usize];
        for i in 0..20_000 {
            counts[random(3).below(i, n) as usize] += 1;
        }
        let share = 1.0 / n as f64;
        let spread = (20_000.0 * share * (1.0 - share)).sqrt();
        for count in counts {
            assert!((count as f64 - 20_000.0 * share).abs() <= 4.0 * spread, "{n}: {count}");
        }
    }
    assert!((0..1000).all(|i| random(3).below(i, u64::MAX) < u64::MAX));
}

#[test]
#[should_panic(expected = "below zero")]
fn below_zero_is_a_programmer_error() {
    random(3).below(0, 0);
}

#[test]
fn permutations_hold_everything_once_and_all_orders_are_equally_likely() {
    for n in [0usize, 1, 2, 5, 1000] {
        let mut order = random(4).permutation(n);
        order.sort_unstable();
        assert_eq!(order, (0..n as u32).collect::<Vec<_>>());
    }
    let mut counts = std::collections::BTreeMap::new();
    for step in 0..12_000 {
        *counts.entry(random(step).permutation(4)).or_insert(0u32) += 1;
    }
    assert_eq!(counts.len(), 24);
    let chi: f64 = counts.values().map(|&c| (f64::from(c) - 500.0).powi(2) / 500.0).sum();
    assert!((chi - 23.0).abs() < 4.0 * 46f64.sqrt(), "chi-square {chi}");
}

#[test]
fn seed_stream_step_and_index_all_matter() {
    let base = Random::new(1, Stream(2), 3).bits64(4);
    assert_ne!(base, Random::new(2, Stream(2), 3).bits64(4));
    assert_ne!(base, Random::new(1 | 1 << 40, Stream(2), 3).bits64(4));
    assert_ne!(base, Random::new(1, Stream(3), 3).bits64(4));
    assert_ne!(base, Random::new(1, Stream(2), 4).bits64(4));
    assert_ne!(base, Random::new(1, Stream(2), 3 + (1 << 40)).bits64(4));
    assert_ne!(base, Random::new(1, Stream(2), 3).bits64(5));
    assert_ne!(base, Random::new(1, Stream(2), 3).bits64(4 + (1 << 40)));
    assert_eq!(base, Random::new(1, Stream(2), 3).bits64(4));
}

#[test]
fn the_counter_layout_is_fixed() {
    // Changing this breaks every resumed run: index and step low words, stream, high halves.
    let random = Random::new(0x1122_3344_5566_7788, Stream(9), 0xABCD_0000_0007);
    let words = philox4x32_10([5, 7, 9, 0xABCD_0000 & 0xFFFF_0000], [0x5566_7788, 0x1122_3344]);
    assert_eq!(random.bits(4 * 5 + 2), words[2]);
}

#[test]
#[should_panic(expected = "48 bits")]
fn a_step_past_the_limit_is_a_programmer_error() {
    Random::new(0, streams::TEST, LIMIT);
}

#[test]
fn filling_equals_asking_one_by_one_from_any_start() {
    let random = random(5);
    for first in [0u64, 1, 2, 7] {
        for count in [0usize, 1, 2, 3, 10] {
            let mut filled = vec![0f32; count];
            random.fill_normal_from(first, &mut filled, 0.5);
            for (i, &value) in (first..).zip(&filled) {
                assert_eq!(value, (0.5 * random.normal(i)) as f32);
            }
        }
    }
    let mut filled = [0f32; 5];
    random.fill_normal(&mut filled, 1.0);
    assert_eq!(f64::from(filled[3]), f64::from(random.normal(3) as f32));
}

#[test]
fn dropout_streams_do_not_meet_the_others() {
    assert_eq!(streams::dropout(0, 0), streams::DROPOUT);
    assert_ne!(streams::dropout(1, 0), streams::dropout(0, 4095));
    assert!(streams::dropout(0, 0).0 > streams::TEST.0);
}
