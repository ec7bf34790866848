//! Which tokens of a text are the most predictable, counted once.
//!
//! A token's measure is −ln p(token | what stands before it) in an interpolated modified
//! Kneser–Ney model of the *other* half of the text (two-fold cross-fitting): a model that had
//! counted the token itself would call whatever it saw once predictable. Everything here is a pure
//! function of the tokens, so a run that goes on after a stop finds the same marks.

use std::ops::Range;

use super::counts::{Appended, NgramCounts};
use crate::batches::IGNORE;
use crate::store::TokenStore;

/// Orders of the models: of characters and the like, and of larger vocabularies.
const ORDER_SMALL_VOCABULARY: usize = 6;
const ORDER_LARGE_VOCABULARY: usize = 4;
const SMALL_VOCABULARY: u64 = 1024;

/// n-grams kept at a time, about 50 bytes each. A constant, not what is free: the marks must not
/// depend on the machine. Once they are used up, a half's further tokens are not counted.
const NODES_MOST: usize = 4_000_000;

/// Tokens read at a time, and tokens before them that are context only.
const CHUNK: u64 = 1 << 16;
const BEFORE: u64 = 16;

/// Measures are kept in steps of 1/4096 nat, up to 16 nats.
const STEPS_PER_NAT: f32 = 4096.0;

/// One mark for each token of a store: whether it is among the most predictable.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictable {
    bits: Vec<u64>,
    /// Share of tokens that are marked.
    pub share: f64,
    /// The highest order of the models that predicted.
    pub order: usize,
    /// Mean −ln p of the marked tokens, nats.
    pub loss_marked: f64,
    /// That of the others; 0 where there are none.
    pub loss_others: f64,
}

impl Predictable {
    /// Marks the `share` of the tokens with the lowest −ln p; of equal ones on the border as many
    /// as are wanted, at even distances.
    /// `eos` is the token between documents. Needs two bytes a token while it works, and one bit
    /// a token afterwards.
    ///
    /// # Panics
    /// If `share` is not above 0 and at most 1.
    pub fn find(store: &TokenStore, eos: Option<u32>, share: f64) -> Predictable {
        assert!(share > 0.0 && share <= 1.0, "a share of {share}");
        let middle = store.len() / 2;
        let mut levels = Vec::with_capacity(store.len() as usize);
        let (first, second) = (0..middle, middle..store.len());
        let mut order = 0;
        for (counted, scored) in [(&second, &first), (&first, &second)] {
            let counts = count(store, eos, counted.clone());
            order = order.max(counts.order());
            score(store, &counts, scored.clone(), &mut levels);
        }
        Predictable::mark(&levels, share, order)
    }

    fn mark(levels: &[u16], share: f64, order: usize) -> Predictable {
        let mut histogram = vec![0u64; 1 << 16];
        levels.iter().for_each(|level| histogram[usize::from(*level)] += 1);
        let wanted = (share * levels.len() as f64).round();
        // Below the border all are marked, on it as many as are still wanted.
        let (mut border, mut below) = (0, 0.0);
        while border < histogram.len() - 1 && below + histogram[border] as f64 <= wanted {
            below += histogram[border] as f64;
            border += 1;
        }
        let on_border = (wanted - below) / (histogram[border] as f64).max(1.0);
        let mut met = 0.0;
        let mut bits = vec![0u64; levels.len().div_ceil(64)];
        let mut sums = [[0.0, 0.0]; 2];
        for (at, level) in levels.iter().enumerate() {
            let is_marked = match usize::from(*level).cmp(&border) {
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Equal => {
                    met += 1.0;
                    (met * on_border).floor() > ((met - 1.0) * on_border).floor()
                }
                std::cmp::Ordering::Greater => false,
            };
            bits[at / 64] |= u64::from(is_marked) << (at % 64);
            let [sum, count] = &mut sums[usize::from(is_marked)];
            *sum += f64::from(f32::from(*level) / STEPS_PER_NAT);
            *count += 1.0;
        }
        let [others, marked] = sums;
        let mean = |[sum, count]: [f64; 2]| if count > 0.0 { sum / count } else { 0.0 };
        Predictable {
            bits,
            share: marked[1] / (levels.len() as f64).max(1.0),
            order,
            loss_marked: mean(marked),
            loss_others: mean(others),
        }
    }

    /// Whether the token at a place of the store is marked.
    ///
    /// # Panics
    /// If it lies beyond the store.
    pub fn is_marked(&self, place: u64) -> bool {
        self.bits[(place / 64) as usize] >> (place % 64) & 1 == 1
    }
}

/// Counts a part of the store, as far as there is room.
fn count(store: &TokenStore, eos: Option<u32>, part: Range<u64>) -> NgramCounts {
    let order = match store.vocabulary() <= SMALL_VOCABULARY {
        true => ORDER_SMALL_VOCABULARY,
        false => ORDER_LARGE_VOCABULARY,
    };
    let mut counts = NgramCounts::new(store.vocabulary() as u32, eos, order, NODES_MOST);
    for range in chunks(part) {
        if counts.append(&store.tokens(range)) == Appended::Full {
            break;
        }
    }
    counts
}

/// The measures of a part's tokens, behind those that are there already.
fn score(store: &TokenStore, counts: &NgramCounts, part: Range<u64>, levels: &mut Vec<u16>) {
    let (model, order) = (counts.estimate(), counts.order());
    for range in chunks(part) {
        let first = range.start.saturating_sub(BEFORE);
        let text = store.tokens(first..range.end);
        let mut targets = text[1..].to_vec();
        let context = (range.start - first).saturating_sub(1) as usize;
        targets[..context].fill(IGNORE);
        if first == range.start {
            // Nothing stands before the first token of all, so nothing predicts it.
            levels.push(u16::MAX);
        }
        let ids = &text[..text.len() - 1];
        model.losses(&[order], ids, &targets, |_, losses| {
            let level = |loss: &f32| (loss * STEPS_PER_NAT).min(f32::from(u16::MAX)) as u16;
            levels.extend(losses[context..].iter().map(level));
        });
    }
}

fn chunks(part: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = part.end;
    part.step_by(CHUNK as usize).map(move |start| start..(start + CHUNK).min(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_are_marked_and_of_equal_ones_as_many_as_wanted() {
        let levels: Vec<u16> = (0..1000).map(|i| i * 7 % 1000).collect();
        let marked = Predictable::mark(&levels, 0.25, 3);
        assert!((0..1000).all(|at| marked.is_marked(at) == (levels[at as usize] < 250)));
        assert_eq!((marked.share, marked.order), (0.25, 3));
        assert!((marked.loss_marked - 124.5 / 4096.0).abs() < 1e-9, "{marked:?}");
        assert!((marked.loss_others - 624.5 / 4096.0).abs() < 1e-9, "{marked:?}");
        // A quarter lower, all others alike: the quarter, and a third of the others.
        let tied: Vec<u16> = (0..40_000).map(|i| if i % 4 == 0 { 1 } else { 9 }).collect();
        let marked = Predictable::mark(&tied, 0.5, 3);
        assert!((0..10_000).all(|i| marked.is_marked(4 * i)));
        assert_eq!(marked.share, 0.5);
        let head = (0..4000).filter(|at| marked.is_marked(*at)).count();
        assert!((1999..=2001).contains(&head), "{head}");
        assert_eq!(Predictable::mark(&tied, 1.0, 3).share, 1.0);
    }
}
