//! Language models and encoders on the kernels: configuration, layout, forward, loss, generation
//! and the mapping to Hugging Face's files.
//!
//! Letters used throughout: B sequences, T positions, N = B·T rows, L layers, C width, H query
//! heads, K key/value heads, D head width, F hidden width, V vocabulary.

mod affine;
mod bart;
mod beam;
mod bert;
mod cards;
mod config;
mod counts;
mod decoder;
mod encoder;
mod error;
pub mod extra;
pub mod generate;
mod gpt2;
mod head;
pub mod huggingface;
mod initialize;
mod llama;
mod model;
mod noise;
pub mod sampling;
mod translate;
mod window;

pub use beam::{Beam, EarlyStopping, Hypothesis};
pub use cards::CARDS;
pub use config::{Activation, Encoder, Family, ModelConfig, QkNorm, Tied, Variant};
pub use decoder::{Decoder, Norms, Scaled};
pub use encoder::span_nll;
pub use error::ModelError;
pub use extra::{Adapted, Adapters, Extra};
pub use head::{ClassObjective, Head, Sequences};
pub use model::{Model, Objective, Tokens};
pub use noise::{NoiseRates, Site, neftune_amplitude};
pub use translate::Pairs;
pub use window::KvCache;
