//! Synonyms from a file that the user gives: WordNet's data files, or a word and its synonyms a
//! line.

use crate::error::DataError;
use crate::fast_hash::FastMap;
use crate::inputs::{Format, Input};
use crate::read::read_records;
use std::path::{Path, PathBuf};

/// Words with their synonyms.
#[derive(Clone, Debug, Default)]
pub struct Lexicon {
    synonyms: FastMap<String, Vec<String>>,
    /// Characters of the longest word.
    longest: usize,
}

/// WordNet's files in its folder.
const WORDNET: [&str; 4] = ["data.noun", "data.verb", "data.adj", "data.adv"];

impl Lexicon {
    /// Reads files of either format, told by their content: WordNet's `data.noun`, `data.verb`,
    /// `data.adj`, `data.adv` (a folder stands for all four), or lines of
    /// `word<TAB>synonym synonym ...`. An underscore stands for a space. Compressed files are read
    /// as they are.
    ///
    /// # Errors
    /// A file that cannot be read, a line that is neither, or no synonym at all.
    pub fn load(paths: &[PathBuf]) -> Result<Self, DataError> {
        let mut lexicon = Lexicon::default();
        for path in paths {
            if path.is_dir() {
                for name in WORDNET {
                    lexicon.read(&path.join(name))?;
                }
            } else {
                lexicon.read(path)?;
            }
        }
        if lexicon.is_empty() {
            return Err(DataError::Augmentation(format!(
                "{}: no synonyms in it. Expected WordNet's data files, or lines of \
                 word<TAB>synonym synonym",
                paths.first().map_or(String::new(), |path| path.display().to_string())
            )));
        }
        Ok(lexicon)
    }

    fn read(&mut self, path: &Path) -> Result<(), DataError> {
        let input = Input { path: path.to_path_buf(), format: Format::Plain };
        read_records(&input, &mut |record, line| {
            let text = record["text"].as_str().unwrap_or_default();
            // WordNet starts with its licence, each line behind two spaces.
            if text.starts_with("  ") {
                return Ok(());
            }
            if let Some(group) = synset(text) {
                for word in &group {
                    self.add(word, group.iter().filter(|other| *other != word).cloned());
                }
                return Ok(());
            }
            let Some((word, synonyms)) = text.split_once('\t') else {
                return Err(DataError::BadRecord {
                    path: path.to_path_buf(),
                    line,
                    words: "neither a line of WordNet's data files nor word<TAB>synonyms".into(),
                    hint: "Put a tab after the word and spaces between its synonyms",
                });
            };
            self.add(&spaced(word), synonyms.split_whitespace().map(spaced));
            Ok(())
        })
    }

    fn add(&mut self, word: &str, synonyms: impl Iterator<Item = String>) {
        let key = word.trim().to_lowercase();
        // Texts are looked up word by word: a key of several words would never be found.
        if key.is_empty() || key.contains(' ') {
            return;
        }
        for synonym in synonyms.filter(|synonym| synonym.to_lowercase() != key) {
            let known = self.synonyms.entry(key.clone()).or_default();
            if !known.contains(&synonym) {
                known.push(synonym);
            }
            self.longest = self.longest.max(key.chars().count());
        }
    }

    /// The synonyms of a word, case aside.
    pub fn synonyms(&self, word: &str) -> &[String] {
        self.synonyms.get(&word.to_lowercase()).map_or(&[], Vec::as_slice)
    }

    /// The synonyms of a word as it stands in a text: of an English plural or third person (`-s`)
    /// that the lexicon lacks, those of the word without it, with it.
    pub(crate) fn inflected(&self, word: &str) -> Vec<String> {
        let known = self.synonyms(word);
        if !known.is_empty() {
            return known.to_vec();
        }
        let Some(stem) = word.strip_suffix('s').filter(|s| s.is_ascii() && s.len() > 2) else {
            return Vec::new();
        };
        let with_ending = |synonym: &String| match synonym.as_bytes() {
            [.., b's' | b'x' | b'z'] | [.., b'c' | b's', b'h'] => format!("{synonym}es"),
            [.., before, b'y'] if !b"aeiou".contains(before) => {
                format!("{}ies", &synonym[..synonym.len() - 1])
            }
            _ => format!("{synonym}s"),
        };
        self.synonyms(stem).iter().map(with_ending).collect()
    }

    /// Bytes of the longest word that `text` starts with.
    pub(crate) fn longest_prefix(&self, text: &str) -> Option<usize> {
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8()).take(self.longest);
        let ends: Vec<usize> = ends.collect();
        ends.into_iter().rev().find(|end| self.synonyms.contains_key(&text[..*end]))
    }

    /// Number of words that have synonyms.
    pub fn len(&self) -> usize {
        self.synonyms.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.synonyms.is_empty()
    }
}

/// A space for every underscore.
fn spaced(word: &str) -> String {
    word.replace('_', " ")
}

/// The words of a line of WordNet's data files (its manual page wndb(5)): an offset of eight
/// digits, the number of the lexicographer file, the part of speech, the number of words in
/// hexadecimal, then words each with a number.
fn synset(line: &str) -> Option<Vec<String>> {
    let mut fields = line.split(' ');
    let offset = fields.next()?;
    if offset.len() != 8 || !offset.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let _file = fields.next()?;
    matches!(fields.next()?, "n" | "v" | "a" | "s" | "r").then_some(())?;
    let count = usize::from_str_radix(fields.next()?, 16).ok()?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let word = fields.next()?;
        // Adjectives can carry where they stand: "galore(ip)".
        words.push(spaced(word.split_once('(').map_or(word, |(word, _)| word)));
        fields.next()?;
    }
    Some(words)
}
