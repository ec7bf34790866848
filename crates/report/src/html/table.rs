//! Tables, plain and folded away.

use maud::{Markup, html};

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Text,
    Number,
}

/// A table with a caption; the first cell of a row names it.
pub fn table(
    caption: &str,
    head: &[(&str, Column)],
    rows: impl IntoIterator<Item = Vec<Markup>>,
) -> Markup {
    let class = |i: usize| match head.get(i) {
        Some((_, Column::Number)) => Some("n"),
        _ => None,
    };
    html! {
        figure.table {
            figcaption { (caption) }
            div.scroll tabindex="0" role="group" aria-label=(caption) { table aria-label=(caption) {
                thead { tr {
                    @for (i, (name, _)) in head.iter().enumerate() {
                        th scope="col" class=[class(i)] { (name) }
                    }
                } }
                tbody {
                    @for row in rows {
                        tr { @for (i, cell) in row.into_iter().enumerate() {
                            @if i == 0 { th scope="row" class=[class(i)] { (cell) } }
                            @else { td class=[class(i)] { (cell) } }
                        } }
                    }
                }
            } }
        }
    }
}

/// Names and texts.
pub fn facts(rows: &[(&str, String)]) -> Markup {
    html! {
        dl {
            @for (name, text) in rows.iter().filter(|(_, text)| !text.is_empty()) {
                div { dt { (name) } dd { (text) } }
            }
        }
    }
}

/// Something behind a line that opens it; needs no script, and is open on paper.
pub fn folded(summary: &str, body: Markup) -> Markup {
    html! { details.paper { summary { (summary) } (body) } }
}

/// The same for figures that a chart shows already: paper goes without.
pub fn figures_of(summary: &str, body: Markup) -> Markup {
    html! { details { summary { (summary) } (body) } }
}

/// Our own sentences, where a command stands between backticks.
pub fn prose(text: &str) -> Markup {
    html! {
        @for (i, part) in text.split('`').enumerate() {
            @if i % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// A cell of text.
pub fn cell(text: impl AsRef<str>) -> Markup {
    html! { (text.as_ref()) }
}
