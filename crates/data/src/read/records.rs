//! Records with fields: JSON lines, JSON arrays, CSV and TSV; one record, one document.

use super::open::Opened;
use super::text::TextStream;
use super::{DocumentSink, Field};
use crate::error::DataError;
use crate::inputs::Format;
use serde::de::{DeserializeSeed, Deserializer as _, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

/// Longest record that is held in memory.
const RECORD_MAX: usize = 64 << 20;

const JSON_HINT: &str = "Expected a JSON object with the text in a field";

/// Takes a record and the line it starts on.
pub(crate) type EachRecord<'a> = dyn FnMut(&Value, u64) -> Result<(), DataError> + 'a;

/// JSON lines: one object a line; blank lines are skipped.
pub(crate) fn read_json_lines(
    stream: &mut TextStream,
    each: &mut EachRecord<'_>,
) -> Result<(), DataError> {
    let path = stream.source.path.clone();
    let mut held = String::new();
    let mut held_line = 1;
    while let Some((mut line, piece)) = stream.next()? {
        for part in piece.split_inclusive('\n') {
            if held.is_empty() {
                held_line = line;
            }
            let complete = part.ends_with('\n');
            line += u64::from(complete);
            if complete && held.is_empty() {
                json_line(part, held_line, &path, each)?;
                continue;
            }
            if held.len() + part.len() > RECORD_MAX {
                let hint = "Is it one object a line? For one large array, name the file .json";
                return Err(too_long(&path, held_line, hint));
            }
            held.push_str(part);
            if complete {
                json_line(&held, held_line, &path, each)?;
                held.clear();
            }
        }
    }
    json_line(&held, held_line, &path, each)
}

fn json_line(
    text: &str,
    line: u64,
    path: &Path,
    each: &mut EachRecord<'_>,
) -> Result<(), DataError> {
    if text.trim().is_empty() {
        return Ok(());
    }
    let value: Value = serde_json::from_str(text).map_err(|e| DataError::BadRecord {
        path: path.to_path_buf(),
        line,
        words: format!("not valid JSON ({})", json_words(&e)),
        hint: JSON_HINT,
    })?;
    each(&value, line)
}

/// The parser's words without its own line number, which counts within the record.
fn json_words(error: &serde_json::Error) -> String {
    let all = error.to_string();
    let column = error.column();
    let words = all.rsplit_once(" at line ").map_or(all.as_str(), |(words, _)| words);
    format!("{words}, column {column}")
}

fn too_long(path: &Path, line: u64, hint: &'static str) -> DataError {
    let limit_mib = (RECORD_MAX >> 20) as u64;
    DataError::RecordTooLong { path: path.to_path_buf(), line, limit_mib, hint }
}

/// The value of a field; `a.b` also names field b of the object in field a.
pub(crate) fn lookup<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    map.get(name).or_else(|| {
        let mut steps = name.split('.');
        let first = map.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.get(step))
    })
}

/// The object that a record must be.
pub(crate) fn not_an_object(record: &Value, line: u64, path: &Path) -> DataError {
    DataError::BadRecord {
        path: path.to_path_buf(),
        line,
        words: format!("the record is {}, not an object", kind(record)),
        hint: JSON_HINT,
    }
}

/// Finds the field in a record and hands its text on.
pub(crate) fn emit(
    record: &Value,
    line: u64,
    path: &Path,
    field: &Field,
    sink: &mut dyn DocumentSink,
) -> Result<(), DataError> {
    let Value::Object(map) = record else {
        if let (Value::String(text), None) = (record, &field.asked) {
            return document(text, line, sink);
        }
        return Err(not_an_object(record, line, path));
    };
    match lookup(map, field.name()) {
        Some(Value::String(text)) => document(text, line, sink),
        Some(other) => Err(DataError::NotText {
            path: path.to_path_buf(),
            line,
            field: field.name().to_string(),
            found: kind(other),
        }),
        None => Err(field.missing(path, line, map.keys().map(String::as_str))),
    }
}

fn document(text: &str, line: u64, sink: &mut dyn DocumentSink) -> Result<(), DataError> {
    sink.begin(line)?;
    sink.text(text)?;
    sink.end()
}

pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Counts lines as bytes pass and refuses a record that never ends.
struct Metered {
    source: BufReader<Opened>,
    line: Rc<Cell<u64>>,
    since_record: Rc<Cell<usize>>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A JSON parser reads byte by byte and a CSV reader by blocks: both only need an upper
        // bound.
        let n = {
            let available = self.source.fill_buf()?;
            let n = available.len().min(buffer.len());
            buffer[..n].copy_from_slice(&available[..n]);
            n
        };
        self.source.consume(n);
        self.line.set(self.line.get() + super::text::newlines(&buffer[..n]));
        self.since_record.set(self.since_record.get() + n);
        if self.since_record.get() > RECORD_MAX + (1 << 20) {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "record too long"));
        }
        Ok(n)
    }
}

/// One JSON array of records, or records one after another, whatever the line breaks.
pub(crate) fn read_json(source: Opened, each: &mut EachRecord<'_>) -> Result<u64, DataError> {
    let path = source.path.clone();
    let (line, since_record) = (Rc::new(Cell::new(1)), Rc::new(Cell::new(0)));
    let mut source = BufReader::with_capacity(1 << 16, source);
    let first = first_byte(&mut source, &line).map_err(|e| source.get_ref().failed(e))?;
    let mut metered = Metered { source, line: line.clone(), since_record: since_record.clone() };
    let mut failure = None;
    let mut each = |value: &Value| {
        since_record.set(0);
        each(value, line.get()).map_err(|e| failure = Some(e)).is_ok()
    };
    let result = if first == Some(b'[') {
        let mut json = serde_json::Deserializer::from_reader(&mut metered);
        (&mut json).deserialize_seq(Elements { each: &mut each }).and_then(|()| json.end())
    } else {
        let mut outcome = Ok(());
        for value in serde_json::Deserializer::from_reader(&mut metered).into_iter::<Value>() {
            match value {
                Ok(value) if each(&value) => {}
                Ok(_) => break,
                Err(e) => {
                    outcome = Err(e);
                    break;
                }
            }
        }
        outcome
    };
    if let Some(error) = failure {
        return Err(error);
    }
    if let Err(error) = result {
        return Err(json_failed(error, &path, line.get(), &metered));
    }
    metered.source.into_inner().finish()
}

fn json_failed(error: serde_json::Error, path: &Path, line: u64, metered: &Metered) -> DataError {
    match error.io_error_kind() {
        Some(io::ErrorKind::FileTooLarge) => {
            too_long(path, line, "Split it into records of less than that")
        }
        Some(_) => metered.source.get_ref().failed(error.into()),
        None => DataError::BadRecord {
            path: path.to_path_buf(),
            line,
            words: format!("not valid JSON ({})", json_words(&error)),
            hint: "Expected an array of objects, or one object a line",
        },
    }
}

/// The first byte that is not white space; a byte order mark and the white space are consumed.
fn first_byte(source: &mut BufReader<Opened>, line: &Cell<u64>) -> io::Result<Option<u8>> {
    loop {
        let buffer = source.fill_buf()?;
        let Some(&byte) = buffer.first() else { return Ok(None) };
        if !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(&byte) {
            return Ok(Some(byte));
        }
        line.set(line.get() + u64::from(byte == b'\n'));
        source.consume(1);
    }
}

/// Visits the elements of an array one at a time, so that the array never lies in memory.
struct Elements<'a> {
    each: &'a mut dyn FnMut(&Value) -> bool,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while let Some(value) = sequence.next_element_seed(Any)? {
            if !(self.each)(&value) {
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

struct Any;

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        serde::Deserialize::deserialize(json)
    }
}

/// Takes the header line, then each row as long as the header, with the line it starts on.
pub(crate) type EachRow<'a> = dyn FnMut(&csv::ByteRecord, u64) -> Result<(), DataError> + 'a;

/// CSV (quotes as in RFC 4180) and TSV (no quoting), both with a header line.
pub(crate) fn read_table(
    source: Opened,
    format: Format,
    each: &mut EachRow<'_>,
) -> Result<u64, DataError> {
    let path = source.path.clone();
    let (line, since_record) = (Rc::new(Cell::new(1)), Rc::new(Cell::new(0)));
    let source = BufReader::with_capacity(1 << 16, source);
    let metered = Metered { source, line, since_record: since_record.clone() };
    let mut builder = csv::ReaderBuilder::new();
    builder.has_headers(false).flexible(true);
    if format == Format::Tsv {
        builder.delimiter(b'\t').quoting(false);
    }
    let mut reader = builder.from_reader(metered);
    let mut record = csv::ByteRecord::new();
    let mut columns: Option<usize> = None;
    loop {
        since_record.set(0);
        let line = reader.position().line();
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(e) => return Err(table_failed(e, &path, line, reader.get_ref())),
        }
        let line = record.position().map_or(line, |p| p.line());
        let columns = *columns.get_or_insert(record.len());
        if record.len() != columns {
            return Err(DataError::BadRecord {
                path,
                line,
                words: format!("{} fields, but the header names {columns}", record.len()),
                hint: "Check its quotes and separators",
            });
        }
        each(&record, line)?;
    }
    reader.into_inner().source.into_inner().finish()
}

/// The documents in one column of a table.
pub(crate) fn read_column(
    source: Opened,
    format: Format,
    field: &Field,
    sink: &mut dyn DocumentSink,
) -> Result<u64, DataError> {
    let path = source.path.clone();
    let mut column = None;
    read_table(source, format, &mut |record, line| match column {
        None => {
            column = Some(find_column(record, &path, line, field)?);
            Ok(())
        }
        Some(column) => document(utf8(&record[column], record, &path, line)?, line, sink),
    })
}

/// The names in a header line.
pub(crate) fn column_names<'a>(
    header: &'a csv::ByteRecord,
    path: &Path,
    line: u64,
) -> Result<Vec<&'a str>, DataError> {
    let mut names = Vec::new();
    for (i, name) in header.iter().enumerate() {
        let name = if i == 0 { name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name) } else { name };
        names.push(utf8(name, header, path, line)?.trim());
    }
    Ok(names)
}

fn find_column(
    header: &csv::ByteRecord,
    path: &Path,
    line: u64,
    field: &Field,
) -> Result<usize, DataError> {
    let names = column_names(header, path, line)?;
    match names.iter().position(|name| *name == field.name()) {
        Some(column) => Ok(column),
        None if field.asked.is_none() && names.len() == 1 => Ok(0),
        None => Err(field.missing(path, line, names.iter().copied())),
    }
}

/// The text of one field, or where it stops being text.
pub(crate) fn utf8<'a>(
    bytes: &'a [u8],
    record: &csv::ByteRecord,
    path: &Path,
    line: u64,
) -> Result<&'a str, DataError> {
    let offset = record.position().map_or(0, |p| p.byte());
    if bytes.contains(&0) {
        let hint = "name the text files themselves";
        return Err(DataError::Binary { path: path.to_path_buf(), offset, line, hint });
    }
    std::str::from_utf8(bytes).map_err(|e| DataError::InvalidUtf8 {
        path: path.to_path_buf(),
        line,
        offset: offset + e.valid_up_to() as u64,
        byte: bytes[e.valid_up_to()],
    })
}

fn table_failed(error: csv::Error, path: &Path, line: u64, metered: &Metered) -> DataError {
    let words = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(e) if e.kind() == io::ErrorKind::FileTooLarge => {
            too_long(path, line, "A quote that is never closed looks like this")
        }
        csv::ErrorKind::Io(e) => metered.source.get_ref().failed(e),
        _ => DataError::BadRecord {
            path: path.to_path_buf(),
            line,
            words,
            hint: "Check its quotes and separators",
        },
    }
}
