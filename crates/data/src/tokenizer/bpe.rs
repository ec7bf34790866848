//! Byte-level BPE at speed: words from a scanner, merges on integers, a cache of words.

use super::words::words;
use crate::fast_hash::FastMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The tables of a byte-level BPE.
pub(crate) struct Bpe {
    /// Token id of each byte.
    pub bytes: [u32; 256],
    /// Rank and result of each pair.
    pub merges: FastMap<(u32, u32), (u32, u32)>,
    pub splitting: Splitting,
}

/// Whether text is cut into words before merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Splitting {
    Words,
    None,
}

/// Words already encoded; keep one per thread.
#[derive(Default)]
pub(crate) struct WordCache {
    ids: FastMap<Box<[u8]>, Box<[u32]>>,
    symbols: Vec<u32>,
    ranks: Vec<u32>,
}

const CACHE_WORDS: usize = 1 << 16;
/// Longest word that is worth caching, in bytes.
const CACHE_LENGTH: usize = 64;
/// From this many symbols on a heap beats looking at every pair.
const LONG: usize = 200;
const NONE: u32 = u32::MAX;

impl Bpe {
    /// Appends the ids of `text`.
    pub(crate) fn encode(&self, text: &str, cache: &mut WordCache, out: &mut Vec<u32>) {
        if self.merges.is_empty() {
            out.extend(text.bytes().map(|b| self.bytes[usize::from(b)]));
            return;
        }
        match self.splitting {
            Splitting::None => self.word(text.as_bytes(), cache, out),
            Splitting::Words => {
                for word in words(text) {
                    self.word(word.as_bytes(), cache, out);
                }
            }
        }
    }

    fn word(&self, word: &[u8], cache: &mut WordCache, out: &mut Vec<u32>) {
        if let [byte] = word {
            return out.push(self.bytes[usize::from(*byte)]);
        }
        if word.len() > CACHE_LENGTH {
            return self.merge(word, cache, out);
        }
        if let Some(ids) = cache.ids.get(word) {
            return out.extend_from_slice(ids);
        }
        let start = out.len();
        self.merge(word, cache, out);
        if cache.ids.len() < CACHE_WORDS {
            cache.ids.insert(word.into(), out[start..].into());
        }
    }

    fn rank(&self, left: u32, right: u32) -> u32 {
        self.merges.get(&(left, right)).map_or(NONE, |(rank, _)| *rank)
    }

    fn joined(&self, left: u32, right: u32) -> u32 {
        self.merges[&(left, right)].1
    }

    /// Applies the merge of lowest rank, leftmost first, until none applies.
    fn merge(&self, word: &[u8], cache: &mut WordCache, out: &mut Vec<u32>) {
        let (symbols, ranks) = (&mut cache.symbols, &mut cache.ranks);
        symbols.clear();
        symbols.extend(word.iter().map(|b| self.bytes[usize::from(*b)]));
        if symbols.len() > LONG {
            return self.merge_long(symbols, out);
        }
        ranks.clear();
        ranks.extend(symbols.windows(2).map(|pair| self.rank(pair[0], pair[1])));
        while let Some((at, least)) = ranks.iter().enumerate().min_by_key(|(_, rank)| **rank) {
            if *least == NONE {
                break;
            }
            symbols[at] = self.joined(symbols[at], symbols[at + 1]);
            symbols.remove(at + 1);
            ranks.remove(at);
            if at > 0 {
                ranks[at - 1] = self.rank(symbols[at - 1], symbols[at]);
            }
            if at < ranks.len() {
                ranks[at] = self.rank(symbols[at], symbols[at + 1]);
            }
        }
        out.extend_from_slice(symbols);
    }

    /// The same with a queue and linked neighbours, for very long words.
    fn merge_long(&self, symbols: &mut [u32], out: &mut Vec<u32>) {
        let end = symbols.len();
        let mut next: Vec<usize> = (1..=end).collect();
        let mut previous: Vec<usize> = (0..end).map(|i| i.wrapping_sub(1)).collect();
        let mut queue = BinaryHeap::new();
        let push = |queue: &mut BinaryHeap<_>, at: usize, right: usize, symbols: &[u32]| {
            let rank = self.rank(symbols[at], symbols[right]);
            if rank != NONE {
                queue.push(Reverse((rank, at, right, symbols[at], symbols[right])));
            }
        };
        for at in 0..end - 1 {
            push(&mut queue, at, at + 1, symbols);
        }
        while let Some(Reverse((_, at, right, left_id, right_id))) = queue.pop() {
            // Entries whose neighbours have changed since are stale.
            if symbols[at] != left_id || next[at] != right || symbols[right] != right_id {
                continue;
            }
            symbols[at] = self.joined(left_id, right_id);
            symbols[right] = NONE;
            next[at] = next[right];
            if next[at] < end {
                previous[next[at]] = at;
                push(&mut queue, at, next[at], symbols);
            }
            if previous[at] < end {
                push(&mut queue, previous[at], at, symbols);
            }
        }
        out.extend(symbols.iter().filter(|id| **id != NONE));
    }
}
