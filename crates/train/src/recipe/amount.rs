//! Amounts with a unit: `"20 epochs"`, `"2000 steps"`, `"10 min"`, `"5%"`, `"never"`, `"end"`.

use std::fmt;

/// A number and its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    Steps(u64),
    Epochs(f64),
    Tokens(u64),
    /// Wall-clock seconds of this run, evaluations and checkpoints included.
    Seconds(f64),
    Evaluations(u64),
    /// A share of the horizon, 0 to 1.
    Share(f64),
    Never,
    /// Once, when the run ends.
    End,
}

/// The unit an amount is given in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Steps,
    Epochs,
    Tokens,
    Time,
    Evaluations,
    Share,
    Never,
    End,
}

impl Unit {
    /// How a user writes it.
    pub fn example(self) -> &'static str {
        match self {
            Unit::Steps => "\"2000 steps\"",
            Unit::Epochs => "\"20 epochs\"",
            Unit::Tokens => "\"50M tokens\"",
            Unit::Time => "\"10 min\"",
            Unit::Evaluations => "\"5 evaluations\"",
            Unit::Share => "\"5%\"",
            Unit::Never => "\"never\"",
            Unit::End => "\"end\"",
        }
    }
}

impl Amount {
    pub fn unit(self) -> Unit {
        match self {
            Amount::Steps(_) => Unit::Steps,
            Amount::Epochs(_) => Unit::Epochs,
            Amount::Tokens(_) => Unit::Tokens,
            Amount::Seconds(_) => Unit::Time,
            Amount::Evaluations(_) => Unit::Evaluations,
            Amount::Share(_) => Unit::Share,
            Amount::Never => Unit::Never,
            Amount::End => Unit::End,
        }
    }

    /// Reads an amount; the error says in words what is wrong with it.
    pub fn parse(text: &str) -> Result<Amount, String> {
        let text = text.trim();
        match text {
            "never" => return Ok(Amount::Never),
            "end" => return Ok(Amount::End),
            _ => {}
        }
        let digits_end = text
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '_' | ',' | '-' | '+')))
            .unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let plain: String = digits.chars().filter(|c| !matches!(c, '_' | ',')).collect();
        let number: f64 =
            plain.parse().map_err(|_| format!("`{text}` does not start with a number"))?;
        let unit = unit.trim();
        let (factor, unit) = magnitude(unit);
        let number = number * factor;
        if !number.is_finite() || number <= 0.0 {
            return Err(format!("`{text}` must be more than zero"));
        }
        match unit {
            "step" | "steps" | "update" | "updates" => whole(number, text).map(Amount::Steps),
            "epoch" | "epochs" => Ok(Amount::Epochs(number)),
            "token" | "tokens" => whole(number, text).map(Amount::Tokens),
            "evaluation" | "evaluations" => whole(number, text).map(Amount::Evaluations),
            "s" | "sec" | "second" | "seconds" => Ok(Amount::Seconds(number)),
            "min" | "minute" | "minutes" => Ok(Amount::Seconds(number * 60.0)),
            "h" | "hour" | "hours" => Ok(Amount::Seconds(number * 3600.0)),
            "d" | "day" | "days" => Ok(Amount::Seconds(number * 86400.0)),
            "%" if number <= 100.0 => Ok(Amount::Share(number / 100.0)),
            "%" => Err(format!("`{text}` is more than the whole")),
            "" => Err(format!("`{text}` needs a unit")),
            other => Err(format!("`{other}` is not a unit")),
        }
    }
}

/// `k`, `M` and `B` before a unit (`50M tokens`, `2k steps`).
fn magnitude(unit: &str) -> (f64, &str) {
    for (letter, factor) in [('k', 1e3), ('K', 1e3), ('M', 1e6), ('B', 1e9)] {
        if let Some(rest) = unit.strip_prefix(letter)
            && rest.starts_with(' ')
        {
            return (factor, rest.trim());
        }
    }
    (1.0, unit)
}

fn whole(number: f64, text: &str) -> Result<u64, String> {
    let rounded = number.round();
    // Beyond 2^53 an f64 no longer counts singly; no run is that long.
    if (number - rounded).abs() > 1e-9 * number.max(1.0) || !(1.0..9e15).contains(&rounded) {
        return Err(format!("`{text}` must be a whole number of at least 1"));
    }
    Ok(rounded as u64)
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |one: bool| if one { "" } else { "s" };
        match *self {
            Amount::Steps(n) => write!(f, "{n} step{}", plural(n == 1)),
            Amount::Epochs(n) => write!(f, "{n} epoch{}", plural(n == 1.0)),
            Amount::Tokens(n) => write!(f, "{n} token{}", plural(n == 1)),
            Amount::Evaluations(n) => write!(f, "{n} evaluation{}", plural(n == 1)),
            Amount::Seconds(s) if s >= 3600.0 && (s / 3600.0).fract() == 0.0 => {
                write!(f, "{} h", s / 3600.0)
            }
            Amount::Seconds(s) if s >= 60.0 && (s / 60.0).fract() == 0.0 => {
                write!(f, "{} min", s / 60.0)
            }
            Amount::Seconds(s) => write!(f, "{s} s"),
            Amount::Share(share) => write!(f, "{}%", (share * 1e12).round() / 1e10),
            Amount::Never => write!(f, "never"),
            Amount::End => write!(f, "end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written_back() {
        let cases = [
            ("20 epochs", Amount::Epochs(20.0)),
            ("0.5 epochs", Amount::Epochs(0.5)),
            ("1 epoch", Amount::Epochs(1.0)),
            ("2000 steps", Amount::Steps(2000)),
            ("2_000 steps", Amount::Steps(2000)),
            ("2k steps", Amount::Steps(2000)),
            ("50M tokens", Amount::Tokens(50_000_000)),
            ("10 min", Amount::Seconds(600.0)),
            ("90s", Amount::Seconds(90.0)),
            ("2 h", Amount::Seconds(7200.0)),
            ("5%", Amount::Share(0.05)),
            ("5 evaluations", Amount::Evaluations(5)),
            ("never", Amount::Never),
            ("end", Amount::End),
        ];
        for (text, expected) in cases {
            let read = Amount::parse(text).expect(text);
            assert_eq!(read, expected, "{text}");
            assert_eq!(Amount::parse(&read.to_string()), Ok(expected), "{text} again");
        }
    }

    #[test]
    fn wrong_amounts_say_why() {
        let cases = [
            ("20", "needs a unit"),
            ("steps", "does not start with a number"),
            ("-5 steps", "more than zero"),
            ("0 epochs", "more than zero"),
            ("1.5 steps", "whole number"),
            ("20 epics", "not a unit"),
            ("120%", "more than the whole"),
        ];
        for (text, expected) in cases {
            let message = Amount::parse(text).expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
