//! Text to batches of token ids: read, tokenize, split, deduplicate, leak-check, batch.
//!
//! The way of a corpus: [`prepare`] reads every input once into a spool, splits it, looks for
//! duplicates and leaks, trains or loads a [`tokenizer::Tokenizer`], and writes one memory-mapped
//! [`TokenStore`] per split under a cache folder. [`Batches`] and [`EvaluationWindows`] then cut
//! the stores into rows of token ids; both are pure functions of their arguments, so a run resumes
//! by asking for the next step.

pub mod answers;
pub mod augment;
mod batches;
mod boundary;
mod cache;
mod duplicates;
mod error;
mod evaluation;
mod facts;
mod fast_hash;
pub mod grammar;
mod inputs;
pub mod labelled;
mod map;
pub mod masking;
pub mod ngram;
pub mod pairs;
mod passages;
mod prefetch;
mod prepare;
mod read;
mod repetition;
mod split;
mod spool;
mod store;
mod tokenize;
pub mod tokenizer;

pub use batches::{Batch, BatchPlan, BatchSize, Batches, IGNORE, Shuffle};
pub use boundary::Boundary;
pub use error::DataError;
pub use evaluation::EvaluationWindows;
pub use facts::{DataFacts, Example, InputFact, Origin};
pub use inputs::{Format, Input};
pub use passages::{MaskedBatch, MaskedBatches, MaskedEvaluation, Passages};
pub use prefetch::{Cut, Prefetch};
pub use prepare::{
    DuplicatePolicy, PrepareSpec, Prepared, Progress, TokenizerSpec, ValidationSpec, prepare,
};
pub use read::{Document, documents};
pub use repetition::{Repetition, repetition};
pub use store::TokenStore;
