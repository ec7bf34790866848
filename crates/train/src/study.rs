//! Replicated, paired ablations: what is trained, in which order, and by whom.
//!
//! [`design`] turns a recipe and a question into a [`Study`](heldout_record::study::Study): one
//! reference, some arms that differ from it in a technique, the same seeds for all. [`conduct`]
//! carries it out through [`Workers`], which run one trial each, in a process of their own by
//! [`run_trial`]. What the evidence says is an [`Analyst`]'s to tell: this crate knows no
//! statistics.
//!
//! A trial is safe against anything: its run folder resumes bit for bit, its end is written to the
//! folder before the ledger learns of it, and the ledger alone says what is still to be done.

mod arms;
mod baseline;
mod conduct;
mod plan;
mod reference;
mod trial;

pub use arms::{Added, Designed, Planted, Question, Rates, design};
pub use baseline::{Ngram, count_baseline};
pub use conduct::{Analyst, Conducted, Ending, Limits, Stopping, WorkerEnd, Workers, conduct};
pub use plan::TrialSpec;
pub use trial::{Keep, Surroundings, TrialEnd, arm_recipe, run_trial};
