//! Fixed windows for evaluation: the same rows whenever they are asked for, each target scored
//! once.

use crate::batches::{Batch, IGNORE};
use crate::error::DataError;
use crate::store::TokenStore;
use heldout_base::rng::{Random, streams};
use std::ops::Range;

/// Non-overlapping windows of T tokens over a split, in stored order, or a fixed sample of them.
///
/// A split of n tokens has n − 1 targets (the first token has nothing before it); the last window
/// is padded with id 0 and [`IGNORE`].
pub struct EvaluationWindows {
    store: TokenStore,
    seq_len: usize,
    /// The windows taken, ascending; `None` for all.
    sample: Option<Vec<u32>>,
    windows: u64,
}

impl EvaluationWindows {
    /// All windows of a split: every target is scored exactly once.
    ///
    /// # Errors
    /// T is 0, or the split has fewer than two tokens.
    pub fn whole(store: &TokenStore, seq_len: usize) -> Result<Self, DataError> {
        if seq_len == 0 {
            return Err(DataError::Batch("the sequence length must be at least 1".into()));
        }
        if store.len() < 2 {
            return Err(DataError::TooShort {
                split: "held-out".into(),
                tokens: store.len(),
                seq_len: 1,
                needed: 2,
            });
        }
        let windows = (store.len() - 1).div_ceil(seq_len as u64);
        Ok(EvaluationWindows { store: store.clone(), seq_len, sample: None, windows })
    }

    /// `count` of these windows without repetition, chosen by `seed` once and for all; all of them
    /// if there are not more.
    ///
    /// # Errors
    /// As [`EvaluationWindows::whole`]; more than 2³² windows.
    pub fn sample(
        store: &TokenStore,
        seq_len: usize,
        count: usize,
        seed: u64,
    ) -> Result<Self, DataError> {
        let mut all = Self::whole(store, seq_len)?;
        if (count as u64) < all.windows {
            if all.windows > u64::from(u32::MAX) {
                return Err(DataError::Batch("more than 4,294,967,295 windows".into()));
            }
            let random = Random::new(seed, streams::EVALUATION, 0);
            all.sample = Some(choose(&random, all.windows as u32, count.max(1) as u32));
        }
        Ok(all)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.sample.as_ref().map_or(self.windows as usize, Vec::len)
    }

    /// Whether there is no row (never).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// T.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// Targets scored over all rows.
    pub fn targets(&self) -> u64 {
        let length = self.seq_len as u64;
        let of = |window: u64| length.min(self.store.len() - 1 - window * length);
        match &self.sample {
            None => self.store.len() - 1,
            Some(sample) => sample.iter().map(|w| of(u64::from(*w))).sum(),
        }
    }

    /// Some rows; `first_sequence` is the first row's number and `epoch` is 0.
    ///
    /// # Panics
    /// If the rows reach past [`EvaluationWindows::len`].
    pub fn batch(&self, rows: Range<usize>) -> Batch {
        assert!(rows.end <= self.len(), "rows {rows:?} of {}", self.len());
        let length = self.seq_len;
        let mut ids = vec![0; rows.len() * length];
        let mut targets = vec![IGNORE; rows.len() * length];
        let mut run = vec![0; length + 1];
        for (place, row) in rows.clone().enumerate() {
            let window = self.sample.as_ref().map_or(row as u64, |s| u64::from(s[row]));
            let start = window * length as u64;
            let count = (length as u64).min(self.store.len() - 1 - start) as usize;
            self.store.read_into(start, &mut run[..=count]);
            let at = place * length;
            ids[at..at + count].copy_from_slice(&run[..count]);
            targets[at..at + count].copy_from_slice(&run[1..=count]);
        }
        Batch {
            ids,
            targets,
            batch: rows.len(),
            seq_len: length,
            first_sequence: rows.start as u64,
            epoch: 0.0,
        }
    }

    /// All rows, `size` at a time.
    pub fn batches(&self, size: usize) -> impl Iterator<Item = Batch> + '_ {
        let size = size.max(1);
        (0..self.len()).step_by(size).map(move |at| self.batch(at..(at + size).min(self.len())))
    }
}

/// `count` of `0..n` without repetition, ascending (Floyd's method: memory for `count` only).
fn choose(random: &Random, n: u32, count: u32) -> Vec<u32> {
    let mut chosen = std::collections::BTreeSet::new();
    for limit in n - count..n {
        let draw = random.below(u64::from(limit), u64::from(limit) + 1) as u32;
        if !chosen.insert(draw) {
            chosen.insert(limit);
        }
    }
    chosen.into_iter().collect()
}
