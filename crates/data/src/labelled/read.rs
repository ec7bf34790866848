//! Records with a text, a second text and a label, from JSON lines, JSON, CSV, TSV and Parquet.

use crate::error::DataError;
use serde::{Deserialize, Serialize};

/// The fields of a record. What is `None` is inferred from the names and contents of the first
/// file's fields; a second text is never inferred, except `text`/`pair`, `premise`/`hypothesis`,
/// `sentence1`/`sentence2` and `question1`/`question2`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldNames {
    pub text: Option<String>,
    pub pair: Option<String>,
    pub label: Option<String>,
}

/// Where an example stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Index into [`super::LabelledFacts::inputs`].
    pub input: u32,
    /// First line of the record, from 1 (the row, for Parquet).
    pub line: u64,
}

/// A text to be labelled, as `predict` reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct TextRecord {
    pub text: String,
    pub pair: Option<String>,
    /// The label that stands in the record, if one does.
    pub label: Option<String>,
    /// The record as it was read, for writing it again with the prediction beside.
    pub record: serde_json::Map<String, serde_json::Value>,
    pub line: u64,
}

/// Reads records that need no label, one after another, and hands each to `visit`. `names` are
/// files, folders or patterns; a file of plain text gives one text a line.
///
/// # Errors
/// Whatever is wrong with an input (file, line, expected, found), or the first error of `visit`.
pub fn for_each_text(
    _names: &[String],
    _fields: &FieldNames,
    _visit: &mut dyn FnMut(TextRecord) -> Result<(), DataError>,
) -> Result<(), DataError> {
    todo!()
}
