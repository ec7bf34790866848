//! Writes `docs/cards/*.md` from the cards in the code, and says whether they are up to date.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use heldout_base::card::{Card, Default_};

/// One page a registry.
fn pages() -> Vec<(&'static str, String)> {
    let techniques: Vec<&Card> = heldout_regularize::CATALOGUE.iter().map(|e| e.card).collect();
    let all = |cards: &'static [Card]| cards.iter().collect::<Vec<_>>();
    vec![
        ("techniques", page("Techniques", &techniques)),
        ("optimizers", page("Optimizers", &all(heldout_optim::CARDS))),
        ("schedules", page("Schedules", &all(heldout_base::schedule::CARDS))),
        ("models", page("Models", &all(heldout_model::CARDS))),
        ("tokenizers", page("Tokenizers", &all(heldout_data::tokenizer::CARDS))),
        ("evaluations", page("Evaluations", &all(heldout_regularize::EVALUATIONS))),
    ]
}

/// Writes every page.
pub fn write(root: &Path) -> anyhow::Result<()> {
    let folder = root.join("docs/cards");
    fs::create_dir_all(&folder)?;
    for (name, text) in pages() {
        fs::write(folder.join(format!("{name}.md")), text)?;
    }
    Ok(())
}

/// Fails where a page differs from the code.
pub fn check(root: &Path) -> anyhow::Result<()> {
    for (name, text) in pages() {
        let path = root.join(format!("docs/cards/{name}.md"));
        let found = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        if found != text {
            bail!("{} is out of date: run `cargo xtask docs`", path.display());
        }
    }
    Ok(())
}

fn page(title: &str, cards: &[&Card]) -> String {
    let mut text = format!("# {title}\n\nMade from the cards in the code by `cargo xtask docs`.\n");
    cards.iter().for_each(|card| write_card(&mut text, card));
    text
}

fn write_card(text: &mut String, card: &Card) {
    let _ = write!(text, "\n## {}\n\n{}\n\n", card.name, card.purpose);
    for (heading, value) in [
        ("Source", card.paper),
        ("When to use", card.when_to_use),
        ("When to avoid", card.when_to_avoid),
        ("Cost", card.cost),
    ] {
        let _ = writeln!(text, "- **{heading}**: {value}");
    }
    if card.knobs.is_empty() {
        return;
    }
    text.push_str("\n| knob | meaning | unit | default | range |\n|---|---|---|---|---|\n");
    for knob in card.knobs {
        let default = match knob.default {
            Default_::Number(value) => format!("{value}"),
            Default_::Text(value) => format!("\"{value}\""),
            Default_::Off => "off".to_string(),
        };
        let range = match knob.choices {
            [] => format!("{} to {}", knob.range.0, knob.range.1),
            choices => choices.join(", "),
        };
        let cells = [knob.name, knob.meaning, knob.unit, &default, &range];
        let _ = writeln!(text, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_cards_in_docs_are_those_of_the_code() {
        super::check(&crate::root()).expect("docs/cards is up to date");
    }
}
