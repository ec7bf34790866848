//! Questions from SQuAD's JSON (version 1.1, and 2.0 with questions that have no answer) and from
//! records with a question, a context and answers.

use std::path::Path;
use std::sync::Arc;

use heldout_base::nearest::nearest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::DataError;
use crate::inputs::{Format, Input, expand};
use crate::labelled::Place;
use crate::read::{kind, lookup, read_records};

/// The fields of a flat record; what is `None` goes by its usual names. SQuAD's own files have
/// fixed ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerFields {
    pub question: Option<String>,
    pub context: Option<String>,
    pub answers: Option<String>,
}

/// An answer: a piece of its context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub text: String,
    /// Byte of the context at which it begins.
    pub start: usize,
}

/// A question about a context.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Its "id", else "FILE:LINE".
    pub id: String,
    pub question: String,
    /// Shared by the questions of a paragraph.
    pub context: Arc<str>,
    /// Those that are accepted, the first of which is trained on; none where the context has no
    /// answer.
    pub answers: Vec<Answer>,
    pub place: Place,
}

/// Whether every question has to say its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Answers,
    QuestionOnly,
}

const QUESTION_NAMES: [&str; 2] = ["question", "query"];
const CONTEXT_NAMES: [&str; 5] = ["context", "passage", "paragraph", "document", "text"];
const ANSWERS_NAMES: [&str; 2] = ["answers", "answer"];

/// Where something stands, for errors: a file, a line, and the way within SQuAD's nesting.
struct Here<'a> {
    path: &'a Path,
    line: u64,
    /// `data[0].paragraphs[2].qas[1]: `, or empty.
    within: String,
}

impl Here<'_> {
    fn bad(&self, words: impl std::fmt::Display, hint: &'static str) -> DataError {
        let words = format!("{}{words}", self.within);
        DataError::BadRecord { path: self.path.to_path_buf(), line: self.line, words, hint }
    }

    fn step(&self, step: std::fmt::Arguments) -> Self {
        let before = self.within.trim_end_matches(": ");
        let dot = if before.is_empty() { "" } else { "." };
        Here { within: format!("{before}{dot}{step}: "), ..*self }
    }
}

/// Hands on the question that was read, and the flat record that it was read from.
type EachQuestion<'a> =
    dyn FnMut(Question, Option<&Map<String, Value>>) -> Result<(), DataError> + 'a;

/// Reads questions that need no answers, one after another: `visit` gets each with the record that
/// it stands in, where it does not stand in a SQuAD file.
///
/// # Errors
/// Whatever is wrong with an input (file, line, expected, found), or the first error of `visit`.
pub fn for_each_question(
    names: &[String],
    fields: &AnswerFields,
    visit: &mut EachQuestion<'_>,
) -> Result<(), DataError> {
    read_questions(&expand(names)?, 0, fields, Need::QuestionOnly, visit)
}

/// Reads the questions of some files.
///
/// # Errors
/// As [`for_each_question`]; a question without answers where `need` asks for them.
pub(crate) fn read_questions(
    inputs: &[Input],
    first_input: u32,
    fields: &AnswerFields,
    need: Need,
    visit: &mut EachQuestion<'_>,
) -> Result<(), DataError> {
    for (number, input) in (first_input..).zip(inputs) {
        let path = input.path.as_path();
        if input.format == Format::Plain {
            let words = "plain text has no questions".into();
            let hint = "Give SQuAD's JSON, or records with question, context and answers: .jsonl, \
                        .json, .csv or .tsv (also .gz, .zst)";
            return Err(DataError::BadRecord { path: path.to_path_buf(), line: 1, words, hint });
        }
        let (mut count, mut last) = (0, Arc::<str>::from(""));
        read_records(input, &mut |record, line| {
            let place = Place { input: number, line };
            let here = Here { path, line, within: String::new() };
            let reader = Reader { fields, need, place };
            let mut each = |question: Question, flat: Option<&Map<String, Value>>| {
                count += 1;
                visit(question, flat)
            };
            if record.get("data").is_some_and(Value::is_array) {
                return reader.squad(&record, &here, &mut each);
            }
            if record.get("paragraphs").is_some_and(Value::is_array) {
                return reader.article(&record, &here, &mut each);
            }
            let mut question = reader.flat(&record, &here)?;
            // One context for the questions of a paragraph, which stand one after another.
            if *question.context == *last {
                question.context = last.clone();
            }
            last = question.context.clone();
            each(question, Some(&record))
        })?;
        if count == 0 {
            return Err(DataError::Empty { path: path.to_path_buf() });
        }
    }
    Ok(())
}

struct Reader<'a> {
    fields: &'a AnswerFields,
    need: Need,
    place: Place,
}

const SQUAD_HINT: &str = "SQuAD's files are {\"data\": [{\"paragraphs\": [{\"context\": ..., \
                          \"qas\": [{\"id\", \"question\", \"answers\"}]}]}]}";

impl Reader<'_> {
    fn squad(
        &self,
        file: &Map<String, Value>,
        here: &Here,
        each: &mut EachQuestion<'_>,
    ) -> Result<(), DataError> {
        for (number, article) in list(file, "data", here)?.iter().enumerate() {
            let here = here.step(format_args!("data[{number}]"));
            let article = article.as_object().ok_or_else(|| here.bad("not an object", SQUAD_HINT));
            self.article(article?, &here, each)?;
        }
        Ok(())
    }

    fn article(
        &self,
        article: &Map<String, Value>,
        here: &Here,
        each: &mut EachQuestion<'_>,
    ) -> Result<(), DataError> {
        for (number, paragraph) in list(article, "paragraphs", here)?.iter().enumerate() {
            let here = here.step(format_args!("paragraphs[{number}]"));
            let paragraph =
                paragraph.as_object().ok_or_else(|| here.bad("not an object", SQUAD_HINT))?;
            let context: Arc<str> = text(paragraph, "context", &here)?.into();
            for (number, question) in list(paragraph, "qas", &here)?.iter().enumerate() {
                let here = here.step(format_args!("qas[{number}]"));
                let question =
                    question.as_object().ok_or_else(|| here.bad("not an object", SQUAD_HINT))?;
                let names = ["question", "answers"];
                each(self.question(question, names, context.clone(), &here)?, None)?;
            }
        }
        Ok(())
    }

    fn flat(&self, record: &Map<String, Value>, here: &Here) -> Result<Question, DataError> {
        let AnswerFields { question, context, answers } = self.fields;
        let question = named(record, question, &QUESTION_NAMES, "question", here)?;
        let context = named(record, context, &CONTEXT_NAMES, "context", here)?;
        let answers = match named(record, answers, &ANSWERS_NAMES, "answers", here) {
            Ok(name) => name,
            Err(_) if self.need == Need::QuestionOnly => "answers".into(),
            // SQuAD 2.0 may leave them out where there is none.
            Err(_) if is_impossible(record) => "answers".into(),
            Err(error) => return Err(error),
        };
        let context = text(record, &context, here)?.into();
        self.question(record, [&question, &answers], context, here)
    }

    fn question(
        &self,
        record: &Map<String, Value>,
        [question, answers]: [&str; 2],
        context: Arc<str>,
        here: &Here,
    ) -> Result<Question, DataError> {
        if context.trim().is_empty() {
            return Err(here.bad("the context is empty", "Take the record out, or mend it"));
        }
        let question = text(record, question, here)?;
        if question.trim().is_empty() {
            return Err(here.bad("the question is empty", "Take the record out, or mend it"));
        }
        let id = match lookup(record, "id") {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => format!("{}:{}", here.path.display(), here.line),
        };
        let found = if is_impossible(record) { None } else { lookup(record, answers) };
        let answers = match found {
            Some(found) => self.answers(found, record, &context, here)?,
            None if self.need == Need::Answers && !is_impossible(record) => {
                return Err(here.bad(
                    format!("the question has no field \"{answers}\""),
                    "A question that the context does not answer says so: \"answers\": []",
                ));
            }
            None => Vec::new(),
        };
        let (question, place) = (question.to_string(), self.place);
        Ok(Question { id, question, context, answers, place })
    }

    /// `[{"text", "answer_start"}]`, `{"text": [...], "answer_start": [...]}`, one such object, a
    /// text beside a field "answer_start", or texts alone.
    fn answers(
        &self,
        found: &Value,
        record: &Map<String, Value>,
        context: &str,
        here: &Here,
    ) -> Result<Vec<Answer>, DataError> {
        // What is only to be answered may hold anything.
        let lenient = self.need == Need::QuestionOnly;
        let pairs = match pairs(found, lookup(record, "answer_start"), here) {
            Err(_) if lenient => return Ok(Vec::new()),
            pairs => pairs?,
        };
        let mut answers = Vec::new();
        for (text, start) in pairs {
            match located(text, start, context, here) {
                Ok(answer) => answers.push(answer),
                Err(_) if lenient => {}
                Err(error) => return Err(error),
            }
        }
        Ok(answers)
    }
}

fn is_impossible(record: &Map<String, Value>) -> bool {
    record.get("is_impossible").is_some_and(|value| *value == Value::Bool(true))
}

/// The field that was asked for, else the first of the usual names that the record has.
fn named(
    record: &Map<String, Value>,
    asked: &Option<String>,
    usual: &[&str],
    what: &str,
    here: &Here,
) -> Result<String, DataError> {
    let has = |name: &&str| lookup(record, name).is_some();
    let found = match asked {
        Some(name) => Some(name.as_str()).filter(has),
        None => usual.iter().copied().find(has),
    };
    if let Some(found) = found {
        return Ok(found.to_string());
    }
    let names = || record.keys().map(String::as_str);
    let wanted = asked.as_deref().unwrap_or(usual[0]);
    let hint = match nearest(wanted, names()) {
        Some(near) => format!(". Did you mean {what} = \"{near}\"?"),
        None => format!(". Name the one that holds the {what} (data.{what}), or mend the record"),
    };
    let listed: Vec<String> = names().take(12).map(|name| format!("\"{name}\"")).collect();
    Err(DataError::MissingField {
        path: here.path.to_path_buf(),
        line: here.line,
        field: wanted.to_string(),
        found: if listed.is_empty() { "no fields".into() } else { listed.join(", ") },
        hint,
    })
}

fn text<'a>(record: &'a Map<String, Value>, name: &str, here: &Here) -> Result<&'a str, DataError> {
    match lookup(record, name) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => {
            let words = format!("the field \"{name}\" holds {}, expected text", kind(other));
            Err(here.bad(words, "Name a field that holds text, or convert it"))
        }
        None => Err(here.bad(format!("no field \"{name}\""), SQUAD_HINT)),
    }
}

fn list<'a>(
    record: &'a Map<String, Value>,
    name: &str,
    here: &Here,
) -> Result<&'a [Value], DataError> {
    match record.get(name) {
        Some(Value::Array(list)) => Ok(list),
        Some(other) => {
            let words = format!("the field \"{name}\" holds {}, expected a list", kind(other));
            Err(here.bad(words, SQUAD_HINT))
        }
        None => Err(here.bad(format!("no field \"{name}\""), SQUAD_HINT)),
    }
}

/// Texts with the characters at which they begin, as far as these are given.
fn pairs<'a>(
    found: &'a Value,
    beside: Option<&Value>,
    here: &Here,
) -> Result<Vec<(&'a str, Option<u64>)>, DataError> {
    const HINT: &str = "Expected [{\"text\": ..., \"answer_start\": characters from 0}], or [] \
                        where the context has no answer";
    let start = |value: Option<&Value>| match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(digits)) if digits.trim().parse::<u64>().is_ok() => {
            Ok(digits.trim().parse().ok())
        }
        Some(value) => value.as_u64().map(Some).ok_or_else(|| {
            let words = format!("answer_start holds {value}, expected a whole number");
            here.bad(words, "It counts the context's characters from 0")
        }),
    };
    match found {
        Value::Null => Ok(Vec::new()),
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![(text, start(beside)?)]),
        Value::Array(list) => {
            let each = |value: &'a Value| match value {
                Value::String(text) => Ok((text.as_str(), None)),
                Value::Object(answer) => match answer.get("text") {
                    Some(Value::String(text)) => {
                        Ok((text.as_str(), start(answer.get("answer_start"))?))
                    }
                    _ => Err(here.bad("an answer has no field \"text\"", HINT)),
                },
                other => Err(here.bad(format!("an answer is {}", kind(other)), HINT)),
            };
            list.iter().map(each).collect()
        }
        Value::Object(answer) => match (answer.get("text"), answer.get("answer_start")) {
            (Some(Value::String(text)), at) => Ok(vec![(text, start(at)?)]),
            (Some(Value::Array(texts)), at) => {
                let starts = at.and_then(Value::as_array);
                if starts.is_some_and(|starts| starts.len() != texts.len()) {
                    return Err(here.bad("not as many answer_start as texts", HINT));
                }
                let each = |(number, text): (usize, &'a Value)| {
                    let text = text.as_str().ok_or_else(|| here.bad("an answer is no text", HINT));
                    Ok((text?, start(starts.and_then(|starts| starts.get(number)))?))
                };
                texts.iter().enumerate().map(each).collect()
            }
            _ => Err(here.bad("the answers have no field \"text\"", HINT)),
        },
        other => Err(here.bad(format!("the answers are {}", kind(other)), HINT)),
    }
}

/// Checks that an answer stands where it says. Without a place it is the first one.
fn located(
    text: &str,
    start: Option<u64>,
    context: &str,
    here: &Here,
) -> Result<Answer, DataError> {
    if text.trim().is_empty() {
        let hint = "A question that the context does not answer says so: \"answers\": []";
        return Err(here.bad("an answer is empty", hint));
    }
    let first = context.find(text);
    let byte = |characters: u64| {
        let mut places = context.char_indices().map(|(byte, _)| byte);
        places.nth(characters as usize).unwrap_or(context.len())
    };
    match (start, first) {
        (Some(start), _) if context[byte(start)..].starts_with(text) => {
            Ok(Answer { text: text.into(), start: byte(start) })
        }
        (None, Some(start)) => Ok(Answer { text: text.into(), start }),
        (_, None) => Err(here.bad(
            format!("the answer {:?} is not in the context", brief(text)),
            "Answers are copied from their context letter for letter: mend it, or take the \
             question out",
        )),
        (Some(start), Some(first)) => {
            let stands: String =
                context[byte(start)..].chars().take(text.chars().count()).collect();
            let first = context[..first].chars().count();
            Err(here.bad(
                format!(
                    "the answer {:?} does not stand at character {start} of the context, where \
                     {:?} stands; it first stands at {first}",
                    brief(text),
                    brief(&stands)
                ),
                "answer_start counts characters (not bytes, not tokens) from 0: mend it, or leave \
                 it out to have the first place taken",
            ))
        }
    }
}

fn brief(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    if start.len() < text.len() { start + "..." } else { start }
}
