//! Counts of the runs of `n` tokens in a text, and how many two texts share.

use std::collections::HashMap;
use std::hash::Hash;

/// How often each n-gram occurs.
pub(crate) type Counts<'a, T> = HashMap<&'a [T], u64>;

/// The n-grams of one order.
pub(crate) fn counts<T: Eq + Hash>(tokens: &[T], order: usize) -> Counts<'_, T> {
    let mut counts = HashMap::with_capacity(tokens.len());
    for ngram in tokens.windows(order) {
        *counts.entry(ngram).or_insert(0) += 1;
    }
    counts
}

/// How many n-grams of that order a text of `length` tokens has.
pub(crate) fn total(length: usize, order: usize) -> u64 {
    (length + 1).saturating_sub(order) as u64
}

/// The n-grams in common: Σ min(a, b), each occurrence used once.
pub(crate) fn shared<T: Eq + Hash>(a: &Counts<'_, T>, b: &Counts<'_, T>) -> u64 {
    let (few, many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    few.iter().map(|(ngram, count)| (*count).min(many.get(ngram).copied().unwrap_or(0))).sum()
}
