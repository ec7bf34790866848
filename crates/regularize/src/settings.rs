//! From what a recipe says about a technique to typed knobs, checked against the card.

use crate::error::SettingError;
use crate::on::{On, Part};
use heldout_base::card::{Card, Default_, Knob, Schedulable};
use heldout_base::nearest::nearest;
use heldout_base::schedule::{Schedule, Shape};
use std::collections::BTreeMap;

/// One value of a recipe.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A word or short text.
    Text(String),
    /// A value over the run.
    Schedule(Schedule),
    /// Words.
    List(Vec<String>),
}

impl Value {
    /// What `true` means in a recipe.
    pub fn yes() -> Value {
        Value::Text("yes".to_owned())
    }

    /// What `false` means in a recipe, and the word that switches something off.
    pub fn off() -> Value {
        Value::Text("off".to_owned())
    }

    fn describe(&self) -> String {
        match self {
            Value::Number(number) => format!("{number}"),
            Value::Text(text) => format!("{text:?}"),
            Value::Schedule(schedule) => format!("the schedule {}", schedule.describe()),
            Value::List(words) => format!("the list {words:?}"),
        }
    }
}

/// What a recipe says under one technique's key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Given instead of a table: the main knob, which is the card's first.
    pub main: Option<Value>,
    /// Given in a table, by knob.
    pub knobs: BTreeMap<String, Value>,
}

impl Settings {
    /// A bare value, such as `dropout = 0.1`.
    pub fn bare(value: Value) -> Self {
        Self { main: Some(value), knobs: BTreeMap::new() }
    }

    /// A table, such as `{ amount = 0.1, to = "wrong" }`.
    pub fn table<'a>(knobs: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        let knobs = knobs.into_iter().map(|(knob, value)| (knob.to_owned(), value)).collect();
        Self { main: None, knobs }
    }

    /// Whether the technique is switched off by the word `off` (or `no`, or `false`).
    pub fn is_off(&self) -> bool {
        matches!(&self.main, Some(Value::Text(text)) if is_off_word(text))
    }
}

fn is_off_word(text: &str) -> bool {
    text == "off" || text == "no"
}

/// Where a schedule is looked at. Shapes are smooth or stepped between these points, so they show
/// every extreme.
const POINTS: u64 = 1000;

/// Reads one technique's settings; every method names the knob in its errors.
pub struct Reader<'a> {
    card: &'static Card,
    settings: &'a Settings,
}

impl<'a> Reader<'a> {
    /// Refuses knobs that the card does not have.
    pub fn new(card: &'static Card, settings: &'a Settings) -> Result<Self, SettingError> {
        for knob in settings.knobs.keys() {
            if card.knob(knob).is_none() {
                let names: Vec<&str> = card.knobs.iter().map(|knob| knob.name).collect();
                return Err(SettingError::UnknownKnob {
                    technique: card.name.to_owned(),
                    knob: knob.clone(),
                    nearest: nearest(knob, names.iter().copied()).map(str::to_owned),
                    known: names.join(", "),
                });
            }
        }
        Ok(Self { card, settings })
    }

    /// Whether the recipe itself gives this knob.
    pub fn is_given(&self, knob: &str) -> bool {
        self.value(self.knob(knob)).is_some()
    }

    /// A schedule that may be absent: neither given nor with a default, or given as `off`.
    pub fn schedule_or_off(&self, name: &str) -> Result<Option<Schedule>, SettingError> {
        let knob = self.knob(name);
        let schedule = match self.value(knob) {
            None => match knob.default {
                Default_::Number(number) => Schedule::constant(number),
                _ => return Ok(None),
            },
            Some(Value::Text(text)) if is_off_word(text) => return Ok(None),
            Some(Value::Number(number)) => Schedule::constant(*number),
            Some(Value::Schedule(schedule)) if knob.schedulable == Schedulable::Yes => {
                schedule.clone()
            }
            Some(other) => return Err(self.wrong_kind(knob, other)),
        };
        self.check_schedule(knob, &schedule)?;
        Ok(Some(schedule))
    }

    /// A schedule that the technique cannot do without, and that must not be zero throughout.
    pub fn schedule(&self, name: &str) -> Result<Schedule, SettingError> {
        let schedule = self.schedule_or_off(name)?.ok_or_else(|| self.missing(name))?;
        if schedule.is_zero() {
            return Err(self.zero(name));
        }
        Ok(schedule)
    }

    /// The highest value of a schedule, where that is above `most`.
    pub fn above(&self, name: &str, most: f64) -> Result<Option<f64>, SettingError> {
        let schedule = self.schedule(name)?;
        let values = (0..=POINTS).map(|step| schedule.value(step, POINTS));
        let highest = values.fold(schedule.peak, f64::max);
        Ok((highest > most).then_some(highest))
    }

    /// A number in the knob's range.
    pub fn number(&self, name: &str) -> Result<f64, SettingError> {
        let knob = self.knob(name);
        let number = match (self.value(knob), knob.default) {
            (Some(Value::Number(number)), _) => *number,
            (Some(other), _) => return Err(self.wrong_kind(knob, other)),
            (None, Default_::Number(number)) => number,
            (None, _) => return Err(self.missing(name)),
        };
        self.check_range(knob, number)?;
        Ok(number)
    }

    /// A whole number in the knob's range.
    pub fn whole(&self, name: &str) -> Result<usize, SettingError> {
        let number = self.number(name)?;
        if number.fract() != 0.0 {
            let found = format!("{number}");
            return Err(self.wrong(name, "a whole number", found));
        }
        Ok(number as usize)
    }

    /// One of the knob's words.
    pub fn word(&self, name: &str) -> Result<&'static str, SettingError> {
        let knob = self.knob(name);
        let found = match (self.value(knob), knob.default) {
            (Some(Value::Text(text)), _) => text.as_str(),
            (Some(other), _) => return Err(self.wrong_kind(knob, other)),
            (None, Default_::Text(text)) => text,
            (None, _) => return Err(self.missing(name)),
        };
        // `false` in a recipe arrives as "off".
        let meant = if found == "off" && knob.choices.contains(&"no") { "no" } else { found };
        let choice = knob.choices.iter().find(|choice| **choice == meant);
        choice.copied().ok_or_else(|| self.unknown_word(name, found, knob.choices))
    }

    /// Free text, or nothing.
    pub fn text(&self, name: &str) -> Result<String, SettingError> {
        let knob = self.knob(name);
        match (self.value(knob), knob.default) {
            (Some(Value::Text(text)), _) => Ok(text.clone()),
            (Some(other), _) => Err(self.wrong_kind(knob, other)),
            (None, Default_::Text(text)) => Ok(text.to_owned()),
            (None, _) => Err(self.missing(name)),
        }
    }

    /// One or several free texts.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, SettingError> {
        match self.value(self.knob(name)) {
            Some(Value::List(texts)) => Ok(texts.clone()),
            _ => Ok(vec![self.text(name)?]),
        }
    }

    /// One or several of the knob's words, each once, in the knob's order.
    pub fn words(&self, name: &str) -> Result<Vec<&'static str>, SettingError> {
        let knob = self.knob(name);
        let given = self.texts(name)?;
        if given.is_empty() {
            return Err(self.no_effect(name, "the list is empty", "name some, or leave it out"));
        }
        if let Some(found) = given.iter().find(|word| !knob.choices.contains(&word.as_str())) {
            return Err(self.unknown_word(name, found, knob.choices));
        }
        Ok(knob.choices.iter().copied().filter(|c| given.iter().any(|g| g == c)).collect())
    }

    /// A value that names something which cannot be used, with the way out.
    pub fn unusable(&self, knob: &str, reason: String, remedy: &str) -> SettingError {
        unusable(self.card, knob, reason, remedy)
    }

    /// The knob `on`: kinds of tensors.
    pub fn on(&self) -> Result<On, SettingError> {
        let knob = self.knob("on");
        let words = match self.value(knob) {
            None => return Ok(On::default()),
            Some(Value::Text(word)) => std::slice::from_ref(word),
            Some(Value::List(words)) => words,
            Some(other) => return Err(self.wrong_kind(knob, other)),
        };
        if words.is_empty() {
            return Err(self.no_effect("on", "the list is empty", ON_REMEDY));
        }
        let part = |word: &String| {
            Part::parse(word).ok_or_else(|| self.unknown_word("on", word, &Part::WORDS))
        };
        Ok(On(words.iter().map(part).collect::<Result<_, _>>()?))
    }

    /// A setting that does nothing, with the way out.
    pub fn no_effect(&self, knob: &str, reason: &str, remedy: &str) -> SettingError {
        no_effect(self.card, knob, reason, remedy)
    }

    /// A value of the wrong kind.
    pub fn wrong(&self, knob: &str, expected: &str, found: String) -> SettingError {
        SettingError::WrongKind {
            technique: self.card.name.to_owned(),
            knob: knob.to_owned(),
            expected: expected.to_owned(),
            found,
        }
    }

    fn knob(&self, name: &str) -> &'static Knob {
        self.card.knob(name).expect("a technique reads the knobs of its own card")
    }

    fn value(&self, knob: &Knob) -> Option<&'a Value> {
        let main = self.settings.main.as_ref().filter(|_| knob.name == self.card.knobs[0].name);
        main.or_else(|| self.settings.knobs.get(knob.name))
    }

    fn check_schedule(&self, knob: &Knob, schedule: &Schedule) -> Result<(), SettingError> {
        schedule.check().map_err(|source| SettingError::Schedule {
            technique: self.card.name.to_owned(),
            knob: knob.name.to_owned(),
            source,
        })?;
        if matches!(schedule.shape, Shape::Plateau { .. }) {
            let expected = "a schedule that does not follow the held-out loss";
            return Err(self.wrong(knob.name, expected, "plateau, which is for the rate".into()));
        }
        for step in 0..=POINTS {
            self.check_range(knob, schedule.value(step, POINTS))?;
        }
        self.check_range(knob, schedule.peak)
    }

    fn check_range(&self, knob: &Knob, found: f64) -> Result<(), SettingError> {
        let (low, high) = knob.range;
        if low <= found && found <= high {
            return Ok(());
        }
        let unit = if knob.unit.is_empty() { String::new() } else { format!(" ({})", knob.unit) };
        let allowed = if high == f64::INFINITY {
            format!("{low} or more{unit}")
        } else {
            format!("{low} to {high}{unit}")
        };
        Err(SettingError::OutOfRange {
            technique: self.card.name.to_owned(),
            knob: knob.name.to_owned(),
            found,
            allowed,
        })
    }

    fn zero(&self, name: &str) -> SettingError {
        let remedy = format!("remove `{0}`, or write {0} = \"off\"", self.card.name);
        self.no_effect(name, "it is zero throughout", &remedy)
    }

    fn missing(&self, name: &str) -> SettingError {
        SettingError::Missing {
            technique: self.card.name.to_owned(),
            knob: name.to_owned(),
            meaning: self.knob(name).meaning.to_owned(),
        }
    }

    fn unknown_word(&self, knob: &str, found: &str, choices: &[&'static str]) -> SettingError {
        SettingError::UnknownWord {
            technique: self.card.name.to_owned(),
            knob: knob.to_owned(),
            found: found.to_owned(),
            nearest: nearest(found, choices.iter().copied()).map(str::to_owned),
            known: choices.join(", "),
        }
    }

    fn wrong_kind(&self, knob: &Knob, found: &Value) -> SettingError {
        let expected = match (knob.choices, knob.schedulable) {
            ([], Schedulable::Yes) => "a number or a schedule".to_owned(),
            ([], Schedulable::No) if matches!(knob.default, Default_::Text(_)) => "text".to_owned(),
            ([], Schedulable::No) => "a number".to_owned(),
            (choices, _) => format!("one of {}", choices.join(", ")),
        };
        self.wrong(knob.name, &expected, found.describe())
    }
}

pub(crate) const ON_REMEDY: &str = "name kinds of tensors that the model has, such as \"matrix\"";

/// A setting that cannot be used, with the way out.
pub(crate) fn unusable(card: &Card, knob: &str, reason: String, remedy: &str) -> SettingError {
    SettingError::Unusable {
        technique: card.name.to_owned(),
        knob: knob.to_owned(),
        reason,
        remedy: remedy.to_owned(),
    }
}

/// A setting that does nothing, with the way out.
pub(crate) fn no_effect(card: &Card, knob: &str, reason: &str, remedy: &str) -> SettingError {
    SettingError::NoEffect {
        technique: card.name.to_owned(),
        knob: knob.to_owned(),
        reason: reason.to_owned(),
        remedy: remedy.to_owned(),
    }
}
