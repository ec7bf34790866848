//! Settings that cannot be, techniques that contradict each other, and those that do nothing.

use heldout_base::schedule::ScheduleError;
use thiserror::Error;

/// What is wrong with the `[regularize]` section of a recipe.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SettingError {
    /// No technique has this name.
    #[error(
        "there is no technique `{technique}`{}; `heldout list techniques` shows all",
        hint(.nearest)
    )]
    UnknownTechnique { technique: String, nearest: Option<String> },
    /// The technique has no such knob.
    #[error("`{technique}` has no knob `{knob}`{}; it has: {known}", hint(.nearest))]
    UnknownKnob { technique: String, knob: String, nearest: Option<String>, known: String },
    /// A number, or a schedule at some step, is out of the card's range.
    #[error("`{technique}.{knob}` = {found} is out of range; allowed: {allowed}")]
    OutOfRange { technique: String, knob: String, found: f64, allowed: String },
    /// Text for a number, or the like.
    #[error("`{technique}.{knob}` must be {expected}, found {found}")]
    WrongKind { technique: String, knob: String, expected: String, found: String },
    /// Not one of the knob's words.
    #[error("`{technique}.{knob}` cannot be {found:?}{}; allowed: {known}", hint(.nearest))]
    UnknownWord {
        technique: String,
        knob: String,
        found: String,
        nearest: Option<String>,
        known: String,
    },
    /// A knob without default was not given.
    #[error("`{technique}` needs `{knob}`: {meaning}")]
    Missing { technique: String, knob: String, meaning: String },
    /// A schedule whose own numbers make no sense.
    #[error("`{technique}.{knob}`: {source}")]
    Schedule { technique: String, knob: String, source: ScheduleError },
    /// A setting that would do nothing.
    #[error("`{technique}.{knob}` has no effect: {reason}; {remedy}")]
    NoEffect { technique: String, knob: String, reason: String, remedy: String },
    /// A value that names something which cannot be used.
    #[error("`{technique}.{knob}`: {reason}; {remedy}")]
    Unusable { technique: String, knob: String, reason: String, remedy: String },
    /// Two techniques want the same slot.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

impl SettingError {
    /// The technique whose key the error points at.
    pub fn technique(&self) -> &str {
        match self {
            Self::UnknownTechnique { technique, .. }
            | Self::UnknownKnob { technique, .. }
            | Self::OutOfRange { technique, .. }
            | Self::WrongKind { technique, .. }
            | Self::UnknownWord { technique, .. }
            | Self::Missing { technique, .. }
            | Self::Schedule { technique, .. }
            | Self::Unusable { technique, .. }
            | Self::NoEffect { technique, .. } => technique,
            Self::Conflict(conflict) => &conflict.second,
        }
    }

    /// The knob under that key, where there is one.
    pub fn knob(&self) -> Option<&str> {
        match self {
            Self::UnknownKnob { knob, .. }
            | Self::OutOfRange { knob, .. }
            | Self::WrongKind { knob, .. }
            | Self::UnknownWord { knob, .. }
            | Self::Schedule { knob, .. }
            | Self::Unusable { knob, .. }
            | Self::NoEffect { knob, .. } => Some(knob),
            Self::UnknownTechnique { .. } | Self::Missing { .. } | Self::Conflict(_) => None,
        }
    }
}

/// Two owners of a slot that holds one value.
#[derive(Clone, Debug, PartialEq, Error)]
pub struct Conflict {
    /// The slot in words.
    pub slot: String,
    /// Who had it.
    pub first: String,
    /// Who wanted it, too.
    pub second: String,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { slot, first, second } = self;
        if first == second {
            return write!(f, "`{first}` was given twice and would set {slot} twice; give it once");
        }
        write!(f, "`{first}` and `{second}` both set {slot}; switch one of them off")
    }
}

/// A technique that is in the plan but not in the run.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("`{technique}` is in the plan but does not act: {finding}")]
pub struct NotLive {
    /// Its name in the catalogue.
    pub technique: String,
    /// What was measured, or that nothing was.
    pub finding: String,
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}
