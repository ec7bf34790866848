//! The generator of dropout masks: a counter-based hash that vectorises.
//!
//! A mask is a pure function of (seed, stream, step, row, column). Each row has a 64-bit key of
//! its own, mixed from the others; within a row a 32-bit hash of the column is compared with a
//! 32-bit threshold. So a mask depends neither on threads nor on how a batch is cut.

/// The masks of one dropout site in one step.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    key: u64,
    threshold: u32,
    scale: f32,
}

/// One row of a [`Mask`], keyed; cheap to copy into a vector loop.
#[derive(Clone, Copy, Debug)]
pub struct MaskRow {
    key0: u32,
    key1: u32,
    threshold: u32,
    scale: f32,
}

/// Finalizer of SplitMix64 (Steele, Lea & Flood 2014): a bijection of 64-bit words.
#[inline(always)]
fn mix64(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Mask {
    /// Masks that drop with probability `p` (0 ≤ p < 1) and scale what is kept by 1/(1−p).
    pub fn new(seed: u64, stream: u32, step: u64, p: f32) -> Mask {
        assert!((0.0..1.0).contains(&p), "dropout probability {p} is not in [0, 1)");
        let mut key = mix64(seed.wrapping_add(GOLDEN));
        key = mix64(key ^ u64::from(stream).wrapping_mul(GOLDEN).wrapping_add(1));
        key = mix64(key ^ step.wrapping_mul(GOLDEN).wrapping_add(2));
        let threshold = (f64::from(p) * 4_294_967_296.0).round() as u32;
        Mask { key, threshold, scale: 1.0 / (1.0 - p) }
    }

    /// The masks of one row: a token, an attention query, a sequence — a global index.
    #[inline(always)]
    pub fn row(&self, row: u64) -> MaskRow {
        let key = mix64(self.key ^ row.wrapping_mul(GOLDEN));
        MaskRow {
            key0: key as u32,
            key1: (key >> 32) as u32,
            threshold: self.threshold,
            scale: self.scale,
        }
    }
}

impl MaskRow {
    /// The row's own part of its key, for loops over rows that keep keys side by side.
    #[inline(always)]
    pub fn keys(&self) -> [u32; 2] {
        [self.key0, self.key1]
    }

    /// The row of the same mask whose [`MaskRow::keys`] are `keys`.
    #[inline(always)]
    pub fn with_keys(self, [key0, key1]: [u32; 2]) -> MaskRow {
        MaskRow { key0, key1, ..self }
    }

    /// 32 random bits for a column.
    #[inline(always)]
    pub fn word(&self, column: u32) -> u32 {
        let mut x = column.wrapping_mul(0x9e37_79b9).wrapping_add(self.key0);
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d) ^ self.key1;
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x ^ (x >> 16)
    }

    /// Whether the column is kept.
    #[inline(always)]
    pub fn keeps(&self, column: u32) -> bool {
        self.word(column) >= self.threshold
    }

    /// What to multiply the column's value with: 0 or 1/(1−p).
    #[inline(always)]
    pub fn factor(&self, column: u32) -> f32 {
        if self.word(column) >= self.threshold { self.scale } else { 0.0 }
    }
}
