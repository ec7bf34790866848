//! The papers of a run, read back as far as they are there: manifest, and recipe with origins.

use crate::examination::Examination;
use crate::manifest::Manifest;
use crate::run_dir::RunDir;
use crate::study::StudyDir;
use serde::Serialize;
use std::fs;
use std::io;

/// What lies beside the events. Old runs, and runs from which files were lost, have less of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Papers {
    /// Machine, versions, data, seed.
    pub manifest: Option<Manifest>,
    /// The recipe as resolved, in the order of its file.
    pub recipe: Vec<RecipeLine>,
    /// What a look at the trained model showed, once one was taken.
    pub examination: Option<Examination>,
    /// One sentence for each paper that is there but cannot be read.
    pub problems: Vec<String>,
}

/// One value of a resolved recipe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecipeLine {
    /// The table and the key: "regularize.dropout".
    pub key: String,
    /// The value as TOML.
    pub value: String,
    /// Where the value is from; empty where that was not noted.
    pub origin: String,
}

impl Papers {
    /// Reads what there is. Nothing else in a run depends on its papers, so what is missing is
    /// left out and what is damaged is named.
    pub fn read(run: &RunDir) -> Papers {
        let mut papers = Papers::default();
        let path = run.manifest();
        if path.exists() {
            match Manifest::read(&path) {
                Ok(manifest) => papers.manifest = Some(manifest),
                Err(error) => papers.problems.push(error.to_string()),
            }
        }
        match Examination::read(&run.examination()) {
            Ok(examination) => papers.examination = examination,
            Err(error) => papers.problems.push(error.to_string()),
        }
        let path = run.recipe();
        match fs::read_to_string(&path) {
            Ok(text) => papers.recipe = recipe_lines(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => papers.problems.push(format!("{}: {error}", path.display())),
        }
        papers
    }
}

impl StudyDir {
    /// The reference's recipe, in the order of its file; empty where it cannot be read.
    pub fn recipe_lines(&self) -> Vec<RecipeLine> {
        fs::read_to_string(self.recipe()).map(|text| recipe_lines(&text)).unwrap_or_default()
    }
}

/// The values of a recipe as `train` writes it: tables, and one `key = value  # origin` a line.
fn recipe_lines(text: &str) -> Vec<RecipeLine> {
    let mut table = "";
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = name;
            continue;
        }
        let (setting, origin) = split_comment(line);
        let Some((key, value)) = setting.split_once('=') else { continue };
        let key = key.trim();
        lines.push(RecipeLine {
            key: if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") },
            value: value.trim().to_owned(),
            origin: origin.trim().to_owned(),
        });
    }
    lines
}

/// Cuts a line at the first `#` that is not inside a string.
fn split_comment(line: &str) -> (&str, &str) {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => return (&line[..at], &line[at + 1..]),
            (None, '"' | '\'') => quote = Some(c),
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some('"'), '\\') => is_escaped = true,
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
    }
    (line, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_reads_back_with_its_origins() {
        let text = r##"
[data]
train = ["a # b.txt", 'c # d', "e\" # f"]   # command line: a # b
[regularize]
dropout = 0.1
weight-decay = { rate = 0.1, on = ["matrix"] } # default
"##;
        let line = |key: &str, value: &str, origin: &str| RecipeLine {
            key: key.into(),
            value: value.into(),
            origin: origin.into(),
        };
        assert_eq!(
            recipe_lines(text),
            [
                line("data.train", r##"["a # b.txt", 'c # d', "e\" # f"]"##, "command line: a # b"),
                line("regularize.dropout", "0.1", ""),
                line("regularize.weight-decay", r##"{ rate = 0.1, on = ["matrix"] }"##, "default"),
            ]
        );
    }

    #[test]
    fn what_is_missing_is_left_out_and_what_is_damaged_is_named() {
        let folder = tempfile::tempdir().expect("a scratch folder can be made");
        let run = RunDir::create(&folder.path().join("r")).expect("it is new");
        assert_eq!(Papers::read(&run), Papers::default());
        fs::write(run.manifest(), "{").expect("written");
        fs::write(run.recipe(), "[run]\nseed = 1").expect("written");
        let papers = Papers::read(&run);
        assert_eq!((papers.recipe.len(), papers.problems.len()), (1, 1));
        assert!(papers.problems[0].contains("manifest.json"), "{:?}", papers.problems);
    }
}
