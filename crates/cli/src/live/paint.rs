//! Coloured lines as data: spans of text with a role, turned into escape codes at the very end.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Whether escape codes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colors {
    On,
    Off,
}

/// What a span is, from which its colour follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Strong,
    Faint,
    /// Series of a plot: the first solid colour, the second, ...
    Series(usize),
    Good,
    Warning,
    Bad,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Paint::Plain => "",
            Paint::Strong => "\x1b[1m",
            Paint::Faint => "\x1b[2m",
            Paint::Series(0) => "\x1b[36m",
            Paint::Series(1) => "\x1b[33m",
            Paint::Series(2) => "\x1b[35m",
            Paint::Series(3) => "\x1b[34m",
            Paint::Series(_) => "\x1b[37m",
            Paint::Good => "\x1b[32m",
            Paint::Warning => "\x1b[33m",
            Paint::Bad => "\x1b[31m",
        }
    }
}

/// A line of spans.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line(pub Vec<(String, Paint)>);

impl Line {
    /// A line of one span.
    pub fn of(text: impl Into<String>, paint: Paint) -> Line {
        Line(vec![(text.into(), paint)])
    }

    /// Appends a span.
    pub fn push(&mut self, text: impl Into<String>, paint: Paint) {
        self.0.push((text.into(), paint));
    }

    /// Columns that the line takes on a terminal.
    pub fn width(&self) -> usize {
        self.0.iter().map(|(text, _)| text.width()).sum()
    }

    /// The line cut to `width` columns.
    pub fn cut(mut self, width: usize) -> Line {
        let mut left = width;
        for (text, _) in &mut self.0 {
            let mut end = 0;
            for c in text.chars() {
                let columns = c.width().unwrap_or(0);
                if columns > left {
                    left = 0;
                    break;
                }
                left -= columns;
                end += c.len_utf8();
            }
            text.truncate(end);
        }
        self
    }

    /// The line without spaces at its end.
    pub fn trimmed(mut self) -> Line {
        while let Some((text, _)) = self.0.last_mut() {
            text.truncate(text.trim_end().len());
            if !text.is_empty() {
                break;
            }
            self.0.pop();
        }
        self
    }

    /// The line as bytes for the terminal.
    pub fn render(&self, colors: Colors) -> String {
        let mut out = String::new();
        for (text, paint) in self.0.iter().filter(|(text, _)| !text.is_empty()) {
            match (colors, paint.code()) {
                (Colors::Off, _) | (_, "") => out.push_str(text),
                (Colors::On, code) => {
                    out.push_str(code);
                    out.push_str(text);
                    out.push_str("\x1b[0m");
                }
            }
        }
        out
    }

    /// The text alone.
    #[cfg(test)]
    pub fn text(&self) -> String {
        self.0.iter().map(|(text, _)| text.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_measured_and_cut_in_columns() {
        let mut line = Line::of("ab", Paint::Strong);
        line.push("中文字", Paint::Plain);
        assert_eq!(line.width(), 8);
        assert_eq!(line.clone().cut(5).text(), "ab中");
        assert_eq!(line.clone().cut(0).text(), "");
        let mut padded = Line::of("a ", Paint::Plain);
        padded.push("  ", Paint::Faint);
        assert_eq!(padded.trimmed(), Line::of("a", Paint::Plain));
        assert_eq!(line.cut(99).text(), "ab中文字");
    }

    #[test]
    fn colours_can_be_off() {
        let line = Line::of("x", Paint::Bad);
        assert_eq!(line.render(Colors::Off), "x");
        assert_eq!(line.render(Colors::On), "\x1b[31mx\x1b[0m");
    }
}
