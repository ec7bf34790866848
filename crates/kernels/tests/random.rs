//! Statistics of the mask generator: rate, uniformity, independence of neighbours, rows, steps
//! and streams. Seeds are fixed, so these either pass for ever or not at all.

use heldout_kernels::random::Mask;

const COLUMNS: u32 = 4096;
const ROWS: u64 = 1024;

fn words(seed: u64, stream: u32, step: u64) -> Vec<u32> {
    let mask = Mask::new(seed, stream, step, 0.5);
    let row = |row: u64| {
        let row = mask.row(row);
        (0..COLUMNS).map(move |column| row.word(column))
    };
    (0..ROWS).flat_map(row).collect()
}

/// Standard deviations by which the share of `true` differs from a half.
fn half_deviation(bits: impl Iterator<Item = bool>) -> f64 {
    let (mut count, mut set) = (0u64, 0u64);
    for bit in bits {
        count += 1;
        set += u64::from(bit);
    }
    (set as f64 - count as f64 / 2.0) / (count as f64 / 4.0).sqrt()
}

#[test]
fn the_realised_rate_is_p() {
    for p in [0.001f32, 0.1, 0.2, 0.3333, 0.5, 0.9] {
        let mask = Mask::new(7, 3, 11, p);
        let (rows, columns) = (8192u64, 8192u32);
        let mut dropped = 0u64;
        for row in 0..rows {
            let row = mask.row(row);
            dropped += (0..columns).map(|column| u64::from(!row.keeps(column))).sum::<u64>();
        }
        let count = (rows * u64::from(columns)) as f64;
        let rate = dropped as f64 / count;
        let p = f64::from(p);
        assert!((rate - p).abs() < 1e-4, "{rate} for {p}");
        let deviation = (rate - p) / (p * (1.0 - p) / count).sqrt();
        assert!(deviation.abs() < 4.0, "{deviation} standard deviations from {p}");
    }
}

#[test]
fn kept_values_are_scaled_so_that_the_mean_stays() {
    let mask = Mask::new(1, 2, 3, 0.25);
    let row = mask.row(9);
    for column in 0..1000 {
        let expected = if row.keeps(column) { 1.0 / 0.75 } else { 0.0 };
        assert_eq!(row.factor(column), expected);
    }
    assert!((0..1000).all(|column| Mask::new(1, 2, 3, 0.0).row(0).factor(column) == 1.0));
}

#[test]
fn bytes_are_uniform() {
    let words = words(1, 2, 3);
    for shift in [0, 8, 16, 24] {
        let mut counts = [0u32; 256];
        for word in &words {
            counts[(word >> shift) as usize & 255] += 1;
        }
        let expected = words.len() as f64 / 256.0;
        let chi2: f64 = counts.iter().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
        // 255 degrees of freedom: mean 255, standard deviation 22.6.
        assert!((255.0 - 90.0..255.0 + 90.0).contains(&chi2), "byte at {shift}: χ² {chi2}");
    }
}

/// The bit that a threshold of one half looks at, against the same bit elsewhere.
#[test]
fn neighbours_rows_steps_streams_and_seeds_are_independent() {
    let base = words(1, 2, 3);
    let top = |words: &[u32], at: usize| words[at] >> 31 == 1;
    let check = |name: &str, other: &[u32], lag: usize| {
        let pairs = 0..base.len() - lag;
        let equal = pairs.map(|at| top(&base, at) == top(other, at + lag));
        let deviation = half_deviation(equal);
        assert!(deviation.abs() < 4.5, "{name}: {deviation} standard deviations");
    };
    for lag in (1..=64).chain([128, 255, 256, 512, 1024, 2048]) {
        check(&format!("columns {lag} apart"), &base, lag);
    }
    for rows in 1..=32 {
        check(&format!("rows {rows} apart"), &base, rows * COLUMNS as usize);
    }
    for distance in 1..=8 {
        check("next steps", &words(1, 2, 3 + distance), 0);
        check("next streams", &words(1, 2 + distance as u32, 3), 0);
        check("next seeds", &words(1 + distance, 2, 3), 0);
    }
    check("distant stream", &words(1, 2 + 4096, 3), 0);
    check("step and stream exchanged", &words(1, 3, 2), 0);
    check("seed and step exchanged", &words(3, 2, 1), 0);
}

/// With small p, drops must not come in clusters or avoid each other.
#[test]
fn rare_drops_are_spread_like_a_geometric_distribution() {
    let mask = Mask::new(5, 6, 7, 0.1);
    let mut gaps = [0u32; 40];
    let (mut gap, mut drops) = (0usize, 0u32);
    for row in 0..2048 {
        let row = mask.row(row);
        for column in 0..COLUMNS {
            if row.keeps(column) {
                gap += 1;
            } else {
                gaps[gap.min(39)] += 1;
                drops += 1;
                gap = 0;
            }
        }
    }
    let mut chi2 = 0.0;
    for (gap, &count) in gaps.iter().enumerate() {
        let tail = 0.9f64.powi(gap as i32);
        let expected = f64::from(drops) * if gap == 39 { tail } else { 0.1 * tail };
        chi2 += (f64::from(count) - expected).powi(2) / expected;
    }
    // 39 degrees of freedom: mean 39, standard deviation 8.8.
    assert!((39.0 - 27.0..39.0 + 36.0).contains(&chi2), "χ² {chi2}");
}

/// The number of drops in a row varies as a binomial's, over rows.
#[test]
fn rows_vary_as_they_should() {
    let mask = Mask::new(8, 9, 10, 0.2);
    let (rows, columns) = (20_000u64, 384u32);
    let mut squares = 0.0;
    for row in 0..rows {
        let row = mask.row(row);
        let dropped = (0..columns).filter(|&column| !row.keeps(column)).count() as f64;
        squares += (dropped - 0.2 * f64::from(columns)).powi(2);
    }
    let variance = squares / rows as f64;
    let expected = f64::from(columns) * 0.2 * 0.8;
    // The variance's own standard deviation is expected·√(2/rows), 1% of it.
    assert!((variance / expected - 1.0).abs() < 0.04, "variance {variance}, expected {expected}");
}

/// Different steps do not repeat masks of the same row (a weak mix of keys would).
#[test]
fn no_two_keys_of_a_run_agree() {
    let mut first = std::collections::HashSet::new();
    for step in 0..64 {
        for stream in 0..16 {
            let mask = Mask::new(42, stream, step, 0.5);
            for row in 0..64 {
                let row = mask.row(row);
                let key = u64::from(row.word(0)) << 32 | u64::from(row.word(1));
                assert!(first.insert(key), "step {step}, stream {stream} repeats a row");
            }
        }
    }
}
