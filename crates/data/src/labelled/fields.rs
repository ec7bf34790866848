//! Which fields hold the text, the second text and the label: as named, or inferred with a reason.

use super::read::FieldNames;
use crate::error::DataError;
use crate::read::lookup;
use heldout_base::nearest::nearest;
use serde_json::{Map, Value};
use std::path::Path;

/// A record with the line it starts on.
pub(crate) type Record = (Map<String, Value>, u64);

/// Names that a label goes by, likeliest first; case does not matter.
const LABEL_NAMES: [&str; 11] = [
    "label",
    "labels",
    "class",
    "category",
    "target",
    "sentiment",
    "intent",
    "topic",
    "label_text",
    "rating",
    "stars",
];
/// Names that a text goes by, likeliest first.
const TEXT_NAMES: [&str; 11] = [
    "text", "sentence", "review", "question", "content", "body", "comment", "tweet", "message",
    "document", "query",
];
/// Names that two texts of one record go by.
const PAIR_NAMES: [(&str, &str); 5] = [
    ("text", "pair"),
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text_a", "text_b"),
];

/// The fields to read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fields {
    pub text: String,
    pub pair: Option<String>,
    /// `None` where no label is needed and none was found.
    pub label: Option<String>,
    /// What was inferred and why, in sentences.
    pub sentences: Vec<String>,
}

/// Whether every record has to have a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Label,
    TextOnly,
}

/// Settles the fields from the first records of a file.
///
/// # Errors
/// A named field that no record has, or no field that can be the text or the label.
pub(crate) fn settle(
    sample: &[Record],
    asked: &FieldNames,
    need: Need,
    path: &Path,
) -> Result<Fields, DataError> {
    let Some((first, line)) = sample.first() else { return Ok(Fields::default()) };
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    let mut fields = Fields::default();
    let checked = |name: &str, what| match lookup(first, name) {
        Some(_) => Ok(name.to_string()),
        None => Err(missing(path, *line, name, &names, what)),
    };
    fields.label = match &asked.label {
        // A name that belongs to the training files: nothing to find where no label is needed.
        Some(name) if need == Need::TextOnly => Some(name.clone()),
        Some(name) => Some(checked(name, Wanted::Label)?),
        None => infer_label(&names, &mut fields.sentences),
    };
    if need == Need::Label && fields.label.is_none() {
        return Err(no_label(path, *line, &names));
    }
    let taken: Vec<&str> = fields.label.as_deref().into_iter().collect();
    if let Some(pair) = &asked.pair {
        fields.pair = Some(checked(pair, Wanted::Pair)?);
    }
    match &asked.text {
        Some(name) => fields.text = checked(name, Wanted::Text)?,
        None => {
            let both = PAIR_NAMES.iter().find(|(one, other)| {
                asked.pair.is_none() && find(&names, one).is_some() && find(&names, other).is_some()
            });
            if let Some((one, other)) = both {
                let [one, other] = [one, other].map(|n| find(&names, n).unwrap_or(n).to_string());
                fields.sentences.push(format!("pairs of texts from \"{one}\" and \"{other}\""));
                (fields.text, fields.pair) = (one, Some(other));
            } else {
                let taken: Vec<&str> = taken.into_iter().chain(fields.pair.as_deref()).collect();
                let (text, sentence) = infer_text(sample, &names, &taken, path)?;
                fields.sentences.push(sentence);
                fields.text = text;
            }
        }
    }
    Ok(fields)
}

/// The field of that name, case aside.
fn find<'a>(names: &[&'a str], wanted: &str) -> Option<&'a str> {
    names.iter().copied().find(|name| name.eq_ignore_ascii_case(wanted))
}

fn infer_label(names: &[&str], sentences: &mut Vec<String>) -> Option<String> {
    let found = LABEL_NAMES.iter().find_map(|wanted| find(names, wanted))?;
    sentences.push(format!("labels from the field \"{found}\", by its name"));
    Some(found.to_string())
}

/// The field with a usual name, else the one with the longest strings.
fn infer_text(
    sample: &[Record],
    names: &[&str],
    taken: &[&str],
    path: &Path,
) -> Result<(String, String), DataError> {
    let free: Vec<&str> = names.iter().copied().filter(|n| !taken.contains(n)).collect();
    let holds_text = |name: &str| sample.iter().any(|(map, _)| map[name].is_string());
    let by_name = TEXT_NAMES.iter().find_map(|w| find(&free, w)).filter(|n| holds_text(n));
    if let Some(name) = by_name {
        return Ok((name.to_string(), format!("texts from the field \"{name}\", by its name")));
    }
    let mean = |name: &str| {
        let lengths = sample.iter().filter_map(|(map, _)| map.get(name)?.as_str());
        lengths.map(|text| text.chars().count()).sum::<usize>() as f64 / sample.len() as f64
    };
    let longest =
        free.iter().map(|name| (mean(name), *name)).fold(None, |best, (mean, name)| match best {
            Some((most, _)) if most >= mean => best,
            _ if mean > 0.0 => Some((mean, name)),
            _ => best,
        });
    let Some((mean, name)) = longest else {
        let (line, path) = (sample[0].1, path.to_path_buf());
        return Err(DataError::BadRecord {
            path,
            line,
            words: format!("no field holds text; the record has {}", quoted(names)),
            hint: "Name the field with the text (text = \"...\")",
        });
    };
    let sentence = format!(
        "texts from the field \"{name}\": its strings are the longest ({mean:.0} characters in the \
         mean); name another with text = \"...\""
    );
    Ok((name.to_string(), sentence))
}

/// What a field was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Text,
    Pair,
    Label,
    Source,
    Target,
}

/// The error for a record without a field.
pub(crate) fn missing(
    path: &Path,
    line: u64,
    field: &str,
    names: &[&str],
    wanted: Wanted,
) -> DataError {
    let (holds, key) = match wanted {
        Wanted::Text => ("the text", "text"),
        Wanted::Pair => ("the second text", "pair"),
        Wanted::Label => ("the label", "label"),
        Wanted::Source => ("the source", "source"),
        Wanted::Target => ("the target", "target"),
    };
    let hint = match nearest(field, names.iter().copied()) {
        Some(near) => format!(". Did you mean {key} = \"{near}\"?"),
        None => format!(". Name the one that holds {holds} ({key} = \"...\"), or mend the record"),
    };
    let (path, field) = (path.to_path_buf(), field.to_string());
    DataError::MissingField { path, line, field, found: quoted(names), hint }
}

fn no_label(path: &Path, line: u64, names: &[&str]) -> DataError {
    DataError::BadRecord {
        path: path.to_path_buf(),
        line,
        words: format!(
            "no field has a usual name for a label ({}, ...); the record has {}",
            LABEL_NAMES[..6].join(", "),
            quoted(names)
        ),
        hint: "Name the field that holds the class (label = \"...\")",
    }
}

/// The names in quotes, the first dozen.
pub(crate) fn quoted(names: &[&str]) -> String {
    if names.is_empty() {
        return "no fields".into();
    }
    let quoted: Vec<String> = names.iter().take(12).map(|n| format!("\"{n}\"")).collect();
    quoted.join(", ") + if names.len() > 12 { ", ..." } else { "" }
}
