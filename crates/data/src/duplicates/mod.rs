//! Duplicates and leaks: found by hash and by similarity, reported with examples, removed by policy.

use crate::boundary::Manner;
use crate::error::DataError;
use crate::facts::DataFacts;
use crate::prepare::{DuplicatePolicy, Progress};
use crate::split::States;
use crate::spool::Spool;
use std::path::Path;

/// What to look for and what to do.
pub(crate) struct Compare {
    pub policy: DuplicatePolicy,
    pub manner: Manner,
}

/// placeholder
pub(crate) fn find(
    _spool: &Spool,
    _states: &mut States,
    _compare: &Compare,
    _scratch: &Path,
    _facts: &mut DataFacts,
    _progress: &mut dyn FnMut(Progress),
) -> Result<(), DataError> {
    Ok(())
}
