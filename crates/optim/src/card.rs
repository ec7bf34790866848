//! The registry's cards, and the knobs that several optimizers share.

use heldout_base::card::{Card, Default_, Knob, Schedulable, Search};

/// One card per optimizer, in reading order.
pub static CARDS: &[Card] = &[
    crate::gradient_descent::CARD,
    crate::sgd::CARD,
    crate::adam::CARD,
    crate::adamw::CARD,
    crate::rmsprop::CARD,
    crate::adagrad::CARD,
    crate::lion::CARD,
    crate::muon::CARD,
];

/// A plain number that no search touches.
pub(crate) const fn number(
    name: &'static str,
    unit: &'static str,
    meaning: &'static str,
    default: f64,
    range: (f64, f64),
) -> Knob {
    Knob {
        name,
        unit,
        meaning,
        default: Default_::Number(default),
        range,
        search: None,
        schedulable: Schedulable::No,
        choices: &[],
    }
}

/// A knob with a place for a search to look.
pub(crate) const fn searched(knob: Knob, search: Search) -> Knob {
    Knob { search: Some(search), ..knob }
}

/// One of a few words.
pub(crate) const fn word(
    name: &'static str,
    meaning: &'static str,
    default: &'static str,
    choices: &'static [&'static str],
) -> Knob {
    Knob {
        name,
        unit: "",
        meaning,
        default: Default_::Text(default),
        range: (0.0, 0.0),
        search: None,
        schedulable: Schedulable::No,
        choices,
    }
}

/// The learning rate: the main knob of every optimizer, and the one that may be a schedule.
pub(crate) const fn rate(default: f64, search_from: f64, search_to: f64) -> Knob {
    Knob {
        schedulable: Schedulable::Yes,
        search: Some(Search::Log(search_from, search_to)),
        ..number("rate", "per step", "Learning rate at the schedule's peak.", default, (0.0, 1e3))
    }
}

/// β₁ of the Adam family.
pub(crate) const fn beta1(default: f64) -> Knob {
    searched(
        number("beta1", "share kept", "Running mean of the gradient.", default, BETA_RANGE),
        Search::Uniform(0.8, 0.98),
    )
}

/// β₂ of the Adam family.
pub(crate) const fn beta2(default: f64) -> Knob {
    searched(
        number("beta2", "share kept", "Slow running mean (g², or Lion's m).", default, BETA_RANGE),
        Search::Uniform(0.9, 0.9999),
    )
}

/// ε of the Adam family.
pub(crate) const EPSILON: Knob =
    number("epsilon", "", "Added to the root mean square.", 1e-8, (0.0, 1.0));

const BETA_RANGE: (f64, f64) = (0.0, 0.999_999);

#[cfg(test)]
mod tests {
    use super::*;
    use heldout_base::card::{Kind, Stage};

    #[test]
    fn every_card_is_complete_and_starts_with_the_rate() {
        for card in CARDS {
            assert_eq!(card.problems(), Vec::<String>::new());
            assert_eq!((card.kind, card.stage), (Kind::Optimizer, Stage::Optimizer));
            assert_eq!(card.knobs[0].name, "rate", "{}", card.name);
        }
    }
}
