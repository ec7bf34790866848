//! One file per technique, and the few helpers that several share.

pub mod checkpoint_averaging;
pub mod class_weights;
pub mod confidence_penalty;
pub mod distillation;
pub mod dropout;
pub mod early_stopping;
pub mod eda;
pub mod ema;
pub mod explosion_guard;
pub mod focal_loss;
pub mod freeze;
pub mod gradient_clipping;
pub mod gradient_noise;
pub mod head_dropout;
pub mod l1;
pub mod l2;
pub mod label_smoothing;
pub mod layer_drop;
pub mod layerwise_decay;
pub mod lora;
pub mod max_norm;
pub mod mixout;
pub mod multi_token_prediction;
pub mod neftune;
pub mod r_drop;
pub mod reinit;
pub mod sam;
pub mod sentence_order;
pub mod shuffle;
pub mod swa;
pub mod text_masking;
pub mod token_dropout;
pub mod weight_decay;
pub mod weight_tying;
pub mod z_loss;

use crate::error::{NotLive, SettingError};
use crate::live::{AugmentMeasure, AverageMeasure, Live, Receipt, SiteMeasure, not_live, required};
use crate::on::On;
use crate::plan::Site;
use crate::settings::{ON_REMEDY, no_effect};
use crate::technique::Facts;
use heldout_base::card::{Card, Default_, Knob, Schedulable, Search};

/// A number that may be a schedule.
const fn scheduled(
    name: &'static str,
    unit: &'static str,
    meaning: &'static str,
    range: (f64, f64),
) -> Knob {
    Knob {
        name,
        unit,
        meaning,
        default: Default_::Off,
        range,
        search: None,
        schedulable: Schedulable::Yes,
        choices: &[],
    }
}

/// A number that stays what it is.
const fn fixed(
    name: &'static str,
    unit: &'static str,
    meaning: &'static str,
    default: f64,
    range: (f64, f64),
) -> Knob {
    Knob {
        default: Default_::Number(default),
        schedulable: Schedulable::No,
        ..scheduled(name, unit, meaning, range)
    }
}

/// One of a few words.
const fn word(
    name: &'static str,
    meaning: &'static str,
    default: &'static str,
    choices: &'static [&'static str],
) -> Knob {
    Knob {
        default: Default_::Text(default),
        schedulable: Schedulable::No,
        choices,
        ..scheduled(name, "", meaning, (0.0, 0.0))
    }
}

/// A knob with a default and a place for a search to look.
const fn searched(knob: Knob, default: f64, search: Search) -> Knob {
    Knob { default: Default_::Number(default), search: Some(search), ..knob }
}

/// The knob `on`.
const ON: Knob = Knob {
    default: Default_::Text("matrix, embedding, position-embedding, head"),
    schedulable: Schedulable::No,
    ..scheduled(
        "on",
        "list of kinds of tensors",
        "Which tensors: matrix, embedding, tied-embedding, position-embedding, head, bias, gain.",
        (0.0, 0.0),
    )
};

/// Highest rate of a noise site: at 1 nothing would be left.
const RATE_MOST: f64 = 0.99;

/// Refuses a set of parts of which the model has none.
fn check_on(card: &Card, on: &On, facts: &Facts) -> Result<(), SettingError> {
    if on.select(facts.layout).is_empty() {
        let reason = format!("this model has no tensor of the kinds {}", on.describe());
        return Err(no_effect(card, "on", &reason, ON_REMEDY));
    }
    Ok(())
}

/// The receipt of noise at some sites: each must drop about what was asked for and be felt.
fn noise_receipt(
    card: &Card,
    live: &Live,
    sites: &[Site],
    units: &str,
) -> Result<Receipt, NotLive> {
    let mut statements = Vec::new();
    let mut measured = Vec::new();
    for site in sites {
        let measure = required(card, live.sites.get(site))?;
        check_site(card, *site, measure)?;
        let SiteMeasure { dropped, rate, loss_clean, loss_noisy, .. } = *measure;
        let name = site.word();
        let place = if sites.len() > 1 { format!(" at {name}") } else { String::new() };
        statements.push(format!(
            "{:.2}% of {units}{place} (loss of a probe batch {loss_clean:.6} → {loss_noisy:.6})",
            100.0 * dropped
        ));
        measured.push((format!("{name}.dropped"), dropped));
        measured.push((format!("{name}.rate"), rate));
        measured.push((format!("{name}.loss_shift"), loss_noisy - loss_clean));
    }
    let statement = format!("drops {}", statements.join(", "));
    let measured = measured.iter().map(|(name, value)| (name.as_str(), *value));
    Ok(Receipt::new(card, statement, measured))
}

fn check_site(card: &Card, site: Site, measure: &SiteMeasure) -> Result<(), NotLive> {
    let SiteMeasure { expected, dropped, draws, loss_clean, loss_noisy, .. } = *measure;
    // Six standard deviations: one false alarm in half a billion.
    let deviation = (expected * (1.0 - expected) / draws as f64).sqrt();
    if (dropped - expected).abs() > 6.0 * deviation + 1.0 / draws as f64 {
        let finding = format!("{dropped} of units dropped at {}, not {expected}", site.word());
        return Err(not_live(card, finding));
    }
    if loss_noisy == loss_clean {
        let finding = format!("the loss does not change with noise at {}", site.word());
        return Err(not_live(card, finding));
    }
    Ok(())
}

/// The receipt of an average: it must stand between the weights that it has seen.
fn average_receipt(card: &Card, live: &Live) -> Result<Receipt, NotLive> {
    let measure = required(card, live.averages.get(card.name))?;
    let AverageMeasure { decay, samples, after_jump } = *measure;
    if !(after_jump > 0.0 && after_jump < 1.0) {
        let finding = format!("an average of 0 and 1 stands at {after_jump}, not between them");
        return Err(not_live(card, finding));
    }
    let mut parts = Vec::new();
    let mut figures = vec![("after_jump", after_jump)];
    if let Some(decay) = decay {
        parts.push(format!("decay {decay}"));
        figures.push(("decay", decay));
    } else if let Some(samples) = samples {
        parts.push(format!("takes in {samples} sets of weights"));
        figures.push(("samples", samples as f64));
    }
    parts.push(format!("when weights jump from 0 to 1 the average stands at {after_jump:.6}"));
    if let Some(distance) = live.average_distances.get(card.name) {
        parts.push(format!("it ends {:.3}% away from the weights", 100.0 * distance));
        figures.push(("distance", *distance));
    }
    Ok(Receipt::new(card, parts.join("; "), figures))
}

/// Share of the texts that a technique changes.
const SHARE: Knob = fixed(
    "share",
    "share of the texts",
    "How many texts of an epoch are changed; the others stay as they are.",
    0.5,
    (1e-3, 1.0),
);

/// The receipt of a change of texts: some of the first epoch's must have changed.
fn augment_receipt(card: &Card, live: &Live) -> Result<Receipt, NotLive> {
    let measure = required(card, live.augmented.get(card.name))?;
    let AugmentMeasure { texts, changed, edits, before, after } = measure;
    if *changed == 0 {
        let finding = format!("none of the first {texts} training texts changes in an epoch");
        return Err(not_live(card, finding));
    }
    let by: Vec<String> = edits.iter().map(|(edit, count)| format!("{edit} {count}")).collect();
    let statement = format!(
        "changes {changed} of the first {texts} training texts in an epoch ({}), such as \
         {before:?} → {after:?}",
        by.join(", ")
    );
    let mut figures = vec![("texts", *texts as f64), ("changed", *changed as f64)];
    figures.extend(edits.iter().map(|(edit, count)| (edit.as_str(), *count as f64)));
    Ok(Receipt::new(card, statement, figures))
}
