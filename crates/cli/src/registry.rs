//! Every card there is, for `list`, `explain` and "did you mean".

use heldout_base::card::{Card, Kind};
use heldout_base::schedule;

/// The cards of one kind, in the order of their registry.
pub fn cards(kind: Kind) -> Vec<&'static Card> {
    match kind {
        Kind::Technique => heldout_regularize::CATALOGUE.iter().map(|entry| entry.card).collect(),
        Kind::Optimizer => heldout_optim::CARDS.iter().collect(),
        Kind::Schedule => schedule::CARDS.iter().collect(),
        Kind::Model => heldout_model::CARDS.iter().collect(),
        Kind::Tokenizer => heldout_data::tokenizer::CARDS.iter().collect(),
        Kind::Evaluation => heldout_regularize::EVALUATIONS.iter().collect(),
    }
}

/// The card of a technique.
pub fn technique(name: &str) -> Option<&'static Card> {
    cards(Kind::Technique).into_iter().find(|card| card.name == name)
}

/// Every card of every kind.
pub fn all() -> Vec<&'static Card> {
    Kind::ALL.into_iter().flat_map(cards).collect()
}

/// The heading and the argument of `list` for a kind: its plural.
pub fn plural(kind: Kind) -> String {
    format!("{}s", kind.word())
}
