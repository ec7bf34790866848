//! Schedules as a recipe writes them: a shape's name, a warm-up, and the shape's own knobs.
//!
//! `[schedule]` gives the learning rate's; any schedulable knob takes the same keys as a table:
//! `dropout = { rate = { peak = 0.2, shape = "linear", end = 0.0, warmup = "5%" } }`.
//! `end`, `start` and `floor` are shares of the peak. To rise from zero, warm up over the run:
//! `{ peak = 0.2, warmup = "100%" }`.

use heldout_base::card::{Card, Default_, Knob};
use heldout_base::schedule::{CARDS, Schedule, Shape, Span};

use super::amount::Amount;
use super::error::RecipeError;
use super::section::{number_of, out_of_range, unknown_key, unknown_word};
use super::tree::{Entry, Node, Table, Value};

/// The shape and warm-up that a table asks for; `None` where it leaves the choice open.
#[derive(Clone, Debug, PartialEq)]
pub struct ShapeDraft {
    pub shape: Shape,
    pub warmup: Option<Span>,
}

/// Names of every knob of every shape, `warmup` included.
pub fn knob_names() -> Vec<&'static str> {
    let mut names = Vec::new();
    for knob in CARDS.iter().flat_map(|c| c.knobs) {
        if !names.contains(&knob.name) {
            names.push(knob.name);
        }
    }
    names
}

/// Reads shape, warm-up and the shape's knobs from `table`. Keys in `besides` belong to the caller.
/// `fallback` is the shape when the table names none.
pub fn read(
    table: &Table,
    within: &str,
    besides: &[&'static str],
    fallback: &str,
) -> Result<ShapeDraft, RecipeError> {
    let card = card_of(table, fallback)?;
    for entry in &table.entries {
        let own = card.knob(&entry.key).is_some();
        if own || entry.key == "shape" || besides.contains(&entry.key.as_str()) {
            continue;
        }
        let known = besides.iter().copied().chain(["shape"]).chain(knob_names());
        if !knob_names().contains(&entry.key.as_str()) {
            return Err(unknown_key(entry, within, known));
        }
        return Err(no_effect(entry, card));
    }
    let warmup = match table.get("warmup") {
        Some(entry) => Some(span(&entry.node, "warmup")?),
        None => None,
    };
    let shape = build(card, table)?;
    let draft = ShapeDraft { shape, warmup };
    if draft.shape == Shape::InverseSqrt && draft.warmup.is_none_or(|w| w.is_none()) {
        let message = "`inverse-sqrt` takes its time scale from the warm-up";
        let error = match table.get("shape") {
            Some(entry) => RecipeError::at(&entry.node.place, message),
            None => RecipeError::general(message),
        };
        return Err(error.note("add a warm-up, such as warmup = \"5%\""));
    }
    Ok(draft)
}

fn card_of(table: &Table, fallback: &str) -> Result<&'static Card, RecipeError> {
    let find = |name: &str| CARDS.iter().find(|c| c.name == name);
    let Some(entry) = table.get("shape") else {
        return Ok(find(fallback).expect("the fallback is one of the shapes"));
    };
    let Value::Text(name) = &entry.node.value else {
        let all: Vec<_> = CARDS.iter().map(|c| format!("\"{}\"", c.name)).collect();
        return Err(RecipeError::at(&entry.node.place, "`shape` must be the name of a schedule")
            .note(format!("allowed: {}", all.join(", "))));
    };
    find(name).ok_or_else(|| unknown_word(&entry.node, "shape", name, CARDS.iter().map(|c| c.name)))
}

fn no_effect(entry: &Entry, card: &Card) -> RecipeError {
    let with: Vec<_> =
        CARDS.iter().filter(|c| c.knob(&entry.key).is_some()).map(|c| c.name).collect();
    RecipeError::at(
        &entry.key_place,
        format!("`{}` has no effect with shape \"{}\"", entry.key, card.name),
    )
    .note(format!("remove it, or choose a shape that has it: {}", with.join(", ")))
}

/// `"100 steps"` or `"5%"`.
pub fn span(node: &Node, name: &str) -> Result<Span, RecipeError> {
    let wrong =
        |why: String| RecipeError::at(&node.place, why).note("allowed: \"100 steps\", \"5%\"");
    let Value::Text(text) = &node.value else {
        return Err(wrong(format!("`{name}` needs a unit")));
    };
    if matches!(text.as_str(), "0 steps" | "0%") {
        return Ok(Span::NONE);
    }
    match Amount::parse(text) {
        Ok(Amount::Steps(n)) => Ok(Span::Steps(n)),
        Ok(Amount::Share(share)) => Ok(Span::Share(share)),
        Ok(other) => Err(wrong(format!("`{name}` cannot be given as \"{other}\""))),
        Err(why) => Err(wrong(format!("`{name}`: {why}"))),
    }
}

fn build(card: &Card, table: &Table) -> Result<Shape, RecipeError> {
    let number = |name: &str| -> Result<f64, RecipeError> {
        let knob = card.knob(name).expect("the caller names a knob of this shape");
        match table.get(name) {
            Some(entry) => knob_number(&entry.node, knob),
            None => Ok(default_number(knob)),
        }
    };
    Ok(match card.name {
        "constant" => Shape::Constant,
        "exponential" => Shape::Exponential { rate: number("rate")? },
        "step" => {
            let every = match table.get("every") {
                Some(entry) => span(&entry.node, "every")?,
                None => Span::Share(number("every")?),
            };
            Shape::Step { every, factor: number("factor")? }
        }
        "polynomial" => Shape::Polynomial { power: number("power")?, end: number("end")? },
        "linear" => Shape::Linear { end: number("end")? },
        "cosine" => Shape::Cosine { end: number("end")? },
        "inverse-sqrt" => Shape::InverseSqrt,
        "one-cycle" => {
            Shape::OneCycle { up: number("up")?, start: number("start")?, end: number("end")? }
        }
        "warmup-stable-decay" => {
            Shape::WarmupStableDecay { decay: number("decay")?, end: number("end")? }
        }
        "plateau" => Shape::Plateau {
            factor: number("factor")?,
            patience: whole(table, "patience", number("patience")?)?,
            floor: number("floor")?,
        },
        other => unreachable!("the shape {other} has a card but is not built here"),
    })
}

fn whole(table: &Table, name: &str, number: f64) -> Result<u64, RecipeError> {
    if number.fract() == 0.0 {
        return Ok(number as u64);
    }
    let entry = table.get(name).expect("defaults are whole");
    Err(out_of_range(&entry.node, name, "a whole number"))
}

fn default_number(knob: &Knob) -> f64 {
    match knob.default {
        Default_::Number(number) => number,
        _ => 0.0,
    }
}

/// A knob's number within the card's range.
pub fn knob_number(node: &Node, knob: &Knob) -> Result<f64, RecipeError> {
    let (least, most) = knob.range;
    let allowed = format!("allowed: {}", range_text(knob));
    let Some(number) = number_of(node) else {
        let found = match &node.value {
            Value::Text(text) => format!("the text \"{text}\""),
            other => other.kind().to_string(),
        };
        let message = format!("`{}` cannot be {found}", knob.name);
        return Err(RecipeError::at(&node.place, message).note(allowed));
    };
    if number.is_finite() && number >= least && number <= most {
        return Ok(number);
    }
    Err(out_of_range(node, knob.name, &range_text(knob)))
}

/// A knob's range in words, with its unit.
pub fn range_text(knob: &Knob) -> String {
    let unit = if knob.unit.is_empty() { String::new() } else { format!(" ({})", knob.unit) };
    match knob.range {
        (least, most) if most.is_infinite() => format!("a number of at least {least}{unit}"),
        (least, most) => format!("a number from {least} to {most}{unit}"),
    }
}

/// A whole schedule from a knob's table: `peak` plus what [`read`] takes.
pub fn schedule(table: &Table, knob: &Knob) -> Result<Schedule, RecipeError> {
    let within = format!("the schedule of `{}`", knob.name);
    let draft = read(table, &within, &["peak"], "constant")?;
    let peak = match table.get("peak") {
        Some(entry) => knob_number(&entry.node, knob)?,
        None => {
            let error = match table.entries.first() {
                Some(entry) => RecipeError::at(&entry.key_place, format!("{within} has no peak")),
                None => RecipeError::general(format!("{within} is empty")),
            };
            return Err(error.note("add its highest value, such as peak = 0.2"));
        }
    };
    Ok(Schedule { peak, warmup: draft.warmup.unwrap_or(Span::NONE), shape: draft.shape })
}

/// The keys that write `shape` back, in the card's order, as TOML values.
pub fn shape_keys(shape: &Shape) -> Vec<(&'static str, String)> {
    let text = |span: &Span| format!("\"{span}\"");
    let mut keys = vec![("shape", format!("\"{}\"", shape.name()))];
    let mut number = |name, value: f64| keys.push((name, number_text(value)));
    match shape {
        Shape::Constant | Shape::InverseSqrt => {}
        Shape::Exponential { rate } => number("rate", *rate),
        Shape::Step { every, factor } => {
            number("factor", *factor);
            keys.insert(1, ("every", text(every)));
        }
        Shape::Polynomial { power, end } => {
            number("power", *power);
            number("end", *end);
        }
        Shape::Linear { end } | Shape::Cosine { end } => number("end", *end),
        Shape::OneCycle { up, start, end } => {
            number("up", *up);
            number("start", *start);
            number("end", *end);
        }
        Shape::WarmupStableDecay { decay, end } => {
            number("decay", *decay);
            number("end", *end);
        }
        Shape::Plateau { factor, patience, floor } => {
            number("factor", *factor);
            number("patience", *patience as f64);
            number("floor", *floor);
        }
    }
    keys
}

/// The whole schedule as a TOML value: a number when it is constant, a table otherwise.
pub fn schedule_text(schedule: &Schedule) -> String {
    if schedule.is_constant() {
        return number_text(schedule.peak);
    }
    let mut parts = vec![format!("peak = {}", number_text(schedule.peak))];
    if !schedule.warmup.is_none() {
        parts.push(format!("warmup = \"{}\"", schedule.warmup));
    }
    parts.extend(shape_keys(&schedule.shape).iter().map(|(k, v)| format!("{k} = {v}")));
    format!("{{ {} }}", parts.join(", "))
}

/// A number as TOML reads it back to the same bits.
pub fn number_text(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{}", value as i64);
    }
    heldout_base::schedule::short_number(value)
}
