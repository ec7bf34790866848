//! What can go wrong outside the programmer's control.

use thiserror::Error;

/// An optimizer that cannot be built as asked, or whose saved state does not fit.
#[derive(Debug, Error, PartialEq)]
pub enum OptimError {
    /// No optimizer has this name.
    #[error("unknown optimizer `{name}`{}; known: {known}", hint(.nearest))]
    UnknownOptimizer { name: String, nearest: Option<String>, known: String },
    /// The optimizer has no such knob.
    #[error("optimizer `{optimizer}` has no knob `{knob}`{}; it has: {known}", hint(.nearest))]
    UnknownKnob { optimizer: String, knob: String, nearest: Option<String>, known: String },
    /// A knob's value is out of range or of the wrong kind.
    #[error("`{optimizer}.{knob}` must be {expected}, found {found}")]
    BadKnob { optimizer: String, knob: String, expected: String, found: String },
    /// A saved state lacks a vector.
    #[error(
        "the saved state of `{optimizer}` lacks `{vector}`: it was written by another optimizer or \
         version; start from the weights alone, or restore with the recipe that wrote it"
    )]
    MissingState { optimizer: String, vector: String },
    /// A saved vector has another length.
    #[error(
        "the saved state `{vector}` of `{optimizer}` has {found} values where {expected} are \
         needed: the model's shape differs from the one that was saved"
    )]
    StateLength { optimizer: String, vector: String, expected: usize, found: usize },
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}
