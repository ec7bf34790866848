//! `heldout explain NAME`: one card, whole.

use clap::Args;
use heldout_base::card::{Card, Default_, Kind, Knob, Schedulable, Search};
use heldout_base::nearest::nearest;
use heldout_base::schedule::short_number;
use heldout_report::wrap::wrap;
use serde_json::{Value, json};

use crate::console::{Console, Output};
use crate::failure::{DONE, Failure};
use crate::live::paint::{Line, Paint};
use crate::registry;

/// Options of `heldout explain`.
#[derive(Args)]
pub struct Options {
    /// A name from `heldout list`
    pub name: String,
}

/// Prints the card called `name`, or says which one was probably meant.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let all = registry::all();
    let found: Vec<_> = all.iter().copied().filter(|card| card.name == options.name).collect();
    if found.is_empty() {
        return Err(unknown(&options.name, &all));
    }
    if console.output == Output::Json {
        let values: Vec<Value> = found.iter().map(|card| card_json(card)).collect();
        match values.as_slice() {
            [only] => console.out_json(only)?,
            several => console.out_json(&several)?,
        }
        return Ok(DONE);
    }
    for (i, card) in found.iter().enumerate() {
        if i > 0 {
            console.out("")?;
        }
        print_card(card, console)?;
    }
    Ok(DONE)
}

fn unknown(name: &str, all: &[&'static Card]) -> Failure {
    let failure = Failure::bad_input(format!("there is nothing called \"{name}\""));
    match nearest(name, all.iter().map(|card| card.name)) {
        Some(near) => failure.next(format!("heldout explain {near}")),
        None => failure.next("heldout list"),
    }
}

fn print_card(card: &Card, console: &Console) -> Result<(), Failure> {
    let mut title = Line::of(card.name, Paint::Strong);
    let kind = card.kind.word();
    let stage = if card.stage.word() == kind {
        kind.to_owned()
    } else {
        format!("{kind}, acts on: {}", card.stage.word())
    };
    title.push(format!("  ({stage})"), Paint::Faint);
    console.out_line(&title)?;
    for line in wrap(card.purpose, console.width, "", "") {
        console.out(&line)?;
    }
    console.out("")?;
    for (heading, text) in [
        ("use it", card.when_to_use),
        ("avoid it", card.when_to_avoid),
        ("cost", card.cost),
        ("source", card.paper),
    ] {
        labelled(heading, text, console)?;
    }
    if !card.knobs.is_empty() {
        console.out("")?;
        console.out_line(&Line::of("knobs", Paint::Strong))?;
        card.knobs.iter().try_for_each(|knob| print_knob(knob, console))?;
    }
    if let Some(example) = example(card) {
        console.out("")?;
        let heading = match card.kind {
            Kind::Evaluation => "command",
            _ => "recipe",
        };
        labelled(heading, &example, console)?;
    }
    Ok(())
}

fn labelled(heading: &str, text: &str, console: &Console) -> Result<(), Failure> {
    let lines = wrap(text, console.width, &" ".repeat(10), &" ".repeat(10));
    for (i, text) in lines.iter().enumerate() {
        let mut line = Line::default();
        line.push(format!("{:10}", if i == 0 { heading } else { "" }), Paint::Good);
        line.push(text.trim_start(), Paint::Plain);
        console.out_line(&line)?;
    }
    Ok(())
}

fn print_knob(knob: &Knob, console: &Console) -> Result<(), Failure> {
    let mut line = Line::of(format!("  {}", knob.name), Paint::Good);
    let unit = if knob.unit.is_empty() { String::new() } else { format!(" [{}]", knob.unit) };
    line.push(unit, Paint::Faint);
    line.push(format!("  default {}", knob.default), Paint::Plain);
    console.out_line(&line)?;
    let mut facts = vec![allowed(knob)];
    facts.extend(knob.search.map(searched));
    if knob.schedulable == Schedulable::Yes {
        facts.push("may be a schedule".to_owned());
    }
    let facts: Vec<String> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
    let meaning = knob.meaning.trim_end_matches('.');
    let text = match facts.as_slice() {
        [] => format!("{meaning}."),
        facts => format!("{meaning}. {}.", sentence(&facts.join("; "))),
    };
    for line in wrap(&text, console.width, "      ", "      ") {
        console.out(&line)?;
    }
    Ok(())
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

fn allowed(knob: &Knob) -> String {
    if !knob.choices.is_empty() {
        return format!("one of {}", knob.choices.join(", "));
    }
    if matches!(knob.default, Default_::Text(_)) {
        return String::new();
    }
    let number = |value: f64| {
        if value.is_infinite() { "infinity".to_owned() } else { short_number(value) }
    };
    match knob.range {
        (low, high) if high.is_infinite() => format!("from {}", number(low)),
        (low, high) => format!("from {} to {}", number(low), number(high)),
    }
}

fn searched(search: Search) -> String {
    let (low, high, scale) = match search {
        Search::Uniform(low, high) => (low, high, ""),
        Search::Log(low, high) => (low, high, ", in the logarithm"),
        Search::Integer(low, high) => (low as f64, high as f64, ", whole numbers"),
        Search::Choice(words) => return format!("worth trying: {}", words.join(", ")),
    };
    format!("worth trying: {} to {}{scale}", short_number(low), short_number(high))
}

/// How the entry is written in a recipe.
fn example(card: &Card) -> Option<String> {
    let knob = card.knobs.first();
    Some(match card.kind {
        Kind::Technique => {
            let value = match knob.map(|knob| (knob.default, knob.search)) {
                Some((Default_::Number(value), _)) if value != 0.0 => short_number(value),
                Some((Default_::Text(word), _)) => format!("\"{word}\""),
                Some((_, Some(Search::Uniform(_, high)))) => short_number(high / 2.0),
                Some((_, Some(Search::Log(low, high)))) => short_number((low * high).sqrt()),
                _ => "true".to_owned(),
            };
            format!("[regularize] {} = {value}", card.name)
        }
        Kind::Optimizer => format!("[optimizer] name = \"{}\"", card.name),
        Kind::Schedule => format!("[schedule] shape = \"{}\"", card.name),
        Kind::Model => format!("[model] family = \"{}\"", card.name),
        Kind::Tokenizer => format!("[data] tokenizer = \"{}\"", card.name),
        Kind::Evaluation => "heldout evaluate RUN --with RUN2 --with RUN3".to_owned(),
    })
}

fn card_json(card: &Card) -> Value {
    let knobs: Vec<Value> = card.knobs.iter().map(knob_json).collect();
    json!({
        "name": card.name,
        "kind": card.kind.word(),
        "stage": card.stage.word(),
        "purpose": card.purpose,
        "when_to_use": card.when_to_use,
        "when_to_avoid": card.when_to_avoid,
        "cost": card.cost,
        "source": card.paper,
        "knobs": knobs,
    })
}

fn knob_json(knob: &Knob) -> Value {
    let default = match knob.default {
        Default_::Number(value) => json!(value),
        Default_::Text(word) => json!(word),
        Default_::Off => Value::Null,
    };
    json!({
        "name": knob.name,
        "unit": knob.unit,
        "meaning": knob.meaning,
        "default": default,
        "range": [finite(knob.range.0), finite(knob.range.1)],
        "choices": knob.choices,
        "schedulable": knob.schedulable == Schedulable::Yes,
    })
}

/// JSON has no infinity: an open end is null.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
