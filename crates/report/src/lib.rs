//! Statistics, tables and plots, all read from record: what a run says, in figures and in words.
//!
//! Nothing here prints: every function returns numbers or lines of text, and the command line
//! decides where they go. Old runs can always be reported, because all that is shown comes from
//! the events on disk.

pub mod baseline;
pub mod diagnosis;
pub mod document;
pub mod format;
pub mod html;
pub mod markdown;
pub mod plot;
pub mod profile;
pub mod statistics;
pub mod study;
pub mod summary;
pub mod wrap;
