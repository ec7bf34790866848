//! Recipe text as a tree of values that remember where they were written.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Place, RecipeError, Source};

/// One value of a recipe.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Integer(i64),
    Float(f64),
    Flag(bool),
    Text(String),
    List(Vec<Node>),
    Table(Table),
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub place: Place,
}

/// A key, where it stands, and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_place: Place,
    pub node: Node,
}

/// A table's entries in the order they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub entries: Vec<Entry>,
}

impl Table {
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.key == key)
    }
}

impl Value {
    /// The value's type as a user would say it.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Flag(_) => "true or false",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// Reads TOML text. Errors carry the parser's message and place.
pub fn parse(source: &Arc<Source>) -> Result<Table, RecipeError> {
    let parsed = DeTable::parse(&source.text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let place = Place { source: source.clone(), span };
        RecipeError::at(&place, format!("not valid TOML: {}", error.message().trim()))
    })?;
    table(source, parsed.get_ref())
}

fn table(source: &Arc<Source>, from: &DeTable<'_>) -> Result<Table, RecipeError> {
    let mut entries = Vec::with_capacity(from.len());
    for (key, value) in from.iter() {
        let key_place = Place { source: source.clone(), span: key.span() };
        let node = node(source, value)?;
        entries.push(Entry { key: key.get_ref().to_string(), key_place, node });
    }
    entries.sort_by_key(|e| e.key_place.span.start);
    Ok(Table { entries })
}

fn node(source: &Arc<Source>, from: &Spanned<DeValue<'_>>) -> Result<Node, RecipeError> {
    let place = Place { source: source.clone(), span: from.span() };
    let value = match from.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Integer(integer) => Value::Integer(
            i64::from_str_radix(integer.as_str(), integer.radix())
                .map_err(|_| RecipeError::at(&place, "this integer does not fit 64 bits"))?,
        ),
        DeValue::Float(float) => Value::Float(
            float.as_str().parse().map_err(|_| RecipeError::at(&place, "this is not a number"))?,
        ),
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| node(source, item)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(inner) => Value::Table(table(source, inner)?),
        DeValue::Datetime(_) => {
            return Err(RecipeError::at(&place, "no setting takes a date or time")
                .note("quote it if a text is meant"));
        }
    };
    Ok(Node { value, place })
}

/// One `a.b=c` argument as a tree of depth two or more. A value that is no TOML (`20 epochs`,
/// `llama`) is taken as text, so that a shell needs no inner quotes.
pub fn parse_setting(setting: &str) -> Result<Table, RecipeError> {
    let source = Arc::new(Source { name: "command line".into(), text: format!("--set {setting}") });
    let offset = "--set ".len();
    let whole = Place { source: source.clone(), span: offset..source.text.len() };
    let malformed = || {
        RecipeError::at(&whole, "expected TABLE.KEY=VALUE")
            .note("for example: --set regularize.dropout=0.2")
    };
    let (path, text) = setting.split_once('=').ok_or_else(malformed)?;
    let keys: Vec<&str> = path.split('.').map(str::trim).collect();
    if keys.len() < 2 || keys.iter().any(|k| k.is_empty()) {
        return Err(malformed());
    }
    let start = offset + path.len() + 1;
    let place = Place { source: source.clone(), span: start..source.text.len() };
    let value = bare_value(&source, text.trim(), &place)?;
    let mut node = Node { value, place };
    let mut end = offset + path.len();
    for key in keys.iter().rev() {
        let begin = end - path[..end - offset].rsplit('.').next().unwrap_or("").len();
        let key_place = Place { source: source.clone(), span: begin..end };
        end = begin.saturating_sub(1);
        let entries = vec![Entry { key: key.to_string(), key_place: key_place.clone(), node }];
        node = Node { value: Value::Table(Table { entries }), place: key_place };
    }
    match node.value {
        Value::Table(table) => Ok(table),
        _ => unreachable!("the loop above wraps at least two keys"),
    }
}

fn bare_value(source: &Arc<Source>, text: &str, place: &Place) -> Result<Value, RecipeError> {
    let Ok(parsed) = DeValue::parse(text) else {
        return Ok(Value::Text(text.to_string()));
    };
    let mut value = node(source, &parsed)?;
    // Spans inside the value count from its own start; errors point at the whole value instead.
    set_place(&mut value, place);
    Ok(value.value)
}

fn set_place(node: &mut Node, place: &Place) {
    node.place = place.clone();
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|n| set_place(n, place)),
        Value::Table(table) => {
            for entry in &mut table.entries {
                entry.key_place = place.clone();
                set_place(&mut entry.node, place);
            }
        }
        _ => {}
    }
}

/// Key under which a technique's main knob is kept when `name = 0.1` meets `name.other = 2`.
pub const MAIN_KNOB: &str = "";

/// Lays `over` on top of `base`: tables merge key by key, anything else replaces.
pub fn merge(base: &mut Table, over: Table) {
    for entry in over.entries {
        let Some(old) = base.entries.iter_mut().find(|e| e.key == entry.key) else {
            base.entries.push(entry);
            continue;
        };
        let main_and_table = matches!(
            (&old.node.value, &entry.node.value),
            (Value::Integer(_) | Value::Float(_), Value::Table(_))
        );
        if main_and_table {
            let main = Entry {
                key: MAIN_KNOB.into(),
                key_place: old.key_place.clone(),
                node: old.node.clone(),
            };
            old.node.value = Value::Table(Table { entries: vec![main] });
        }
        match (&mut old.node.value, entry.node.value) {
            (Value::Table(below), Value::Table(above)) => merge(below, above),
            (_, value) => *old = Entry { node: Node { value, ..entry.node }, ..entry },
        }
    }
}
