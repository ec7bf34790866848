//! Documents in passages, as an encoder reads them: the special tokens of its frame around each,
//! some tokens masked. What masked language models are trained on and measured by.
//!
//! A passage never crosses a document's end (Liu et al. 2019 find that a little better than windows
//! that do), so a corpus of sentences is read sentence by sentence. A longer document is cut into
//! passages of about equal length. Nothing is held in memory but where each passage lies.
//!
//! Batches are a pure function of the step, and masks one of epoch and place, so that a run
//! resumes with the same ones. Letters: B passages, T positions.

use std::sync::{Arc, Mutex};

use heldout_base::rng::{Random, streams};

use crate::batches::{IGNORE, Shuffle};
use crate::error::DataError;
use crate::labelled::frame::{Frame, Part};
use crate::masking::Masking;
use crate::store::TokenStore;
use crate::tokenizer::Tokenizer;

/// Passages of a split, cut once and for all.
#[derive(Clone, Debug)]
pub struct Passages {
    store: TokenStore,
    /// Special tokens in front of a passage, and behind it.
    around: [Vec<u32>; 2],
    /// Where each begins in the store, and how many tokens it has.
    places: Arc<Vec<(u64, u32)>>,
    pad: u32,
}

/// Some passages, masked.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskedBatch {
    /// [B, T] ids as they are read.
    pub ids: Vec<u32>,
    /// [B, T] ids that are to be told; [`IGNORE`] elsewhere.
    pub targets: Vec<u32>,
    /// [B] lengths, the frame's tokens counted.
    pub lengths: Vec<u32>,
    /// B.
    pub batch: usize,
    /// T.
    pub seq_len: usize,
    /// Index of the first passage among all of the run, from 0.
    pub first_sequence: u64,
    /// Epochs completed before this batch, with the fraction of the current one.
    pub epoch: f64,
}

/// Lengths are rounded up to a multiple of this, so that few shapes occur.
const MULTIPLE: usize = 8;
/// Batches whose passages are put together by length.
const POOL: usize = 32;
/// Masks are drawn again where nothing of a passage was to be told, at most so often.
const DRAWS_MOST: u64 = 64;
/// Draws of one epoch lie this far apart; all of them fit the 48 bits of a generator's step.
const DRAW: u64 = 1 << 40;
/// The epoch whose masks evaluations see; no run comes so far.
const FIXED: u64 = DRAW - 1;

impl Passages {
    /// Cuts a split for a model that reads `context` tokens.
    ///
    /// # Errors
    /// No room for text beside the frame; a split without text; more than 2³² passages.
    pub fn new(
        store: &TokenStore,
        tokenizer: &Tokenizer,
        context: usize,
    ) -> Result<Passages, DataError> {
        let around = frame(tokenizer)?;
        let specials = around[0].len() + around[1].len();
        let Some(room) = context.checked_sub(specials).filter(|room| *room > 0) else {
            return Err(DataError::Batch(format!(
                "a context of {context} has no room for text beside {specials} special tokens: \
                 allow at least {}",
                specials + 1
            )));
        };
        let places = cut(store, tokenizer.eos(), room as u64);
        if places.is_empty() {
            return Err(DataError::Batch("a split has no token to mask: give it text".into()));
        }
        if places.len() > u32::MAX as usize {
            let words = "more than 4,294,967,295 passages; use a longer context";
            return Err(DataError::Batch(words.into()));
        }
        let pad = pad(tokenizer);
        Ok(Passages { store: store.clone(), around, places: Arc::new(places), pad })
    }

    /// Number of passages.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none (never).
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Tokens of a passage, those around it counted.
    pub fn length(&self, number: u32) -> usize {
        self.places[number as usize].1 as usize + self.around[0].len() + self.around[1].len()
    }

    /// Mean of [`Passages::length`].
    pub fn length_mean(&self) -> f64 {
        let total: usize = (0..self.len() as u32).map(|number| self.length(number)).sum();
        total as f64 / self.len() as f64
    }

    /// Passages masked as in `epoch`.
    fn masked(
        &self,
        masking: &Masking,
        epoch: u64,
        numbers: &[u32],
        first_sequence: u64,
    ) -> MaskedBatch {
        let lengths: Vec<u32> = numbers.iter().map(|n| self.length(*n) as u32).collect();
        let longest = lengths.iter().copied().max().unwrap_or(1) as usize;
        let seq_len = longest.next_multiple_of(MULTIPLE);
        // Short lists of odd lengths must not outgrow what the model can read.
        let seq_len = seq_len.min(self.longest());
        let mut ids = vec![self.pad; numbers.len() * seq_len];
        let mut targets = vec![IGNORE; ids.len()];
        let rows = ids.chunks_exact_mut(seq_len).zip(targets.chunks_exact_mut(seq_len));
        for (number, (ids, targets)) in numbers.iter().zip(rows) {
            let (start, length) = self.places[*number as usize];
            let [before, after] = &self.around;
            let (text, end) = (before.len(), before.len() + length as usize);
            ids[..text].copy_from_slice(before);
            ids[end..end + after.len()].copy_from_slice(after);
            for draw in 0..DRAWS_MOST {
                self.store.read_into(start, &mut ids[text..end]);
                let (ids, targets) = (&mut ids[text..end], &mut targets[text..end]);
                masking.mask(epoch + draw * DRAW, start, ids, targets);
                if targets.iter().any(|target| *target != IGNORE) {
                    break;
                }
            }
        }
        let batch = numbers.len();
        MaskedBatch { ids, targets, lengths, batch, seq_len, first_sequence, epoch: 0.0 }
    }

    /// The longest passage there is.
    fn longest(&self) -> usize {
        let longest = self.places.iter().map(|(_, length)| *length).max().unwrap_or(1);
        longest as usize + self.around[0].len() + self.around[1].len()
    }
}

/// The special tokens in front of a text and behind it: as the tokenizer.json says, else
/// `[CLS]` and `[SEP]` as far as there are such.
fn frame(tokenizer: &Tokenizer) -> Result<[Vec<u32>; 2], DataError> {
    let frame = match Frame::of(tokenizer)? {
        Some(frame) => frame,
        None => Frame::of_encoder(tokenizer),
    };
    let mut around = [Vec::new(), Vec::new()];
    let mut side = 0;
    for part in &frame.single {
        match part {
            Part::Token { id, .. } => around[side].push(*id),
            Part::Text { .. } | Part::Pair { .. } => side = 1,
        }
    }
    Ok(around)
}

/// What fills short rows: nobody reads it.
fn pad(tokenizer: &Tokenizer) -> u32 {
    let found =
        tokenizer.specials().iter().find(|(name, _)| ["[PAD]", "<pad>"].contains(&&name[..]));
    found.map(|(_, id)| *id).or(tokenizer.eos()).unwrap_or(0)
}

/// Where passages of at most `room` tokens lie: each document in as few as hold it, of about equal
/// length, without the separator at its end.
fn cut(store: &TokenStore, eos: Option<u32>, room: u64) -> Vec<(u64, u32)> {
    let mut places = Vec::new();
    for document in 0..store.documents() {
        let (start, mut end) = (store.document_start(document), store.document_start(document + 1));
        while end > start && eos.is_some_and(|eos| store.tokens(end - 1..end)[0] == eos) {
            end -= 1;
        }
        let length = end - start;
        let pieces = length.div_ceil(room);
        for piece in 0..pieces {
            let (from, to) = (length * piece / pieces, length * (piece + 1) / pieces);
            places.push((start + from, (to - from) as u32));
        }
    }
    places
}

/// Training batches as a pure function of the step: every passage once an epoch, in a new order,
/// alike in length within a batch, under new masks.
pub struct MaskedBatches {
    passages: Passages,
    masking: Masking,
    rows: usize,
    seed: u64,
    shuffle: Shuffle,
    /// The last epoch laid out: an accelerator only.
    layout: Mutex<Option<Arc<Layout>>>,
}

struct Layout {
    epoch: u64,
    order: Vec<u32>,
    /// Of the batches in `order`, and the end.
    starts: Vec<usize>,
}

impl MaskedBatches {
    /// Batches of `rows` passages; the last one of an epoch has what is left.
    ///
    /// # Errors
    /// A batch of no passages.
    pub fn new(
        passages: &Passages,
        masking: Masking,
        rows: usize,
        seed: u64,
        shuffle: Shuffle,
    ) -> Result<MaskedBatches, DataError> {
        if rows == 0 {
            return Err(DataError::Batch("the batch size must be at least 1".into()));
        }
        let (passages, layout) = (passages.clone(), Mutex::new(None));
        let rows = rows.min(passages.len());
        Ok(MaskedBatches { passages, masking, rows, seed, shuffle, layout })
    }

    /// What is cut.
    pub fn passages(&self) -> &Passages {
        &self.passages
    }

    /// Rows of a full batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Batches in an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.passages.len().div_ceil(self.rows) as u64
    }

    /// Epochs done before step `step` (from 0).
    pub fn epoch_at(&self, step: u64) -> f64 {
        step as f64 / self.steps_per_epoch() as f64
    }

    /// The numbers of a step's passages.
    pub fn numbers_at(&self, step: u64) -> Vec<u32> {
        let layout = self.layout(step / self.steps_per_epoch());
        let number = (step % self.steps_per_epoch()) as usize;
        layout.order[layout.starts[number]..layout.starts[number + 1]].to_vec()
    }

    /// The batch of a step (from 0).
    pub fn batch_at(&self, step: u64) -> MaskedBatch {
        let steps = self.steps_per_epoch();
        let (layout, number) = (self.layout(step / steps), (step % steps) as usize);
        let start = layout.starts[number];
        let first = layout.epoch * self.passages.len() as u64 + start as u64;
        let numbers = &layout.order[start..layout.starts[number + 1]];
        let batch = self.passages.masked(&self.masking, layout.epoch, numbers, first);
        MaskedBatch { epoch: self.epoch_at(step), ..batch }
    }

    fn layout(&self, epoch: u64) -> Arc<Layout> {
        let mut held = self.layout.lock().expect("no panic while it is held");
        if let Some(layout) = held.as_ref().filter(|layout| layout.epoch == epoch) {
            return layout.clone();
        }
        let layout = Arc::new(self.lay_out(epoch));
        *held = Some(layout.clone());
        layout
    }

    fn lay_out(&self, epoch: u64) -> Layout {
        let (count, rows) = (self.passages.len(), self.rows);
        let permuted = |stream, n: usize| match self.shuffle {
            Shuffle::Yes => Random::new(self.seed, stream, epoch).permutation(n),
            Shuffle::No => (0..n as u32).collect(),
        };
        let mut shuffled = permuted(streams::ORDER, count);
        // What is left over is taken off before lengths are looked at: were it taken off a sorted
        // pool, it would be the longest passages again and again.
        let full = count - count % rows;
        for pool in shuffled[..full].chunks_mut(rows.saturating_mul(POOL)) {
            pool.sort_by_key(|number| self.passages.length(*number));
        }
        let (mut order, mut starts) = (Vec::with_capacity(count), vec![0]);
        for number in permuted(streams::WINDOWS, count.div_ceil(rows)) {
            let start = number as usize * rows;
            order.extend_from_slice(&shuffled[start..(start + rows).min(count)]);
            starts.push(order.len());
        }
        Layout { epoch, order, starts }
    }
}

/// The passages that evaluations look at, under masks that never change.
pub struct MaskedEvaluation {
    passages: Passages,
    masking: Masking,
    /// The longest first, so that little is padded and memory grows only once.
    order: Vec<u32>,
}

impl MaskedEvaluation {
    /// Every passage, or `count` of them chosen by `seed` once and for all.
    pub fn new(
        passages: &Passages,
        masking: Masking,
        count: Option<usize>,
        seed: u64,
    ) -> MaskedEvaluation {
        let mut order: Vec<u32> = (0..passages.len() as u32).collect();
        if let Some(count) = count.filter(|count| *count < order.len()) {
            order = Random::new(seed, streams::EVALUATION, 0).permutation(order.len());
            order.truncate(count.max(1));
            order.sort_unstable();
        }
        // Stable: equal lengths stay in the order of the split.
        order.sort_by_key(|number| usize::MAX - passages.length(*number));
        MaskedEvaluation { passages: passages.clone(), masking, order }
    }

    /// Number of passages.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none (never).
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// All of them, `size` at a time (the last batch may be smaller).
    pub fn batches(&self, size: usize) -> impl Iterator<Item = MaskedBatch> + '_ {
        let size = size.max(1);
        self.order.chunks(size).enumerate().map(move |(at, numbers)| {
            self.passages.masked(&self.masking, FIXED, numbers, (at * size) as u64)
        })
    }
}
