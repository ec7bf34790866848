//! `heldout list`: the registries, one line an entry.

use clap::{Args, ValueEnum};
use heldout_base::card::{Card, Kind};
use heldout_report::wrap::wrap;
use serde_json::{Value, json};

use crate::console::{Console, Output};
use crate::failure::{DONE, Failure};
use crate::live::paint::{Line, Paint};
use crate::registry;

/// Options of `heldout list`.
#[derive(Args)]
pub struct Options {
    /// Only this kind
    pub kind: Option<KindArgument>,
}

/// A kind of entry, as written on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KindArgument {
    #[value(alias = "technique")]
    Techniques,
    #[value(alias = "optimizer")]
    Optimizers,
    #[value(alias = "schedule")]
    Schedules,
    #[value(alias = "model")]
    Models,
    #[value(alias = "tokenizer")]
    Tokenizers,
    #[value(alias = "evaluation")]
    Evaluations,
}

impl KindArgument {
    fn kind(self) -> Kind {
        match self {
            KindArgument::Techniques => Kind::Technique,
            KindArgument::Optimizers => Kind::Optimizer,
            KindArgument::Schedules => Kind::Schedule,
            KindArgument::Models => Kind::Model,
            KindArgument::Tokenizers => Kind::Tokenizer,
            KindArgument::Evaluations => Kind::Evaluation,
        }
    }
}

/// Prints the entries of one kind, or of all.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let kinds = match options.kind {
        Some(kind) => vec![kind.kind()],
        None => Kind::ALL.to_vec(),
    };
    if console.output == Output::Json {
        let cards: Vec<Value> = kinds.into_iter().flat_map(registry::cards).map(entry).collect();
        console.out_json(&cards)?;
        return Ok(DONE);
    }
    for (i, kind) in kinds.iter().enumerate() {
        if i > 0 {
            console.out("")?;
        }
        let cards = registry::cards(*kind);
        let heading = format!("{} ({})", registry::plural(*kind), cards.len());
        console.out_line(&Line::of(heading, Paint::Strong))?;
        print_cards(&cards, console)?;
    }
    if kinds == [Kind::Technique] {
        // Who looks for it looks here.
        let more = "Averaging the probabilities of several models needs no recipe:";
        console.note(&format!("\n{more} `heldout explain ensembling`."));
    }
    console.note("\n`heldout explain NAME` says more about one of them.");
    Ok(DONE)
}

fn print_cards(cards: &[&'static Card], console: &Console) -> Result<(), Failure> {
    let name_width = cards.iter().map(|card| card.name.len()).max().unwrap_or(0);
    for card in cards {
        let rest = " ".repeat(name_width + 4);
        let lines = wrap(card.purpose, console.width, &rest, &rest);
        for (i, text) in lines.iter().enumerate() {
            let mut line = Line::default();
            let name = if i == 0 { card.name } else { "" };
            line.push(format!("  {name:name_width$}  "), Paint::Good);
            line.push(text.trim_start(), Paint::Plain);
            console.out_line(&line)?;
        }
    }
    Ok(())
}

/// A card's line as JSON; `explain --json` gives all of it.
fn entry(card: &'static Card) -> Value {
    json!({
        "name": card.name,
        "kind": card.kind.word(),
        "stage": card.stage.word(),
        "purpose": card.purpose,
    })
}
