//! The catalogue: one file per technique, each contributing to a [`Plan`].
//!
//! Settings become techniques ([`catalogue::assemble`]), techniques write a plan of plain data, the
//! trainer binds it to a model ([`Bound`]) and carries it out. [`probe::measure`] and the trainer
//! collect measurements ([`Live`]) from which each technique makes its receipt.

pub mod at;
mod averaging;
pub mod catalogue;
pub mod depth;
pub mod describe;
pub mod effective;
pub mod error;
mod evaluations;
mod guide;
pub mod labelled;
pub mod live;
pub mod on;
pub mod patience;
pub mod plan;
pub mod probe;
mod probe_effective;
mod probe_loss;
mod probe_noise;
mod probe_passes;
mod probe_update;
pub mod settings;
pub mod technique;
pub mod techniques;

pub use at::{At, Bound};
pub use catalogue::{Assembled, CATALOGUE, assemble, find};
pub use error::{Conflict, NotLive, SettingError};
pub use evaluations::EVALUATIONS;
pub use labelled::Learns;
pub use live::{Live, Receipt};
pub use on::{On, Part};
pub use plan::Plan;
pub use probe::{Probe, measure};
pub use settings::{Settings, Value};
pub use technique::{Beginning, Entry, Facts, Length, Technique};
