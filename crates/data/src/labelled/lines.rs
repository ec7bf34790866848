//! Texts that come line by line, such as on standard input: plain lines, or a JSON record each.

use super::fields::{Fields, Need, settle};
use super::read::{FieldNames, TextRecord, pair_of, text_of};
use super::{fields::Wanted, read::class_name};
use crate::error::DataError;
use crate::read::lookup;
use serde_json::{Map, Value};
use std::io;
use std::path::{Path, PathBuf};

/// What errors call the place that lines come from.
const PLACE: &str = "standard input";

/// How the lines are written; the first one that holds something decides.
#[derive(Debug)]
enum Form {
    Plain,
    Records(Fields),
}

/// Reads lines one by one; the first decides whether all are records or plain text.
#[derive(Debug)]
pub struct LineReader {
    asked: FieldNames,
    form: Option<Form>,
    line: u64,
    path: PathBuf,
}

impl LineReader {
    /// A reader that takes the fields `asked` from records, and infers what is not named.
    pub fn new(asked: &FieldNames) -> Self {
        LineReader { asked: asked.clone(), form: None, line: 0, path: PathBuf::from(PLACE) }
    }

    /// The text in a line; `None` where it is empty.
    ///
    /// # Errors
    /// Bytes that are no UTF-8, a record without its text, a line that is no record among records.
    pub fn read(&mut self, line: io::Result<String>) -> Result<Option<TextRecord>, DataError> {
        self.line += 1;
        let text = line.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => self.bad(
                "invalid UTF-8".into(),
                "Convert it first, for example: iconv -f LATIN1 -t UTF-8",
            ),
            _ => DataError::io(&self.path, "read", error),
        })?;
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        if self.form.is_none() {
            self.form = Some(self.form_of(text)?);
        }
        let (record, fields) = match &self.form {
            Some(Form::Records(fields)) => (self.record(text)?, fields),
            _ => return Ok(Some(self.plain(text))),
        };
        let path = self.path.as_path();
        let text = text_of(&record, self.line, &fields.text, Wanted::Text, path)?;
        let pair = pair_of(&record, self.line, fields, path)?;
        let label = fields.label.as_deref().and_then(|name| lookup(&record, name));
        let label = label.and_then(class_name);
        Ok(Some(TextRecord { text, pair, label, record, line: self.line }))
    }

    fn form_of(&self, text: &str) -> Result<Form, DataError> {
        let Ok(Value::Object(record)) = serde_json::from_str(text) else {
            // A line of text may well begin with a brace; a record whose end is missing, too.
            return match text.starts_with("{\"") {
                true => Err(self.record(text).expect_err("it did not parse")),
                false => Ok(Form::Plain),
            };
        };
        let sample = [(record, self.line)];
        Ok(Form::Records(settle(&sample, &self.asked, Need::TextOnly, &self.path)?))
    }

    fn record(&self, text: &str) -> Result<Map<String, Value>, DataError> {
        serde_json::from_str(text).map_err(|error| {
            self.bad(format!("not a JSON object: {error}"), "Give one record a line")
        })
    }

    fn plain(&self, text: &str) -> TextRecord {
        let record = [("text".to_owned(), Value::from(text))].into_iter().collect();
        TextRecord { text: text.to_owned(), pair: None, label: None, record, line: self.line }
    }

    fn bad(&self, words: String, hint: &'static str) -> DataError {
        DataError::BadRecord { path: Path::new(PLACE).to_path_buf(), line: self.line, words, hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &[&str]) -> Vec<Result<Option<String>, String>> {
        let mut reader = LineReader::new(&FieldNames::default());
        let one = |line: &&str| match reader.read(Ok((*line).to_owned())) {
            Ok(found) => Ok(found.map(|record| record.text)),
            Err(error) => Err(error.to_string()),
        };
        lines.iter().map(one).collect()
    }

    #[test]
    fn the_first_line_decides_how_all_are_read() {
        let text = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(all(&["", " a b ", "{\"x\": 1}"]), [Ok(None), text("a b"), text("{\"x\": 1}")]);
        let found = all(&["{\"id\": 1, \"body\": \"one\"}", "{\"body\": \"two\"}", "three"]);
        assert_eq!(found[..2], [text("one"), text("two")]);
        let error = found[2].clone().expect_err("no record");
        assert!(error.contains("standard input:3") && error.contains("one record"), "{error}");
        let cut = all(&["{\"body\": \"on"])[0].clone().expect_err("cut short");
        assert!(cut.contains("standard input:1"), "{cut}");
    }
}
