//! Predictions against references to scores: strings, labels and numbers in, scores with intervals
//! out.
//!
//! It exists so that `report` and `train` can score without knowing each other. Each task's metrics
//! keep per example what they need ([`bleu::Corpus`], [`classification::Confused`], [`Mean`], …);
//! everything that implements [`Metric`] is scored, given an interval and compared with another
//! system by the functions of [`resample`].
//!
//! Shares are between 0 and 1; BLEU and chrF between 0 and 100, as sacreBLEU prints them.

pub mod bleu;
pub mod bootstrap;
pub mod calibration;
pub mod chrf;
pub mod classification;
pub mod error;
mod ngrams;
pub mod normal;
pub mod probabilities;
pub mod resample;
pub mod rouge;
pub mod squad;
pub mod tokenize;

pub use bootstrap::Interval;
pub use error::MeasureError;
pub use resample::{Comparison, Mean, Measured, Metric, Resampling, compare, measure};
