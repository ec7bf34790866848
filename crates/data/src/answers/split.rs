//! Held-out splits by paragraph: all questions about a paragraph go the same way.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::read::Question;
use crate::error::DataError;
use crate::fast_hash::FastMap;
use crate::labelled::leaks::{Key, key};
use crate::prepare::ValidationSpec;

pub(crate) type Splits = [Vec<Question>; 3];

/// The questions of each paragraph, paragraphs in the order in which they first occur.
pub(crate) fn by_paragraph(questions: &[Question]) -> Vec<(Key, Vec<u32>)> {
    let mut place: FastMap<Key, usize> = FastMap::default();
    let mut groups: Vec<(Key, Vec<u32>)> = Vec::new();
    for (index, question) in (0..).zip(questions) {
        let key = key(&question.context, None);
        let at = *place.entry(key).or_insert(groups.len());
        if at == groups.len() {
            groups.push((key, Vec::new()));
        }
        groups[at].1.push(index);
    }
    groups
}

/// In an order that a hash of seed and paragraph decides, so that it does not depend on the order
/// of the file.
fn drawn(groups: &[(Key, Vec<u32>)], seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|at| xxh3_64_with_seed(&groups[*at].0.to_le_bytes(), seed));
    order
}

/// `count` questions at most, by whole paragraphs as far as they go and then as they stand.
pub(crate) fn subset(questions: &mut Vec<Question>, count: usize, seed: u64) {
    let groups = by_paragraph(questions);
    let members = drawn(&groups, seed).into_iter().flat_map(|at| groups[at].1.iter().copied());
    let mut kept: Vec<u32> = members.take(count).collect();
    kept.sort_unstable();
    let mut next = kept.into_iter().peekable();
    let mut index = 0;
    questions.retain(|_| {
        index += 1;
        next.next_if_eq(&(index - 1)).is_some()
    });
}

/// Takes validation and test out of the training questions, where they have no files of their own.
///
/// # Errors
/// A share that is none, or fewer paragraphs than splits.
pub(crate) fn hold_out(
    all: Vec<Question>,
    own: [Vec<Question>; 2],
    specs: [Option<&ValidationSpec>; 2],
    seed: u64,
) -> Result<(Splits, String), DataError> {
    let groups = by_paragraph(&all);
    let drawn = drawn(&groups, seed);
    let mut split = vec![0; groups.len()];
    let mut words = Vec::new();
    for (number, (spec, name)) in specs.into_iter().zip(["validation", "test"]).enumerate() {
        let (share, order): (f64, Vec<usize>) = match spec {
            None => continue,
            Some(ValidationSpec::Paths(paths)) => {
                words.push(format!("{name}: {}", paths.join(", ")));
                continue;
            }
            Some(ValidationSpec::Share(share)) => (*share, drawn.clone()),
            Some(ValidationSpec::Tail(share)) => (*share, (0..groups.len()).rev().collect()),
        };
        if !(share > 0.0 && share < 1.0) {
            return Err(DataError::Split(format!(
                "a share of {share} cannot be held out. Give a number above 0 and below 1, such \
                 as 0.1"
            )));
        }
        let wanted = ((share * all.len() as f64).round() as usize).max(1);
        let (mut taken, mut paragraphs) = (0, 0);
        let free: Vec<usize> = order.into_iter().filter(|at| split[*at] == 0).collect();
        // The last paragraph stays in training.
        for at in free.iter().take(free.len().saturating_sub(1)) {
            if taken >= wanted {
                break;
            }
            split[*at] = number + 1;
            taken += groups[*at].1.len();
            paragraphs += 1;
        }
        if taken == 0 {
            return Err(DataError::Split(format!(
                "there are {} paragraph(s), and no paragraph may be in two splits: none is left \
                 for {name}. Give more paragraphs, or a file for {name}",
                groups.len()
            )));
        }
        let last = if matches!(spec, Some(ValidationSpec::Tail(_))) { "the last " } else { "" };
        words.push(format!("{name}: {last}{paragraphs} paragraphs with {taken} questions"));
    }
    let mut of = vec![0; all.len()];
    for ((_, members), split) in groups.iter().zip(&split) {
        members.iter().for_each(|index| of[*index as usize] = *split);
    }
    let mut splits: Splits = [Vec::new(), own[0].clone(), own[1].clone()];
    for (question, split) in all.into_iter().zip(of) {
        splits[split].push(question);
    }
    let is_shared = split.iter().any(|split| *split > 0);
    let promise = if is_shared { "; all questions about a paragraph are on one side" } else { "" };
    Ok((splits, words.join("; ") + promise))
}
