//! Label names: their order, their numbers, how often each occurs.

use serde::{Deserialize, Serialize};

/// The classes of a task. Class k is `names[k]`; integers are ordered as numbers, `false` before
/// `true`, everything else by its characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    pub names: Vec<String>,
}

impl Labels {
    /// The classes among `found`, each once, in order.
    pub fn from_found<'a>(_found: impl IntoIterator<Item = &'a str>) -> Self {
        todo!()
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no class.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The number of the class of that name.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.names.iter().position(|n| n == name).map(|n| n as u32)
    }

    /// The name of class `number`.
    pub fn name(&self, number: u32) -> &str {
        &self.names[number as usize]
    }
}

/// One weight a class: n / (K · n_k), so that every class counts alike (King & Zeng 2001, "Logistic
/// regression in rare events data"). A class without examples gets 0.
pub fn balanced_weights(_counts: &[u64]) -> Vec<f32> {
    todo!()
}
