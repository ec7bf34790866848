//! Optimizers, gradient transforms and weight averaging over named flat parameters.
//!
//! All parameters of a model are one flat `f32` vector cut into [`Segment`]s; this crate knows
//! their names, shapes and roles, never the model they belong to. One step reads and writes every
//! vector once; results do not depend on the number of threads.

pub mod adagrad;
pub mod adam;
pub mod adamw;
pub mod ascent;
pub mod average;
pub mod card;
pub mod clip;
pub mod error;
pub mod gradient_descent;
pub mod guard;
pub mod lion;
pub mod low_rank;
pub mod max_norm;
pub mod mixout;
pub mod muon;
pub mod noise;
pub mod optimizer;
pub mod penalty;
pub mod rmsprop;
pub mod segment;
pub mod sgd;
pub mod sparse;
pub mod spec;
mod walk;

pub use card::CARDS;
pub use error::OptimError;
pub use optimizer::{Optimizer, Update};
pub use segment::Segment;
pub use spec::{KnobValue, OptimizerSpec, build};
