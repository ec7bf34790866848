//! What was found in the data, in plain numbers that a run records.

use serde::{Deserialize, Serialize};

/// One file that was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputFact {
    pub path: String,
    /// Size on disk.
    pub bytes: u64,
    /// Of the raw bytes, lower-case hexadecimal.
    pub sha256: String,
}

/// Where a text came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Index into [`DataFacts::inputs`].
    pub input: u32,
    pub path: String,
    /// First line, from 1 (of a record that spans lines: where it starts).
    pub line: u64,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.path, self.line)
    }
}

/// Two places that hold the same, or nearly the same, text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// "exact", "near" or "passage".
    pub kind: String,
    /// In the training split, or the earlier of two in one split.
    pub one: Origin,
    /// In a held-out split, or the later of two in one split.
    pub other: Origin,
    /// Jaccard similarity of word 5-grams; 1 for exact copies and passages.
    pub similarity: f64,
    /// The first characters of the shared text.
    pub excerpt: String,
}

/// Everything the data crate knows about a prepared corpus; counts are of what was found, unless
/// the name says removed. Tokens, bytes and documents per split are after removal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataFacts {
    pub inputs: Vec<InputFact>,
    /// SHA-256 over the inputs' SHA-256, in order.
    pub content_hash: String,
    /// Name of the cache entry: content, settings and format version together.
    pub cache_key: String,
    /// How documents were told apart, and why, in a sentence.
    pub boundary: String,
    /// How the split was made, in a sentence.
    pub split: String,
    /// Non-empty documents read, all splits, before any removal.
    pub documents: u64,
    pub documents_train: u64,
    pub documents_validation: u64,
    pub documents_test: u64,
    /// Records or blocks without any text, skipped.
    pub documents_empty: u64,
    pub tokens_train: u64,
    pub tokens_validation: u64,
    pub tokens_test: u64,
    /// UTF-8 bytes of text, without separators.
    pub bytes_train: u64,
    pub bytes_validation: u64,
    pub bytes_test: u64,
    pub characters_train: u64,
    pub characters_validation: u64,
    pub characters_test: u64,
    /// Tokens that stand for a character unseen in training.
    pub unknown_validation: u64,
    pub unknown_test: u64,
    /// Bytes of text per token: nats per token / (this · ln 2) is bits per byte.
    pub bytes_per_token_train: f64,
    pub bytes_per_token_validation: f64,
    pub bytes_per_token_test: f64,
    /// "char", "byte", "bpe", "unigram", "wordpiece" or "file".
    pub tokenizer: String,
    pub vocabulary: u64,
    /// Bytes of training text that the tokenizer was trained on.
    pub tokenizer_sample_bytes: u64,
    /// Documents that equal an earlier one of any split (white space aside).
    pub exact_duplicates: u64,
    /// Documents at least 0.8 similar to an earlier one of the same split, not equal.
    pub near_duplicates: u64,
    /// Training documents that occur, or nearly occur, in validation or test.
    pub leaked_documents: u64,
    /// How many of these were taken out of training.
    pub leaked_removed: u64,
    /// Other duplicates taken out of training.
    pub duplicates_removed: u64,
    /// Validation documents that occur, or nearly occur, in test.
    pub leaked_validation_test: u64,
    /// Passages of at least 100 bytes that stand word for word in training (after removal) and in
    /// held-out text.
    pub shared_passages: u64,
    /// Bytes of held-out text inside such passages.
    pub shared_passage_bytes: u64,
    /// Every shared passage of at least this many bytes is found, shorter ones by chance.
    pub shared_passage_minimum: u64,
    /// Up to 20.
    pub examples: Vec<Example>,
    /// What the user should hear, in sentences.
    pub notices: Vec<String>,
}
