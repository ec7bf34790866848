//! From a user's paths to encoded examples: the whole way, in order.

use super::encode::{EncodedExamples, Encoder, SpecialTokens};
use super::facts::LabelledFacts;
use super::labels::Labels;
use super::read::{FieldNames, Place};
use crate::error::DataError;
use crate::prepare::{DuplicatePolicy, TokenizerSpec, ValidationSpec};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What to prepare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelledSpec {
    /// Files, folders or patterns.
    pub train: Vec<String>,
    pub validation: ValidationSpec,
    pub test: Option<ValidationSpec>,
    pub fields: FieldNames,
    pub tokenizer: TokenizerSpec,
    /// Special tokens of a tokenizer that is trained here; a loaded one brings its own.
    pub special_tokens: SpecialTokens,
    /// Longest example in tokens, special tokens included; the end of a longer one is cut off.
    pub max_length: usize,
    /// Train on so many examples only, every class at its share; for learning curves.
    pub limit: Option<usize>,
    pub duplicates: DuplicatePolicy,
    /// Of the split by share and of the subset.
    pub seed: u64,
}

impl LabelledSpec {
    /// One file with a tenth held out and everything else by default.
    pub fn new(train: &str, tokenizer: TokenizerSpec) -> Self {
        LabelledSpec {
            train: vec![train.to_string()],
            validation: ValidationSpec::Share(0.1),
            test: None,
            fields: FieldNames::default(),
            tokenizer,
            special_tokens: SpecialTokens::Encoder,
            max_length: 128,
            limit: None,
            duplicates: DuplicatePolicy::RemoveLeaks,
            seed: 1337,
        }
    }
}

/// A text with its class.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledExample {
    pub text: String,
    pub pair: Option<String>,
    /// Index into [`Labels::names`].
    pub label: u32,
    pub place: Place,
}

/// Examples as text, split, after removal and after the subset was taken.
#[derive(Clone, Debug, Default)]
pub struct LabelledData {
    pub labels: Labels,
    pub train: Vec<LabelledExample>,
    pub validation: Vec<LabelledExample>,
    /// Empty when there is no test split.
    pub test: Vec<LabelledExample>,
    /// Without what only encoding tells (lengths, truncation, vocabulary).
    pub facts: LabelledFacts,
}

/// Examples as text and as token ids; `data.train[i]` is example i of `train`.
#[derive(Clone, Debug)]
pub struct PreparedLabelled {
    pub data: LabelledData,
    pub encoder: Encoder,
    pub train: Arc<EncodedExamples>,
    pub validation: Arc<EncodedExamples>,
    pub test: Option<Arc<EncodedExamples>>,
    pub facts: LabelledFacts,
}

/// Reads, splits, looks for duplicates and leaks, and takes the subset; encodes nothing.
///
/// # Errors
/// Whatever is wrong with an input; no field that can be the text or the label; an empty text; a
/// single class; as many classes as half the examples; a held-out label that training lacks;
/// nothing left to train on.
pub fn read_labelled(_spec: &LabelledSpec) -> Result<LabelledData, DataError> {
    todo!()
}

/// [`read_labelled`], then the tokenizer (trained on the training texts only, or loaded) and the
/// token ids of every example.
///
/// # Errors
/// As [`read_labelled`]; a tokenizer that cannot be trained or read.
pub fn prepare_labelled(_spec: &LabelledSpec) -> Result<PreparedLabelled, DataError> {
    todo!()
}

impl LabelledData {
    /// Encodes every split with `encoder` (a pre-trained model's, for instance).
    ///
    /// # Errors
    /// A text that the tokenizer cannot encode.
    pub fn encode(self, _encoder: Encoder) -> Result<PreparedLabelled, DataError> {
        todo!()
    }
}
