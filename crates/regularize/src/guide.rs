//! Which tokens noise over whole tokens draws from.

use serde::{Deserialize, Serialize};

/// Which tokens are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenGuide {
    /// All alike.
    #[default]
    Uniform,
    /// The most predictable ones alone, the oftener, so that the mean over all tokens is the rate.
    Predictable {
        /// Their share of the training text's tokens.
        share: f64,
    },
}

impl TokenGuide {
    /// Share of the tokens that can be drawn.
    pub fn share(self) -> f64 {
        match self {
            TokenGuide::Uniform => 1.0,
            TokenGuide::Predictable { share } => share,
        }
    }
}
