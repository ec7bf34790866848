//! `[regularize]` as a recipe writes it: one key per technique. A number (or word) sets the main
//! knob, a table sets any of them, `true` takes the defaults, `false` or `"off"` switches off.

use std::collections::BTreeMap;

use heldout_base::card::{Card, Default_, Knob, Schedulable};
use heldout_regularize::{CATALOGUE, SettingError, Settings, Value as KnobValue};

use super::error::{Place, RecipeError};
use super::section::{number_of, unknown_key};
use super::shapes;
use super::tree::{Entry, MAIN_KNOB, Node, Table, Value};

/// What a recipe says about one technique.
#[derive(Clone, Debug)]
pub struct TechniqueDraft {
    pub card: &'static Card,
    pub place: Place,
    /// Where each knob's value was written.
    pub knob_places: BTreeMap<String, Place>,
    /// `None`: switched off. Otherwise the knobs that were set.
    pub settings: Option<Settings>,
}

/// The techniques of the `[regularize]` table in the order they were written.
pub fn read(root: &Table) -> Result<Vec<TechniqueDraft>, RecipeError> {
    let Some(section) = root.get("regularize") else { return Ok(Vec::new()) };
    let Value::Table(table) = &section.node.value else {
        return Err(RecipeError::at(&section.key_place, "`regularize` must be a table")
            .note("write it as [regularize] with one key per technique below"));
    };
    table.entries.iter().map(technique).collect()
}

fn technique(entry: &Entry) -> Result<TechniqueDraft, RecipeError> {
    let technique = CATALOGUE
        .iter()
        .find(|t| t.card.name == entry.key)
        .ok_or_else(|| unknown_key(entry, "[regularize]", CATALOGUE.iter().map(|t| t.card.name)))?;
    let card = technique.card;
    let mut knob_places = BTreeMap::new();
    let settings = match &entry.node.value {
        Value::Flag(false) => None,
        Value::Flag(true) => Some(Settings::default()),
        Value::Text(word) if word == "off" => None,
        Value::Table(table) => Some(knobs(card, table, &mut knob_places)?),
        _ => Some(Settings::bare(knob_value(card, card.knobs.first(), &entry.node)?)),
    };
    let draft = TechniqueDraft { card, place: entry.node.place.clone(), knob_places, settings };
    if let Some(settings) = &draft.settings {
        (technique.build)(settings).map_err(|error| draft.error(&error))?;
    }
    Ok(draft)
}

impl TechniqueDraft {
    /// A setting's error at the place where it was written.
    pub fn error(&self, error: &SettingError) -> RecipeError {
        let place = error.knob().and_then(|knob| self.knob_places.get(knob));
        let placed = RecipeError::at(place.unwrap_or(&self.place), error.to_string());
        match (error, error.knob().and_then(|knob| self.card.knob(knob))) {
            (SettingError::WrongKind { .. }, Some(Knob { default: Default_::Text(word), .. })) => {
                placed.note(format!("write it as \"{word}\""))
            }
            _ => placed,
        }
    }
}

fn knobs(
    card: &'static Card,
    table: &Table,
    places: &mut BTreeMap<String, Place>,
) -> Result<Settings, RecipeError> {
    // A schedule written right after the technique's name is its main knob's.
    let is_schedule =
        |e: &Entry| matches!(e.key.as_str(), "peak" | "shape") && card.knob(&e.key).is_none();
    if table.entries.iter().any(is_schedule)
        && let Some(main) = card.knobs.first()
        && main.schedulable == Schedulable::Yes
    {
        return Ok(Settings::bare(KnobValue::Schedule(shapes::schedule(table, main)?)));
    }
    let mut settings = Settings::default();
    for entry in &table.entries {
        let knob = match entry.key.as_str() {
            MAIN_KNOB => card.knobs.first(),
            name => card.knob(name),
        };
        let Some(knob) = knob else {
            let names = card.knobs.iter().map(|k| k.name);
            return Err(unknown_key(entry, &format!("`{}`", card.name), names));
        };
        places.insert(knob.name.into(), entry.node.place.clone());
        settings.knobs.insert(knob.name.into(), knob_value(card, Some(knob), &entry.node)?);
    }
    Ok(settings)
}

fn knob_value(
    card: &Card,
    knob: Option<&'static Knob>,
    node: &Node,
) -> Result<KnobValue, RecipeError> {
    let Some(knob) = knob else {
        return Err(RecipeError::at(&node.place, format!("`{}` has no setting", card.name))
            .note("allowed: true, false"));
    };
    Ok(match &node.value {
        Value::Flag(true) => KnobValue::yes(),
        Value::Flag(false) => KnobValue::off(),
        Value::Text(text) => KnobValue::Text(text.clone()),
        Value::Table(table) if knob.schedulable == Schedulable::Yes => {
            KnobValue::Schedule(shapes::schedule(table, knob)?)
        }
        Value::Table(_) => {
            let message = format!("`{}` cannot change over the run", knob.name);
            return Err(RecipeError::at(&node.place, message).note("give one value"));
        }
        Value::List(items) => {
            let words = items.iter().map(|item| match &item.value {
                Value::Text(text) => Ok(text.clone()),
                other => {
                    let message = format!("`{}` cannot hold {}", knob.name, other.kind());
                    Err(RecipeError::at(&item.place, message))
                }
            });
            KnobValue::List(words.collect::<Result<_, _>>()?)
        }
        Value::Integer(_) | Value::Float(_) => {
            KnobValue::Number(number_of(node).expect("an integer or float is a number"))
        }
    })
}

/// A technique's settings as the TOML value that reads back to them.
pub fn settings_text(settings: &Settings) -> String {
    if let Some(main) = &settings.main {
        return value_text(main);
    }
    let parts: Vec<String> = settings
        .knobs
        .iter()
        .map(|(name, value)| format!("{name} = {}", value_text(value)))
        .collect();
    match parts.as_slice() {
        [] => "true".into(),
        _ => format!("{{ {} }}", parts.join(", ")),
    }
}

fn value_text(value: &KnobValue) -> String {
    match value {
        KnobValue::Number(number) => shapes::number_text(*number),
        KnobValue::Text(text) => toml_text(text),
        KnobValue::List(items) => {
            let items: Vec<_> = items.iter().map(|i| toml_text(i)).collect();
            format!("[{}]", items.join(", "))
        }
        KnobValue::Schedule(schedule) => shapes::schedule_text(schedule),
    }
}

/// A text as a TOML basic string.
pub fn toml_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
