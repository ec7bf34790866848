//! All printing: results on stdout, progress and errors on stderr, plain characters where needed.

use std::io::{IsTerminal, Write};

use heldout_report::plot::Charset;
use heldout_report::wrap::{fold, wrap};

use crate::args::Global;
use crate::failure::Failure;
use crate::live::paint::{Colors, Line, Paint};
use crate::live::terminal;

/// How much is said beside the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    Normal,
    /// Every step and checkpoint.
    Verbose,
}

/// What the result is printed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Text,
    Json,
}

/// Where we print, and how.
#[derive(Clone, Debug)]
pub struct Console {
    pub verbosity: Verbosity,
    pub output: Output,
    pub charset: Charset,
    /// Colours on stdout.
    pub colors_out: Colors,
    /// Colours on stderr.
    pub colors_err: Colors,
    /// A live view may be drawn: stderr is a terminal that understands escape codes.
    pub is_live_possible: bool,
    /// Columns of the terminal behind stdout, or 80... at most 100, which reads best.
    pub width: usize,
}

impl Console {
    /// Looks at the environment once: `NO_COLOR`, `TERM`, the locale, terminals, `COLUMNS`.
    pub fn new(global: &Global) -> Console {
        let is_dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let wants_color = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && !is_dumb;
        let colors = |is_terminal: bool| match wants_color && is_terminal {
            true => Colors::On,
            false => Colors::Off,
        };
        let is_stderr_terminal = std::io::stderr().is_terminal();
        let verbosity = match (global.quiet, global.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, _) => Verbosity::Verbose,
        };
        Console {
            verbosity,
            output: if global.json { Output::Json } else { Output::Text },
            charset: charset(),
            colors_out: colors(std::io::stdout().is_terminal()),
            colors_err: colors(is_stderr_terminal),
            is_live_possible: is_stderr_terminal && !is_dumb && verbosity > Verbosity::Quiet,
            width: width(),
        }
    }

    /// Writes one line of the result.
    pub fn out(&self, line: &str) -> Result<(), Failure> {
        self.out_line(&Line::of(line, Paint::Plain))
    }

    /// Writes one coloured line of the result.
    pub fn out_line(&self, line: &Line) -> Result<(), Failure> {
        let text = self.plain(&line.render(self.colors_out));
        Ok(writeln!(std::io::stdout(), "{text}")?)
    }

    /// Writes a piece of generated text at once, without a newline and without replacing any
    /// character: it is the model's, not ours.
    pub fn out_raw(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        Ok(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())?)
    }

    /// Writes the result as JSON on one line.
    pub fn out_json(&self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
        Ok(writeln!(std::io::stdout(), "{text}")?)
    }

    /// Says something about progress on stderr, unless quiet; folded to a terminal's width, whole
    /// in a log.
    pub fn note(&self, text: &str) {
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        let lines = match terminal::size() {
            Some((width, _)) => fold(text, width.saturating_sub(1).max(20), "           "),
            None => vec![text.to_owned()],
        };
        lines.into_iter().for_each(|line| self.say(&Line::of(line, Paint::Plain)));
    }

    /// Says something from the signal thread, even when quiet: the user asked for it just now.
    pub fn notice_from_signal(&self, text: &str) {
        self.say(&Line::of(text, Paint::Warning));
    }

    /// Says a coloured line on stderr.
    pub fn say(&self, line: &Line) {
        terminal::say(&self.plain(&line.render(self.colors_err)));
    }

    /// Prints an error: what, why, what to do next.
    pub fn failure(&self, failure: &Failure) {
        terminal::clear();
        let mut line = Line::of("error: ", Paint::Bad);
        line.push(failure.what.as_str(), Paint::Strong);
        self.say(&line);
        failure.why.iter().for_each(|why| self.say(&Line::of(why.as_str(), Paint::Plain)));
        if let Some(next) = &failure.next {
            for line in wrap(next, self.width, "  try: ", "       ") {
                self.say(&Line::of(line, Paint::Plain));
            }
        }
    }

    /// Prints a defect of ours.
    pub fn defect(&self, lines: &[String]) {
        for (i, text) in lines.iter().enumerate() {
            let mut line = Line::default();
            if i == 0 {
                line.push("error: ", Paint::Bad);
            }
            line.push(text.as_str(), Paint::Plain);
            self.say(&line);
        }
    }

    /// Replaces the few characters beyond ASCII that we use ourselves, where they cannot be shown.
    pub fn plain(&self, text: &str) -> String {
        if self.charset == Charset::Unicode || text.is_ascii() {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '±' => out.push_str("+/-"),
                '·' | '•' => out.push('-'),
                '✓' => out.push('*'),
                '…' => out.push_str("..."),
                '→' => out.push_str("->"),
                '←' => out.push_str("<-"),
                '×' => out.push('x'),
                '–' | '—' | '─' | '━' => out.push('-'),
                '≤' => out.push_str("<="),
                '≥' => out.push_str(">="),
                '‖' => out.push_str("||"),
                'α' => out.push_str("alpha"),
                'β' => out.push_str("beta"),
                'γ' => out.push_str("gamma"),
                'ε' => out.push_str("epsilon"),
                'η' => out.push_str("eta"),
                'λ' => out.push_str("lambda"),
                'ρ' => out.push_str("rho"),
                '√' => out.push_str("sqrt "),
                '²' => out.push_str("^2"),
                '“' | '”' => out.push('"'),
                '‘' | '’' => out.push('\''),
                other => out.push(other),
            }
        }
        out
    }
}

/// UTF-8 unless the locale names something else; the Linux console has no braille.
fn charset() -> Charset {
    let is_bare = std::env::var("TERM").is_ok_and(|term| term == "linux" || term == "dumb");
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let is_utf8 = locale.is_none_or(|name| {
        let name = name.to_ascii_lowercase();
        name.contains("utf-8") || name.contains("utf8")
    });
    if is_utf8 && !is_bare { Charset::Unicode } else { Charset::Ascii }
}

fn width() -> usize {
    let from_environment = std::env::var("COLUMNS").ok().and_then(|v| v.parse().ok());
    let from_terminal = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    from_terminal.or(from_environment).unwrap_or(80).clamp(20, 100)
}
