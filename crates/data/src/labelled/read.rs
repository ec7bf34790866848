//! Records with a text, a second text and a label, from JSON lines, JSON, CSV and TSV.

use super::fields::{Fields, Need, Record, Wanted, missing, settle};
use crate::error::DataError;
use crate::inputs::{Format, Input, expand};
use crate::read::{kind, lookup, read_records};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// The fields of a record. What is `None` is inferred from the names and contents of the first
/// file's fields; a second text is never inferred, except `text`/`pair`, `premise`/`hypothesis`,
/// `sentence1`/`sentence2`, `question1`/`question2` and `text_a`/`text_b`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldNames {
    pub text: Option<String>,
    pub pair: Option<String>,
    pub label: Option<String>,
}

/// Where an example stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Index into [`super::LabelledFacts::inputs`].
    pub input: u32,
    /// First line of the record, from 1.
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
    pub record: Map<String, Value>,
    pub line: u64,
}

/// Records from which the fields are inferred.
const SAMPLE: usize = 200;

/// Reads records that need no label, one after another, and hands each to `visit`. `names` are
/// files, folders or patterns; a file of plain text gives one text a line (field "text").
///
/// # Errors
/// Whatever is wrong with an input (file, line, expected, found), or the first error of `visit`.
pub fn for_each_text(
    names: &[String],
    fields: &FieldNames,
    visit: &mut dyn FnMut(TextRecord) -> Result<(), DataError>,
) -> Result<(), DataError> {
    for input in expand(names)? {
        // A plain line has one field, whatever the records of training were called.
        let plain = FieldNames::default();
        let asked = if input.format == Format::Plain { &plain } else { fields };
        let path = input.path.as_path();
        each_settled(&input, &mut None, asked, Need::TextOnly, &mut |record, line, fields| {
            let text = text_of(&record, line, &fields.text, Wanted::Text, path)?;
            let pair = pair_of(&record, line, fields, path)?;
            let found = fields.label.as_deref().and_then(|name| lookup(&record, name));
            let label = found.and_then(class_name);
            visit(TextRecord { text, pair, label, record, line })
        })?;
    }
    Ok(())
}

/// An example before its label has a number.
pub(crate) struct Raw {
    pub text: String,
    pub pair: Option<String>,
    pub label: String,
    pub place: Place,
}

/// Reads the examples of some files; the fields are settled by the first record of all.
///
/// # Errors
/// Whatever is wrong with an input; a record without text or label.
pub(crate) fn read_examples(
    inputs: &[Input],
    first_input: u32,
    asked: &FieldNames,
    settled: &mut Option<Fields>,
) -> Result<Vec<Raw>, DataError> {
    let mut examples = Vec::new();
    for (number, input) in (first_input..).zip(inputs) {
        refuse_without_fields(input)?;
        let path = input.path.as_path();
        let before = examples.len();
        each_settled(input, settled, asked, Need::Label, &mut |record, line, fields| {
            let text = text_of(&record, line, &fields.text, Wanted::Text, path)?;
            let pair = pair_of(&record, line, fields, path)?;
            let label = label_of(&record, line, fields, path)?;
            examples.push(Raw { text, pair, label, place: Place { input: number, line } });
            Ok(())
        })?;
        if examples.len() == before {
            return Err(DataError::Empty { path: path.to_path_buf() });
        }
    }
    Ok(examples)
}

/// Plain text has no labels; Parquet is recognised by its name to say what helps.
fn refuse_without_fields(input: &Input) -> Result<(), DataError> {
    if input.format.has_records() {
        return Ok(());
    }
    let parquet = input.path.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet"));
    let (words, hint) = if parquet {
        (
            "Parquet is not read",
            "Convert it first, for example: python -c 'import pandas, sys; \
             pandas.read_parquet(sys.argv[1]).to_json(sys.argv[2], orient=\"records\", \
             lines=True)' INPUT.parquet OUTPUT.jsonl",
        )
    } else {
        (
            "plain text has no labels",
            "Give records with a text and a label: .jsonl, .json, .csv or .tsv (also .gz, .zst)",
        )
    };
    let path = input.path.clone();
    Err(DataError::BadRecord { path, line: 1, words: words.into(), hint })
}

type EachSettled<'a> = dyn FnMut(Map<String, Value>, u64, &Fields) -> Result<(), DataError> + 'a;

/// Hands on the records of a file once the fields are settled, by `settled` or by the first
/// records.
fn each_settled(
    input: &Input,
    settled: &mut Option<Fields>,
    asked: &FieldNames,
    need: Need,
    each: &mut EachSettled<'_>,
) -> Result<(), DataError> {
    let mut sample: Vec<Record> = Vec::new();
    read_records(input, &mut |record, line| {
        if let Some(fields) = settled {
            return each(record, line, fields);
        }
        sample.push((record, line));
        if sample.len() < SAMPLE {
            return Ok(());
        }
        let fields = settled.insert(settle(&sample, asked, need, &input.path)?);
        sample.drain(..).try_for_each(|(record, line)| each(record, line, fields))
    })?;
    if sample.is_empty() {
        return Ok(());
    }
    let fields = settled.insert(settle(&sample, asked, need, &input.path)?);
    sample.into_iter().try_for_each(|(record, line)| each(record, line, fields))
}

fn field<'a>(
    record: &'a Map<String, Value>,
    line: u64,
    name: &str,
    wanted: Wanted,
    path: &Path,
) -> Result<&'a Value, DataError> {
    lookup(record, name).ok_or_else(|| {
        let names: Vec<&str> = record.keys().map(String::as_str).collect();
        missing(path, line, name, &names, wanted)
    })
}

/// The text of a field, without the white space around it.
pub(crate) fn text_of(
    record: &Map<String, Value>,
    line: u64,
    name: &str,
    wanted: Wanted,
    path: &Path,
) -> Result<String, DataError> {
    match field(record, line, name, wanted, path)? {
        Value::String(text) if text.trim().is_empty() => Err(DataError::BadRecord {
            path: path.to_path_buf(),
            line,
            words: format!("the field \"{name}\" is empty, expected a text with a label"),
            hint: "Take the record out, or name the field that holds the text (text = \"...\")",
        }),
        Value::String(text) => Ok(text.trim().to_string()),
        other => Err(DataError::NotText {
            path: path.to_path_buf(),
            line,
            field: name.to_string(),
            found: kind(other),
        }),
    }
}

pub(crate) fn pair_of(
    record: &Map<String, Value>,
    line: u64,
    fields: &Fields,
    path: &Path,
) -> Result<Option<String>, DataError> {
    let pair = fields.pair.as_deref();
    pair.map(|name| text_of(record, line, name, Wanted::Pair, path)).transpose()
}

/// The name of the class that a value says: text, an integer, true or false.
pub(crate) fn class_name(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_string()).filter(|name| !name.is_empty()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => match number.as_f64() {
            // Tables that once had a gap in the column write 1 as 1.0.
            Some(x) if number.is_f64() && x.fract() == 0.0 && x.abs() < 1e15 => {
                Some(format!("{}", x as i64))
            }
            _ if number.is_f64() => None,
            _ => Some(number.to_string()),
        },
        _ => None,
    }
}

fn label_of(
    record: &Map<String, Value>,
    line: u64,
    fields: &Fields,
    path: &Path,
) -> Result<String, DataError> {
    let name = fields.label.as_deref().expect("settled with a label, as needed");
    let value = field(record, line, name, Wanted::Label, path)?;
    class_name(value).ok_or_else(|| {
        let found = match value {
            Value::Number(number) => format!("the number {number}"),
            Value::String(_) => "nothing".into(),
            other => kind(other).to_string(),
        };
        DataError::BadRecord {
            path: path.to_path_buf(),
            line,
            words: format!(
                "the label field \"{name}\" holds {found}, expected one class as text, an integer, \
                 true or false"
            ),
            hint: "Take out records without a class, or name the right field (label = \"...\")",
        }
    })
}
