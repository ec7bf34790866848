//! An n-gram language model over token ids: interpolated modified Kneser–Ney (Chen & Goodman 1998,
//! §3; Heafield et al. 2013 for the details). It is what a network has to beat.
//!
//! It lives here because it sees token ids and nothing else: no tensor, no kernel, no device.
//!
//! Text is a row of *sequences*. Each begins with a start token that is context and never a target
//! of its own: the end-of-text token of the document before, or, where the tokenizer has none, a
//! token outside the vocabulary before the whole text. Contexts do not reach back beyond it, since
//! documents stand in no order.
//!
//! Letters, as in the papers: N the order, h a context, w a token, c raw counts, a adjusted counts,
//! D discounts, S the sum over a context, b its backoff weight, V the vocabulary.

mod counts;
mod model;
mod predictable;

pub use counts::{Appended, NgramCounts};
pub use model::{Discounts, NgramModel};
pub use predictable::Predictable;

/// The highest order that can be asked for.
pub const ORDER_MOST: usize = 16;
