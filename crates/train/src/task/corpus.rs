//! Prepared data of any task, and what every run tells about it.

use heldout_data::answers::{AnswerFacts, EncodedQuestions, PreparedAnswers};
use heldout_data::labelled::{LabelledFacts, LabelledSplitFacts, PreparedLabelled};
use heldout_data::pairs::{PairFacts, PairSplitFacts, PreparedPairs};
use heldout_data::tokenizer::Tokenizer;
use heldout_data::{DataFacts, Example, InputFact, Prepared};
use heldout_record::DataRecord;
use serde::Serialize;

use super::mean_length;
use crate::error::TrainError;

/// The data of a run.
pub enum Corpus {
    /// Running text, for language models.
    Text(Box<Prepared>),
    /// Running text, of which tokens are masked.
    Masked(Box<Prepared>),
    /// Texts with a label each.
    Labelled(Box<PreparedLabelled>),
    /// Questions with answers in a context.
    Answers(Box<PreparedAnswers>),
    /// Texts to be written from texts.
    Pairs(Box<PreparedPairs>),
}

/// Everything that was found in the data, for a reader.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum CorpusFacts<'a> {
    Text(&'a DataFacts),
    Labelled(&'a LabelledFacts),
    Answers(&'a AnswerFacts),
    Pairs(&'a PairFacts),
}

impl Corpus {
    /// Running text.
    ///
    /// # Errors
    /// [`TrainError::Task`] where the run has another task; `what` needs a language model.
    pub fn text(&self, what: &'static str) -> Result<&Prepared, TrainError> {
        match self {
            Corpus::Text(data) => Ok(data),
            Corpus::Masked(_) => Err(TrainError::Task { what, task: "mlm" }),
            Corpus::Labelled(_) => Err(TrainError::Task { what, task: "classify" }),
            Corpus::Answers(_) => Err(TrainError::Task { what, task: "qa" }),
            Corpus::Pairs(_) => Err(TrainError::Task { what, task: "seq2seq" }),
        }
    }

    /// What was found in it.
    pub fn facts(&self) -> CorpusFacts<'_> {
        match self {
            Corpus::Text(data) | Corpus::Masked(data) => CorpusFacts::Text(&data.facts),
            Corpus::Labelled(data) => CorpusFacts::Labelled(&data.facts),
            Corpus::Answers(data) => CorpusFacts::Answers(&data.facts),
            Corpus::Pairs(data) => CorpusFacts::Pairs(&data.facts),
        }
    }

    /// The tokenizer that the ids are of.
    pub fn tokenizer(&self) -> &Tokenizer {
        match self {
            Corpus::Text(data) | Corpus::Masked(data) => &data.tokenizer,
            Corpus::Labelled(data) => data.encoder.tokenizer(),
            Corpus::Answers(data) => data.encoder.encoder().tokenizer(),
            Corpus::Pairs(data) => data.encoder.tokenizer(),
        }
    }

    /// The names of labels, in the order of their numbers; none of running text.
    pub fn labels(&self) -> &[String] {
        match self {
            Corpus::Text(_) | Corpus::Masked(_) | Corpus::Answers(_) | Corpus::Pairs(_) => &[],
            Corpus::Labelled(data) => &data.data.labels.names,
        }
    }

    /// Bytes of held-out text a token; 0 where losses are not those of every token.
    pub fn bytes_per_token(&self) -> f64 {
        match self {
            Corpus::Text(data) => data.facts.bytes_per_token_validation,
            Corpus::Masked(_) | Corpus::Labelled(_) | Corpus::Answers(_) | Corpus::Pairs(_) => 0.0,
        }
    }

    /// Tokens of the training and of the held-out split.
    pub fn tokens(&self) -> (u64, u64) {
        match self {
            Corpus::Text(data) | Corpus::Masked(data) => {
                (data.facts.tokens_train, data.facts.tokens_validation)
            }
            Corpus::Labelled(data) => (tokens(&data.facts.train), tokens(&data.facts.validation)),
            Corpus::Answers(data) => (windows(&data.train), windows(&data.validation)),
            Corpus::Pairs(data) => {
                (pair_tokens(&data.facts.train), pair_tokens(&data.facts.validation))
            }
        }
    }
}

/// Tokens of all windows.
fn windows(split: &EncodedQuestions) -> u64 {
    (mean_length(split) * split.windows.len() as f64).round() as u64
}

fn tokens(split: &LabelledSplitFacts) -> u64 {
    (split.lengths.mean * split.examples as f64).round() as u64
}

/// Of both sides.
fn pair_tokens(split: &PairSplitFacts) -> u64 {
    let mean = split.source.lengths.mean + split.target.lengths.mean;
    (mean * split.pairs as f64).round() as u64
}

impl CorpusFacts<'_> {
    /// The hash of all inputs together.
    pub fn content_hash(&self) -> &str {
        match self {
            CorpusFacts::Text(facts) => &facts.content_hash,
            CorpusFacts::Labelled(facts) => &facts.content_hash,
            CorpusFacts::Answers(facts) => &facts.content_hash,
            CorpusFacts::Pairs(facts) => &facts.content_hash,
        }
    }

    /// The files that were read.
    pub fn inputs(&self) -> &[InputFact] {
        match self {
            CorpusFacts::Text(facts) => &facts.inputs,
            CorpusFacts::Labelled(facts) => &facts.inputs,
            CorpusFacts::Answers(facts) => &facts.inputs,
            CorpusFacts::Pairs(facts) => &facts.inputs,
        }
    }

    /// How documents were told apart, or which fields were read; then how the split was made.
    pub fn reading(&self) -> [String; 2] {
        match self {
            CorpusFacts::Text(facts) => [facts.boundary.clone(), facts.split.clone()],
            CorpusFacts::Labelled(facts) => [facts.inferred.join("; "), facts.split.clone()],
            CorpusFacts::Answers(facts) => [String::new(), facts.split.clone()],
            CorpusFacts::Pairs(facts) => [facts.inferred.join("; "), facts.split.clone()],
        }
    }

    /// What the user should hear besides.
    pub fn notices(&self) -> &[String] {
        match self {
            CorpusFacts::Text(facts) => &facts.notices,
            CorpusFacts::Labelled(facts) => &facts.notices,
            CorpusFacts::Answers(facts) => &facts.notices,
            CorpusFacts::Pairs(facts) => &facts.notices,
        }
    }

    /// What bears on the meaning of a held-out loss.
    pub fn record(&self) -> DataRecord {
        match self {
            CorpusFacts::Text(facts) => record_of_text(facts),
            CorpusFacts::Labelled(facts) => record_of_labelled(facts),
            CorpusFacts::Answers(facts) => record_of_answers(facts),
            CorpusFacts::Pairs(facts) => record_of_pairs(facts),
        }
    }
}

fn words(example: &Example) -> String {
    format!("{} and {}: {:?}", example.one, example.other, example.excerpt)
}

fn record_of_text(facts: &DataFacts) -> DataRecord {
    let leaks = facts.leaked_documents > facts.leaked_removed;
    let example = facts.examples.iter().find(|e| leaks || e.kind == "passage");
    DataRecord {
        documents_train: facts.documents_train,
        documents_valid: facts.documents_validation,
        bytes_train: facts.bytes_train,
        bytes_valid: facts.bytes_validation,
        exact_duplicates: facts.exact_duplicates,
        near_duplicates: facts.near_duplicates,
        duplicates_removed: facts.duplicates_removed,
        leaked_documents: facts.leaked_documents,
        leaked_removed: facts.leaked_removed,
        shared_passages: facts.shared_passages,
        shared_passage_bytes: facts.shared_passage_bytes,
        shared_passage_minimum: facts.shared_passage_minimum,
        unknown_valid: facts.unknown_validation,
        example: example.map(words).unwrap_or_default(),
    }
}

fn record_of_labelled(facts: &LabelledFacts) -> DataRecord {
    let leaks = facts.leaks > facts.leaks_removed;
    let example = facts.examples.iter().find(|e| leaks && e.kind != "conflict");
    DataRecord {
        documents_train: facts.train.examples,
        documents_valid: facts.validation.examples,
        exact_duplicates: facts.duplicates,
        duplicates_removed: facts.duplicates_removed,
        leaked_documents: facts.leaks,
        leaked_removed: facts.leaks_removed,
        unknown_valid: facts.validation.unknown,
        example: example.map(words).unwrap_or_default(),
        ..DataRecord::default()
    }
}

fn record_of_answers(facts: &AnswerFacts) -> DataRecord {
    let leaks = facts.leaks > 0 && facts.leaks_removed == 0;
    let example = facts.examples.iter().find(|_| leaks);
    DataRecord {
        documents_train: facts.train.questions,
        documents_valid: facts.validation.questions,
        exact_duplicates: facts.duplicates,
        duplicates_removed: facts.duplicates_removed,
        leaked_documents: facts.leaks,
        leaked_removed: if leaks { 0 } else { facts.leaks },
        example: example.map(words).unwrap_or_default(),
        ..DataRecord::default()
    }
}

fn record_of_pairs(facts: &PairFacts) -> DataRecord {
    let leaks = facts.leaks > facts.leaks_removed;
    let example = facts.examples.iter().find(|_| leaks);
    DataRecord {
        documents_train: facts.train.pairs,
        documents_valid: facts.validation.pairs,
        exact_duplicates: facts.duplicates,
        duplicates_removed: facts.duplicates_removed,
        leaked_documents: facts.leaks,
        leaked_removed: facts.leaks_removed,
        unknown_valid: facts.validation.source.unknown + facts.validation.target.unknown,
        example: example.map(words).unwrap_or_default(),
        ..DataRecord::default()
    }
}
