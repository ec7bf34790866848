//! Beam search for models that read a source: batched, with a cache of keys and values.
//!
//! The search is that of `generate(num_beams = …)` in transformers 5, token for token; one beam is
//! greedy search.

use heldout_kernels::Tape;

use crate::generate::Generator;
use crate::{Model, ModelError, Sequences};

/// When a search of several beams ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// When no open beam, at its present length, is better than the worst of the finished ones.
    #[default]
    No,
    /// As soon as there are as many finished texts as beams.
    Yes,
    /// When no open beam could become better at any length up to the longest one.
    Never,
}

/// How a target is searched for.
#[derive(Debug, Clone, PartialEq)]
pub struct Beam {
    /// Texts that are followed at a time; 1 is greedy search.
    pub beams: usize,
    /// A finished text's score is its log-probability over its length to this power: larger ones
    /// favour longer texts. Of no effect with one beam.
    pub length_penalty: f32,
    /// No run of so many tokens comes twice in a text; 0 allows all.
    pub no_repeat_ngram: usize,
    /// Tokens of the longest target, with the one it starts with and the one that ends it; at most
    /// the model's context.
    pub max_length: usize,
    pub early_stopping: EarlyStopping,
    /// Tokens that are never chosen, such as padding.
    pub suppressed: Vec<u32>,
}

/// A target as found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// Without the token that starts targets, the one that ends them, and padding.
    pub tokens: Vec<u32>,
    /// Log-probability over length to the penalty, as `sequences_scores` in transformers; of greedy
    /// search the log-probability.
    pub score: f32,
}

impl Beam {
    /// Whether the settings make sense for `model`; an error says what to change.
    pub fn validate(&self, model: &Model) -> Result<(), ModelError> {
        model.config.require_seq2seq()?;
        todo!()
    }
}

impl Generator<'_> {
    /// The best target of each source, in their order. What is computed for one source does not
    /// depend on the others in its batch but for the last bits of sums.
    ///
    /// # Errors
    /// If the model has no decoder that reads a source, a setting makes no sense, an id is outside
    /// the vocabulary, a source is longer than the context, or the logits are not finite.
    pub fn beam_search(
        &self,
        _tape: &mut Tape,
        _source: Sequences,
        _beam: &Beam,
    ) -> Result<Vec<Hypothesis>, ModelError> {
        todo!()
    }
}

impl Model {
    /// As [`Generator::beam_search`], of plain weights.
    pub fn beam_search(
        &self,
        _tape: &mut Tape,
        _parameters: &[f32],
        _source: Sequences,
        _beam: &Beam,
    ) -> Result<Vec<Hypothesis>, ModelError> {
        todo!()
    }
}
