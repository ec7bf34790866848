//! Made runs.
