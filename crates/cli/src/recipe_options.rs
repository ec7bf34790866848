//! The options that describe a run, shared by `train`, `plan` and `validate`.

use std::path::{Path, PathBuf};

use clap::Args;
use heldout_train::recipe::{Recipe, RecipeError};

use crate::failure::Failure;

/// A recipe, data, and settings laid over them.
#[derive(Args, Clone, Debug)]
pub struct RecipeOptions {
    /// Text to train on: files, folders or globs (.txt .md .jsonl .json .csv .tsv, also .gz .zst);
    /// a .toml file is taken as the recipe
    #[arg(value_name = "DATA")]
    pub data: Vec<String>,
    /// A recipe (TOML); what it leaves open gets sound defaults
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub recipe: Option<PathBuf>,
    /// Set one value of the recipe, e.g. --set regularize.dropout=0.2; may be repeated
    #[arg(long = "set", short = 's', value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// What to learn: the next token of a text (lm), masked tokens of it (mlm), the labels of texts
    /// (classify), answers to questions (qa), or a text from a text (seq2seq: translations,
    /// summaries)
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    /// With --target: a file of sources, line by line (means --task seq2seq)
    #[arg(long, value_name = "FILE", requires = "target", conflicts_with = "data",
          value_hint = clap::ValueHint::FilePath)]
    pub source: Option<String>,
    /// A file of what to write for each line of --source
    #[arg(long, value_name = "FILE", requires = "source",
          value_hint = clap::ValueHint::FilePath)]
    pub target: Option<String>,
    /// Held-out files to --source and --target: the sources, then the targets
    #[arg(long, value_name = "FILE", num_args = 2, requires = "source",
          conflicts_with = "validation", value_names = ["A", "B"])]
    pub validation_pair: Vec<String>,
    /// What to hold out: a path, a share such as 10%, or "last 10%"
    #[arg(long, value_name = "PART")]
    pub validation: Option<String>,
    /// How long to train, in steps
    #[arg(long, value_name = "N", conflicts_with = "time")]
    pub steps: Option<u64>,
    /// How long to train, in time, e.g. "10 min"
    #[arg(long, value_name = "TIME")]
    pub time: Option<String>,
    /// Everything random follows from it
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Threads to compute with; the result does not depend on it
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Of the matrix products; auto takes the fastest that the processor has
    #[arg(long, value_name = "auto|f32|bf16")]
    pub precision: Option<String>,
}

impl RecipeOptions {
    /// The recipe as far as the user wrote it: the file, then the data named here, then the short
    /// options, then each `--set`.
    pub fn recipe(&self) -> Result<Recipe, Failure> {
        let (recipes, data): (Vec<String>, Vec<String>) =
            self.data.iter().cloned().partition(|path| is_recipe(path));
        let mut files: Vec<PathBuf> = self.recipe.iter().cloned().collect();
        files.extend(recipes.into_iter().map(PathBuf::from));
        let mut recipe = match files.as_slice() {
            [] => Recipe::empty(),
            [file] => Recipe::read(file).map_err(failure)?,
            [first, second, ..] => {
                return Err(Failure::bad_input("two recipes are given")
                    .why(format!("  {} and {}", first.display(), second.display()))
                    .next("give one, and lay single values over it with --set"));
            }
        };
        let data = match (&self.source, &self.target) {
            (Some(source), Some(target)) => vec![source.clone(), target.clone()],
            _ => data,
        };
        if files.is_empty() && data.is_empty() && !self.names_data() {
            return Err(Failure::bad_input("nothing to train on")
                .next("heldout train my-text.txt, or give a recipe that names its data"));
        }
        if !data.is_empty() {
            recipe.set_data(&data).map_err(failure)?;
        }
        for setting in self.short_options().iter().chain(&self.settings) {
            recipe.set(setting).map_err(failure)?;
        }
        Ok(recipe)
    }

    fn names_data(&self) -> bool {
        self.settings.iter().any(|setting| setting.trim_start().starts_with("data.train"))
    }

    fn short_options(&self) -> Vec<String> {
        let mut settings = Vec::new();
        if let (Some(_), None) = (&self.source, &self.task) {
            settings.push("data.task=\"seq2seq\"".to_owned());
        }
        if let [source, target] = self.validation_pair.as_slice() {
            settings.push(format!("data.validation=[{}, {}]", quoted(source), quoted(target)));
        }
        if let Some(task) = &self.task {
            settings.push(format!("data.task={}", quoted(task)));
        }
        if let Some(part) = &self.validation {
            settings.push(format!("data.validation={}", part_value(part)));
        }
        if let Some(steps) = self.steps {
            settings.push(format!("schedule.horizon=\"{steps} steps\""));
        }
        if let Some(time) = &self.time {
            settings.push(format!("schedule.horizon={}", quoted(time)));
        }
        if let Some(seed) = self.seed {
            settings.push(format!("run.seed={seed}"));
        }
        if let Some(threads) = self.threads {
            settings.push(format!("run.threads={threads}"));
        }
        if let Some(precision) = &self.precision {
            settings.push(format!("run.precision={}", quoted(precision)));
        }
        settings
    }

    /// What a run is called after: the recipe's file, else the first data file.
    pub fn stem(&self) -> String {
        let data = || self.data.first().or(self.source.as_ref()).map(Path::new);
        let first = self.recipe.as_deref().or_else(data);
        let name = first.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let stem = name.split('.').next().unwrap_or_default();
        let is_plain = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_');
        let stem: String = stem.chars().filter(is_plain).collect();
        if stem.is_empty() { "run".to_owned() } else { stem }
    }
}

/// A recipe that cannot be used, as an error of the user's.
pub fn failure(error: RecipeError) -> Failure {
    Failure::from(heldout_train::TrainError::from(error))
}

fn is_recipe(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "toml")
}

/// A bare number stays a number, anything else becomes a text.
fn part_value(part: &str) -> String {
    match part.parse::<f64>() {
        Ok(_) => part.to_owned(),
        Err(_) => quoted(part),
    }
}

/// A TOML string: JSON's escapes are TOML's, too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(data: &[&str]) -> RecipeOptions {
        RecipeOptions {
            data: data.iter().map(|d| (*d).to_owned()).collect(),
            recipe: None,
            settings: Vec::new(),
            task: None,
            source: None,
            target: None,
            validation_pair: Vec::new(),
            validation: None,
            steps: None,
            time: None,
            seed: None,
            threads: None,
            precision: None,
        }
    }

    #[test]
    fn runs_are_named_after_what_was_given() {
        let check = |data: &[&str], expected: &str| assert_eq!(options(data).stem(), expected);
        check(&["a/b/my-text.txt.gz"], "my-text");
        check(&["recipes/shakespeare.toml", "x.txt"], "shakespeare");
        check(&["texts/*.md"], "run");
        check(&[".."], "run");
        check(&["红楼梦.txt"], "红楼梦");
    }

    #[test]
    fn short_options_become_settings() {
        let options = RecipeOptions {
            validation: Some("last 10%".into()),
            steps: Some(5),
            seed: Some(3),
            precision: Some("f32\"".into()),
            ..options(&["x"])
        };
        assert_eq!(
            options.short_options(),
            [
                "data.validation=\"last 10%\"",
                "schedule.horizon=\"5 steps\"",
                "run.seed=3",
                "run.precision=\"f32\\\"\""
            ]
        );
        assert_eq!(part_value("0.1"), "0.1");
    }
}
