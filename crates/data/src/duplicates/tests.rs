//! Signatures, spills and winnowing against plain definitions.

use super::shingles::{band_keys, jaccard, shingles};
use super::spill::Spill;
use heldout_base::rng::{Random, streams};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn spills_group_alike_in_memory_and_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let random = Random::new(1, streams::TEST, 0);
    let mut expected: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    let mut spills =
        [Spill::with_memory(folder.path(), 1 << 20), Spill::with_memory(folder.path(), 100)];
    for document in 0..5000u32 {
        let key = random.below(u64::from(document), 1500).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        expected.entry(key).or_default().insert(document);
        for spill in &mut spills {
            spill.push(key, document).unwrap();
        }
    }
    let expected: Vec<Vec<u32>> =
        expected.into_values().filter(|d| d.len() > 1).map(|d| d.into_iter().collect()).collect();
    for spill in &mut spills {
        for _ in 0..2 {
            let mut groups = Vec::new();
            spill
                .each_group(&mut |group| {
                    groups.push(group.to_vec());
                    Ok(())
                })
                .unwrap();
            assert_eq!(groups, expected);
        }
    }
}

#[test]
fn shingles_ignore_case_and_punctuation_but_not_order() {
    assert_eq!(shingles("The cat sat. On the mat!"), shingles("the CAT, sat on the mat"));
    assert_ne!(shingles("the cat sat on the mat"), shingles("the mat sat on the cat"));
    assert_eq!(shingles("Hello!"), shingles("hello"));
    assert!(shingles(" ... !?").is_empty());
    // Scripts without spaces: five characters are a shingle.
    assert_eq!(shingles("他昨天去了学校。").len(), 3);
}

#[test]
fn signatures_find_the_similar_and_spare_the_rest() {
    let random = Random::new(7, streams::TEST, 1);
    let word = |i: u64| format!("w{}", random.below(i, 5000));
    let (mut found, mut wrong) = (0, 0);
    let (mut similar, mut apart) = (0, 0);
    for trial in 0..400u64 {
        let words: Vec<String> = (0..120).map(|i| word(trial * 1000 + i)).collect();
        let mut changed = words.clone();
        // A replaced stretch of words changes about as many shingles.
        for (i, slot) in changed.iter_mut().enumerate().skip(50).take(3 + trial as usize % 4) {
            *slot = word(trial * 1000 + 500 + i as u64);
        }
        let other: Vec<String> = (0..120).map(|i| word(trial * 1000 + 700 + i)).collect();
        let sets = [&words, &changed, &other].map(|w| shingles(&w.join(" ")));
        let keys = sets.each_ref().map(|s| band_keys(s));
        let candidate = |a: usize, b: usize| keys[a].iter().zip(&keys[b]).any(|(x, y)| x == y);
        if jaccard(&sets[0], &sets[1]) >= 0.8 {
            similar += 1;
            found += usize::from(candidate(0, 1));
        }
        if jaccard(&sets[0], &sets[2]) < 0.1 {
            apart += 1;
            wrong += usize::from(candidate(0, 2));
        }
    }
    println!("similar {found} of {similar}, wrong {wrong} of {apart}");
    assert!(similar > 150 && found as f64 >= 0.97 * similar as f64, "{found} of {similar}");
    assert!(apart > 350 && wrong <= apart / 50, "{wrong} of {apart}");
}

#[test]
fn jaccard_is_the_share_in_common() {
    assert_eq!(jaccard(&[1, 2, 3, 4], &[3, 4, 5]), 2.0 / 5.0);
    assert_eq!(jaccard(&[], &[]), 0.0);
}
