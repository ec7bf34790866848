//! Training batches as a pure function of the step: windows re-cut and re-ordered every epoch.
//!
//! An epoch lays the documents end to end in a fresh random order, chooses a random phase, and cuts
//! the circle of tokens from there into windows of T: every token is a target exactly once an epoch
//! (the one place where the end meets the start is masked when no separator stands there). The
//! windows are then taken in a random order. Unlike sampling windows with replacement (nanoGPT), no
//! token is missed and none is seen twice. Steps run across epochs without a gap, so every batch is
//! full; resuming at step k is asking for step k.
//!
//! Letters: B sequences (rows), T positions.

use crate::error::DataError;
use crate::ngram::Predictable;
use crate::store::TokenStore;
use heldout_base::rng::{Random, streams};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// The target of a position that is not scored.
pub const IGNORE: u32 = u32::MAX;

/// One batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// [B, T] row-major token ids.
    pub ids: Vec<u32>,
    /// [B, T] row-major: the token that follows, or [`IGNORE`].
    pub targets: Vec<u32>,
    /// B.
    pub batch: usize,
    /// T.
    pub seq_len: usize,
    /// Index of the first row among all rows of the run, from 0.
    pub first_sequence: u64,
    /// Epochs completed before this batch, with the fraction of the current one.
    pub epoch: f64,
}

impl Batch {
    /// Targets that are scored.
    pub fn target_count(&self) -> u64 {
        self.targets.iter().filter(|t| **t != IGNORE).count() as u64
    }
}

/// How many rows a batch has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// That many; 1 is stochastic descent.
    Sequences(usize),
    /// All rows of an epoch: full-batch descent.
    Full,
}

/// Whether documents and windows are re-drawn every epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    Yes,
    /// Stored order, the same windows every epoch.
    No,
}

/// What to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlan {
    /// T, the sequence length in tokens.
    pub seq_len: usize,
    pub batch: BatchSize,
    pub seed: u64,
    pub shuffle: Shuffle,
}

/// Batches of one token store.
pub struct Batches {
    store: TokenStore,
    plan: BatchPlan,
    /// Rows in an epoch.
    windows: u64,
    rows: usize,
    junction: Junction,
    /// Which tokens of the store are marked.
    marked: Option<Predictable>,
    /// The last epoch laid out: an accelerator only, rebuilt whenever another is asked for.
    layout: Mutex<Option<Arc<Layout>>>,
}

/// What is between the last token of an epoch's order and its first.
#[derive(Clone, Copy, PartialEq)]
enum Junction {
    /// A separator: the first token of the first document is a fair target.
    Separated,
    /// Nothing: predicting the start of the text from its end is not asked.
    Masked,
}

/// One epoch's order.
struct Layout {
    epoch: u64,
    phase: u64,
    /// `None` for stored order.
    documents: Option<Documents>,
    windows: Option<Vec<u32>>,
}

struct Documents {
    order: Vec<u32>,
    /// Where each document of `order` starts in the epoch's circle, and the end.
    starts: Vec<u64>,
}

impl Batches {
    /// Prepares to cut `store`. `eos` is the tokenizer's end-of-text token.
    ///
    /// # Errors
    /// T or B is 0, or the store has fewer than T + 1 tokens.
    pub fn new(store: &TokenStore, plan: BatchPlan, eos: Option<u32>) -> Result<Self, DataError> {
        let (tokens, seq_len) = (store.len(), plan.seq_len);
        if seq_len == 0 || plan.batch == BatchSize::Sequences(0) {
            let words = "the sequence length and the batch size must be at least 1";
            return Err(DataError::Batch(words.into()));
        }
        let needed = seq_len as u64 + 1;
        if tokens < needed {
            let split = "training".into();
            return Err(DataError::TooShort { split, tokens, seq_len, needed });
        }
        let windows = tokens.div_ceil(seq_len as u64);
        if windows > u64::from(u32::MAX) || store.documents() > u64::from(u32::MAX) {
            let words = "more than 4,294,967,295 windows or documents; use longer sequences";
            return Err(DataError::Batch(words.into()));
        }
        let rows = match plan.batch {
            BatchSize::Sequences(rows) => rows,
            BatchSize::Full => windows as usize,
        };
        let last = store.tokens(tokens - 1..tokens)[0];
        let junction = if Some(last) == eos { Junction::Separated } else { Junction::Masked };
        let layout = Mutex::new(None);
        let marked = None;
        Ok(Batches { store: store.clone(), plan, windows, rows, junction, marked, layout })
    }

    /// The same batches of a text whose predictable tokens are known.
    pub fn marking(self, marked: Predictable) -> Self {
        Batches { marked: Some(marked), ..self }
    }

    /// The marks of the text, where it has any.
    pub fn marked(&self) -> Option<&Predictable> {
        self.marked.as_ref()
    }

    /// For each token of `rows` consecutive rows of the run, from row `first_sequence` on: 1 where
    /// it is marked, else 0. `None` where the text has no marks.
    pub fn marks(&self, first_sequence: u64, rows: usize) -> Option<Vec<u32>> {
        let marked = self.marked.as_ref()?;
        let (seq_len, total) = (self.plan.seq_len, self.store.len());
        let mut marks = vec![0; rows * seq_len];
        for (row, marks) in marks.chunks_exact_mut(seq_len).enumerate() {
            let sequence = first_sequence + row as u64;
            let layout = self.layout(sequence / self.windows);
            let first = self.first_of(&layout, sequence % self.windows);
            let count = (seq_len as u64).min(total - first) as usize;
            let mut places = marks[..count].iter_mut();
            self.circle(&layout, (layout.phase + first) % total, count, |span| {
                for (place, mark) in span.zip(&mut places) {
                    *mark = u32::from(marked.is_marked(place));
                }
            });
        }
        Some(marks)
    }

    /// Rows in an epoch: ⌈tokens / T⌉.
    pub fn windows_per_epoch(&self) -> u64 {
        self.windows
    }

    /// Rows in a batch, B.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Steps in an epoch; a fraction when B does not divide the rows.
    pub fn steps_per_epoch(&self) -> f64 {
        self.windows as f64 / self.rows as f64
    }

    /// The least number of steps that covers `epochs`.
    pub fn steps_for_epochs(&self, epochs: f64) -> u64 {
        (epochs * self.steps_per_epoch() - 1e-9).ceil().max(0.0) as u64
    }

    /// Targets in an epoch.
    pub fn targets_per_epoch(&self) -> u64 {
        self.store.len() - u64::from(self.junction == Junction::Masked)
    }

    /// Epochs done before step `step` (from 0).
    pub fn epoch_at(&self, step: u64) -> f64 {
        step as f64 * self.rows as f64 / self.windows as f64
    }

    /// The whole batch of a step (from 0).
    pub fn batch_at(&self, step: u64) -> Batch {
        self.batch_rows(step, 0..self.rows)
    }

    /// Some rows of a step's batch: a micro-batch. All micro-batches of a step put together are
    /// exactly [`Batches::batch_at`].
    ///
    /// # Panics
    /// If the rows reach past the batch.
    pub fn batch_rows(&self, step: u64, rows: Range<usize>) -> Batch {
        assert!(rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        let seq_len = self.plan.seq_len;
        let first_sequence = step * self.rows as u64 + rows.start as u64;
        let mut ids = vec![0; rows.len() * seq_len];
        let mut targets = vec![IGNORE; rows.len() * seq_len];
        let out = ids.chunks_exact_mut(seq_len).zip(targets.chunks_exact_mut(seq_len));
        for (row, (ids, targets)) in out.enumerate() {
            let sequence = first_sequence + row as u64;
            let layout = self.layout(sequence / self.windows);
            self.window(&layout, sequence % self.windows, ids, targets);
        }
        let epoch = self.epoch_at(step);
        Batch { ids, targets, batch: rows.len(), seq_len, first_sequence, epoch }
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
        if self.plan.shuffle == Shuffle::No {
            return Layout { epoch, phase: 0, documents: None, windows: None };
        }
        let count = self.store.documents();
        let documents = (count > 1).then(|| {
            let order =
                Random::new(self.plan.seed, streams::ORDER, epoch).permutation(count as usize);
            let mut starts = Vec::with_capacity(order.len() + 1);
            let mut at = 0;
            for document in &order {
                starts.push(at);
                let document = u64::from(*document);
                at += self.store.document_start(document + 1) - self.store.document_start(document);
            }
            starts.push(at);
            Documents { order, starts }
        });
        // The order of windows takes the indices below the count; the phase one above them all.
        let random = Random::new(self.plan.seed, streams::WINDOWS, epoch);
        let windows = random.permutation(self.windows as usize);
        let phase = random.below(self.windows, self.plan.seq_len as u64);
        Layout { epoch, phase, documents, windows: Some(windows) }
    }

    /// Fills row `number` of an epoch.
    fn window(&self, layout: &Layout, number: u64, ids: &mut [u32], targets: &mut [u32]) {
        let (total, length) = (self.store.len(), self.plan.seq_len as u64);
        let first = self.first_of(layout, number);
        let count = length.min(total - first) as usize;
        let mut run = vec![0; count + 1];
        let mut out = &mut run[..];
        self.circle(layout, (layout.phase + first) % total, count + 1, |span| {
            let rest = std::mem::take(&mut out);
            let (head, rest) = rest.split_at_mut((span.end - span.start) as usize);
            self.store.read_into(span.start, head);
            out = rest;
        });
        ids[..count].copy_from_slice(&run[..count]);
        targets[..count].copy_from_slice(&run[1..]);
        if self.junction == Junction::Masked {
            // The position of the last token of the circle within this row, if it is here.
            let last = (2 * total - 1 - layout.phase - first) % total;
            if last < count as u64 {
                targets[last as usize] = IGNORE;
            }
        }
    }

    /// Where in the epoch, counted from its phase, row `number` begins.
    fn first_of(&self, layout: &Layout, number: u64) -> u64 {
        let number = layout.windows.as_ref().map_or(number, |w| u64::from(w[number as usize]));
        number * self.plan.seq_len as u64
    }

    /// The `count` tokens from position `at` of the epoch's circle, as stretches of the store.
    fn circle(
        &self,
        layout: &Layout,
        mut at: u64,
        mut count: usize,
        mut take: impl FnMut(Range<u64>),
    ) {
        let total = self.store.len();
        while count > 0 {
            let (from, available) = match &layout.documents {
                None => (at, total - at),
                Some(documents) => {
                    let place = documents.starts.partition_point(|s| *s <= at) - 1;
                    let start = self.store.document_start(u64::from(documents.order[place]));
                    let from = start + (at - documents.starts[place]);
                    (from, documents.starts[place + 1] - at)
                }
            };
            let length = available.min(count as u64);
            take(from..from + length);
            count -= length as usize;
            at = (at + length) % total;
        }
    }
}
