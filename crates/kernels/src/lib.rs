//! Devices, buffers, and one file per operation (contract, reference, CPU).
//!
//! A [`Tape`] records the [`Pass`]es of a model over its parameters and walks them backwards;
//! the operations it knows are few, fused and fixed. This crate does not know what a
//! transformer is: it sees tensors, heads and rows.

mod accumulator;
mod arena;
mod pages;
mod parallel;

pub mod device;
pub mod gemm;
pub mod math;
pub mod normal;
pub mod ops;
pub mod parameters;
pub mod peak;
pub mod pool;
pub mod profile;
pub mod random;
pub mod reduce;
mod rounded;
pub mod simd;
pub mod tape;
#[cfg(test)]
mod testing;
mod values;

pub use device::{Device, DeviceError, Isa, Precision};
pub use math::Activation;
pub use ops::HeadShape;
pub use ops::attention::Reach;
pub use ops::attention::cross::CrossShape;
pub use ops::attention_cached::KvLayer;
pub use ops::class_loss::{ClassLoss, ClassTeaching};
pub use ops::cross_entropy::joint::{Joint, TeacherRows, Teaching, Twins};
pub use ops::cross_entropy::{IGNORE, LossReport, LossSpec, Smoothing, logits_values};
pub use ops::dropout::{Dropout, NoiseKey, Sharing};
pub use ops::norm::Norm;
pub use ops::uniform::Uniform;
pub use parameters::{Layout, Parameter, Role, Weight};
pub use pool::{Pool, default_threads};
pub use rounded::RoundedWeights;
pub use tape::{Activations, AttentionNoise, EmbeddingNoise, Pass, PassKind, Tape, Var};
pub use values::{View, ViewMut};
