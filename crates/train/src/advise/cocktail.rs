//! The starting cocktail: which techniques, how strong, and on what evidence.
//!
//! Strength follows two numbers: how often the unique text will be seen, and how many parameters
//! there are for each of its tokens. Between measured points it is interpolated over the logarithm;
//! beyond them it stays as it is.

use serde::Serialize;

use super::Regime;
use super::figures::Figures;
use crate::recipe::Recipe;

/// One value that the advice sets, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// Dotted, as in `--set`.
    pub key: &'static str,
    /// As TOML.
    pub value: String,
    pub why: String,
}

/// (passes over unique text, dropout) at [`CAPACITY_MEASURED`] parameters a token.
const DROPOUT: &[(f64, f64)] = &[(1.5, 0.0), (4.0, 0.05), (10.0, 0.15), (20.0, 0.25)];

/// (passes over unique text, weight decay of AdamW).
const DECAY: &[(f64, f64)] = &[(1.5, 0.1), (4.0, 0.3), (10.0, 1.0)];

/// Parameters per unique token where the tables were measured.
const CAPACITY_MEASURED: f64 = 6.6;

/// Dropout changes by this factor for each e-fold of parameters per unique token.
const CAPACITY_SLOPE: f64 = 0.15;

/// Dropout never goes beyond this: what is left of the network could not learn.
const DROPOUT_MOST: f64 = 0.4;

/// The value at `x`, linear in ln x between points, constant outside.
pub fn interpolate(points: &[(f64, f64)], x: f64) -> f64 {
    let (first, last) = (points[0], points[points.len() - 1]);
    if x <= first.0 {
        return first.1;
    }
    let above = points.windows(2).find(|pair| x <= pair[1].0);
    above.map_or(last.1, |pair| {
        let share = (x / pair[0].0).ln() / (pair[1].0 / pair[0].0).ln();
        pair[0].1 + share * (pair[1].1 - pair[0].1)
    })
}

impl Choice {
    /// Whether the user left open what this choice would set, and what it would lean on: a rate
    /// belongs to its optimizer.
    pub fn is_free(&self, recipe: &Recipe) -> bool {
        let table = self.key.split('.').next().unwrap_or(self.key);
        let leans = match table {
            "optimizer" => recipe.names("optimizer") || recipe.names("model.from"),
            _ => false,
        };
        !leans && !recipe.names(self.key)
    }
}

/// The choices for text of this kind, in the order of the recipe's tables.
pub fn cocktail(figures: &Figures, regime: Regime) -> Vec<Choice> {
    let mut choices = Vec::new();
    let mut choose = |key, value: String, why: String| choices.push(Choice { key, value, why });
    let passes = figures.passes();
    choose(
        "optimizer.name",
        "\"muon\"".into(),
        "0.1 nats below AdamW after as many steps (LOG 2026-11-22)".into(),
    );
    let rate = dropout(figures);
    let seen = format!(
        "{passes:.0} passes, {:.1} parameters a unique token",
        figures.parameters_per_token
    );
    if rate > 0.0 {
        choose("regularize.dropout", number(rate), format!("{seen} (Xue 2023; LOG)"));
    } else {
        let why = "in one pass it only slows learning (Xue 2023, Liu 2025)";
        choose("regularize.dropout", "false".into(), why.into());
    }
    let decay = round_to(interpolate(DECAY, passes), 0.05);
    let why = match regime {
        Regime::OnePass => "weak decay is enough for one pass".into(),
        _ => format!("{passes:.0} passes over fixed data (Kim 2025; LOG)"),
    };
    choose("regularize.weight-decay", number(decay), why);
    choices
}

/// Dropout for this many passes and parameters, in steps of 0.05.
fn dropout(figures: &Figures) -> f64 {
    let base = interpolate(DROPOUT, figures.passes());
    let capacity = (figures.parameters_per_token / CAPACITY_MEASURED).max(1e-9).ln();
    let factor = (1.0 + CAPACITY_SLOPE * capacity).clamp(0.5, 1.5);
    round_to((base * factor).min(DROPOUT_MOST), 0.05)
}

fn round_to(value: f64, step: f64) -> f64 {
    (value / step).round() * step
}

fn number(value: f64) -> String {
    format!("{}", (value * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strength_grows_with_passes_and_parameters_and_stays_bounded() {
        let figures = |epochs: f64, parameters: f64| {
            let tokens_unique = 1e6;
            Figures {
                tokens: 1_000_000,
                tokens_unique,
                repeated: 0.0,
                leaked: 0.0,
                duplicates: 0.0,
                parameters: parameters * tokens_unique,
                parameters_per_token: parameters,
                epochs,
                epochs_until_overfit: 1.0,
                updates: 1000.0,
            }
        };
        let rates: Vec<f64> =
            [0.5, 1.5, 3.0, 6.0, 12.0, 30.0, 1e4].map(|e| dropout(&figures(e, 6.6))).to_vec();
        assert!(rates.is_sorted(), "{rates:?}");
        assert_eq!((rates[0], rates[1]), (0.0, 0.0));
        assert_eq!(rates[6], DROPOUT[DROPOUT.len() - 1].1);
        let by_size: Vec<f64> =
            [0.01, 0.5, 6.6, 50.0, 1e6].map(|p| dropout(&figures(12.0, p))).to_vec();
        assert!(by_size.is_sorted() && by_size[4] <= DROPOUT_MOST, "{by_size:?}");
        let at = |x: f64| interpolate(&[(1.0, 0.0), (4.0, 1.0)], x);
        assert_eq!((at(0.1), at(2.0), at(9.0)), (0.0, 0.5, 1.0));
    }

    #[test]
    fn what_the_user_wrote_is_not_free() {
        let choice = |key| Choice { key, value: "1".into(), why: String::new() };
        let mut recipe = Recipe::empty();
        assert!(choice("optimizer.name").is_free(&recipe));
        recipe.set("optimizer.learning-rate=0.1").expect("a setting");
        recipe.set("regularize.dropout=0.1").expect("a setting");
        assert!(!choice("optimizer.name").is_free(&recipe));
        assert!(!choice("regularize.dropout").is_free(&recipe));
        assert!(choice("regularize.ema").is_free(&recipe));
    }
}
