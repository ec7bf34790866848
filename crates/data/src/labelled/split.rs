//! Held-out splits of labelled examples: every class at its share, equal texts on one side.

use super::leaks::{Key, keys};
use super::prepare::{LabelledExample, LabelledSpec};
use crate::error::DataError;
use crate::fast_hash::FastMap;
use crate::prepare::ValidationSpec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How many of each class are held out: `share` of all, by largest remainder, and never the last
/// of a class.
fn quotas(counts: &[u64], share: f64) -> Vec<u64> {
    let total: u64 = counts.iter().sum();
    let wanted = ((share * total as f64).round() as u64).max(1);
    let exact = |count: u64| count as f64 * wanted as f64 / total as f64;
    let mut quotas: Vec<u64> = counts.iter().map(|count| exact(*count) as u64).collect();
    let mut by_remainder: Vec<usize> = (0..counts.len()).collect();
    let remainder = |class: usize| exact(counts[class]) - quotas[class] as f64;
    by_remainder.sort_by(|a, b| remainder(*b).total_cmp(&remainder(*a)).then(a.cmp(b)));
    let missing = wanted.saturating_sub(quotas.iter().sum()) as usize;
    for class in by_remainder.into_iter().take(missing) {
        quotas[class] += 1;
    }
    quotas.iter().zip(counts).map(|(quota, count)| *quota.min(&count.saturating_sub(1))).collect()
}

/// Indices of the examples that go to each held-out split, ascending: `shares` of all examples, one
/// after another. Which ones is decided by a hash of seed and text, so that it does not depend on
/// the order of the file and equal texts go the same way.
pub(crate) fn by_share<const SPLITS: usize>(
    keys: &[Key],
    labels: &[u32],
    classes: usize,
    shares: [f64; SPLITS],
    seed: u64,
) -> [Vec<u32>; SPLITS] {
    let counts = super::labels::class_counts(labels.iter().copied(), classes);
    // Examples of one text count for the class of the first.
    let mut groups: FastMap<Key, Vec<u32>> = FastMap::default();
    for (index, key) in keys.iter().enumerate() {
        groups.entry(*key).or_default().push(index as u32);
    }
    let mut by_class: Vec<Vec<(u64, Key)>> = vec![Vec::new(); classes];
    for (key, members) in &groups {
        let order = xxh3_64_with_seed(&key.to_le_bytes(), seed);
        by_class[labels[members[0] as usize] as usize].push((order, *key));
    }
    by_class.iter_mut().for_each(|groups| groups.sort_unstable());
    let mut next = vec![0; classes];
    shares.map(|share| {
        let mut taken = Vec::new();
        if share == 0.0 {
            return taken;
        }
        for (class, quota) in quotas(&counts, share).into_iter().enumerate() {
            let mut left = quota as usize;
            // The last group of a class stays in training.
            while left > 0 && next[class] + 1 < by_class[class].len() {
                let members = &groups[&by_class[class][next[class]].1];
                taken.extend_from_slice(members);
                left = left.saturating_sub(members.len());
                next[class] += 1;
            }
        }
        taken.sort_unstable();
        taken
    })
}

pub(crate) type Splits = [Vec<LabelledExample>; 3];

/// The share at the end or spread over the classes, and how it was done.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Share {
    None,
    Spread(f64),
    End(f64),
}

pub(crate) fn share(spec: Option<&ValidationSpec>) -> Result<Share, DataError> {
    let share = match spec {
        None | Some(ValidationSpec::Paths(_)) => return Ok(Share::None),
        Some(ValidationSpec::Share(share)) => Share::Spread(*share),
        Some(ValidationSpec::Tail(share)) => Share::End(*share),
    };
    match share {
        Share::Spread(x) | Share::End(x) if !(x > 0.0 && x < 1.0) => {
            Err(DataError::Split(format!(
                "a share of {x} cannot be held out. Give a number above 0 and below 1, such as 0.1"
            )))
        }
        share => Ok(share),
    }
}

/// Takes validation and test out of the training examples, where they have no files of their own.
pub(crate) fn hold_out(
    all: Vec<LabelledExample>,
    own: [Vec<LabelledExample>; 2],
    classes: usize,
    spec: &LabelledSpec,
) -> Result<(Splits, String), DataError> {
    let shares = [share(Some(&spec.validation))?, share(spec.test.as_ref())?];
    let count = all.len();
    let chosen: [Vec<u32>; 2] = match shares {
        [Share::None | Share::Spread(_), Share::None | Share::Spread(_)] => {
            let part = |s| if let Share::Spread(share) = s { share } else { 0.0 };
            let labels: Vec<u32> = all.iter().map(|example| example.label).collect();
            by_share(&keys(&all), &labels, classes, shares.map(part), spec.seed)
        }
        [Share::None | Share::End(_), Share::None | Share::End(_)] => {
            let part = |s| if let Share::End(share) = s { share } else { 0.0 };
            let [validation, test] = shares.map(part).map(|s| (s * count as f64).round() as usize);
            let held_out = (validation + test).min(count);
            let start = count - held_out;
            let middle = (start + validation).min(count);
            [(start as u32..middle as u32).collect(), (middle as u32..count as u32).collect()]
        }
        _ => {
            let words = "one held-out split is a share of every class and the other the end of the \
                         file. Take both the same way, or name files";
            return Err(DataError::Split(words.into()));
        }
    };
    let mut part = vec![0u8; count];
    for (number, indices) in (1..).zip(&chosen) {
        indices.iter().for_each(|index| part[*index as usize] = number);
    }
    let [validation, test] = own;
    let mut splits = [Vec::with_capacity(count), validation, test];
    for (example, part) in all.into_iter().zip(part) {
        splits[usize::from(part)].push(example);
    }
    for (name, split, share) in
        [("validation", &splits[1], shares[0]), ("test", &splits[2], shares[1])]
    {
        if share != Share::None && split.is_empty() || splits[0].is_empty() {
            return Err(DataError::Split(format!(
                "{count} example(s) in {classes} classes are too few to hold out a {name} split. \
                 Give more examples, or name a {name} file"
            )));
        }
    }
    let sentence = |name: &str, share, split: &Vec<LabelledExample>| match share {
        Share::None => format!("{name} from its own files ({})", split.len()),
        Share::Spread(share) => format!(
            "{name} {} of {count} examples ({:.0}% of every class, by hash of seed and text)",
            split.len(),
            share * 100.0
        ),
        Share::End(_) => format!("{name} the last {} of {count} examples", split.len()),
    };
    let mut words = sentence("validation", shares[0], &splits[1]);
    if spec.test.is_some() {
        words += &format!("; {}", sentence("test", shares[1], &splits[2]));
    }
    Ok((splits, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_add_up_and_leave_every_class_one() {
        assert_eq!(quotas(&[600, 400], 0.1), [60, 40]);
        assert_eq!(quotas(&[5, 5, 5], 0.1).iter().sum::<u64>(), 2);
        assert_eq!(quotas(&[9, 1], 0.9), [8, 0]);
    }

    #[test]
    fn equal_texts_stay_together_and_classes_keep_their_share() {
        // Every text occurs twice, 200 apart.
        let keys: Vec<Key> = (0..400).map(|i| Key::from(i as u32 % 200)).collect();
        let labels: Vec<u32> = (0..400).map(|i| u32::from(i % 200 < 50)).collect();
        let [validation, test] = by_share(&keys, &labels, 2, [0.2, 0.1], 7);
        assert_eq!((validation.len(), test.len()), (80, 40));
        let rare = validation.iter().filter(|i| labels[**i as usize] == 1).count();
        assert_eq!(rare, 20);
        for held_out in [&validation, &test] {
            assert!(held_out.iter().all(|i| held_out.contains(&((i + 200) % 400))));
        }
        assert!(validation.iter().all(|i| !test.contains(i)));
        assert_ne!(by_share(&keys, &labels, 2, [0.2, 0.1], 8)[0], validation);
    }
}
