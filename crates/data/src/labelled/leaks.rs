//! Texts that occur more than once: across splits (leaks), within one (duplicates), with several
//! labels (conflicts).
//!
//! Two texts are the same when their letters and digits are, case aside; nearly the same when their
//! word 5-grams have a Jaccard index of at least 0.8 (see `duplicates`).

use super::prepare::LabelledExample;
use crate::duplicates::shingles::{SIMILAR, band_keys, jaccard, shingles};
use crate::facts::{Example, Origin};
use crate::fast_hash::FastMap;
use rayon::prelude::*;
use xxhash_rust::xxh3::Xxh3;

/// Tells texts apart by their normalised form.
pub(crate) type Key = u128;

/// Near-duplicate candidates kept for one signature.
const LEADERS: usize = 32;
/// Examples reported of each kind.
const EXAMPLES: usize = 7;

/// Letters and digits in lower case; what has none is taken as it stands.
fn normalised(text: &str, out: &mut String) {
    let before = out.len();
    for c in text.chars().filter(|c| c.is_alphanumeric()) {
        if c.is_ascii() {
            out.push(c.to_ascii_lowercase());
        } else {
            out.extend(c.to_lowercase());
        }
    }
    if out.len() == before {
        out.push_str(text.trim());
    }
}

/// The key of a text and its pair.
pub(crate) fn key(text: &str, pair: Option<&str>) -> Key {
    let mut form = String::with_capacity(text.len());
    normalised(text, &mut form);
    if let Some(pair) = pair {
        form.push('\n');
        normalised(pair, &mut form);
    }
    let mut hash = Xxh3::new();
    hash.update(form.as_bytes());
    hash.digest128()
}

/// The keys of many examples.
pub(crate) fn keys(examples: &[LabelledExample]) -> Vec<Key> {
    let of = |example: &LabelledExample| key(&example.text, example.pair.as_deref());
    examples.par_iter().with_min_len(64).map(of).collect()
}

/// What was found, as indices.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Training examples that are in held-out data: index, similarity (1 for exact).
    pub leaks: Vec<(u32, f64)>,
    /// Validation examples that are in test.
    pub shared: u64,
    /// Validation examples whose text stands in training, letter for letter.
    pub validation_in_train: u64,
    /// Training examples that repeat an earlier one with the same label.
    pub copies: Vec<u32>,
    /// Duplicates with the same label in any split, training included.
    pub duplicates: u64,
    /// Training examples whose text has another label elsewhere in training.
    pub conflicts: u64,
    pub examples: Vec<Example>,
}

/// Compares the splits with each other and training with itself.
pub(crate) fn find(
    train: &[LabelledExample],
    validation: &[LabelledExample],
    test: &[LabelledExample],
    origin: &dyn Fn(&LabelledExample) -> Origin,
) -> Found {
    let mut found = Found::default();
    let [train_keys, validation_keys, test_keys] = [train, validation, test].map(keys);
    within_training(train, &train_keys, origin, &mut found);
    for (split, keys) in [(validation, &validation_keys), (test, &test_keys)] {
        let mut seen: FastMap<(Key, u32), ()> = FastMap::default();
        let repeats = split.iter().zip(keys);
        found.duplicates +=
            repeats.filter(|(e, key)| seen.insert((**key, e.label), ()).is_some()).count() as u64;
    }
    let trained: FastMap<Key, ()> = train_keys.iter().map(|key| (*key, ())).collect();
    found.validation_in_train =
        validation_keys.iter().filter(|key| trained.contains_key(*key)).count() as u64;
    let held_out: Vec<(&LabelledExample, Key)> = validation
        .iter()
        .zip(validation_keys.iter().copied())
        .chain(test.iter().zip(test_keys.iter().copied()))
        .collect();
    let against = Against::new(&held_out);
    let matches = against.matches(train, &train_keys);
    let mut counts = [0; 2];
    for (index, hit) in matches.into_iter().enumerate() {
        let Some((other, similarity)) = hit else { continue };
        found.leaks.push((index as u32, similarity));
        let near = usize::from(similarity < 1.0);
        counts[near] += 1;
        if counts[near] <= EXAMPLES {
            let kind = ["exact", "near"][near];
            let both = [&train[index], held_out[other as usize].0];
            found.examples.push(example(kind, both, similarity, origin));
        }
    }
    let in_test: Vec<_> = held_out[validation.len()..].to_vec();
    let matches = Against::new(&in_test).matches(validation, &validation_keys);
    found.shared = matches.iter().flatten().count() as u64;
    found
}

fn example(
    kind: &str,
    both: [&LabelledExample; 2],
    similarity: f64,
    origin: &dyn Fn(&LabelledExample) -> Origin,
) -> Example {
    let excerpt = both[0].text.split_whitespace().collect::<Vec<_>>().join(" ");
    Example {
        kind: kind.into(),
        one: origin(both[0]),
        other: origin(both[1]),
        similarity,
        excerpt: excerpt.chars().take(80).collect(),
    }
}

/// Copies and conflicting labels among the training examples.
fn within_training(
    train: &[LabelledExample],
    keys: &[Key],
    origin: &dyn Fn(&LabelledExample) -> Origin,
    found: &mut Found,
) {
    let mut groups: FastMap<Key, Vec<u32>> = FastMap::default();
    for (index, key) in keys.iter().enumerate() {
        groups.entry(*key).or_default().push(index as u32);
    }
    let mut shown = 0;
    for (index, key) in keys.iter().enumerate() {
        let group = &groups[key];
        if group.len() == 1 {
            continue;
        }
        let label = train[index].label;
        let same = |other: &&u32| train[**other as usize].label == label;
        if group.iter().find(same).is_some_and(|first| (*first as usize) < index) {
            found.copies.push(index as u32);
        }
        if let Some(other) = group.iter().find(|other| !same(other)) {
            found.conflicts += 1;
            if (*other as usize) > index && shown < EXAMPLES {
                shown += 1;
                let both = [&train[index], &train[*other as usize]];
                found.examples.push(example("conflict", both, 1.0, origin));
            }
        }
    }
    found.duplicates += found.copies.len() as u64;
}

/// Texts that others are looked up in.
struct Against {
    exact: FastMap<Key, u32>,
    by_band: FastMap<u64, Vec<u32>>,
    sets: Vec<Vec<u64>>,
}

fn shingles_of(example: &LabelledExample) -> Vec<u64> {
    match &example.pair {
        None => shingles(&example.text),
        Some(pair) => shingles(&format!("{}\n{pair}", example.text)),
    }
}

impl Against {
    fn new(texts: &[(&LabelledExample, Key)]) -> Self {
        let sets: Vec<Vec<u64>> =
            texts.par_iter().with_min_len(16).map(|(e, _)| shingles_of(e)).collect();
        let (mut exact, mut by_band) = (FastMap::default(), FastMap::<u64, Vec<u32>>::default());
        for (index, ((_, key), set)) in texts.iter().zip(&sets).enumerate() {
            exact.entry(*key).or_insert(index as u32);
            for band in band_keys(set) {
                let leaders = by_band.entry(band).or_default();
                if leaders.len() < LEADERS {
                    leaders.push(index as u32);
                }
            }
        }
        Against { exact, by_band, sets }
    }

    /// For each example the text that it equals or, if none, resembles, and how much.
    fn matches(&self, examples: &[LabelledExample], keys: &[Key]) -> Vec<Option<(u32, f64)>> {
        let one = |(example, key): (&LabelledExample, &Key)| {
            if let Some(other) = self.exact.get(key) {
                return Some((*other, 1.0));
            }
            if self.by_band.is_empty() {
                return None;
            }
            let set = shingles_of(example);
            let bands = band_keys(&set);
            let candidates = bands.iter().filter_map(|band| self.by_band.get(band)).flatten();
            let similar =
                candidates.map(|other| (*other, jaccard(&set, &self.sets[*other as usize])));
            // Equal by words yet not by letters ("a b" and "ab" apart): near all the same.
            let near = similar.filter(|(_, similarity)| *similarity >= SIMILAR);
            near.map(|(other, similarity)| (other, similarity.min(1.0 - f64::EPSILON))).next()
        };
        examples.par_iter().zip(keys).with_min_len(16).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_spaces_and_punctuation_do_not_tell_texts_apart() {
        assert_eq!(key("It won't do.", None), key("it wo n't  do !", None));
        assert_eq!(key("你好，世界", None), key("你好 世界", None));
        assert_ne!(key("a b", None), key("a c", None));
        assert_ne!(key("a", Some("b")), key("ab", None));
        assert_ne!(key(":-)", None), key(":-(", None));
    }
}
