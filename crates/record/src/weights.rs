//! Weights in safetensors files: written as a stream, read tensor by tensor, single or in shards.
//! Files of `torch.save` are read too, and never run ([`torch`]).
//!
//! Format: 8 bytes little-endian header length, a JSON header padded with spaces to a multiple of
//! 8, then the tensors without gaps, little-endian and row-major.

mod header;
mod read;
mod torch;
mod write;

pub use read::WeightFile;
pub use write::{Entry, Values, write_safetensors};

/// The name of a single file of weights in a Hugging Face folder.
pub const MODEL_FILE: &str = "model.safetensors";

/// The name of the index over shards in a Hugging Face folder.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// The name of a single file of weights that `torch.save` wrote.
pub const TORCH_FILE: &str = "pytorch_model.bin";

/// The name of the index over shards of such files.
pub const TORCH_INDEX_FILE: &str = "pytorch_model.bin.index.json";
