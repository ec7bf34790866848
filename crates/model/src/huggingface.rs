//! The mapping between our models and Hugging Face's files: configuration and tensors.
//!
//! GPT-2 is `GPT2LMHeadModel`; Llama is `LlamaForCausalLM`, or `Qwen3ForCausalLM` when queries and
//! keys are normalised, because that is the architecture of transformers that computes it. The
//! encoders are `Bert…`, `Roberta…` and `DistilBert…`, by variant and head.

mod bert;
mod config;
pub mod labels;
mod seq2seq;
mod tensors;

pub use config::{SpecialTokens, config_json, generation_config_json, parse_config};
pub use tensors::{
    FileTensor, Imported, Orientation, TensorPlan, check_names, import, import_body, is_of_head,
    tensors,
};
