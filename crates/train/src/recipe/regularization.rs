//! The techniques of a recipe: what the user chose, and sound defaults for the rest.

use heldout_model::{Head, ModelConfig};
use heldout_regularize::{CATALOGUE, Settings, Value as KnobValue};

use super::amount::Amount;
use super::choices::Choices;
use super::defaults::{self, Beginning, TokenFacts};
use super::draft::Draft;
use super::resolve::EVALUATIONS;
use super::resolved::*;
use super::sizes::Extent;

/// What the user chose, then the sound defaults for techniques that were not mentioned.
pub fn regularize(
    draft: &Draft,
    choices: &mut Choices,
    extent: &Extent,
    evaluate: &EvaluateRecipe,
    (tokens, from): (&TokenFacts, Option<&ModelConfig>),
) -> Vec<TechniqueRecipe> {
    let (dropout, decay, why) = match (&tokens.examples, from) {
        (None, _) if tokens.passage.is_some() => defaults::regularization_of_masked(),
        (None, from) if tokens.pairs.is_some() => defaults::regularization_of_pairs(match from {
            Some(_) => Beginning::Pretrained,
            None => Beginning::Scratch,
        }),
        (None, _) => defaults::regularization(extent.epochs),
        (Some(_), None) => defaults::regularization_of_labelled(Beginning::Scratch),
        (Some(_), Some(_)) => defaults::regularization_of_labelled(Beginning::Pretrained),
    };
    // An encoder-decoder shares its embedding by itself.
    let has_output = from.is_none()
        && tokens.examples.is_none()
        && tokens.passage.is_none()
        && tokens.pairs.is_none();
    let evaluations = match evaluate.every {
        Amount::Steps(n) => extent.updates / n as f64,
        Amount::Epochs(n) => extent.epochs / n,
        Amount::End => 1.0,
        _ => EVALUATIONS,
    };
    // Labels are learned in minutes, and the last updates, at the lowest rates, are worth most.
    let stops = evaluations > 8.0 && tokens.examples.is_none();
    let number = |on: bool, value: f64| on.then_some(Some(KnobValue::Number(value)));
    // (technique, main knob where it is to be set, why); `None` leaves the technique out.
    let labels = |e: &defaults::ExampleFacts| matches!(e.head, Head::Classification { .. });
    let from_labels = tokens.examples.as_ref().is_some_and(labels) && from.is_none();
    let dropped = defaults::TOKENS_DROPPED_OF_LABELLED;
    let (smoothing, why_smooth) = match tokens.pairs {
        Some(_) => (Some(Some(KnobValue::Number(0.1))), "there is more than one right way"),
        None => (number(from_labels, defaults::SMOOTHING_OF_LABELLED), "labels are not that sure"),
    };
    let sound: [(&str, Option<Option<KnobValue>>, &str); 9] = [
        ("weight-tying", has_output.then_some(None), "saves parameters and regularizes"),
        ("dropout", number(dropout > 0.0, dropout), &why),
        ("token-dropout", number(from_labels, dropped), "no label may hang on one word"),
        ("label-smoothing", smoothing, why_smooth),
        ("weight-decay", number(true, decay), &why),
        ("gradient-clipping", number(true, 1.0), "keeps a wild batch from undoing progress"),
        ("explosion-guard", Some(None), "no broken number may reach the weights"),
        ("early-stopping", stops.then_some(None), "the best weights are kept anyway"),
        ("shuffle", Some(None), "windows re-drawn every epoch are the cheapest gain"),
    ];
    let mut techniques = Vec::new();
    for entry in CATALOGUE {
        let card = entry.card;
        let key = format!("regularize.{}", card.name);
        if let Some(written) = draft.regularize.iter().find(|t| t.card.name == card.name) {
            choices.written(&key, &written.place);
            techniques.push(TechniqueRecipe { card, settings: written.settings.clone() });
            continue;
        }
        let Some((_, Some(main), why)) = sound.iter().find(|(name, ..)| *name == card.name) else {
            continue;
        };
        let settings = main.clone().map_or_else(Settings::default, Settings::bare);
        choices.note(&key, OriginSource::Default, *why);
        techniques.push(TechniqueRecipe { card, settings: Some(settings) });
    }
    techniques
}
