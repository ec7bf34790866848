//! Synonyms from a file that the user gives: WordNet's data files, or a word and its synonyms a
//! line.

use crate::error::DataError;
use std::path::PathBuf;

/// Words with their synonyms.
#[derive(Clone, Debug, Default)]
pub struct Lexicon {
    _todo: (),
}

impl Lexicon {
    /// Reads files of either format, told by their content: WordNet's `data.noun`, `data.verb`,
    /// `data.adj`, `data.adv` (a folder stands for all four), or lines of
    /// `word<TAB>synonym synonym ...`.
    ///
    /// # Errors
    /// A file that cannot be read, a line that is neither, or no synonym at all.
    pub fn load(_paths: &[PathBuf]) -> Result<Self, DataError> {
        todo!()
    }

    /// The synonyms of a word, case aside.
    pub fn synonyms(&self, _word: &str) -> &[String] {
        todo!()
    }

    /// Number of words that have synonyms.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
