//! Questions with answers in a text: from SQuAD files, or records with a question, a context and
//! answers, to windows of token ids for a model that marks where an answer begins and ends.
//!
//! The way of a data set: [`prepare_answers`] reads the records ([`read_answers`] is that half
//! alone), splits them by paragraph so that no paragraph is in two splits, looks for paragraphs
//! that are all the same, trains or loads a tokenizer, and cuts every context into windows that
//! overlap ([`QuestionEncoder`]). Batches are [`crate::labelled`]'s: a window is an example there,
//! and [`EncodedQuestions`] knows its span and where its tokens come from.

mod encode;
mod facts;
mod prepare;
mod read;
mod split;

pub use encode::{EncodedQuestions, QuestionEncoder, QuestionWindow};
pub use facts::{AnswerFacts, AnswerSplitFacts};
pub use prepare::{
    AnswerData, AnswerSpec, PreparedAnswers, prepare_answers, read_answers, read_scored,
};
pub use read::{Answer, AnswerFields, Question, for_each_question};
