//! Weights in safetensors files: written as a stream, read tensor by tensor, single or in shards.
//!
//! Format: 8 bytes little-endian header length, a JSON header padded with spaces to a multiple of
//! 8, then the tensors without gaps, little-endian and row-major.

mod header;
mod read;
mod write;

pub use read::WeightFile;
pub use write::{Entry, Values, write_safetensors};

/// The name of a single file of weights in a Hugging Face folder.
pub const MODEL_FILE: &str = "model.safetensors";

/// The name of the index over shards in a Hugging Face folder.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
