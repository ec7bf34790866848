//! Pairs of texts, a source and what is to be written from it: a translation, a summary, an answer.
//!
//! The way of a data set: [`prepare_pairs`] reads the pairs ([`read_pairs`] is that half alone:
//! two line-aligned files, or records with two fields; splits, repeats, leaks), takes a subset
//! where one is asked for, trains one tokenizer for both sides or loads one, and encodes every pair
//! once. [`PairBatches`] and [`PairEvaluation`] cut batches; both are pure functions of their
//! arguments, so a run resumes by asking for the next step. Everything lies in memory.

mod batches;
mod facts;
mod fields;
mod prepare;
mod read;
mod split;

pub use batches::{PairBatch, PairBatches, PairEvaluation, shifted_right};
pub use facts::{PairFacts, PairSplitFacts, SideFacts};
pub use fields::SideNames;
pub use prepare::{
    EncodedPairs, PairData, PairExample, PairSpec, PreparedPairs, prepare_pairs, read_pairs,
};
pub use read::{SourceRecord, for_each_line, for_each_source, pairs_of};
