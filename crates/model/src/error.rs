//! What can be wrong with a configuration, a weight file or a request, and what to do about it.

use thiserror::Error;

/// Every message names the setting or tensor, what was found, what was expected, and a next step.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ModelError {
    /// A setting of the model that cannot work.
    #[error("model.{key} = {found}: {reason}; {next}")]
    Setting { key: &'static str, found: String, reason: String, next: String },

    /// A key of config.json that asks for something this program does not compute.
    #[error("config.json: {key} = {found} is not supported: {reason}")]
    Unsupported { key: String, found: String, reason: String },

    /// A key of config.json that is needed and absent.
    #[error("config.json has no {key:?}: add it ({meaning})")]
    MissingKey { key: &'static str, meaning: &'static str },

    /// A key of config.json with a value of the wrong kind.
    #[error("config.json: {key} = {found}, expected {expected}")]
    WrongKind { key: &'static str, found: String, expected: &'static str },

    /// A tensor that the configuration asks for and the file does not hold.
    #[error("the weights have no tensor {name:?} (shape {shape:?}): {hint}")]
    MissingTensor { name: String, shape: Vec<usize>, hint: String },

    /// A tensor that the configuration has no place for.
    #[error("the weights hold a tensor {name:?} that this model has no place for: {hint}")]
    UnexpectedTensor { name: String, hint: String },

    /// A tensor of another shape than the configuration says.
    #[error("tensor {name:?} has shape {found:?}, the configuration expects {expected:?}: {hint}")]
    WrongShape { name: String, expected: Vec<usize>, found: Vec<usize>, hint: String },

    /// A tensor that holds an infinity or a not-a-number.
    #[error(
        "tensor {name:?} holds {value} at element {index}: these weights are damaged or come from \
         a run that diverged; take an earlier checkpoint"
    )]
    NonFiniteTensor { name: String, index: usize, value: f32 },

    /// Generation without anything to go on from.
    #[error(
        "the prompt has no tokens: give at least one character, or the end-of-text token to start \
         a new document"
    )]
    EmptyPrompt,

    /// A model that reads what it would have to predict.
    #[error(
        "this model is an encoder ({variant}): every token reads those that follow, so it neither \
         generates text nor learns to predict the next token; take gpt2 or llama for that, or \
         fine-tune it on labels"
    )]
    NotCausal { variant: &'static str },

    /// A model that reads one text to write another, where there is but one.
    #[error(
        "this model is an encoder-decoder ({family}): it reads a source to write a target, so it \
         neither continues a prompt nor learns from running text; train it with --task seq2seq, \
         or take gpt2 or llama"
    )]
    NeedsSource { family: &'static str },

    /// A model without a decoder that reads a source.
    #[error(
        "this model ({family}) does not read one text to write another: take bart or marian for \
         that"
    )]
    NotSeq2Seq { family: &'static str },

    /// A token id outside the vocabulary.
    #[error(
        "token {position} has id {id}, but the model's vocabulary has {vocabulary} entries: the \
         text was encoded with another tokenizer than the model's own"
    )]
    TokenOutOfRange { position: usize, id: u32, vocabulary: usize },

    /// A source that the encoder has no positions for.
    #[error(
        "a source of {length} tokens is longer than the model's {context} positions: cut it, or \
         split it"
    )]
    SourceTooLong { length: usize, context: usize },

    /// A sampling setting outside its range.
    #[error("{key} = {found}: expected {expected}")]
    Sampling { key: &'static str, found: String, expected: &'static str },

    /// The model's output cannot be sampled from.
    #[error(
        "the model's logits are not finite after {tokens} tokens: its weights are damaged or come \
         from a run that diverged; take an earlier checkpoint"
    )]
    NonFiniteLogits { tokens: usize },

    /// A noise rate outside its range.
    #[error("noise rate {key} = {found}: expected 0 ≤ rate < 1")]
    NoiseRate { key: &'static str, found: f32 },

    /// NEFTune's α outside its range.
    #[error("noise amplitude neftune = {found}: expected a finite number from 0")]
    NoiseAmplitude { found: f32 },
}
