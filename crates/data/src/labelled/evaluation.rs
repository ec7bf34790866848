//! Evaluation batches of labelled examples: each example once, longest first.

use super::batches::LabelledBatch;
use super::encode::EncodedExamples;
use std::sync::Arc;

/// The examples of a split (or a fixed sample of them) in the order of their lengths, the longest
/// first, so that little is padded and memory grows only once. [`LabelledBatch::rows`] says which
/// example each row is.
pub struct LabelledEvaluation {
    examples: Arc<EncodedExamples>,
    order: Vec<u32>,
    multiple: usize,
    pad: u32,
}

impl LabelledEvaluation {
    /// Every example of a split. T is rounded up to a multiple of `multiple`.
    pub fn whole(_examples: &Arc<EncodedExamples>, _multiple: usize, _pad: u32) -> Self {
        todo!()
    }

    /// `count` examples, every class at its share, chosen by `seed` once and for all; all of them
    /// if there are not more.
    pub fn sample(
        _examples: &Arc<EncodedExamples>,
        _count: usize,
        _seed: u64,
        _multiple: usize,
        _pad: u32,
    ) -> Self {
        todo!()
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// All examples, `size` a batch (the last may be smaller).
    pub fn batches(&self, _size: usize) -> impl Iterator<Item = LabelledBatch> + '_ {
        let _ = (&self.examples, self.multiple, self.pad);
        std::iter::from_fn(|| todo!())
    }

    /// Share of the positions of these batches that are padding.
    pub fn padding(&self, _size: usize) -> f64 {
        todo!()
    }
}
