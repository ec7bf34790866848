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

/// (passes over unique text, dropout behind each branch) at [`CAPACITY_MEASURED`] parameters a
/// token. Measured at 11 and 14 passes (bench/evidence); the first point follows Xue 2023 and Liu
/// 2025, the last is drawn out from the others.
const DROPOUT: &[(f64, f64)] = &[(1.5, 0.0), (11.0, 0.06), (40.0, 0.15)];

/// Decay for Muon at its usual rate, whatever the passes: 0.5 slowed learning a lot where 0.1 did
/// not (bench/evidence).
const DECAY_MUON: f64 = 0.1;

/// (passes over unique text, decay for AdamW): on fixed data thirty times the usual 0.1 (Kim 2025);
/// half of that is taken, since it was not measured here.
const DECAY_ADAMW: &[(f64, f64)] = &[(1.5, 0.1), (4.0, 0.3), (14.0, 1.0), (40.0, 1.5)];

/// Parameters per unique token where the tables were measured.
const CAPACITY_MEASURED: f64 = 6.6;

/// Strength changes by this share for each e-fold of parameters per unique token.
const CAPACITY_SLOPE: f64 = 0.2;

/// Passes from which a head that predicts the token after next was seen to pay, and passes from
/// which dropping input tokens was (bench/evidence: 14 to 17 and 26).
const PASSES_AHEAD: f64 = 8.0;
const PASSES_TOKENS: f64 = 20.0;

/// Share of input tokens dropped then.
const TOKEN_DROPOUT: f64 = 0.1;

/// Updates that the average of the weights reaches back, as a share of the run.
const AVERAGE_SHARE: f64 = 0.025;

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
    /// belongs to its optimizer, and weights that come from elsewhere are not to be changed much.
    pub fn is_free(&self, recipe: &Recipe) -> bool {
        let leans = match self.key {
            "optimizer.name" | "optimizer.learning-rate" => {
                recipe.names("optimizer") || recipe.names("model.from")
            }
            "regularize.weight-decay"
            | "regularize.multi-token-prediction"
            | "regularize.token-dropout" => recipe.names("model.from"),
            _ => false,
        };
        !leans && !recipe.names(self.key)
    }
}

/// The choices for text of this kind, in the order of the recipe's tables. `optimizer` is the one
/// that the user named, if any.
pub fn cocktail(figures: &Figures, regime: Regime, optimizer: Option<&str>) -> Vec<Choice> {
    let mut choices = Vec::new();
    let mut choose =
        |key, value: String, why: &str| choices.push(Choice { key, value, why: why.into() });
    let passes = figures.passes();
    let why = "learns in fewer steps than AdamW, and to a lower held-out loss (bench/evidence)";
    choose("optimizer.name", "\"muon\"".into(), why);
    choose("optimizer.learning-rate", "0.02".into(), "Muon's usual rate");
    let seen = format!(
        "{passes:.1} passes, {:.1} parameters a unique token",
        figures.parameters_per_token
    );
    match dropout(figures) {
        rate if rate > 0.0 => {
            let (branch, hidden) = (number(rate), number(2.0 * rate));
            let value = format!(
                "{{ attention-output = {branch}, feed-forward-hidden = {hidden}, \
                 feed-forward-output = {branch} }}"
            );
            let why = format!(
                "{seen}; not on embeddings, where it slows learning (Xue 2023; bench/evidence)"
            );
            choose("regularize.dropout", value, &why);
        }
        _ => {
            let why = "in one pass it only slows learning (Xue 2023, Liu 2025)";
            choose("regularize.dropout", "false".into(), why);
        }
    }
    if passes >= PASSES_AHEAD {
        let why = format!(
            "{seen}: a second head that predicts the token after next lowered the held-out loss \
             by about 0.01 nats (bench/evidence), at a fifth more time"
        );
        choose("regularize.multi-token-prediction", "1".into(), &why);
    }
    if passes >= PASSES_TOKENS {
        let why = "so many passes learn windows by their wording (bench/evidence)";
        choose("regularize.token-dropout", number(TOKEN_DROPOUT), why);
    }
    match optimizer {
        None | Some("muon") => {
            let why = "Muon's rate is six times AdamW's: stronger decay slowed it (bench/evidence)";
            choose("regularize.weight-decay", number(DECAY_MUON), why);
        }
        Some("adamw" | "adam") => {
            let decay = interpolate(DECAY_ADAMW, passes) * capacity(figures);
            let why = match regime {
                Regime::OnePass => "weak decay is enough for one pass".into(),
                _ => format!("{seen}: fixed data wants more than 0.1 (Kim 2025)"),
            };
            choose("regularize.weight-decay", number(round(decay)), &why);
        }
        // What suits the others was never measured.
        Some(_) => {}
    }
    if regime != Regime::OnePass {
        let decay = 1.0 - 1.0 / (AVERAGE_SHARE * figures.updates).clamp(10.0, 2000.0);
        let why = format!(
            "the mean of the last {}% of {:.0} updates beats the last (bench/evidence)",
            100.0 * AVERAGE_SHARE,
            figures.updates
        );
        choose("regularize.ema", number((decay * 1e4).round() / 1e4), &why);
    }
    choices
}

/// Dropout behind each branch for this many passes and parameters, in steps of 0.05.
fn dropout(figures: &Figures) -> f64 {
    round(interpolate(DROPOUT, figures.passes()) * capacity(figures))
}

/// How much stronger than at the measured size, from a half to one and a half.
fn capacity(figures: &Figures) -> f64 {
    let ratio = (figures.parameters_per_token / CAPACITY_MEASURED).max(1e-9);
    (1.0 + CAPACITY_SLOPE * ratio.ln()).clamp(0.5, 1.5)
}

/// To the nearest twentieth: more digits are not known.
fn round(value: f64) -> f64 {
    (value * 20.0).round() / 20.0
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
        // The measured point itself.
        assert_eq!(dropout(&figures(11.0, CAPACITY_MEASURED)), 0.05);
        assert_eq!(dropout(&figures(14.0, CAPACITY_MEASURED)), 0.1);
        let by_size: Vec<f64> =
            [0.01, 0.5, 6.6, 50.0, 1e6].map(|p| dropout(&figures(12.0, p))).to_vec();
        assert!(by_size.is_sorted() && by_size[4] <= 0.25, "{by_size:?}");
        let at = |x: f64| interpolate(&[(1.0, 0.0), (4.0, 1.0)], x);
        assert_eq!((at(0.1), at(2.0), at(9.0)), (0.0, 0.5, 1.0));
        let decay = |optimizer| {
            let choices = cocktail(&figures(14.0, 6.6), Regime::FixedData, optimizer);
            let found = choices.into_iter().find(|c| c.key == "regularize.weight-decay");
            found.map(|choice| choice.value)
        };
        assert_eq!(decay(None).as_deref(), Some("0.1"));
        assert_eq!(decay(Some("adamw")).as_deref(), Some("1"));
        assert_eq!(decay(Some("lion")), None);
        let advised = |passes: f64, key: &str| {
            let choices = cocktail(&figures(passes, 6.6), Regime::FixedData, None);
            choices.into_iter().find(|c| c.key == key).map(|choice| choice.value)
        };
        let (ahead, tokens) = ("regularize.multi-token-prediction", "regularize.token-dropout");
        assert_eq!((advised(4.0, ahead), advised(17.0, tokens)), (None, None));
        assert_eq!(advised(17.0, ahead).as_deref(), Some("1"));
        assert_eq!(advised(26.0, tokens).as_deref(), Some("0.1"));
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
