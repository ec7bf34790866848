//! Randomness as a pure function of (seed, stream, step, index): Philox4x32-10, no state anywhere.
//!
//! Any value can be asked for in any order on any thread, so results do not depend on the number
//! of threads and a resumed run sees the same numbers as an uninterrupted one.

use crate::portable;

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Steps and indices must be below this (they share the counter's 128 bits with the stream).
pub const LIMIT: u64 = 1 << 48;

/// Blocks that [`Random::fill_below`] computes side by side; with fewer, rustc uses no vectors.
const LANES: usize = 16;
/// The lower half of a word.
const LOW: u64 = 0xFFFF_FFFF;

/// Four random words for a counter and a key: the Philox4x32 bijection with ten rounds.
///
/// Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#[inline(always)]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let p0 = u64::from(MULTIPLIER[0]) * u64::from(c0);
        let p1 = u64::from(MULTIPLIER[1]) * u64::from(c2);
        (c0, c1, c2, c3) =
            ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    [c0, c1, c2, c3]
}

/// Names a purpose, so that two uses of one seed never share numbers. See [`streams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream(pub u32);

/// The streams in use. Numbers are part of the reproducibility promise: never reuse or renumber.
pub mod streams {
    use super::Stream;

    /// Initial weights; `step` is a hash of the tensor's name.
    pub const INIT: Stream = Stream(1);
    /// Order of documents within an epoch.
    pub const ORDER: Stream = Stream(2);
    /// Phase and order of windows within an epoch.
    pub const WINDOWS: Stream = Stream(3);
    /// Which blocks are skipped.
    pub const LAYER_DROP: Stream = Stream(4);
    /// Sampling of generated tokens.
    pub const SAMPLING: Stream = Stream(5);
    /// Bootstrap resampling.
    pub const BOOTSTRAP: Stream = Stream(6);
    /// The quickstart's probabilistic grammar.
    pub const GRAMMAR: Stream = Stream(7);
    /// Extra passes of a step, and receipts.
    pub const PROBE: Stream = Stream(8);
    /// Tokenizer training.
    pub const TOKENIZER: Stream = Stream(9);
    /// Which windows an evaluation samples.
    pub const EVALUATION: Stream = Stream(10);
    /// Which documents go to which split.
    pub const SPLIT: Stream = Stream(11);
    /// Signatures for near-duplicate detection.
    pub const DEDUPLICATE: Stream = Stream(12);
    /// Data for tests and benchmarks.
    pub const TEST: Stream = Stream(13);
    /// Noise on the gradient; the index is the place in the flat vector.
    pub const GRADIENT_NOISE: Stream = Stream(14);
    /// Which tokens are masked and what they become; `step` is the epoch.
    pub const MASKING: Stream = Stream(42);
    /// Which inputs of low-rank adapters a step leaves out.
    pub const ADAPTER_INPUTS: Stream = Stream(24);
    /// Which weights a step reads as they were before training.
    pub const MIXOUT: Stream = Stream(25);
    /// Which examples a subset of labelled data takes; the step is the class.
    pub const SUBSET: Stream = Stream(40);
    /// Augmentation of texts; the step is the epoch, the indices belong to the example.
    pub const AUGMENT: Stream = Stream(41);
    /// The simple methods that a classifier has to beat.
    pub const BASELINE: Stream = Stream(43);
    /// First of the dropout range; see [`dropout`].
    pub const DROPOUT: Stream = Stream(1 << 16);

    /// The stream of one dropout site in one layer: `DROPOUT + site·4096 + layer`.
    pub const fn dropout(site: u32, layer: u32) -> Stream {
        assert!(layer < 4096, "a dropout stream has room for 4096 layers");
        Stream(DROPOUT.0 + site * 4096 + layer)
    }
}

/// A family of random values, one for every index: a pure function of its three fields.
///
/// [`bits`](Self::bits), [`bits64`](Self::bits64), [`uniform`](Self::uniform) and
/// [`normal`](Self::normal) are views of the same underlying words: take one kind from one
/// (stream, step), or give each its own stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    /// The run's seed.
    pub seed: u64,
    /// What the values are for.
    pub stream: Stream,
    /// The training step, epoch or any other number that sets draws apart; below [`LIMIT`].
    pub step: u64,
}

impl Random {
    /// The values for `(seed, stream, step)`.
    ///
    /// # Panics
    /// If `step` is not below [`LIMIT`].
    pub fn new(seed: u64, stream: Stream, step: u64) -> Self {
        assert!(step < LIMIT, "step {step} does not fit the 48 bits that the generator keeps");
        Self { seed, stream, step }
    }

    /// What [`philox4x32_10`] takes for a block of four words: the counter, whose first word alone
    /// counts up within 2³² blocks, and the key. For loops that make many blocks side by side.
    #[inline(always)]
    pub fn counter(&self, block: u64) -> ([u32; 4], [u32; 2]) {
        debug_assert!(block < LIMIT && self.step < LIMIT);
        let high = ((block >> 32) as u32 & 0xFFFF) | (((self.step >> 32) as u32) << 16);
        let counter = [block as u32, self.step as u32, self.stream.0, high];
        (counter, [self.seed as u32, (self.seed >> 32) as u32])
    }

    /// The four words of one counter value.
    #[inline]
    fn block(&self, block: u64) -> [u32; 4] {
        let (counter, key) = self.counter(block);
        philox4x32_10(counter, key)
    }

    /// 32 random bits.
    #[inline]
    pub fn bits(&self, index: u64) -> u32 {
        self.block(index >> 2)[(index & 3) as usize]
    }

    /// 64 random bits.
    #[inline]
    pub fn bits64(&self, index: u64) -> u64 {
        let words = self.block(index >> 1);
        let at = 2 * (index & 1) as usize;
        u64::from(words[at]) | (u64::from(words[at + 1]) << 32)
    }

    /// Uniform in [0, 1), on a grid of 2⁻⁵³.
    #[inline]
    pub fn uniform(&self, index: u64) -> f64 {
        (self.bits64(index) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Standard normal (Box and Muller 1958, in f64; the tails reach 8.5 σ). The same bits
    /// everywhere.
    #[inline]
    pub fn normal(&self, index: u64) -> f64 {
        let [cosine, sine] = self.normal_pair(index >> 1);
        if index & 1 == 0 { cosine } else { sine }
    }

    /// The two independent normals `2·pair` and `2·pair + 1`.
    #[inline]
    fn normal_pair(&self, pair: u64) -> [f64; 2] {
        const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
        let [a, b, c, d] = self.block(pair);
        let first = (u64::from(a) | (u64::from(b) << 32)) >> 11;
        let second = (u64::from(c) | (u64::from(d) << 32)) >> 11;
        // (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * portable::ln((first + 1) as f64 * UNIT)).sqrt();
        let (sine, cosine) = portable::sin_cos_turns(second as f64 * UNIT);
        [radius * cosine, radius * sine]
    }

    /// A whole number in `0..n`, by a multiply-shift of 64 bits (the bias is below n/2⁶⁴).
    ///
    /// # Panics
    /// If `n` is zero.
    #[inline]
    pub fn below(&self, index: u64, n: u64) -> u64 {
        assert!(n > 0, "there is no number below zero to draw");
        ((u128::from(self.bits64(index)) * u128::from(n)) >> 64) as u64
    }

    /// Fills `out[i]` with `below(i, n)`, several blocks at a time: for draws by the million.
    ///
    /// # Panics
    /// If `n` is zero.
    pub fn fill_below(&self, n: u32, out: &mut [u32]) {
        assert!(n > 0, "there is no number below zero to draw");
        // The upper half of a 96-bit product, in steps that vectors have.
        let n_wide = u64::from(n);
        let scale = |low: u64, high: u64| {
            (((high & LOW) * n_wide + (((low & LOW) * n_wide) >> 32)) >> 32) as u32
        };
        let mut wide = out.chunks_exact_mut(2 * LANES);
        let mut block = 0;
        for values in &mut wide {
            let words = self.blocks(block);
            for (lane, pair) in values.chunks_exact_mut(2).enumerate() {
                pair[0] = scale(words[0][lane], words[1][lane]);
                pair[1] = scale(words[2][lane], words[3][lane]);
            }
            block += LANES as u64;
        }
        for (value, index) in wide.into_remainder().iter_mut().zip(2 * block..) {
            *value = self.below(index, n_wide) as u32;
        }
    }

    /// [`block`](Self::block) of `first .. first + LANES`, side by side in the lower halves so that
    /// the compiler can use vectors, which multiply these: `[word][lane]`.
    #[inline]
    fn blocks(&self, first: u64) -> [[u64; LANES]; 4] {
        debug_assert!(first + (LANES as u64) < LIMIT && self.step < LIMIT);
        let high = (self.step >> 32) << 16;
        let at: [u64; LANES] = std::array::from_fn(|lane| first + lane as u64);
        let mut c = [
            at,
            [self.step; LANES],
            [u64::from(self.stream.0); LANES],
            at.map(|block| ((block >> 32) & 0xFFFF) | high),
        ];
        let mut key = [self.seed as u32, (self.seed >> 32) as u32];
        for _ in 0..10 {
            // Four rows at once, by the column: no iterator says this.
            #[allow(clippy::needless_range_loop)]
            for lane in 0..LANES {
                let p0 = u64::from(MULTIPLIER[0]) * (c[0][lane] & LOW);
                let p1 = u64::from(MULTIPLIER[1]) * (c[2][lane] & LOW);
                c[0][lane] = (p1 >> 32) ^ c[1][lane] ^ u64::from(key[0]);
                c[1][lane] = p1;
                c[2][lane] = (p0 >> 32) ^ c[3][lane] ^ u64::from(key[1]);
                c[3][lane] = p0;
            }
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        c
    }

    /// A uniformly random order of `0..n` (Fisher and Yates), from the indices `0..n`.
    ///
    /// # Panics
    /// If `n` does not fit 32 bits.
    pub fn permutation(&self, n: usize) -> Vec<u32> {
        let count = u32::try_from(n).expect("a permutation holds at most 2^32 - 1 items");
        let mut order: Vec<u32> = (0..count).collect();
        for last in (1..n).rev() {
            let other = self.below(last as u64, last as u64 + 1) as usize;
            order.swap(last, other);
        }
        order
    }

    /// Fills `out[i]` with `std · normal(i)`, rounded to f32.
    pub fn fill_normal(&self, out: &mut [f32], std: f32) {
        self.fill_normal_from(0, out, std);
    }

    /// Fills `out[i]` with `std · normal(first + i)`, so that threads can share one large tensor.
    pub fn fill_normal_from(&self, first: u64, out: &mut [f32], std: f32) {
        let std = f64::from(std);
        let head = ((first & 1) as usize).min(out.len());
        let (odd, rest) = out.split_at_mut(head);
        for value in odd {
            *value = (std * self.normal(first)) as f32;
        }
        for (pair, values) in (first.div_ceil(2)..).zip(rest.chunks_mut(2)) {
            for (value, normal) in values.iter_mut().zip(self.normal_pair(pair)) {
                *value = (std * normal) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers published with Random123 (kat_vectors, philox 4x32 10).
    #[test]
    fn known_answers() {
        let check = |counter, key, expected: [u32; 4]| {
            assert_eq!(philox4x32_10(counter, key), expected);
        };
        check([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        check([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        check(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        );
    }

    #[test]
    fn filling_draws_what_one_by_one_draws() {
        let random = Random::new(0x1234_5678_9abc, streams::TEST, (1 << 40) + 3);
        for (n, count) in [(1u32, 5usize), (7, 16), (10_000, 1000), (u32::MAX, 65), (3, 0)] {
            let mut filled = vec![0; count];
            random.fill_below(n, &mut filled);
            let single: Vec<u32> =
                (0..count as u64).map(|i| random.below(i, u64::from(n)) as u32).collect();
            assert_eq!(filled, single);
        }
    }
}
