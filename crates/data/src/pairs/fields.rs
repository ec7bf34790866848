//! Which fields hold the source and the target: as named, or inferred with a reason.

use crate::error::DataError;
use crate::labelled::{Wanted, missing, quoted};
use crate::read::{kind, lookup};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// The fields of a pair. A dot leads into a nested object (`translation.de`). What is `None` is
/// inferred from the names of the first record's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideNames {
    pub source: Option<String>,
    pub target: Option<String>,
}

/// Names that the two sides go by, likeliest first; case does not matter.
const PAIR_NAMES: [(&str, &str); 14] = [
    ("source", "target"),
    ("src", "tgt"),
    ("source", "translation"),
    ("text", "translation"),
    ("dialogue", "summary"),
    ("document", "summary"),
    ("article", "highlights"),
    ("article", "summary"),
    ("text", "summary"),
    ("input", "output"),
    ("input_text", "target_text"),
    ("prompt", "completion"),
    ("question", "answer"),
    ("text", "target"),
];

/// The field of a whole pair: an object with one text a language.
const NESTED: &str = "translation";

/// The fields to read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sides {
    pub source: String,
    pub target: String,
    /// What was inferred and why, in sentences.
    pub sentences: Vec<String>,
}

/// Settles both fields by a file's first record.
///
/// # Errors
/// A named field that the record lacks, or none that can be inferred.
pub(crate) fn settle(
    record: &Map<String, Value>,
    line: u64,
    asked: &SideNames,
    path: &Path,
) -> Result<Sides, DataError> {
    let names: Vec<&str> = record.keys().map(String::as_str).collect();
    let check = |name: &Option<String>, wanted| match name {
        Some(name) if !has(record, name) => Err(missing(path, line, name, &names, wanted)),
        _ => Ok(()),
    };
    check(&asked.source, Wanted::Source)?;
    check(&asked.target, Wanted::Target)?;
    if let (Some(source), Some(target)) = (asked.source.clone(), asked.target.clone()) {
        return Ok(Sides { source, target, sentences: Vec::new() });
    }
    let Some((source, target)) = infer(record, &names, asked) else {
        return Err(DataError::BadRecord {
            path: path.to_path_buf(),
            line,
            words: format!(
                "no two fields have the usual names of a source and a target (source and target, \
                 dialogue and summary, translation, ...); the record has {}",
                quoted(&names)
            ),
            hint: "Name them (data.source = \"...\", data.target = \"...\")",
        });
    };
    let sentence = format!(
        "from the field \"{source}\" to the field \"{target}\", by their names (data.source and \
         data.target name others)"
    );
    Ok(Sides { source, target, sentences: vec![sentence] })
}

fn infer(
    record: &Map<String, Value>,
    names: &[&str],
    asked: &SideNames,
) -> Option<(String, String)> {
    let nested = find(names, NESTED).and_then(|name| Some((name, record[name].as_object()?)));
    if let Some((name, texts)) = nested
        && texts.len() == 2
        && texts.values().all(Value::is_string)
    {
        let mut sides = texts.keys().map(|language| format!("{name}.{language}"));
        let [first, second] = [sides.next()?, sides.next()?];
        // One side named the other way round turns the pair.
        let turned =
            asked.source.as_ref() == Some(&second) || asked.target.as_ref() == Some(&first);
        return Some(if turned { (second, first) } else { (first, second) });
    }
    let holds =
        |name: &str| find(names, name).map(str::to_string).or_else(|| numbered(names, name));
    let usual = PAIR_NAMES.iter().find_map(|(one, other)| {
        let source = asked.source.clone().or_else(|| holds(one))?;
        let target = asked.target.clone().or_else(|| holds(other))?;
        (source != target).then_some((source, target))
    });
    usual.or_else(|| {
        // With one side named and one text left, the other is that.
        let taken = asked.source.as_deref().or(asked.target.as_deref())?;
        let mut left = names.iter().filter(|name| **name != taken && record[**name].is_string());
        let other = left.next()?.to_string();
        if left.next().is_some() {
            return None;
        }
        Some(match &asked.source {
            Some(source) => (source.clone(), other),
            None => (other, taken.to_string()),
        })
    })
}

/// The field of that name, case aside.
fn find<'a>(names: &[&'a str], wanted: &str) -> Option<&'a str> {
    names.iter().copied().find(|name| name.eq_ignore_ascii_case(wanted))
}

/// `wanted` itself where the record counts it through: `wanted1`, `wanted2`, ...
fn numbered(names: &[&str], wanted: &str) -> Option<String> {
    find(names, &format!("{wanted}1")).map(|_| wanted.to_string())
}

fn has(record: &Map<String, Value>, name: &str) -> bool {
    lookup(record, name).is_some() || lookup(record, &format!("{name}1")).is_some()
}

/// The source of a record.
///
/// # Errors
/// No such field, something else than text, or nothing in it.
pub(crate) fn source_of(
    record: &Map<String, Value>,
    line: u64,
    name: &str,
    path: &Path,
) -> Result<String, DataError> {
    match lookup(record, name) {
        Some(value) => text(value, line, name, path),
        None => {
            let names: Vec<&str> = record.keys().map(String::as_str).collect();
            Err(missing(path, line, name, &names, Wanted::Source))
        }
    }
}

/// The targets of a record, the one to learn first: a text, a list of texts that are all right, or
/// the numbered fields `name1`, `name2`, ...
///
/// # Errors
/// As [`source_of`].
pub(crate) fn targets_of(
    record: &Map<String, Value>,
    line: u64,
    name: &str,
    path: &Path,
) -> Result<Vec<String>, DataError> {
    match lookup(record, name) {
        Some(Value::Array(all)) if !all.is_empty() => {
            all.iter().map(|value| text(value, line, name, path)).collect()
        }
        Some(value) => Ok(vec![text(value, line, name, path)?]),
        None => {
            let each = (1..).map(|number| format!("{name}{number}"));
            let found = each.map_while(|name| Some((lookup(record, &name)?, name)));
            let found = found.map(|(value, name)| text(value, line, &name, path));
            let found = found.collect::<Result<Vec<_>, _>>()?;
            if found.is_empty() {
                let names: Vec<&str> = record.keys().map(String::as_str).collect();
                return Err(missing(path, line, name, &names, Wanted::Target));
            }
            Ok(found)
        }
    }
}

/// The text of a value, without the white space around it.
fn text(value: &Value, line: u64, name: &str, path: &Path) -> Result<String, DataError> {
    let (path, field) = (path.to_path_buf(), name.to_string());
    match value {
        Value::String(text) if text.trim().is_empty() => Err(DataError::BadRecord {
            path,
            line,
            words: format!("the field \"{field}\" is empty, expected one side of a pair"),
            hint: "Take the record out, or name other fields (data.source, data.target)",
        }),
        Value::String(text) => Ok(text.trim().to_string()),
        other => Err(DataError::NotText { path, line, field, found: kind(other) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settled(record: Value, asked: SideNames) -> Result<(String, String), String> {
        let Value::Object(record) = record else { panic!("an object") };
        let sides = settle(&record, 1, &asked, Path::new("x.jsonl"));
        sides.map(|sides| (sides.source, sides.target)).map_err(|error| error.to_string())
    }

    #[test]
    fn usual_names_are_found_and_named_ones_win() {
        let none = SideNames::default;
        let pair = |a: &str, b: &str| Ok((a.to_string(), b.to_string()));
        let record = json!({"fname": "a", "Dialogue": "x y", "summary": "z"});
        assert_eq!(settled(record.clone(), none()), pair("Dialogue", "summary"));
        assert_eq!(settled(json!({"tgt": "a", "src": "b"}), none()), pair("src", "tgt"));
        let nested = json!({"translation": {"de": "a", "en": "b"}});
        assert_eq!(settled(nested.clone(), none()), pair("translation.de", "translation.en"));
        let turned = SideNames { source: Some("translation.en".into()), target: None };
        assert_eq!(settled(nested, turned), pair("translation.en", "translation.de"));
        let one = SideNames { source: None, target: Some("fname".into()) };
        assert_eq!(settled(record, one), pair("Dialogue", "fname"));
        let left = SideNames { source: Some("a".into()), target: None };
        assert_eq!(settled(json!({"a": "1", "b": "2", "n": 3}), left), pair("a", "b"));
        let numbered = json!({"dialogue": "x", "summary1": "y", "summary2": "z"});
        assert_eq!(settled(numbered, none()), pair("dialogue", "summary"));
        let error = settled(json!({"a": "1", "b": "2"}), none()).unwrap_err();
        assert!(error.contains("x.jsonl:1") && error.contains("data.source"), "{error}");
        let wrong = SideNames { source: Some("dialog".into()), target: None };
        let error = settled(json!({"dialogue": "1", "summary": "2"}), wrong).unwrap_err();
        assert!(error.contains("source = \"dialogue\"?"), "{error}");
    }

    #[test]
    fn a_target_may_be_several() {
        let of = |record: Value| {
            let Value::Object(record) = record else { panic!("an object") };
            targets_of(&record, 7, "summary", Path::new("x.jsonl")).map_err(|e| e.to_string())
        };
        let both = Ok(vec!["a".to_string(), "b".to_string()]);
        assert_eq!(of(json!({"summary1": "a", "summary2": " b "})), both);
        assert_eq!(of(json!({"summary": ["a", "b"]})), both);
        let error = of(json!({"summary": "  "})).unwrap_err();
        assert!(error.starts_with("x.jsonl:7: the field \"summary\" is empty"), "{error}");
    }
}
