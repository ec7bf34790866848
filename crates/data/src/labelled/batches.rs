//! Training batches of labelled examples as a pure function of the step.
//!
//! An epoch takes the examples in a fresh random order, cuts the order into pools of some batches,
//! sorts each pool by length and cuts it into batches, so that a batch holds examples of alike
//! length; the batches are then taken in a random order. Resuming at step k is asking for step k.
//!
//! Letters: B sequences (rows), T positions.

use super::encode::{EncodedExamples, EncodedText, Encoder};
use super::prepare::LabelledExample;
use crate::augment::Augmenter;
use crate::batches::Shuffle;
use crate::error::DataError;
use heldout_base::rng::{Random, streams};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex};

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
    /// T is rounded up to a multiple of this (never above the longest row that can come).
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
    /// Each changes what the one before left.
    pub augmenters: Vec<Augmenter>,
}

/// Batches of one split.
pub struct LabelledBatches {
    examples: Arc<EncodedExamples>,
    plan: LabelledPlan,
    augmented: Option<Augmented>,
    /// What else a row holds: among rows of alike length its length decides.
    beside: Option<Arc<EncodedExamples>>,
    /// Length of the longest row that can come.
    longest: usize,
    /// The last epoch laid out and the last step augmented: accelerators only, made again whenever
    /// another is asked for.
    layout: Mutex<Option<Arc<Layout>>>,
    texts: Mutex<Option<(u64, Arc<Vec<EncodedText>>)>>,
}

/// One epoch's batches.
struct Layout {
    epoch: u64,
    /// Examples, batch after batch.
    order: Vec<u32>,
    /// Where each batch starts in `order`, and the end.
    starts: Vec<usize>,
}

/// One row before it is padded.
pub(crate) struct Row<'a> {
    ids: &'a [u32],
    segments: &'a [u8],
    label: u32,
    index: u32,
}

impl<'a> Row<'a> {
    /// Example `index` as it was encoded.
    pub(crate) fn stored(examples: &'a EncodedExamples, index: u32) -> Self {
        let i = index as usize;
        let (ids, segments) = (examples.ids(i), examples.segments(i));
        Row { ids, segments, label: examples.label(i), index }
    }
}

/// T for a batch whose longest row is `longest`: the next multiple, but not above `most` for that.
pub(crate) fn padded(longest: usize, multiple: usize, most: usize) -> usize {
    longest.next_multiple_of(multiple).min(most.max(longest))
}

/// Rows side by side, padded to T.
pub(crate) fn assemble(
    rows: &[Row<'_>],
    seq_len: usize,
    pad: u32,
    first_sequence: u64,
    epoch: f64,
) -> LabelledBatch {
    let mut batch = LabelledBatch {
        ids: vec![pad; rows.len() * seq_len],
        segments: vec![0; rows.len() * seq_len],
        lengths: rows.iter().map(|row| row.ids.len() as u32).collect(),
        labels: rows.iter().map(|row| row.label).collect(),
        weights: vec![1.0; rows.len()],
        rows: rows.iter().map(|row| row.index).collect(),
        batch: rows.len(),
        seq_len,
        first_sequence,
        epoch,
    };
    for (place, row) in rows.iter().enumerate() {
        let at = place * seq_len;
        batch.ids[at..at + row.ids.len()].copy_from_slice(row.ids);
        for (out, segment) in batch.segments[at..].iter_mut().zip(row.segments) {
            *out = u32::from(*segment);
        }
    }
    batch
}

impl LabelledBatches {
    /// Prepares to cut `examples`.
    ///
    /// # Errors
    /// B, the multiple or a pool is 0; no examples; [`LastBatch::Drop`] with fewer than B examples.
    pub fn new(examples: &Arc<EncodedExamples>, plan: LabelledPlan) -> Result<Self, DataError> {
        let refuse = |words: String| Err(DataError::Batch(words));
        if plan.batch == 0 || plan.multiple == 0 || plan.bucketing == Bucketing::Pools(0) {
            return refuse("the batch size, the multiple and the pool must be at least 1".into());
        }
        if examples.is_empty() {
            return refuse("there are no training examples".into());
        }
        if plan.last == LastBatch::Drop && examples.len() < plan.batch {
            return refuse(format!(
                "{} example(s) do not fill one batch of {}, and smaller batches are dropped. Keep \
                 them, or set a smaller batch",
                examples.len(),
                plan.batch
            ));
        }
        let (layout, texts) = (Mutex::new(None), Mutex::new(None));
        let longest = (0..examples.len()).map(|i| examples.length(i)).max().unwrap_or(1);
        let examples = examples.clone();
        let (augmented, beside) = (None, None);
        Ok(LabelledBatches { examples, plan, augmented, beside, longest, layout, texts })
    }

    /// The same batches with every text augmented as it is taken: example i of epoch e is
    /// what the augmenters make of (text, e, i), one after another (a pair stays as it is). Batches
    /// stay bucketed by the lengths of the original texts.
    ///
    /// # Errors
    /// Not as many texts as examples.
    pub fn with_augmentation(self, augmented: Augmented) -> Result<Self, DataError> {
        let (texts, examples) = (augmented.examples.len(), self.examples.len());
        if texts != examples {
            let words = format!("{texts} text(s) to augment for {examples} encoded example(s)");
            return Err(DataError::Batch(words));
        }
        let longest = augmented.encoder.max_length();
        Ok(LabelledBatches { augmented: Some(augmented), longest, ..self })
    }

    /// The same batches with rows sorted by the lengths of `others`, too: example i stands beside
    /// example i there, and both should be alike in length within a batch.
    pub(crate) fn beside(self, others: Arc<EncodedExamples>) -> Self {
        LabelledBatches { beside: Some(others), ..self }
    }

    /// What rows of a pool are sorted by.
    fn size(&self, index: u32) -> (usize, usize) {
        let (length, i) = (self.examples.length(index as usize), index as usize);
        match &self.beside {
            None => (length, 0),
            Some(others) => (length.div_ceil(self.plan.multiple), others.length(i)),
        }
    }

    /// Examples that no full batch holds.
    fn rest(&self) -> usize {
        self.examples.len() % self.plan.batch
    }

    /// Rows of one epoch.
    fn rows_per_epoch(&self) -> u64 {
        let rest = if self.plan.last == LastBatch::Drop { self.rest() } else { 0 };
        (self.examples.len() - rest) as u64
    }

    /// Batches in an epoch, the smaller last one included where it is kept.
    pub fn steps_per_epoch(&self) -> u64 {
        self.rows_per_epoch().div_ceil(self.plan.batch as u64)
    }

    /// The least number of steps that covers `epochs`.
    pub fn steps_for_epochs(&self, epochs: f64) -> u64 {
        (epochs * self.steps_per_epoch() as f64 - 1e-9).ceil().max(0.0) as u64
    }

    /// Epochs done before step `step` (from 0).
    pub fn epoch_at(&self, step: u64) -> f64 {
        step as f64 / self.steps_per_epoch() as f64
    }

    /// Rows of the batch of a step: B, or fewer in the one that takes what is left over.
    pub fn rows_at(&self, step: u64) -> usize {
        self.place(step).1.len()
    }

    /// The largest T that any batch of the run can have.
    pub fn seq_len_max(&self) -> usize {
        self.longest
    }

    /// The layout that holds a step and the step's part of its order.
    fn place(&self, step: u64) -> (Arc<Layout>, Range<usize>) {
        let layout = self.layout(step / self.steps_per_epoch());
        let number = (step % self.steps_per_epoch()) as usize;
        let range = layout.starts[number]..layout.starts[number + 1];
        (layout, range)
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
    pub fn batch_rows(&self, step: u64, rows: Range<usize>) -> Result<LabelledBatch, DataError> {
        let (layout, range) = self.place(step);
        assert!(rows.end <= range.len(), "rows {rows:?} of {}", range.len());
        let first = layout.epoch * self.rows_per_epoch() + (range.start + rows.start) as u64;
        let members = &layout.order[range];
        let texts = match &self.augmented {
            None => None,
            Some(augmented) => Some(self.augment(step, layout.epoch, members, augmented)?),
        };
        let row = |place: usize| {
            let stored = Row::stored(&self.examples, members[place]);
            match &texts {
                None => stored,
                Some(texts) => {
                    Row { ids: &texts[place].ids, segments: &texts[place].segments, ..stored }
                }
            }
        };
        let longest = (0..members.len()).map(|place| row(place).ids.len()).max().unwrap_or(1);
        let seq_len = padded(longest, self.plan.multiple, self.longest);
        let taken: Vec<Row<'_>> = rows.map(row).collect();
        Ok(assemble(&taken, seq_len, self.plan.pad, first, self.epoch_at(step)))
    }

    /// The texts of a step, changed and encoded.
    fn augment(
        &self,
        step: u64,
        epoch: u64,
        members: &[u32],
        augmented: &Augmented,
    ) -> Result<Arc<Vec<EncodedText>>, DataError> {
        let mut held = self.texts.lock().expect("no panic while it is held");
        if let Some((_, texts)) = held.as_ref().filter(|(of, _)| *of == step) {
            return Ok(texts.clone());
        }
        let one = |index: &u32| {
            let example = &augmented.examples[*index as usize];
            let index = u64::from(*index);
            let mut text = Cow::Borrowed(example.text.as_str());
            for augmenter in &augmented.augmenters {
                text = Cow::Owned(augmenter.apply(&text, epoch, index));
            }
            augmented.encoder.encode(&text, example.pair.as_deref())
        };
        let texts = Arc::new(members.iter().map(one).collect::<Result<Vec<_>, _>>()?);
        *held = Some((step, texts.clone()));
        Ok(texts)
    }

    fn layout(&self, epoch: u64) -> Arc<Layout> {
        let mut held = self.layout.lock().expect("no panic while it is held");
        if let Some(layout) = held.as_ref().filter(|l| l.epoch == epoch) {
            return layout.clone();
        }
        let layout = Arc::new(self.lay_out(epoch));
        *held = Some(layout.clone());
        layout
    }

    fn lay_out(&self, epoch: u64) -> Layout {
        let (LabelledPlan { batch, seed, .. }, count) = (self.plan, self.examples.len());
        let mut shuffled = match self.plan.shuffle {
            Shuffle::Yes => Random::new(seed, streams::ORDER, epoch).permutation(count),
            Shuffle::No => (0..count as u32).collect(),
        };
        // What is left over is taken off before lengths are looked at: were it taken off a sorted
        // pool, long texts would be left out of full batches again and again.
        let full = count - self.rest();
        if let Bucketing::Pools(batches) = self.plan.bucketing {
            for pool in shuffled[..full].chunks_mut(batch.saturating_mul(batches)) {
                pool.sort_by_key(|i| self.size(*i));
            }
        }
        let batches = self.steps_per_epoch() as usize;
        let sequence = match self.plan.shuffle {
            Shuffle::Yes => Random::new(seed, streams::WINDOWS, epoch).permutation(batches),
            Shuffle::No => (0..batches as u32).collect(),
        };
        let (mut order, mut starts) = (Vec::with_capacity(count), vec![0]);
        for number in sequence {
            let start = number as usize * batch;
            order.extend_from_slice(&shuffled[start..(start + batch).min(count)]);
            starts.push(order.len());
        }
        Layout { epoch, order, starts }
    }

    /// Share of the positions of one epoch (without augmentation) that are padding.
    pub fn padding(&self, epoch: u64) -> f64 {
        let layout = self.layout(epoch);
        let length = |i: &u32| self.examples.length(*i as usize);
        let (mut positions, mut tokens) = (0, 0);
        for range in layout.starts.windows(2) {
            let rows = &layout.order[range[0]..range[1]];
            let longest = rows.iter().map(length).max().unwrap_or(1);
            positions += rows.len() * padded(longest, self.plan.multiple, self.longest);
            tokens += rows.iter().map(length).sum::<usize>();
        }
        1.0 - tokens as f64 / positions.max(1) as f64
    }
}
