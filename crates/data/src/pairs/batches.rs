//! Batches of pairs: those of the sources, with the targets beside them.
//!
//! An epoch is laid out as for labelled texts (see [`LabelledBatches`]), except that a pool is
//! sorted by both sides: sources of alike length first, and among these by their targets.
//!
//! Letters: B sequences (rows), T source positions, U target positions.

use super::prepare::EncodedPairs;
use crate::batches::IGNORE;
use crate::error::DataError;
use crate::labelled::{
    EncodedExamples, LabelledBatch, LabelledBatches, LabelledEvaluation, LabelledPlan, padded,
};
use std::sync::Arc;

/// One batch, padded on the right on both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct PairBatch {
    /// \[B, T\] sources with their lengths; its labels mean nothing.
    pub source: LabelledBatch,
    /// \[B, U\] row-major target ids; the rest of a short row is [`IGNORE`].
    pub targets: Vec<u32>,
    /// U.
    pub target_len: usize,
}

/// Targets side by side, padded to U with [`IGNORE`].
fn beside(
    source: LabelledBatch,
    targets: &EncodedExamples,
    multiple: usize,
    most: usize,
) -> PairBatch {
    let longest = source.rows.iter().map(|row| targets.length(*row as usize)).max().unwrap_or(1);
    let target_len = padded(longest, multiple, most);
    let mut ids = vec![IGNORE; source.rows.len() * target_len];
    for (out, row) in ids.chunks_mut(target_len).zip(&source.rows) {
        let target = targets.ids(*row as usize);
        out[..target.len()].copy_from_slice(target);
    }
    PairBatch { source, targets: ids, target_len }
}

/// What a decoder reads: the targets one place to the right, behind `start`; `pad` where a target
/// is [`IGNORE`]. \[B, U\] as `targets`.
pub fn shifted_right(targets: &[u32], target_len: usize, start: u32, pad: u32) -> Vec<u32> {
    let known = |id: &u32| if *id == IGNORE { pad } else { *id };
    let row = |row: &[u32]| {
        let mut ids = vec![start];
        ids.extend(row[..target_len - 1].iter().map(known));
        ids
    };
    targets.chunks(target_len.max(1)).flat_map(row).collect()
}

fn longest(examples: &EncodedExamples) -> usize {
    (0..examples.len()).map(|i| examples.length(i)).max().unwrap_or(1)
}

/// Training batches of one split as a pure function of the step.
pub struct PairBatches {
    sources: LabelledBatches,
    targets: Arc<EncodedExamples>,
    multiple: usize,
    longest: usize,
}

impl PairBatches {
    /// Prepares to cut `pairs`.
    ///
    /// # Errors
    /// As [`LabelledBatches::new`].
    pub fn new(pairs: &EncodedPairs, plan: LabelledPlan) -> Result<Self, DataError> {
        let sources = LabelledBatches::new(&pairs.source, plan)?.beside(pairs.target.clone());
        let longest = longest(&pairs.target);
        Ok(PairBatches { sources, targets: pairs.target.clone(), multiple: plan.multiple, longest })
    }

    /// Batches in an epoch, a smaller last one included.
    pub fn steps_per_epoch(&self) -> u64 {
        self.sources.steps_per_epoch()
    }

    /// Epochs done before step `step` (from 0).
    pub fn epoch_at(&self, step: u64) -> f64 {
        self.sources.epoch_at(step)
    }

    /// The whole batch of a step (from 0).
    ///
    /// # Errors
    /// As [`LabelledBatches::batch_at`].
    pub fn batch_at(&self, step: u64) -> Result<PairBatch, DataError> {
        let source = self.sources.batch_at(step)?;
        Ok(beside(source, &self.targets, self.multiple, self.longest))
    }

    /// Share of the positions of the first epoch that are padding, both sides together.
    pub fn padding(&self) -> f64 {
        let batches = (0..self.steps_per_epoch()).filter_map(|step| self.batch_at(step).ok());
        padding(batches)
    }
}

fn padding(batches: impl Iterator<Item = PairBatch>) -> f64 {
    let (mut positions, mut tokens) = (0, 0);
    for batch in batches {
        positions += batch.source.ids.len() + batch.targets.len();
        tokens += batch.source.lengths.iter().map(|n| *n as usize).sum::<usize>();
        tokens += batch.targets.iter().filter(|id| **id != IGNORE).count();
    }
    1.0 - tokens as f64 / positions.max(1) as f64
}

/// The pairs of a split, or a fixed sample of them, each once, the longest sources first.
pub struct PairEvaluation {
    sources: LabelledEvaluation,
    targets: Arc<EncodedExamples>,
    multiple: usize,
    longest: usize,
}

impl PairEvaluation {
    /// Every pair of a split. T and U are rounded up to a multiple of `multiple`.
    pub fn whole(pairs: &EncodedPairs, multiple: usize, pad: u32) -> Self {
        Self::of(pairs, LabelledEvaluation::whole(&pairs.source, multiple, pad), multiple)
    }

    /// `count` pairs chosen by `seed` once and for all; all of them if there are not more.
    pub fn sample(
        pairs: &EncodedPairs,
        count: usize,
        seed: u64,
        multiple: usize,
        pad: u32,
    ) -> Self {
        let sources = LabelledEvaluation::sample(&pairs.source, count, seed, multiple, pad);
        Self::of(pairs, sources, multiple)
    }

    fn of(pairs: &EncodedPairs, sources: LabelledEvaluation, multiple: usize) -> Self {
        let targets = pairs.target.clone();
        let longest = longest(&targets);
        PairEvaluation { sources, targets, multiple: multiple.max(1), longest }
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// All pairs, `size` a batch (the last may be smaller).
    pub fn batches(&self, size: usize) -> impl Iterator<Item = PairBatch> + '_ {
        let with = |source| beside(source, &self.targets, self.multiple, self.longest);
        self.sources.batches(size).map(with)
    }

    /// Share of the positions of these batches that are padding.
    pub fn padding(&self, size: usize) -> f64 {
        padding(self.batches(size))
    }
}

impl PairBatch {
    /// What the decoder reads beside [`PairBatch::targets`]: each row one place to the right,
    /// behind `start`, filled up with `pad`. \[B, U\].
    pub fn decoder_ids(&self, start: u32, pad: u32) -> Vec<u32> {
        shifted_right(&self.targets, self.target_len, start, pad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoder_reads_its_targets_one_place_later() {
        let targets = [5, 6, 2, 7, 2, IGNORE];
        assert_eq!(shifted_right(&targets, 3, 0, 1), [0, 5, 6, 0, 7, 2]);
        assert_eq!(shifted_right(&[5, IGNORE], 1, 0, 1), [0, 0]);
    }
}
