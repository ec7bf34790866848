//! Reads one table of a recipe against the list of keys: names, types and ranges, with the place of
//! everything kept.

use heldout_base::nearest::nearest;

use super::amount::Amount;
use super::error::{Place, RecipeError};
use super::keys::{Key, Takes, keys_of};
use super::tree::{Entry, Node, Table, Value};

/// A value somebody wrote, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Set<T> {
    pub value: T,
    pub place: Place,
}

/// Which part of the data a split takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// This share of the documents, drawn by seed.
    Share(f64),
    /// The last share of the text, uncut.
    Tail(f64),
    /// Files, folders or globs.
    Paths(Vec<String>),
}

/// One table of the recipe; absent tables read as empty.
pub struct Section<'a> {
    name: &'static str,
    table: Option<&'a Table>,
}

impl<'a> Section<'a> {
    /// The table of that name. With no `extra` names every unknown key is an error here.
    pub fn open(
        root: &'a Table,
        name: &'static str,
        extra: &[&'static str],
    ) -> Result<Section<'a>, RecipeError> {
        let Some(entry) = root.get(name) else {
            return Ok(Section { name, table: None });
        };
        let Value::Table(table) = &entry.node.value else {
            return Err(RecipeError::at(
                &entry.key_place,
                format!("`{name}` must be a table, found {}", entry.node.value.kind()),
            )
            .note(format!("write it as [{name}] with its keys below")));
        };
        let known = || keys_of(name).map(|k| k.name).chain(extra.iter().copied());
        for entry in &table.entries {
            if !known().any(|k| k == entry.key) {
                return Err(unknown_key(entry, &format!("[{name}]"), known()));
            }
        }
        Ok(Section { name, table: Some(table) })
    }

    fn key(&self, name: &str) -> &'static Key {
        keys_of(self.name)
            .find(|k| k.name == name)
            .unwrap_or_else(|| panic!("{}.{name} is missing from the list of keys", self.name))
    }

    pub fn entry(&self, name: &str) -> Option<&'a Entry> {
        self.table.and_then(|t| t.get(name))
    }

    /// Where the key was written, for errors about settings that have no effect.
    pub fn place(&self, name: &str) -> Option<&'a Place> {
        self.entry(name).map(|e| &e.key_place)
    }

    fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Node, &Key) -> Result<T, RecipeError>,
    ) -> Result<Option<Set<T>>, RecipeError> {
        let key = self.key(name);
        let Some(entry) = self.entry(name) else { return Ok(None) };
        let value = read(&entry.node, key)?;
        Ok(Some(Set { value, place: entry.node.place.clone() }))
    }

    pub fn count(&self, name: &str) -> Result<Option<Set<u64>>, RecipeError> {
        self.read(name, |node, key| match (&node.value, key.takes) {
            (Value::Integer(n), Takes::Count { min, max }) => within(*n, min, max, node, key),
            _ => Err(wrong_type(node, key)),
        })
    }

    /// A count, or `None` for the word that stands beside it.
    pub fn count_or(&self, name: &str) -> Result<Option<Set<Option<u64>>>, RecipeError> {
        self.read(name, |node, key| match (&node.value, key.takes) {
            (Value::Integer(n), Takes::CountOr { min, max, .. }) => {
                within(*n, min, max, node, key).map(Some)
            }
            (Value::Text(text), Takes::CountOr { word, .. }) if text == word => Ok(None),
            _ => Err(wrong_type(node, key)),
        })
    }

    pub fn number(&self, name: &str) -> Result<Option<Set<f64>>, RecipeError> {
        self.read(name, |node, key| {
            let number = number_of(node).ok_or_else(|| wrong_type(node, key))?;
            let inside = match key.takes {
                Takes::Number { above, most } => number > above && number <= most,
                Takes::Closed { least, most } => number >= least && number <= most,
                _ => panic!("{} is not a number in the list of keys", key.name),
            };
            if inside {
                Ok(number)
            } else {
                Err(out_of_range(node, key.name, &key.takes.allowed()))
            }
        })
    }

    pub fn flag(&self, name: &str) -> Result<Option<Set<bool>>, RecipeError> {
        self.read(name, |node, key| match &node.value {
            Value::Flag(flag) => Ok(*flag),
            _ => Err(wrong_type(node, key)),
        })
    }

    pub fn text(&self, name: &str) -> Result<Option<Set<String>>, RecipeError> {
        self.read(name, |node, key| match &node.value {
            Value::Text(text) if !text.is_empty() => Ok(text.clone()),
            _ => Err(wrong_type(node, key)),
        })
    }

    pub fn texts(&self, name: &str) -> Result<Option<Set<Vec<String>>>, RecipeError> {
        self.read(name, |node, key| texts_of(node).ok_or_else(|| wrong_type(node, key)))
    }

    pub fn choice(&self, name: &str) -> Result<Option<Set<&'static str>>, RecipeError> {
        self.read(name, |node, key| {
            let Takes::Choice(among) = key.takes else {
                panic!("{} is no choice in the list of keys", key.name)
            };
            let Value::Text(text) = &node.value else { return Err(wrong_type(node, key)) };
            among
                .iter()
                .find(|c| *c == text)
                .copied()
                .ok_or_else(|| unknown_word(node, key.name, text, among.iter().copied()))
        })
    }

    pub fn amount(&self, name: &str) -> Result<Option<Set<Amount>>, RecipeError> {
        self.read(name, |node, key| {
            let Takes::Amount(units) = key.takes else {
                panic!("{} is no amount in the list of keys", key.name)
            };
            let allowed = format!("allowed: {}", key.takes.allowed());
            let Value::Text(text) = &node.value else {
                return Err(wrong_type(node, key));
            };
            let amount = Amount::parse(text).map_err(|why| {
                RecipeError::at(&node.place, format!("`{}`: {why}", key.name)).note(&allowed)
            })?;
            if units.contains(&amount.unit()) {
                return Ok(amount);
            }
            let message = format!("`{}` cannot be given as \"{amount}\"", key.name);
            Err(RecipeError::at(&node.place, message).note(&allowed))
        })
    }

    pub fn part(&self, name: &str) -> Result<Option<Set<Part>>, RecipeError> {
        self.read(name, |node, key| {
            let share = |share: f64| {
                if share > 0.0 && share < 1.0 {
                    Ok(share)
                } else {
                    Err(out_of_range(node, key.name, "a share above 0 and below 1"))
                }
            };
            match &node.value {
                Value::Integer(_) | Value::Float(_) => {
                    Ok(Part::Share(share(number_of(node).unwrap_or(f64::NAN))?))
                }
                Value::Text(text) => {
                    let (tail, rest) = match text.strip_prefix("last ") {
                        Some(rest) => (true, rest),
                        None => (false, text.as_str()),
                    };
                    match rest.trim().strip_suffix('%').map(|n| n.trim().parse::<f64>()) {
                        Some(Ok(n)) if tail => Ok(Part::Tail(share(n / 100.0)?)),
                        Some(Ok(n)) => Ok(Part::Share(share(n / 100.0)?)),
                        _ => Ok(Part::Paths(texts_of(node).ok_or_else(|| wrong_type(node, key))?)),
                    }
                }
                Value::List(_) => {
                    Ok(Part::Paths(texts_of(node).ok_or_else(|| wrong_type(node, key))?))
                }
                _ => Err(wrong_type(node, key)),
            }
        })
    }
}

/// The number a node holds, if it holds one.
pub fn number_of(node: &Node) -> Option<f64> {
    match node.value {
        Value::Integer(n) => Some(n as f64),
        Value::Float(n) => Some(n),
        _ => None,
    }
}

fn texts_of(node: &Node) -> Option<Vec<String>> {
    match &node.value {
        Value::Text(text) if !text.is_empty() => Some(vec![text.clone()]),
        Value::List(items) if !items.is_empty() => items
            .iter()
            .map(|item| match &item.value {
                Value::Text(text) if !text.is_empty() => Some(text.clone()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

fn within(n: i64, min: u64, max: u64, node: &Node, key: &Key) -> Result<u64, RecipeError> {
    match u64::try_from(n) {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        _ => Err(out_of_range(node, key.name, &key.takes.allowed())),
    }
}

fn wrong_type(node: &Node, key: &Key) -> RecipeError {
    let found = match &node.value {
        Value::Text(text) => format!("the text \"{text}\""),
        other => other.kind().to_string(),
    };
    RecipeError::at(&node.place, format!("`{}` cannot be {found}", key.name))
        .note(format!("allowed: {}", key.takes.allowed()))
}

/// The error for a value outside its range, with the range; not-a-number is named as such.
pub fn out_of_range(node: &Node, name: &str, allowed: &str) -> RecipeError {
    let why = match number_of(node) {
        Some(n) if !n.is_finite() => format!("`{name}` must be a finite number"),
        _ => format!("`{name}` is out of range"),
    };
    RecipeError::at(&node.place, why).note(format!("allowed: {allowed}"))
}

/// The error for a key nobody knows, with the nearest one that exists.
pub fn unknown_key<'k>(
    entry: &Entry,
    within: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> RecipeError {
    let error =
        RecipeError::at(&entry.key_place, format!("unknown key `{}` in {within}", entry.key));
    match nearest(&entry.key, known.clone()) {
        Some(close) => error.note(format!("did you mean `{close}`?")),
        None => error.note(format!("known keys: {}", known.collect::<Vec<_>>().join(", "))),
    }
}

/// The error for a word that is none of the choices.
pub fn unknown_word<'k>(
    node: &Node,
    name: &str,
    word: &str,
    among: impl Iterator<Item = &'k str> + Clone,
) -> RecipeError {
    let error = RecipeError::at(&node.place, format!("`{name}` has no choice \"{word}\""));
    let all = among.clone().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ");
    match nearest(word, among) {
        Some(close) => error.note(format!("did you mean \"{close}\"?")),
        None => error,
    }
    .note(format!("allowed: {all}"))
}
