//! Label names: their order, their numbers, how often each occurs; and samples that keep every
//! class at its share.

use heldout_base::rng::{Random, streams};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// The classes of a task. Class k is `names[k]`; integers are ordered as numbers, `false` before
/// `true`, everything else by its characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    pub names: Vec<String>,
}

impl Labels {
    /// The classes among `found`, each once, in order.
    pub fn from_found<'a>(found: impl IntoIterator<Item = &'a str>) -> Self {
        let distinct: BTreeSet<&str> = found.into_iter().collect();
        let mut names: Vec<String> = distinct.into_iter().map(str::to_string).collect();
        // Numbers among words would have no place in one order: all or none count as numbers.
        if names.iter().all(|name| name.parse::<i64>().is_ok()) {
            names.sort_by_key(|name| name.parse::<i64>().unwrap_or(i64::MAX));
        }
        Labels { names }
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no class.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The number of the class of that name.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.names.iter().position(|n| n == name).map(|n| n as u32)
    }

    /// The name of class `number`.
    ///
    /// # Panics
    /// If there is no such class.
    pub fn name(&self, number: u32) -> &str {
        &self.names[number as usize]
    }
}

/// \[classes\]: examples of each class.
pub fn class_counts(labels: impl IntoIterator<Item = u32>, classes: usize) -> Vec<u64> {
    let mut counts = vec![0; classes];
    for label in labels {
        counts[label as usize] += 1;
    }
    counts
}

/// One weight a class: n / (K · n_k), so that every class counts alike (King & Zeng 2001, "Logistic
/// regression in rare events data"). A class without examples gets 0.
pub fn balanced_weights(counts: &[u64]) -> Vec<f32> {
    let total: u64 = counts.iter().sum();
    let weight = |count: &u64| match count {
        0 => 0.0,
        n => total as f64 / (counts.len() as f64 * *n as f64),
    };
    counts.iter().map(|count| weight(count) as f32).collect()
}

/// `count` of the examples with these classes, every class at its share and with at least one
/// example where `count` allows; indices in ascending order. A smaller count with the same seed
/// takes a part of what a larger one takes, so that learning curves compare like with like.
pub fn stratified(labels: &[u32], count: usize, seed: u64) -> Vec<u32> {
    let classes = labels.iter().max().map_or(0, |most| *most as usize + 1);
    let mut members: Vec<Vec<u32>> = vec![Vec::new(); classes];
    for (index, label) in labels.iter().enumerate() {
        members[*label as usize].push(index as u32);
    }
    // The r-th of n examples of a class belongs at (r + ½) / n of the way; a class's first at 0.
    let mut places: Vec<(f64, u32, u32)> = Vec::with_capacity(labels.len());
    for (class, members) in members.iter().enumerate() {
        let order = Random::new(seed, streams::SUBSET, class as u64).permutation(members.len());
        for (rank, member) in order.iter().enumerate() {
            let place = if rank == 0 { 0.0 } else { (rank as f64 + 0.5) / members.len() as f64 };
            places.push((place, class as u32, members[*member as usize]));
        }
    }
    places.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1)));
    let mut taken: Vec<u32> = places.iter().take(count).map(|(_, _, index)| *index).collect();
    taken.sort_unstable();
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_ordered_as_numbers_and_words_by_their_characters() {
        let names = |found: &[&str]| Labels::from_found(found.iter().copied()).names;
        assert_eq!(names(&["10", "9", "-1", "9"]), ["-1", "9", "10"]);
        assert_eq!(
            names(&["positive", "negative", "10", "9"]),
            ["10", "9", "negative", "positive"]
        );
        assert_eq!(names(&["true", "false"]), ["false", "true"]);
    }

    #[test]
    fn balanced_weights_make_every_class_count_alike() {
        let weights = balanced_weights(&[30, 10, 0]);
        assert!((weights[0] * 30.0 - weights[1] * 10.0).abs() < 1e-5, "{weights:?}");
        assert_eq!(weights[2], 0.0);
    }

    #[test]
    fn subsets_keep_the_shares_and_lie_within_each_other() {
        // 300 of class 0, 100 of class 1, 2 of class 2.
        let label = |i: usize| if i < 300 { 0 } else { u32::from(i >= 300) + u32::from(i >= 400) };
        let labels: Vec<u32> = (0..402).map(label).collect();
        let take = |count, seed| stratified(&labels, count, seed);
        let counts = |taken: &[u32]| class_counts(taken.iter().map(|i| labels[*i as usize]), 3);
        assert_eq!(counts(&take(3, 1)), [1, 1, 1]);
        let of_hundred = counts(&take(100, 1));
        assert!((73..=76).contains(&of_hundred[0]) && of_hundred[2] == 1, "{of_hundred:?}");
        let (small, large) = (take(40, 1), take(200, 1));
        assert!(small.iter().all(|index| large.contains(index)));
        assert_eq!(large, take(200, 1));
        assert_ne!(large, take(200, 2));
        assert_eq!(take(1000, 1).len(), 402);
    }
}
