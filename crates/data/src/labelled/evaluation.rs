//! Evaluation batches of labelled examples: each example once, longest first.

use super::batches::{LabelledBatch, Row, assemble, padded};
use super::encode::EncodedExamples;
use super::labels::stratified;
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
    /// Every example of a split. T is rounded up to a multiple of `multiple` (never above the
    /// longest example).
    pub fn whole(examples: &Arc<EncodedExamples>, multiple: usize, pad: u32) -> Self {
        Self::of(examples, (0..examples.len() as u32).collect(), multiple, pad)
    }

    /// `count` examples, every class at its share, chosen by `seed` once and for all; all of them
    /// if there are not more.
    pub fn sample(
        examples: &Arc<EncodedExamples>,
        count: usize,
        seed: u64,
        multiple: usize,
        pad: u32,
    ) -> Self {
        Self::of(examples, stratified(examples.labels(), count, seed), multiple, pad)
    }

    /// These examples of a split.
    pub fn chosen(
        examples: &Arc<EncodedExamples>,
        chosen: Vec<u32>,
        multiple: usize,
        pad: u32,
    ) -> Self {
        Self::of(examples, chosen, multiple, pad)
    }

    fn of(examples: &Arc<EncodedExamples>, mut order: Vec<u32>, multiple: usize, pad: u32) -> Self {
        // Stable: equal lengths stay in the order of the split.
        order.sort_by_key(|i| usize::MAX - examples.length(*i as usize));
        LabelledEvaluation { examples: examples.clone(), order, multiple: multiple.max(1), pad }
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// All examples, `size` a batch (the last may be smaller); `first_sequence` counts rows and
    /// `epoch` is 0.
    pub fn batches(&self, size: usize) -> impl Iterator<Item = LabelledBatch> + '_ {
        self.order.chunks(size.max(1)).enumerate().map(move |(number, rows)| {
            let first = (number * size.max(1)) as u64;
            let taken: Vec<Row<'_>> =
                rows.iter().map(|row| Row::stored(&self.examples, *row)).collect();
            assemble(&taken, self.seq_len(rows), self.pad, first, 0.0)
        })
    }

    /// T of a batch with these rows.
    fn seq_len(&self, rows: &[u32]) -> usize {
        let length = |row: &u32| self.examples.length(*row as usize);
        let longest = rows.iter().map(length).max().unwrap_or(1);
        let of_all = self.order.first().map_or(1, length);
        padded(longest, self.multiple, of_all)
    }

    /// Share of the positions of these batches that are padding.
    pub fn padding(&self, size: usize) -> f64 {
        let of = |rows: &[u32]| self.seq_len(rows) * rows.len();
        let positions: usize = self.order.chunks(size.max(1)).map(of).sum();
        let tokens: usize = self.order.iter().map(|i| self.examples.length(*i as usize)).sum();
        1.0 - tokens as f64 / positions.max(1) as f64
    }
}
