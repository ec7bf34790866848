//! The operations, one file each: contract, f64 reference, fast path, backward, tests.
//!
//! Letters: B sequences, T positions, N = B·T rows, C width, H heads, K key/value heads, D head
//! width, F hidden, V vocabulary. All tensors are row-major f32. Ops are free functions over
//! slices; the tape wires them. Element-wise loops are plain and compiled for the instruction
//! set at hand; sums over rows are cut by the number of rows alone, so no result depends on the
//! number of threads.

pub(crate) mod attention;
pub(crate) mod attention_backward;
pub(crate) mod attention_cached;
pub(crate) mod attention_forms;
pub(crate) mod class_loss;
pub(crate) mod columns;
pub(crate) mod cross_entropy;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod head_norm;
pub(crate) mod lanes;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod residual;
pub(crate) mod rotary;
pub(crate) mod rows;
pub(crate) mod swiglu;
pub(crate) mod tile;
mod tile_x86;
pub(crate) mod uniform;

/// Where the heads lie in a row of a fused query-key-value tensor `[B·T, (H + 2K)·D]`: H query
/// heads, then K key heads, then K value heads, D wide each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadShape {
    /// Sequences, B.
    pub batch: usize,
    /// Positions per sequence, T.
    pub seq_len: usize,
    /// Query heads, H: a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads, K; H/K query heads share one.
    pub kv_heads: usize,
    /// Width of a head, D.
    pub head_width: usize,
}

impl HeadShape {
    /// Rows, N = B·T.
    pub fn rows(&self) -> usize {
        self.batch * self.seq_len
    }

    /// Columns of the fused tensor, (H + 2K)·D.
    pub fn cols(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_width
    }

    /// Query heads per key/value head, H/K.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// # Panics
    /// If a size is zero or K does not divide H.
    pub(crate) fn assert_whole(&self) {
        let HeadShape { batch, seq_len, heads, kv_heads, head_width } = *self;
        assert!(batch * seq_len * heads * kv_heads * head_width > 0, "a size of {self:?} is zero");
        assert_eq!(heads % kv_heads, 0, "kv_heads must divide heads in {self:?}");
    }
}
