//! Counts of all n-grams up to an order, in one pass over the text.

use crate::fast_hash::FastMap;

use super::ORDER_MOST;
use super::model::NgramModel;

/// Below this order no n-grams are given up to save memory: the text is cut instead.
const ORDER_LEAST: usize = 3;

/// Every n-gram of 1 to `order` tokens, as nodes of a tree: a node's parent is the n-gram without
/// its last token. Memory is proportional to the number of distinct n-grams, some 50 bytes each.
#[derive(Debug)]
pub struct NgramCounts {
    vocabulary: u32,
    eos: Option<u32>,
    /// `levels[n - 1]` holds the n-grams of n tokens.
    pub(super) levels: Vec<Level>,
    nodes_most: usize,
    tokens: u64,
    /// `context[k - 1]` is the node of the last k tokens.
    context: Vec<u32>,
    /// Tokens since the sequence began, its start token included.
    history: usize,
}

/// The n-grams of one length. Those of one token have their token as number.
#[derive(Debug, Default)]
pub(super) struct Level {
    /// From (node of all tokens but the last, last token) to the node.
    pub children: FastMap<u64, u32>,
    /// c: occurrences.
    pub raw: Vec<u32>,
    /// a: distinct tokens seen before the n-gram; occurrences where it begins with a start token,
    /// which nothing can precede. Of no use on the last level, whose n-grams are not extended.
    pub adjusted: Vec<u32>,
}

impl Level {
    /// The node for `token` after `parent`, new where there was none.
    fn child(&mut self, parent: u32, token: u32) -> (u32, bool) {
        let next = self.raw.len() as u32;
        let node = *self.children.entry(key(parent, token)).or_insert(next);
        if node == next {
            self.raw.push(0);
            self.adjusted.push(0);
        }
        (node, node == next)
    }
}

pub(super) fn key(parent: u32, token: u32) -> u64 {
    u64::from(parent) << 32 | u64::from(token)
}

/// What became of tokens that were given to [`NgramCounts::append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// All were counted.
    All,
    /// There is no room: no more tokens are taken.
    Full,
}

impl NgramCounts {
    /// Nothing counted yet. `eos` is the token between documents, if the tokenizer has one; at most
    /// about `nodes_most` n-grams are kept.
    ///
    /// # Panics
    /// If the order is not within 1 to [`ORDER_MOST`], or `eos` not within the vocabulary.
    pub fn new(vocabulary: u32, eos: Option<u32>, order: usize, nodes_most: usize) -> NgramCounts {
        assert!((1..=ORDER_MOST).contains(&order), "order {order}");
        assert!(eos.is_none_or(|id| id < vocabulary), "end of text {eos:?} of {vocabulary}");
        let mut levels: Vec<Level> = (0..order).map(|_| Level::default()).collect();
        levels[0].raw = vec![0; vocabulary as usize + 1];
        levels[0].adjusted = vec![0; vocabulary as usize + 1];
        let start = eos.unwrap_or(vocabulary);
        NgramCounts {
            vocabulary,
            eos,
            levels,
            nodes_most: nodes_most.min(u32::MAX as usize / 2),
            tokens: 0,
            context: vec![start],
            history: 1,
        }
    }

    /// Counts tokens that follow those counted before. When there are too many distinct n-grams,
    /// the highest order is given up, down to 3; then no more tokens are taken.
    ///
    /// # Panics
    /// If a token is not within the vocabulary.
    pub fn append(&mut self, tokens: &[u32]) -> Appended {
        for token in tokens {
            if self.tokens.is_multiple_of(1 << 12) && self.nodes() > self.nodes_most {
                match self.order() > ORDER_LEAST {
                    true => self.drop_order(),
                    false => return Appended::Full,
                }
            }
            assert!(*token < self.vocabulary, "token {token} of {}", self.vocabulary);
            self.count(*token);
        }
        Appended::All
    }

    fn count(&mut self, token: u32) {
        let longest = self.levels.len().min(self.history + 1);
        // The node of the last n − 1 tokens before this one, and of the last n − 1 with it.
        let (mut parent, mut suffix) = (0, 0);
        for n in 1..=longest {
            let is_new = match n {
                1 => {
                    suffix = token;
                    false
                }
                _ => {
                    let (node, is_new) = self.levels[n - 1].child(parent, token);
                    if is_new {
                        // One more token precedes the n-gram without its first token.
                        self.levels[n - 2].adjusted[suffix as usize] += 1;
                    }
                    suffix = node;
                    is_new
                }
            };
            let level = &mut self.levels[n - 1];
            level.raw[suffix as usize] += 1;
            debug_assert!(!is_new || level.raw[suffix as usize] == 1);
            if n == self.history + 1 {
                level.adjusted[suffix as usize] += 1;
            }
            let is_known = n <= self.context.len();
            if is_known {
                parent = std::mem::replace(&mut self.context[n - 1], suffix);
            } else if n < self.levels.len() {
                self.context.push(suffix);
            }
        }
        self.tokens += 1;
        self.history += 1;
        if Some(token) == self.eos {
            self.context.truncate(1);
            self.history = 1;
        }
    }

    fn drop_order(&mut self) {
        self.levels.pop();
        self.context.truncate(self.levels.len() - 1);
    }

    /// The highest order that all counted tokens were counted for.
    pub fn order(&self) -> usize {
        self.levels.len()
    }

    /// Tokens counted.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// V.
    pub fn vocabulary(&self) -> u32 {
        self.vocabulary
    }

    /// The token between documents.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Distinct n-grams of 1 to `order` tokens.
    pub fn ngrams(&self, order: usize) -> u64 {
        let seen = |level: &Level| level.raw.iter().filter(|count| **count > 0).count() as u64;
        self.levels.iter().take(order).map(seen).sum()
    }

    fn nodes(&self) -> usize {
        self.levels.iter().map(|level| level.raw.len()).sum()
    }

    /// The models of all orders up to [`NgramCounts::order`].
    pub fn estimate(&self) -> NgramModel<'_> {
        NgramModel::new(self)
    }
}
