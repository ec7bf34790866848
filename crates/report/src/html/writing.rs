//! What a model that writes texts writes: its scores, and its best and worst texts.

use heldout_record::{WritingRecord, WrittenRecord};
use maud::{Markup, html};

use super::table::{Column, cell, table};
use crate::baseline::texts_standing;
use crate::format;

/// Tables of scores and of examples.
pub fn written(found: &WritingRecord) -> Markup {
    let (text, number) = (Column::Text, Column::Number);
    let figures = found.figures.iter().map(|f| {
        let of = |value| cell(format::figure(&f.name, value));
        vec![cell(&f.name), of(f.value), of(f.low), of(f.high)]
    });
    let head = [("figure", text), ("value", number), ("95% from", number), ("to", number)];
    let first = found.figures.first().map_or("", |figure| figure.name.as_str());
    let title =
        format!("Scores of {} held-out texts, {} beam(s)", format::count(found.pairs), found.beams);
    html! {
        (table(&title, &head, figures))
        @for beside in &found.beside { p { (texts_standing(first, beside)) "." } }
        @for signature in &found.signatures { p { code { (signature) } } }
        @if !found.best.is_empty() { (examples("Nearest to their references", &found.best)) }
        @if !found.worst.is_empty() { (examples("Furthest from their references", &found.worst)) }
    }
}

fn examples(title: &str, all: &[WrittenRecord]) -> Markup {
    let (text, number) = (Column::Text, Column::Number);
    let head = [
        ("line", number),
        ("score", number),
        ("source", text),
        ("reference", text),
        ("written", text),
    ];
    let rows = all.iter().map(|one| {
        vec![
            cell(format::count(one.line)),
            cell(format::fixed(one.score, 2)),
            cell(&one.source),
            cell(&one.reference),
            cell(&one.written),
        ]
    });
    table(title, &head, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use heldout_record::FigureIntervalRecord;

    #[test]
    fn scores_and_examples_are_shown_escaped() {
        let name = "bleu".to_owned();
        let found = WritingRecord {
            pairs: 2,
            beams: 4,
            figures: vec![FigureIntervalRecord { name, value: 31.25, low: 30.0, high: 32.5 }],
            signatures: vec!["nrefs:1|case:mixed".into()],
            worst: vec![WrittenRecord {
                line: 7,
                source: "ein <b>".into(),
                reference: "a".into(),
                written: "b".into(),
                score: 3.5,
            }],
            ..WritingRecord::default()
        };
        let page = written(&found).into_string();
        for part in ["31.25", "32.50", "nrefs:1", "ein &lt;b&gt;", "Furthest from"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("Nearest to"), "{page}");
    }
}
