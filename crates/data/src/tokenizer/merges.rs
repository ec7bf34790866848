//! Learning byte-pair merges from counted words, the same on every run.
//!
//! Sennrich, Haddow, Birch 2016 (arXiv 1508.07909): again and again join the most frequent pair of
//! neighbouring symbols. Ties go to the pair with the lower ids; words are taken in sorted order
//! and nothing depends on the order of a hash map, so equal counts give an equal vocabulary.

use crate::fast_hash::FastMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::hash_map::Entry;

/// A token while a vocabulary is learned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Piece {
    pub place: Place,
    pub bytes: Vec<u8>,
}

/// Whether a token can stand at the start of a word or only later; byte-level BPE uses `Anywhere`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Anywhere,
    Inside,
}

/// A learned vocabulary: pieces by id, and the pairs joined, in order.
pub(crate) struct Learned {
    pub pieces: Vec<Piece>,
    pub merges: Vec<(u32, u32)>,
}

/// Pairs seen fewer times than this are not joined: a pair seen once teaches nothing.
const FREQUENCY_MIN: u64 = 2;

type Pair = (u32, u32);

struct Learner {
    words: Vec<Vec<u32>>,
    counts: Vec<u64>,
    frequency: FastMap<Pair, i64>,
    /// Words that may hold the pair; may list words that no longer do.
    places: FastMap<Pair, Vec<u32>>,
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

/// Learns merges until there are `target` pieces or no pair is frequent enough. `words` are symbols
/// (ids into `pieces`) with counts and must be in a fixed order.
pub(crate) fn learn(words: Vec<(Vec<u32>, u64)>, pieces: Vec<Piece>, target: usize) -> Learned {
    let (words, counts) = words.into_iter().unzip();
    let (frequency, places) = (FastMap::default(), FastMap::default());
    let mut learner = Learner { words, counts, frequency, places, queue: BinaryHeap::new() };
    learner.count();
    let mut ids: FastMap<Piece, u32> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), id as u32)).collect();
    let mut learned = Learned { pieces, merges: Vec::new() };
    while learned.pieces.len() < target {
        let Some(pair) = learner.most_frequent() else { break };
        let (left, right) = (&learned.pieces[pair.0 as usize], &learned.pieces[pair.1 as usize]);
        let bytes = [left.bytes.as_slice(), &right.bytes].concat();
        let id = match ids.entry(Piece { place: left.place, bytes }) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let id = learned.pieces.len() as u32;
                learned.pieces.push(new.key().clone());
                *new.insert(id)
            }
        };
        learned.merges.push(pair);
        learner.join(pair, id);
    }
    learned
}

impl Learner {
    fn count(&mut self) {
        for (number, word) in self.words.iter().enumerate() {
            for pair in word.windows(2) {
                let pair = (pair[0], pair[1]);
                *self.frequency.entry(pair).or_default() += self.counts[number] as i64;
                let places = self.places.entry(pair).or_default();
                if places.last() != Some(&(number as u32)) {
                    places.push(number as u32);
                }
            }
        }
        self.queue.extend(self.frequency.iter().map(|(pair, n)| (*n as u64, Reverse(*pair))));
    }

    /// The most frequent pair, taken off the queue.
    fn most_frequent(&mut self) -> Option<Pair> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let now = self.frequency.get(&pair).copied().unwrap_or(0).max(0) as u64;
            if now == count {
                return (count >= FREQUENCY_MIN).then_some(pair);
            }
            if now > 0 && now < count {
                self.queue.push((now, Reverse(pair)));
            }
        }
        None
    }

    /// Replaces every occurrence of `pair` by `id` and brings the counts up to date.
    fn join(&mut self, pair: Pair, id: u32) {
        let places = self.places.remove(&pair).unwrap_or_default();
        self.frequency.remove(&pair);
        let mut touched: Vec<Pair> = Vec::new();
        for number in places {
            let count = self.counts[number as usize] as i64;
            let word = &mut self.words[number as usize];
            let mut joined = Vec::with_capacity(word.len());
            let mut at = 0;
            while at < word.len() {
                if at + 1 < word.len() && (word[at], word[at + 1]) == pair {
                    joined.push(id);
                    at += 2;
                } else {
                    joined.push(word[at]);
                    at += 1;
                }
            }
            if joined.len() == word.len() {
                continue;
            }
            for old in word.windows(2) {
                if let Some(n) = self.frequency.get_mut(&(old[0], old[1])) {
                    *n -= count;
                }
            }
            *word = joined;
            for new in word.windows(2) {
                let new = (new[0], new[1]);
                *self.frequency.entry(new).or_default() += count;
                if new.0 == id || new.1 == id {
                    self.places.entry(new).or_default().push(number);
                    touched.push(new);
                }
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for new in touched {
            self.queue.push((self.frequency[&new].max(0) as u64, Reverse(new)));
        }
    }
}
