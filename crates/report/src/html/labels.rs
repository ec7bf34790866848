//! What a classifier takes for what, and what it is most wrong about.

use heldout_record::ConfusionRecord;
use maud::{Markup, html};

use super::table::{Column, cell, table};
use crate::format;

/// Tables of counts and of mistakes.
pub fn confusion(found: &ConfusionRecord) -> Markup {
    let names = found.labels.iter().map(|label| (label.as_str(), Column::Number));
    let head: Vec<(&str, Column)> =
        std::iter::once(("right label", Column::Text)).chain(names).collect();
    let rows = found.labels.iter().zip(&found.counts).map(|(label, counts)| {
        let counts = counts.iter().map(|n| cell(format::count(*n)));
        std::iter::once(cell(label)).chain(counts).collect()
    });
    let wrong = found.most_wrong.iter().map(|wrong| {
        vec![
            cell(format::count(wrong.line)),
            cell(&wrong.label),
            cell(&wrong.said),
            cell(format::fixed(wrong.probability, 4)),
            cell(&wrong.text),
        ]
    });
    let (text, number) = (Column::Text, Column::Number);
    let head_wrong = [
        ("line", number),
        ("right", text),
        ("said", text),
        ("given to what is right", number),
        ("text", text),
    ];
    html! {
        (table("How often each label (rows) was taken for each (columns)", &head, rows))
        @if !found.most_wrong.is_empty() {
            (table("Held-out texts that the result is most wrong about", &head_wrong, wrong))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heldout_record::WrongRecord;

    #[test]
    fn counts_and_mistakes_are_told() {
        let found = ConfusionRecord {
            step: 7,
            labels: vec!["bad".into(), "good".into()],
            counts: vec![vec![40, 2], vec![3, 55]],
            most_wrong: vec![WrongRecord {
                line: 12,
                text: "not <b>bad</b>".into(),
                label: "good".into(),
                said: "bad".into(),
                probability: 0.01,
            }],
        };
        let page = confusion(&found).into_string();
        for words in ["55", "not &lt;b&gt;bad", "0.0100"] {
            assert!(page.contains(words), "{words} in {page}");
        }
    }
}
