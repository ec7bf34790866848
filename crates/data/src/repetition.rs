//! How much of a token stream repeats itself: the share of tokens inside longer passages that stand
//! earlier in the same stream.
//!
//! The way of rsync (Tridgell & Mackerras 1996): every K-th window of K tokens is remembered by its
//! hash, a rolling hash of all windows meets them, and each meeting is verified and followed to its
//! end. A passage of 2·K − 1 tokens that occurs twice is met whatever its position.

use crate::fast_hash::FastMap;
use crate::store::TokenStore;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repetition {
    /// Tokens that were looked at, from the start.
    pub tokens: u64,
    /// Tokens inside passages that stand earlier, too.
    pub repeated: u64,
    /// K: passages from 2·K − 1 tokens on are all found, from K on by chance.
    pub window: u64,
}

impl Repetition {
    /// Repeated tokens as a share of those looked at, 0 to 1.
    pub fn share(&self) -> f64 {
        self.repeated as f64 / self.tokens.max(1) as f64
    }
}

/// Text of about this many bytes is a passage: longer than a stock phrase, shorter than a
/// paragraph.
const PASSAGE_BYTES: f64 = 64.0;
/// Fewer tokens than this can agree by chance, whatever the tokenizer.
const WINDOW_MIN: u64 = 12;
/// More tokens than this are not looked at: half a minute's work.
const TOKENS_MAX: u64 = 1 << 28;
/// Tokens read at a time.
const CHUNK: u64 = 1 << 16;
/// A window of fewer distinct tokens is a ruler or a blank, not text.
const DISTINCT_MIN: usize = 6;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Looks for passages of `store` that stand in it a second time.
pub fn repetition(store: &TokenStore) -> Repetition {
    let tokens = store.len().min(TOKENS_MAX);
    let bytes_per_token = store.text_bytes() as f64 / store.len().max(1) as f64;
    let wanted = (PASSAGE_BYTES / bytes_per_token.max(0.1)).round() as u64;
    let window = wanted.max(WINDOW_MIN);
    let mut found = Repetition { tokens, repeated: 0, window };
    let out = (0..window).fold(1u64, |power, _| power.wrapping_mul(FACTOR));
    let mut anchors: FastMap<u64, u64> = FastMap::default();
    let (mut hash, mut known_to) = (0u64, 0u64);
    let mut recent = vec![0u32; window as usize];
    let mut chunk = vec![0u32; CHUNK as usize];
    for first in (0..tokens).step_by(CHUNK as usize) {
        let count = CHUNK.min(tokens - first);
        let ids = &mut chunk[..count as usize];
        store.read_into(first, ids);
        for (position, &id) in (first..).zip(ids.iter()) {
            let slot = (position % window) as usize;
            let old = u64::from(std::mem::replace(&mut recent[slot], id));
            let gone = if position >= window { (old + 1).wrapping_mul(out) } else { 0 };
            hash = hash.wrapping_mul(FACTOR).wrapping_add(u64::from(id) + 1).wrapping_sub(gone);
            let Some(start) = (position + 1).checked_sub(window) else { continue };
            // What lies in a passage that was followed to its end is known already.
            if start + window > known_to
                && let Some(&anchor) = anchors.get(&hash)
                && anchor + window <= start
                && is_text(&recent)
            {
                let length = common(store, anchor, start, tokens);
                if length >= window {
                    found.repeated += start + length - start.max(known_to);
                    known_to = start + length;
                }
            }
            if start % window == 0 {
                anchors.entry(hash).or_insert(start);
            }
        }
    }
    found
}

fn is_text(window: &[u32]) -> bool {
    let mut distinct = window.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    distinct.len() >= DISTINCT_MIN
}

/// How many tokens from `one` on equal those from `other` on; the earlier passage ends where the
/// later begins.
fn common(store: &TokenStore, one: u64, other: u64, tokens: u64) -> u64 {
    const STEP: usize = 256;
    let most = (tokens - other).min(other - one);
    let (mut left, mut right) = ([0u32; STEP], [0u32; STEP]);
    let mut length = 0;
    while length < most {
        let count = STEP.min((most - length) as usize);
        store.read_into(one + length, &mut left[..count]);
        store.read_into(other + length, &mut right[..count]);
        let same = left[..count].iter().zip(&right[..count]).take_while(|(a, b)| a == b).count();
        length += same as u64;
        if same < count {
            break;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::TokenWriter;
    use heldout_base::rng::{Random, streams};

    fn store(name: &str, ids: &[u32]) -> TokenStore {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        let mut writer = TokenWriter::new(&path, 256).expect("a writer");
        writer.begin_document().expect("begun");
        writer.push(ids).expect("written");
        writer.finish(ids.len() as u64).expect("finished");
        TokenStore::open(&path).expect("opened")
    }

    /// Tokens without any repetition to speak of.
    fn noise(seed: u64, count: usize) -> Vec<u32> {
        let rng = Random::new(seed, streams::TEST, 0);
        (0..count as u64).map(|i| rng.below(i, 200) as u32).collect()
    }

    #[test]
    fn repeated_passages_are_counted_once_each_time_they_return() {
        let (passage, other) = (noise(1, 1000), noise(2, 1777));
        let check = |name: &str, parts: &[&[u32]], expected: u64| {
            let ids = parts.concat();
            let found = repetition(&store(name, &ids));
            assert_eq!(found.tokens, ids.len() as u64);
            // An edge of at most one window may be missed on either side.
            let slack = 2 * found.window * (parts.len() as u64 - 1);
            assert!(found.repeated <= expected, "{name}: {found:?}");
            assert!(found.repeated + slack >= expected, "{name}: {found:?}");
        };
        check("none", &[&passage, &other], 0);
        check("twice", &[&passage, &other, &passage], 1000);
        check("three times", &[&passage, &other, &passage, &passage], 2000);
        check("a part", &[&passage, &other, &passage[300..700]], 400);
        // A ruler is no passage.
        check("ruler", &[&other, &[7; 900], &passage], 0);
    }
}
