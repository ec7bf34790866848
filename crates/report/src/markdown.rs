//! A report as Markdown: tables that read well in a terminal and on GitHub.
//!
//! What a model or a file says never becomes markup: `|`, `*`, tags and links are escaped in
//! tables and sentences, and samples stand in fences longer than any run of backticks in them.

mod runs;
mod study;

use crate::document::Document;

/// The report.
pub fn text(document: &Document) -> String {
    let mut page = Page::default();
    page.heading(1, &document.title);
    for sentence in &document.lead {
        page.paragraph(&escaped(sentence));
    }
    match (&document.study, document.runs.as_slice()) {
        (Some(study), _) => study::write(&mut page, study),
        (None, [run]) => runs::one(&mut page, run),
        (None, _) => runs::several(&mut page, document),
    }
    page.paragraph(&format!(
        "*Written by heldout {} at {}. Losses are in nats per token; ± is a standard error; \
         intervals cover 95%.*",
        escaped(&document.heldout),
        escaped(&document.written)
    ));
    page.text
}

/// Markdown as it grows.
#[derive(Default)]
struct Page {
    text: String,
}

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

impl Page {
    fn heading(&mut self, level: usize, text: &str) {
        self.block(&format!("{} {}", "#".repeat(level), escaped(text)));
    }

    /// Text that may hold markup of ours.
    fn paragraph(&mut self, text: &str) {
        self.block(text);
    }

    fn block(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn list(&mut self, items: impl IntoIterator<Item = String>) {
        let lines: Vec<String> = items.into_iter().map(|i| format!("- {}", escaped(&i))).collect();
        if !lines.is_empty() {
            self.block(&lines.join("\n"));
        }
    }

    /// A table whose columns are padded, so that the source reads like one, too. Nothing without
    /// rows.
    fn table(&mut self, head: &[(&str, Align)], rows: &[Vec<String>]) {
        if rows.is_empty() {
            return;
        }
        let mut lines = vec![head.iter().map(|(name, _)| escaped(name)).collect::<Vec<_>>()];
        lines.extend(rows.iter().map(|row| row.iter().map(|cell| escaped(cell)).collect()));
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let mut out: Vec<String> = lines.iter().map(|line| row(line, head, &widths)).collect();
        let rules = head.iter().zip(&widths).map(|((_, align), width)| match align {
            Align::Left => "-".repeat(*width),
            Align::Right => format!("{}:", "-".repeat(width - 1)),
        });
        out.insert(1, format!("| {} |", rules.collect::<Vec<_>>().join(" | ")));
        self.block(&out.join("\n"));
    }

    /// Names and texts as a table of two columns.
    fn facts(&mut self, rows: &[(&str, String)]) {
        let rows: Vec<Vec<String>> = rows
            .iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| vec![(*name).to_owned(), text.clone()])
            .collect();
        self.table(&[("what", Align::Left), ("value", Align::Left)], &rows);
    }

    /// Text as it is, between fences that it cannot close.
    fn verbatim(&mut self, text: &str) {
        let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        self.block(&format!("{fence}text\n{}\n{fence}", text.trim_end_matches('\n')));
    }
}

fn row(cells: &[String], head: &[(&str, Align)], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).zip(head).map(|((cell, width), (_, align))| {
        let air = " ".repeat(width - cell.chars().count());
        match align {
            Align::Left => format!("{cell}{air}"),
            Align::Right => format!("{air}{cell}"),
        }
    });
    format!("| {} |", padded.collect::<Vec<_>>().join(" | "))
}

/// Text that means itself: markup escaped, white space on one line. Backticks stay where they
/// come in pairs, as in our own sentences; what is between them is not escaped, but for the bar
/// that would end a cell.
fn escaped(text: &str) -> String {
    let is_paired = text.matches('`').count().is_multiple_of(2);
    let mut is_code = false;
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = String::with_capacity(joined.len());
    let mut before = ' ';
    let mut letters = joined.chars().peekable();
    while let Some(c) = letters.next() {
        let after = letters.peek().copied().unwrap_or(' ');
        let is_markup = match c {
            '|' => true,
            _ if is_code => false,
            '`' => !is_paired,
            '\\' | '*' => true,
            '_' => !(before.is_alphanumeric() && after.is_alphanumeric()),
            '<' => after.is_alphabetic() || matches!(after, '/' | '!' | '?'),
            ']' => after == '(',
            _ => false,
        };
        if c == '`' && is_paired {
            is_code = !is_code;
        }
        if is_markup {
            out.push('\\');
        }
        out.push(c);
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_cannot_become_markup() {
        assert_eq!(escaped("a|b <i> *x* [y](z)"), "a\\|b \\<i> \\*x\\* [y\\](z)");
        assert_eq!(escaped("p < 0.001, a_b _c_"), "p < 0.001, a_b \\_c\\_");
        assert_eq!(escaped("use `a|b_c` now"), "use `a\\|b_c` now");
        assert_eq!(escaped("odd ` one\nline"), "odd \\` one line");
    }

    #[test]
    fn a_fence_is_longer_than_what_it_holds() {
        let mut page = Page::default();
        page.verbatim("a ```` b\n");
        assert_eq!(page.text, "`````text\na ```` b\n`````\n");
    }

    #[test]
    fn tables_are_aligned() {
        let mut page = Page::default();
        let rows = [vec!["é".to_owned(), "1.5".to_owned()], vec!["b|c".into(), "12.25".into()]];
        page.table(&[("name", Align::Left), ("x", Align::Right)], &rows);
        assert_eq!(
            page.text,
            "| name |     x |\n| ---- | ----: |\n| é    |   1.5 |\n| b\\|c | 12.25 |\n"
        );
        let mut empty = Page::default();
        empty.table(&[("name", Align::Left)], &[]);
        assert_eq!(empty.text, "");
    }
}
