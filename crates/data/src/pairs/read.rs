//! Pairs from two line-aligned files of plain text, or from records.

use super::fields::{SideNames, Sides, settle, source_of, targets_of};
use super::prepare::PairExample;
use crate::error::DataError;
use crate::inputs::{Format, Input, expand};
use crate::labelled::Place;
use crate::read::{each_line, read_records};
use serde_json::{Map, Value};
use std::io::BufRead;
use std::path::Path;

/// A source to be translated or summarised, as `predict` reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceRecord {
    pub source: String,
    /// The record as it was read, for writing it again with the prediction beside.
    pub record: Map<String, Value>,
    pub line: u64,
}

/// The name of the only field of a line of plain text.
const PLAIN: &str = "text";

/// Names that a source goes by where no target stands beside it, likeliest first.
const SOURCE_NAMES: [&str; 9] =
    ["source", "src", "text", "dialogue", "document", "article", "input", "prompt", "question"];

/// Reads pairs: of two files of plain text line n of the first belongs to line n of the second;
/// every other file has records. `first_input` is the number of the first file.
///
/// # Errors
/// Whatever is wrong with an input; files of plain text that are not two, or not aligned; a record
/// with one side.
pub(crate) fn read_examples(
    inputs: &[Input],
    first_input: u32,
    asked: &SideNames,
    settled: &mut Option<Sides>,
) -> Result<Vec<PairExample>, DataError> {
    let plain = inputs.iter().filter(|input| input.format == Format::Plain).count();
    match (plain, inputs) {
        (0, _) => read_from_records(inputs, first_input, asked, settled),
        (2, [source, target]) => read_aligned(source, target, first_input),
        _ => Err(not_two(inputs)),
    }
}

fn not_two(inputs: &[Input]) -> DataError {
    let is_plain = |input: &&Input| input.format == Format::Plain;
    let name = |input: &Input| input.path.display().to_string();
    let plain: Vec<String> = inputs.iter().filter(is_plain).map(name).collect();
    let found = match inputs {
        [only] => format!("{} is plain text and has one side only", name(only)),
        _ if plain.len() == inputs.len() => {
            format!("{} files of plain text are given ({})", plain.len(), shown(&plain))
        }
        _ => format!("files of plain text ({}) are mixed with records", shown(&plain)),
    };
    DataError::Pairs(format!(
        "{found}. Give two line-aligned files, the source first (--source a.de --target b.en, or \
         data.train = [\"a.de\", \"b.en\"]), or records with both sides (.jsonl, .json, .csv, .tsv)"
    ))
}

fn shown(names: &[String]) -> String {
    let more = if names.len() > 4 { ", ..." } else { "" };
    format!("{}{more}", names[..names.len().min(4)].join(", "))
}

fn read_from_records(
    inputs: &[Input],
    first_input: u32,
    asked: &SideNames,
    settled: &mut Option<Sides>,
) -> Result<Vec<PairExample>, DataError> {
    let mut examples = Vec::new();
    for (input, number) in inputs.iter().zip(first_input..) {
        let (path, before) = (input.path.as_path(), examples.len());
        read_records(input, &mut |record, line| {
            let sides = match settled {
                Some(sides) => sides,
                None => settled.insert(settle(&record, line, asked, path)?),
            };
            let source = source_of(&record, line, &sides.source, path)?;
            let targets = targets_of(&record, line, &sides.target, path)?;
            examples.push(PairExample { source, targets, place: Place { input: number, line } });
            Ok(())
        })?;
        if examples.len() == before {
            return Err(DataError::Empty { path: path.to_path_buf() });
        }
    }
    Ok(examples)
}

/// Every line, without white space around it and without the empty ones at the end.
fn lines(input: &Input) -> Result<Vec<String>, DataError> {
    let mut lines = Vec::new();
    each_line(input, &mut |text, _| {
        lines.push(text.trim().to_string());
        Ok(())
    })?;
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    if lines.is_empty() {
        return Err(DataError::Empty { path: input.path.clone() });
    }
    Ok(lines)
}

fn read_aligned(source: &Input, target: &Input, input: u32) -> Result<Vec<PairExample>, DataError> {
    let (sources, targets) = (lines(source)?, lines(target)?);
    let [source, target] = [source, target].map(|input| input.path.display());
    if sources.len() != targets.len() {
        return Err(DataError::Pairs(format!(
            "{source} has {} lines and {target} has {}: line n of the one must belong to line n of \
             the other. Look where they part (paste {source} {target} | less), or give records \
             with both sides (.jsonl with \"source\" and \"target\")",
            sources.len(),
            targets.len()
        )));
    }
    let mut examples = Vec::with_capacity(sources.len());
    for ((line, one), other) in (1..).zip(sources).zip(targets) {
        let empty = match (one.is_empty(), other.is_empty()) {
            (false, false) => None,
            (true, false) => Some((&source, &target)),
            (false, true) => Some((&target, &source)),
            (true, true) => {
                return Err(DataError::Pairs(format!(
                    "{source}:{line} and {target}:{line} are empty. Take the line out of both files"
                )));
            }
        };
        if let Some((empty, other)) = empty {
            return Err(DataError::Pairs(format!(
                "{empty}:{line} is empty, its partner {other}:{line} is not. Take the line out of \
                 both files, or check whether they are still aligned there"
            )));
        }
        let place = Place { input, line };
        examples.push(PairExample { source: one, targets: vec![other], place });
    }
    Ok(examples)
}

/// Reads pairs to be measured on: all of `names`, files, folders or patterns.
///
/// # Errors
/// As for training data.
pub fn pairs_of(names: &[String], asked: &SideNames) -> Result<Vec<PairExample>, DataError> {
    read_examples(&expand(names)?, 0, asked, &mut None)
}

/// Reads sources one after another and hands each to `visit`. `names` are files, folders or
/// patterns; a file of plain text gives one source a line. Without a name the field is inferred.
///
/// # Errors
/// Whatever is wrong with an input, or the first error of `visit`.
pub fn for_each_source(
    names: &[String],
    field: Option<&str>,
    visit: &mut dyn FnMut(SourceRecord) -> Result<(), DataError>,
) -> Result<(), DataError> {
    for input in expand(names)? {
        // A plain line has one field, whatever the records of training were called.
        let field = if input.format == Format::Plain { Some(PLAIN) } else { field };
        let path = input.path.as_path();
        read_records(&input, &mut |record, line| visit(source_record(record, line, field, path)?))?;
    }
    Ok(())
}

/// As [`for_each_source`], from lines as they come: a line that is a JSON object is a record, any
/// other a source by itself; empty lines are passed over.
///
/// # Errors
/// Lines that are no UTF-8, or the first error of `visit`.
pub fn for_each_line(
    lines: &mut dyn BufRead,
    field: Option<&str>,
    visit: &mut dyn FnMut(SourceRecord) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let path = Path::new("standard input");
    for (number, line) in (1..).zip(lines.lines()) {
        let text = line.map_err(|error| DataError::io(path, "read", error))?;
        if text.trim().is_empty() {
            continue;
        }
        let record = match serde_json::from_str(&text) {
            Ok(Value::Object(record)) => source_record(record, number, field, path)?,
            _ => {
                let record = Map::from_iter([(PLAIN.to_string(), text.as_str().into())]);
                source_record(record, number, Some(PLAIN), path)?
            }
        };
        visit(record)?;
    }
    Ok(())
}

fn source_record(
    record: Map<String, Value>,
    line: u64,
    field: Option<&str>,
    path: &Path,
) -> Result<SourceRecord, DataError> {
    let by_name = |wanted: &&str| {
        let mut names = record.keys();
        let found = names.find(|name| name.eq_ignore_ascii_case(wanted));
        found.filter(|name| record[*name].is_string()).cloned()
    };
    let inferred = || SOURCE_NAMES.iter().find_map(by_name);
    // A pair has its source named as training would have inferred it.
    let pair = || settle(&record, line, &SideNames::default(), path).ok().map(|s| s.source);
    let name = match field {
        Some(name) => Some(name.to_string()),
        None => pair().or_else(inferred),
    };
    let name = name.unwrap_or_else(|| SOURCE_NAMES[0].to_string());
    let source = source_of(&record, line, &name, path)?;
    Ok(SourceRecord { source, record, line })
}
