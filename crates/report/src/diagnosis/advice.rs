//! What to try, and why: the sentences name the technique's card and the evidence behind it.

use serde::Serialize;

use super::chart::Chart;

/// One thing to try.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Suggestion {
    /// What to do and why, in one sentence without a full stop.
    pub text: String,
    /// The card to read, by the name of a technique in the catalogue.
    pub technique: Option<String>,
    /// The setting to train with: "regularize.dropout=0.2".
    pub setting: Option<String>,
}

/// Every technique that a suggestion may cite; the command line's tests hold them against the
/// catalogue.
pub const CITED: &[&str] = &[
    "dropout",
    "weight-decay",
    "ema",
    "early-stopping",
    "shuffle",
    "label-smoothing",
    "gradient-clipping",
    "explosion-guard",
    "l1",
    "l2",
];

/// A suggestion without a card.
pub(super) fn plain(text: impl Into<String>) -> Suggestion {
    Suggestion { text: text.into(), technique: None, setting: None }
}

/// A suggestion of a technique, with the setting to try.
pub(super) fn cite(technique: &str, setting: &str, text: impl Into<String>) -> Suggestion {
    debug_assert!(CITED.contains(&technique), "{technique} is not in the list of cited cards");
    let setting = (!setting.is_empty()).then(|| setting.to_owned());
    Suggestion { text: text.into(), technique: Some(technique.to_owned()), setting }
}

/// A suggestion of a setting that belongs to no technique.
pub(super) fn set(setting: &str, text: impl Into<String>) -> Suggestion {
    Suggestion { text: text.into(), technique: None, setting: Some(setting.to_owned()) }
}

/// Rates from which on more dropout is no advice.
const DROPOUT_USUAL_MOST: f64 = 0.3;

/// The highest rate of dropout at any site; `None` where there is none.
fn strongest_dropout(chart: &Chart) -> Option<f64> {
    let measured = &chart.receipt("dropout")?.measured;
    let rates = measured.iter().filter(|(figure, _)| figure.ends_with(".rate"));
    Some(rates.map(|(_, rate)| *rate).fold(0.0, f64::max))
}

/// Against overfitting: what is not in the run yet comes first, then more of what is.
pub(super) fn regularize(chart: &Chart) -> Vec<Suggestion> {
    let mut list = Vec::new();
    let is_live = |technique: &str| chart.is_live(technique);
    match strongest_dropout(chart) {
        None => list.push(cite(
            "dropout",
            "regularize.dropout=0.2",
            "add dropout: on fixed data seen many times 0.1 to 0.3 lowers the held-out loss \
             (Xue et al. 2023)",
        )),
        Some(rate) if rate < DROPOUT_USUAL_MOST => list.push(cite(
            "dropout",
            "regularize.dropout=0.3",
            "raise dropout: on fixed data seen many times 0.1 to 0.3 lowers the held-out loss \
             (Xue et al. 2023)",
        )),
        // There is plenty already.
        Some(_) => {}
    }
    list.push(cite(
        "weight-decay",
        "regularize.weight-decay=1.0",
        "decay weights more strongly: with many epochs up to 30 times the usual 0.1 is right \
         (Kim et al. 2025)",
    ));
    if !is_live("ema") {
        list.push(cite(
            "ema",
            "regularize.ema=0.99",
            "average the weights: it evens out the last updates and is kept only where it scores \
             better",
        ));
    }
    if !is_live("shuffle") {
        list.push(cite(
            "shuffle",
            "regularize.shuffle=true",
            "draw the order anew in every epoch: the cheapest gain on fixed data",
        ));
    }
    if !is_live("early-stopping") {
        list.push(cite(
            "early-stopping",
            "regularize.early-stopping=\"5 evaluations\"",
            "stop when the held-out loss no longer improves: it saves the time, the result is \
             the best weights either way (Prechelt 1998)",
        ));
    }
    list.push(plain(
        "or train on more text, or a smaller model: both close the gap where regularization \
         cannot",
    ));
    list
}
