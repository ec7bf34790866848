//! How a command ends: the exit codes, and an error as what, why and what to do next.

use std::fmt::Display;

use heldout_record::RecordError;
use heldout_train::{ExitKind, TrainError};

/// Done.
pub const DONE: i32 = 0;
/// The machine failed us, or we failed: disk, memory, a defect.
pub const FAILED: i32 = 1;
/// Bad usage, recipe, data or file: nothing that trying again would mend.
pub const BAD_INPUT: i32 = 2;
/// A rule ended the run: it diverged.
pub const DIVERGED: i32 = 3;
/// A signal ended the run after a checkpoint: 128 + its number (130 SIGINT, 143 SIGTERM,
/// 138 SIGUSR1, 129 SIGHUP).
pub const SIGNALLED: i32 = 128;

/// A command that did not do what it was asked to.
#[derive(Debug)]
pub struct Failure {
    pub code: i32,
    /// One line: what went wrong.
    pub what: String,
    /// Lines below it: the place, expected and found.
    pub why: Vec<String>,
    /// What to do next.
    pub next: Option<String>,
    cause: Option<std::io::ErrorKind>,
}

impl Failure {
    /// A failure with this exit code, from an error's own words. Our errors say what is wrong and
    /// end with what to do next, after a semicolon or in a sentence of its own; one of several
    /// lines (a recipe with its caret) is kept as it is. Causes not yet quoted are added.
    pub fn from_error(code: i32, error: &(dyn std::error::Error + 'static)) -> Failure {
        let text = error.to_string();
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let mut why: Vec<String> = lines.map(str::to_owned).collect();
        let (what, next) = if why.is_empty() { split_advice(first) } else { (first, None) };
        let mut below = error.source();
        while let Some(source) = below {
            let words = source.to_string();
            if !text.contains(&words) {
                why.extend(words.lines().map(|line| format!("  {line}")));
            }
            below = source.source();
        }
        let next = next.map(str::to_owned);
        Failure { code, what: what.to_owned(), why, next, cause: None }
    }

    /// Bad usage, recipe or data.
    pub fn bad_input(what: impl Into<String>) -> Failure {
        Failure { code: BAD_INPUT, what: what.into(), why: Vec::new(), next: None, cause: None }
    }

    /// The machine failed us.
    pub fn failed(what: impl Into<String>) -> Failure {
        Failure { code: FAILED, ..Failure::bad_input(what) }
    }

    /// The same failure with a line that says why.
    pub fn why(mut self, line: impl Display) -> Failure {
        self.why.push(line.to_string());
        self
    }

    /// The same failure with what to do next.
    pub fn next(mut self, line: impl Display) -> Failure {
        self.next = Some(line.to_string());
        self
    }

    /// Whether the reader of our output went away (`heldout list | head -1`): no error at all.
    pub fn is_broken_pipe(&self) -> bool {
        self.cause == Some(std::io::ErrorKind::BrokenPipe)
    }
}

/// Cuts "what is wrong; what to do" and "What is wrong. What to do" in two.
fn split_advice(text: &str) -> (&str, Option<&str>) {
    let semicolon = text.rfind("; ").map(|at| (at, at + 2));
    let sentence = text
        .match_indices(". ")
        .map(|(at, _)| (at, at + 2))
        .find(|(_, next)| text[*next..].starts_with(|c: char| c.is_uppercase()));
    match sentence.or(semicolon) {
        Some((end, start)) => (&text[..end], Some(&text[start..])),
        None => (text, None),
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Failure {
        let code = match error.exit_kind() {
            ExitKind::Failed => FAILED,
            ExitKind::BadInput => BAD_INPUT,
        };
        Failure::from_error(code, &error)
    }
}

/// Reading a run back failed: mostly because it is none.
impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Failure {
        Failure::from(TrainError::from(error))
    }
}

/// Writing a result to stdout failed.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        let failure = Failure::failed(format!("cannot write the result: {error}"))
            .next("check where the output goes: a full disk or a closed pipe");
        Failure { cause: Some(error.kind()), ..failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_told_apart_from_what_is_wrong() {
        let check = |text: &str, what: &str, next: Option<&str>| {
            assert_eq!(split_advice(text), (what, next), "{text}");
        };
        check(
            "cannot write x: disk full; free some",
            "cannot write x: disk full",
            Some("free some"),
        );
        check("a.txt: empty (0). Give a file", "a.txt: empty (0)", Some("Give a file"));
        check("x: v. 2 is not known", "x: v. 2 is not known", None);
        check("no such file", "no such file", None);
    }
}
