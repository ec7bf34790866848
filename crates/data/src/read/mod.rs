//! Files to documents: a push parser per format, so that nothing longer than a piece is held.

mod open;
mod plain;
mod records;
#[cfg(test)]
mod tests;
mod text;

use crate::boundary::{Boundary, Cut, decide};
use crate::error::DataError;
use crate::inputs::{Format, Input, expand};
use heldout_base::nearest::nearest;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

pub(crate) use open::open;
pub(crate) use plain::END_OF_TEXT;
pub(crate) use records::{kind, lookup};
pub(crate) use text::TextStream;

/// The field read when none is named.
const FIELD_DEFAULT: &str = "text";

/// Takes documents piece by piece: `begin`, `text` any number of times, `end`.
pub(crate) trait DocumentSink {
    /// A document starts on `line` of the current file.
    fn begin(&mut self, line: u64) -> Result<(), DataError>;
    fn text(&mut self, piece: &str) -> Result<(), DataError>;
    fn end(&mut self) -> Result<(), DataError>;
}

/// The field that holds the text of a record.
pub(crate) struct Field {
    /// As the user named it.
    pub asked: Option<String>,
}

impl Field {
    pub(crate) fn name(&self) -> &str {
        self.asked.as_deref().unwrap_or(FIELD_DEFAULT)
    }

    fn missing<'a>(
        &self,
        path: &Path,
        line: u64,
        found: impl Iterator<Item = &'a str>,
    ) -> DataError {
        let names: Vec<&str> = found.collect();
        let list: Vec<String> = names.iter().take(12).map(|n| format!("\"{n}\"")).collect();
        let more = if names.len() > 12 { ", ..." } else { "" };
        let found = if names.is_empty() { "no fields".into() } else { list.join(", ") + more };
        let hint = match nearest(self.name(), names.iter().copied()) {
            Some(near) => format!(". Did you mean \"{near}\"?"),
            None => ". Name the one that holds the text (field = \"...\")".into(),
        };
        let field = self.name().to_string();
        DataError::MissingField { path: path.to_path_buf(), line, field, found, hint }
    }
}

/// Reads one file into `sink` and gives the XXH3 hash of its raw bytes.
pub(crate) fn read_file(
    input: &Input,
    cut: Cut,
    field: &Field,
    sink: &mut dyn DocumentSink,
) -> Result<u64, DataError> {
    let source = open(&input.path)?;
    match input.format {
        Format::Plain => {
            let mut stream = TextStream::new(source);
            plain::read_plain(&mut stream, cut, sink)?;
            stream.source.finish()
        }
        Format::JsonLines => {
            let mut stream = TextStream::new(source);
            records::read_json_lines(&mut stream, &mut |value, line| {
                records::emit(value, line, &input.path, field, sink)
            })?;
            stream.source.finish()
        }
        Format::Json => records::read_json(source, &mut |value, line| {
            records::emit(value, line, &input.path, field, sink)
        }),
        Format::Csv | Format::Tsv => records::read_column(source, input.format, field, sink),
    }
}

/// Hands every record of one file to `each` with the line it starts on; the cells of a table are
/// text, and a line of plain text is a record with that text in the field "text".
pub(crate) fn read_records(
    input: &Input,
    each: &mut dyn FnMut(Map<String, Value>, u64) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let source = open(&input.path)?;
    let mut object = |value: &Value, line: u64| match value {
        Value::Object(map) => each(map.clone(), line),
        other => Err(records::not_an_object(other, line, &input.path)),
    };
    match input.format {
        Format::Plain => plain_lines(&mut TextStream::new(source), each),
        Format::JsonLines => records::read_json_lines(&mut TextStream::new(source), &mut object),
        Format::Json => records::read_json(source, &mut object).map(|_| ()),
        Format::Csv | Format::Tsv => {
            let mut names: Vec<String> = Vec::new();
            let path = input.path.clone();
            let row = &mut |record: &csv::ByteRecord, line: u64| {
                if names.is_empty() {
                    let found = records::column_names(record, &path, line)?;
                    names = found.into_iter().map(str::to_string).collect();
                    return Ok(());
                }
                let mut map = Map::new();
                for (name, cell) in names.iter().zip(record) {
                    let text = records::utf8(cell, record, &path, line)?;
                    map.insert(name.clone(), text.into());
                }
                each(map, line)
            };
            records::read_table(source, input.format, row).map(|_| ())
        }
    }
}

/// Each line that holds text as a record.
fn plain_lines(
    stream: &mut TextStream,
    each: &mut dyn FnMut(Map<String, Value>, u64) -> Result<(), DataError>,
) -> Result<(), DataError> {
    lines(stream, &mut |text, line| {
        if text.trim().is_empty() {
            return Ok(());
        }
        each(Map::from_iter([(FIELD_DEFAULT.to_string(), text.into())]), line)
    })
}

/// Hands every line of a file of plain text to `each`, empty ones too, without its end; lines count
/// from 1.
pub(crate) fn each_line(
    input: &Input,
    each: &mut dyn FnMut(&str, u64) -> Result<(), DataError>,
) -> Result<(), DataError> {
    lines(&mut TextStream::new(open(&input.path)?), each)
}

fn lines(
    stream: &mut TextStream,
    each: &mut dyn FnMut(&str, u64) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut held = String::new();
    let mut line = 1;
    while let Some((_, piece)) = stream.next()? {
        for part in piece.split_inclusive('\n') {
            held.push_str(part);
            if part.ends_with('\n') {
                each(held.trim_end_matches(['\n', '\r']), line)?;
                held.clear();
                line += 1;
            }
        }
    }
    if held.is_empty() {
        return Ok(());
    }
    each(held.trim_end_matches(['\n', '\r']), line)
}

/// A document, or one part of a document too long to hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub text: String,
    pub path: PathBuf,
    /// First line of the document, from 1.
    pub line: u64,
    /// 0 for a whole document or its first part, then 1, 2, ...
    pub part: usize,
}

/// Longest text handed out at once by [`documents`], in bytes (a little more at most).
const PART_MAX: usize = 8 << 20;

/// Reads every document behind `names` (files, folders, patterns) in order and hands it to `visit`;
/// a document longer than 8 MiB comes in parts, so memory stays bounded. `field` names the text of
/// a record ("text" when `None`).
///
/// # Errors
/// Whatever is wrong with an input (file, line, expected, found), or the first error of `visit`.
pub fn documents(
    names: &[String],
    field: Option<&str>,
    boundary: Boundary,
    visit: &mut dyn FnMut(Document) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let inputs = expand(names)?;
    let decision = decide(boundary, &inputs)?;
    let field = Field { asked: field.map(str::to_string) };
    for input in &inputs {
        let held = Document { text: String::new(), path: input.path.clone(), line: 0, part: 0 };
        let mut sink = Collect { held, visit: &mut *visit };
        read_file(input, decision.cut, &field, &mut sink)?;
    }
    Ok(())
}

struct Collect<'a> {
    held: Document,
    visit: &'a mut dyn FnMut(Document) -> Result<(), DataError>,
}

impl DocumentSink for Collect<'_> {
    fn begin(&mut self, line: u64) -> Result<(), DataError> {
        (self.held.line, self.held.part) = (line, 0);
        Ok(())
    }

    fn text(&mut self, piece: &str) -> Result<(), DataError> {
        self.held.text.push_str(piece);
        if self.held.text.len() >= PART_MAX {
            self.end()?;
            self.held.part += 1;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), DataError> {
        if self.held.text.trim().is_empty() {
            self.held.text.clear();
            return Ok(());
        }
        (self.visit)(self.held.clone())?;
        self.held.text.clear();
        Ok(())
    }
}
