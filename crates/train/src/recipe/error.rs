//! What is wrong with a recipe, shown the way a compiler would: file, line, caret, and the way out.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A text that values were read from: a recipe file or one `--set` argument.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// What to call it in messages: a path, or `command line`.
    pub name: String,
    pub text: String,
}

/// A stretch of a source: where a key or a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub source: Arc<Source>,
    /// Byte range within `source.text`.
    pub span: Range<usize>,
}

impl Place {
    /// The line number, counted from 1.
    pub fn line(&self) -> usize {
        let start = self.span.start.min(self.source.text.len());
        1 + self.source.text.as_bytes()[..start].iter().filter(|&&b| b == b'\n').count()
    }

    /// The line's text, the byte offset of its start, and the column (in characters, from 1).
    fn line_text(&self) -> (&str, usize, usize) {
        let text = self.source.text.as_str();
        let mut at = self.span.start.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
        let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
        (text[start..end].trim_end_matches('\r'), start, text[start..at].chars().count() + 1)
    }

    /// How many carets: the span's characters, cut at the end of its first line.
    fn width(&self) -> usize {
        let (line, start, _) = self.line_text();
        let from = self.span.start.saturating_sub(start).min(line.len());
        let to = self.span.end.saturating_sub(start).clamp(from, line.len());
        line.get(from..to).map_or(1, |s| s.chars().count()).max(1)
    }
}

/// A recipe that cannot be run, with the place and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeError {
    /// One sentence without a full stop.
    pub message: String,
    pub place: Option<Place>,
    /// Lines below the caret: the nearest name, the allowed range, what to do.
    pub notes: Vec<String>,
}

impl RecipeError {
    /// An error at a known place.
    pub fn at(place: &Place, message: impl Into<String>) -> RecipeError {
        RecipeError { message: message.into(), place: Some(place.clone()), notes: Vec::new() }
    }

    /// An error about the recipe as a whole.
    pub fn general(message: impl Into<String>) -> RecipeError {
        RecipeError { message: message.into(), place: None, notes: Vec::new() }
    }

    /// The same error with one more line of advice.
    pub fn note(mut self, note: impl Into<String>) -> RecipeError {
        self.notes.push(note.into());
        self
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else {
            write!(f, "{}", self.message)?;
            for note in &self.notes {
                write!(f, "\n  = {note}")?;
            }
            return Ok(());
        };
        let (line, _, column) = place.line_text();
        let number = place.line().to_string();
        let gutter = " ".repeat(number.len());
        // A tab counts as one character here and in the caret line, so the two stay aligned.
        let pad: String =
            line.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        writeln!(f, "{}:{number}:{column}: {}", place.source.name, self.message)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {line}")?;
        write!(f, "{gutter} | {pad}{}", "^".repeat(place.width()))?;
        for note in &self.notes {
            write!(f, "\n{gutter} = {note}")?;
        }
        Ok(())
    }
}

impl std::error::Error for RecipeError {}
