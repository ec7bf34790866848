//! What `heldout evaluate` prints of a model that writes texts: scores with intervals, what needs
//! no model beside them, and the texts that came out best and worst.

use std::path::Path;
use std::sync::Arc;

use heldout_data::pairs::SideNames;
use heldout_kernels::Device;
use heldout_record::WrittenRecord;
use heldout_report::baseline::texts_standing;
use heldout_report::summary::{perplexity, plus_minus};
use heldout_report::{format, wrap};
use heldout_train::{Split, TextEvaluation, WritingOptions, evaluate_texts, evaluate_texts_of};

use crate::console::{Console, Output};
use crate::failure::{DONE, Failure};
use crate::outcome::print_table;

/// Scores, and prints the figures.
pub fn run(
    path: &Path,
    which: Result<Split, (&[String], &SideNames)>,
    options: &WritingOptions,
    device: Arc<Device>,
    console: &Console,
) -> Result<i32, Failure> {
    let evaluation = match which {
        Ok(split) => evaluate_texts(path, split, options, device)?,
        Err(files) => evaluate_texts_of(path, files, options, device)?,
    };
    match console.output {
        Output::Json => console.out_json(&evaluation)?,
        Output::Text => print(&evaluation, console)?,
    }
    Ok(DONE)
}

/// Characters of each text of an example.
const TEXT_CHARACTERS: usize = 300;

fn print(e: &TextEvaluation, console: &Console) -> Result<(), Failure> {
    let row = |label: &str, text: String| (label.to_owned(), text);
    let (written, tokens) = (&e.written, format::count(e.tokens));
    let size =
        format!("{}: {} pairs, {tokens} target tokens", e.data, format::count(written.pairs));
    let mut rows = vec![row("data", wrap::truncate(&size, 400))];
    for figure in &written.figures {
        let [value, low, high] = [figure.value, figure.low, figure.high]
            .map(|value| format::figure(&figure.name, value));
        rows.push(row(&figure.name, format!("{value}, 95%: {low} to {high}")));
    }
    rows.push(row("loss", format!("{} nats/token", plus_minus(e.loss, e.loss_se))));
    rows.push(row("perplexity", perplexity(e.perplexity)));
    let search = match written.beams {
        1 => "greedy: the likeliest token every time".to_owned(),
        beams => format!("{beams} beams"),
    };
    rows.push(row("search", search));
    rows.extend(written.signatures.iter().map(|signature| row("signature", signature.clone())));
    let first = written.figures.first().map_or("", |figure| figure.name.as_str());
    let beside = written.beside.iter();
    rows.extend(beside.map(|beside| row("baseline", texts_standing(first, beside))));
    print_table(&rows, console)?;
    examples("nearest to their references", &written.best, console)?;
    examples("furthest from their references", &written.worst, console)
}

fn examples(title: &str, all: &[WrittenRecord], console: &Console) -> Result<(), Failure> {
    if all.is_empty() {
        return Ok(());
    }
    console.out(&format!("\n{title}"))?;
    for one in all {
        console.out(&format!("  line {}, score {}", one.line, format::fixed(one.score, 2)))?;
        let sides = [("source", &one.source), ("right", &one.reference), ("written", &one.written)];
        for (label, text) in sides {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            console.out(&format!("    {label:8} {}", wrap::truncate(&text, TEXT_CHARACTERS)))?;
        }
    }
    Ok(())
}
