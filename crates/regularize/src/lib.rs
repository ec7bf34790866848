//! The catalogue: one file per technique, each contributing to a Plan.
