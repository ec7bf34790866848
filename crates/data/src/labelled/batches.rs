//! Training batches of labelled examples as a pure function of the step.
//!
//! An epoch takes the examples in a fresh random order, cuts the order into pools of some batches,
//! sorts each pool by length and cuts it into batches, so that a batch holds examples of alike
//! length; the batches are then taken in a random order. Resuming at step k is asking for step k.
//!
//! Letters: B sequences (rows), T positions.

use super::encode::{EncodedExamples, Encoder};
use super::prepare::LabelledExample;
use crate::augment::Augmenter;
use crate::batches::Shuffle;
use crate::error::DataError;
use std::ops::Range;
use std::sync::Arc;

/// One batch, padded on the right.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledBatch {
    /// [B, T] row-major token ids; the rest of a short row is the pad id.
    pub ids: Vec<u32>,
    /// [B, T] row-major segment of each position (0 or 1; 0 in the padding).
    pub segments: Vec<u32>,
    /// [B] tokens of each row that are no padding, from 1 to T.
    pub lengths: Vec<u32>,
    /// [B] classes.
    pub labels: Vec<u32>,
    /// [B] weight of each row in the loss, 1 for all: for the caller to change (class weights).
    pub weights: Vec<f32>,
    /// [B] which example of the split each row is.
    pub rows: Vec<u32>,
    /// B.
    pub batch: usize,
    /// T.
    pub seq_len: usize,
    /// Index of the first row among all rows of the run, from 0.
    pub first_sequence: u64,
    /// Epochs completed before this batch, with the fraction of the current one.
    pub epoch: f64,
}

/// Whether batches hold examples of alike length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucketing {
    /// No: rows as the shuffle gives them.
    Off,
    /// Yes, sorted by length within shuffled pools of so many batches.
    Pools(usize),
}

/// What happens to the examples left over when B does not divide their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastBatch {
    /// They make a smaller batch, at a random place of the epoch.
    Keep,
    /// They are left out this epoch; the next one leaves out others.
    Drop,
}

/// How to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelledPlan {
    /// B.
    pub batch: usize,
    pub seed: u64,
    pub shuffle: Shuffle,
    pub bucketing: Bucketing,
    pub last: LastBatch,
    /// T is rounded up to a multiple of this (never above the longest length of the encoder).
    pub multiple: usize,
    /// The id that fills up short rows; see [`Encoder::pad`].
    pub pad: u32,
}

impl LabelledPlan {
    /// B rows, shuffled, in pools of 50 batches, the last batch kept, T a multiple of 8.
    pub fn new(batch: usize, seed: u64, pad: u32) -> Self {
        LabelledPlan {
            batch,
            seed,
            shuffle: Shuffle::Yes,
            bucketing: Bucketing::Pools(50),
            last: LastBatch::Keep,
            multiple: 8,
            pad,
        }
    }
}

/// What changes the texts of training anew every epoch: see [`LabelledBatches::with_augmentation`].
#[derive(Clone, Debug)]
pub struct Augmented {
    /// `examples[i]` is example i of the encoded split.
    pub examples: Arc<Vec<LabelledExample>>,
    pub encoder: Encoder,
    pub augmenter: Augmenter,
}

/// Batches of one split.
pub struct LabelledBatches {
    examples: Arc<EncodedExamples>,
    plan: LabelledPlan,
    augmented: Option<Augmented>,
}

impl LabelledBatches {
    /// Prepares to cut `examples`.
    ///
    /// # Errors
    /// B, the multiple or a pool is 0; no examples; `LastBatch::Drop` with fewer than B examples.
    pub fn new(examples: &Arc<EncodedExamples>, plan: LabelledPlan) -> Result<Self, DataError> {
        Ok(LabelledBatches { examples: examples.clone(), plan, augmented: None })
    }

    /// The same batches with every text augmented as it is taken: example i of epoch e is
    /// `augmenter.apply(text, e, i)`. Batches stay bucketed by the lengths of the original texts.
    ///
    /// # Errors
    /// Not as many texts as examples.
    pub fn with_augmentation(self, augmented: Augmented) -> Result<Self, DataError> {
        Ok(LabelledBatches { augmented: Some(augmented), ..self })
    }

    /// Batches in an epoch, the smaller last one included where it is kept.
    pub fn steps_per_epoch(&self) -> u64 {
        todo!()
    }

    /// The least number of steps that covers `epochs`.
    pub fn steps_for_epochs(&self, _epochs: f64) -> u64 {
        todo!()
    }

    /// Epochs done before step `step` (from 0).
    pub fn epoch_at(&self, _step: u64) -> f64 {
        todo!()
    }

    /// Rows of the batch of a step: B, or fewer in the one that takes what is left over.
    pub fn rows_at(&self, _step: u64) -> usize {
        todo!()
    }

    /// The largest T that any batch of the run can have.
    pub fn seq_len_max(&self) -> usize {
        todo!()
    }

    /// The whole batch of a step (from 0).
    ///
    /// # Errors
    /// An augmented text that the tokenizer cannot encode.
    pub fn batch_at(&self, step: u64) -> Result<LabelledBatch, DataError> {
        self.batch_rows(step, 0..self.rows_at(step))
    }

    /// Some rows of a step's batch: a micro-batch, with the T of the whole batch. All micro-batches
    /// of a step put together are exactly [`LabelledBatches::batch_at`].
    ///
    /// # Errors
    /// As [`LabelledBatches::batch_at`].
    ///
    /// # Panics
    /// If the rows reach past the batch.
    pub fn batch_rows(&self, _step: u64, _rows: Range<usize>) -> Result<LabelledBatch, DataError> {
        let _ = (&self.examples, &self.plan, &self.augmented);
        todo!()
    }

    /// Share of the positions of one epoch (without augmentation) that are padding.
    pub fn padding(&self, _epoch: u64) -> f64 {
        todo!()
    }
}
