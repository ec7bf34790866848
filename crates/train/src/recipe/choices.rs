//! Chooses between what was written and a default, and keeps the origin of every value.

use std::collections::BTreeMap;

use super::error::Place;
use super::resolved::{Origin, OriginSource};
use super::section::Set;

/// The values chosen so far and why.
#[derive(Default)]
pub struct Choices {
    pub origins: BTreeMap<String, Origin>,
}

/// A default: the value, what it follows from, and why.
pub struct Because<T>(pub T, pub OriginSource, pub String);

pub fn by_default<T>(value: T, why: &str) -> Because<T> {
    Because(value, OriginSource::Default, why.into())
}

impl Choices {
    pub fn note(&mut self, key: &str, source: OriginSource, reason: impl Into<String>) {
        self.origins.insert(key.into(), Origin { source, reason: reason.into() });
    }

    pub fn written(&mut self, key: &str, place: &Place) {
        self.note(key, origin_of(place), "");
    }

    /// What was written, or else the default; either way the origin is kept.
    pub fn choose<T: Clone, U>(
        &mut self,
        key: &str,
        set: &Option<Set<T>>,
        convert: impl FnOnce(T) -> U,
        default: impl FnOnce() -> Because<U>,
    ) -> U {
        if let Some(set) = set {
            self.written(key, &set.place);
            return convert(set.value.clone());
        }
        let Because(value, source, reason) = default();
        self.note(key, source, reason);
        value
    }

    /// What was written; nothing is noted when nothing was.
    pub fn keep<T: Clone>(&mut self, key: &str, set: &Option<Set<T>>) -> Option<T> {
        let set = set.as_ref()?;
        self.written(key, &set.place);
        Some(set.value.clone())
    }
}

fn origin_of(place: &Place) -> OriginSource {
    match place.source.name.as_str() {
        "command line" => OriginSource::CommandLine,
        name => OriginSource::File { name: name.into(), line: place.line() },
    }
}
