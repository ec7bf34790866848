//! Dropout sites: which mask a row takes, so that masks depend on global positions alone.
//!
//! Inverted dropout (Srivastava et al. 2014): x·m/(1−p), m ~ Bernoulli(1−p). Masks are never
//! stored: forward and backward compute them from the counter. There is no op of its own; the
//! ops that precede a site apply it in the pass they make anyway.

use crate::random::{Mask, MaskRow};
use crate::values::Element;

/// What shares one random decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Nothing: every element has its own.
    #[default]
    Element,
    /// All positions of a sequence: one mask per sequence and channel (variational dropout,
    /// Gal & Ghahramani 2016). For attention probabilities: per sequence, head and key.
    Time,
    /// All channels of a row: a token is kept or dropped whole. For attention probabilities:
    /// per query.
    Row,
}

/// A dropout site as a model asks for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of dropping, 0 ≤ p < 1; with 0 the site is absent, bit for bit.
    pub p: f32,
    /// Stream of the random bits: one per site and layer.
    pub stream: u32,
    /// What shares one decision.
    pub sharing: Sharing,
}

/// Keys the noise of one micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoiseKey {
    /// Seed of the run.
    pub seed: u64,
    /// Step of the run.
    pub step: u64,
    /// Global index of this micro-batch's first sequence: masks do not depend on how a batch is
    /// cut.
    pub first_sequence: u64,
}

/// A site in this step: yields the factors of each row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    mask: Mask,
    sharing: Sharing,
    first_sequence: u64,
    seq_len: usize,
}

/// The factors 0 or 1/(1−p) of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors {
    row: MaskRow,
    columns: u32,
}

impl Factors {
    /// The factor of a column.
    #[inline(always)]
    pub fn at(&self, column: usize) -> f32 {
        self.row.factor(column as u32 & self.columns)
    }

    /// values[c] *= factor(c).
    #[inline(always)]
    pub fn scale<T: Element>(&self, values: &mut [T]) {
        for (column, value) in values.iter_mut().enumerate() {
            *value = T::of(value.get() * self.at(column));
        }
    }
}

/// The factors of several rows side by side, for loops over rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FactorLanes<const N: usize> {
    first: Factors,
    keys: [[u32; N]; 2],
}

impl<const N: usize> FactorLanes<N> {
    /// Gathers the rows that `factors` yields for 0..N.
    pub fn new(factors: impl Fn(usize) -> Factors) -> Self {
        let keys: [[u32; 2]; N] = std::array::from_fn(|lane| factors(lane).row.keys());
        FactorLanes { first: factors(0), keys: [keys.map(|k| k[0]), keys.map(|k| k[1])] }
    }

    /// out ← the factors of one column for as many rows from `first` on.
    #[inline(always)]
    pub fn column(&self, column: usize, first: usize, out: &mut [f32]) {
        let column = column as u32 & self.first.columns;
        let [key0, key1] = self.keys.each_ref().map(|keys| &keys[first..first + out.len()]);
        for ((out, key0), key1) in out.iter_mut().zip(key0).zip(key1) {
            *out = self.first.row.with_keys([*key0, *key1]).factor(column);
        }
    }
}

impl Site {
    /// The site in passes over sequences of `seq_len` positions, or `None` where it is absent:
    /// no dropout, p = 0, or no noise (evaluation).
    ///
    /// # Panics
    /// If p is not in [0, 1).
    pub fn new(dropout: Option<Dropout>, noise: Option<NoiseKey>, seq_len: usize) -> Option<Site> {
        let (dropout, noise) = (dropout?, noise?);
        assert!((0.0..1.0).contains(&dropout.p), "dropout p = {}: not in [0, 1)", dropout.p);
        (dropout.p > 0.0).then(|| Site {
            mask: Mask::new(noise.seed, dropout.stream, noise.step, dropout.p),
            sharing: dropout.sharing,
            first_sequence: noise.first_sequence,
            seq_len,
        })
    }

    /// The factors of row `row` = sequence · seq_len + position of this micro-batch.
    #[inline(always)]
    pub fn row(&self, row: usize) -> Factors {
        self.factors(1, row)
    }

    /// The factors of the keys, for query `row` = (sequence · heads + head) · seq_len + position.
    #[inline(always)]
    pub fn query(&self, row: usize, heads: usize) -> Factors {
        self.factors(heads as u64, row)
    }

    /// The token that takes the place of the one in row `row`, if it is drawn to: each of
    /// `vocabulary` equally likely, the right one included.
    pub fn replacement(&self, row: usize, vocabulary: usize) -> Option<u32> {
        let row = self.mask.row(self.first_sequence * self.seq_len as u64 + row as u64);
        let drawn = (u64::from(row.word(1)) * vocabulary as u64) >> 32;
        (!row.keeps(0)).then_some(drawn as u32)
    }

    /// One factor per sequence and column, whatever the sharing (attention heads).
    #[inline(always)]
    pub fn sequence(&self, sequence: usize, column: usize) -> f32 {
        self.mask.row(self.first_sequence + sequence as u64).factor(column as u32)
    }

    #[inline(always)]
    fn factors(&self, per_sequence: u64, row: usize) -> Factors {
        let seq_len = self.seq_len;
        let first = self.first_sequence * per_sequence;
        let (index, columns) = match self.sharing {
            Sharing::Element => (first * seq_len as u64 + row as u64, u32::MAX),
            Sharing::Time => (first + (row / seq_len) as u64, u32::MAX),
            Sharing::Row => (first * seq_len as u64 + row as u64, 0),
        };
        Factors { row: self.mask.row(index), columns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: NoiseKey = NoiseKey { seed: 1, step: 2, first_sequence: 3 };

    fn dropout(p: f32) -> Option<Dropout> {
        Some(Dropout { p, stream: 4, sharing: Sharing::Element })
    }

    #[test]
    fn absent_means_absent() {
        assert!(Site::new(None, Some(NOISE), 8).is_none());
        assert!(Site::new(dropout(0.0), Some(NOISE), 8).is_none());
        assert!(Site::new(dropout(0.5), None, 8).is_none());
        assert!(Site::new(dropout(0.5), Some(NOISE), 8).is_some());
    }

    #[test]
    #[should_panic(expected = "not in [0, 1)")]
    fn everything_cannot_be_dropped() {
        Site::new(dropout(1.0), Some(NOISE), 8);
    }

    #[test]
    fn replaced_tokens_are_uniform_and_follow_the_global_row() {
        const ROWS: usize = 1 << 16;
        let at = |first_sequence| {
            let asked = Some(Dropout { p: 0.25, stream: 4, sharing: Sharing::Row });
            Site::new(asked, Some(NoiseKey { first_sequence, ..NOISE }), 8).unwrap()
        };
        let (here, later) = (at(3), at(5));
        assert!((0..64).all(|row| here.replacement(16 + row, 7) == later.replacement(row, 7)));
        let drawn: Vec<u32> = (0..ROWS).filter_map(|row| here.replacement(row, 7)).collect();
        // Six standard deviations of a count.
        let near = |count: usize, n: usize, p: f64| {
            let (expected, deviation) = (n as f64 * p, (n as f64 * p * (1.0 - p)).sqrt());
            assert!((count as f64 - expected).abs() < 6.0 * deviation, "{count} of {n}, p = {p}");
        };
        near(drawn.len(), ROWS, 0.25);
        for id in 0..7 {
            near(drawn.iter().filter(|drawn| **drawn == id).count(), drawn.len(), 1.0 / 7.0);
        }
    }

    #[test]
    fn lanes_hold_the_factors_of_their_rows() {
        for sharing in [Sharing::Element, Sharing::Time, Sharing::Row] {
            let asked = Some(Dropout { p: 0.4, stream: 4, sharing });
            let site = Site::new(asked, Some(NOISE), 8).unwrap();
            let lanes = FactorLanes::<16>::new(|lane| site.query(5 + lane, 3));
            let mut column = [0.0; 12];
            lanes.column(7, 2, &mut column);
            for (lane, factor) in column.iter().enumerate() {
                assert_eq!(*factor, site.query(7 + lane, 3).at(7));
            }
        }
    }
}
