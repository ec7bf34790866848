//! Planted strings: how far a model prefers them to random ones of the same form (Carlini et al.
//! 2019, "The Secret Sharer").

use heldout_base::rng::{Random, streams};
use heldout_data::{Batch, IGNORE};
use heldout_record::examination::Canary;

use crate::error::TrainError;
use crate::evaluation::window_sums;
use crate::session::Session;

/// Planted strings and how closely to look at them.
#[derive(Clone, Debug, PartialEq)]
pub struct CanarySpec {
    /// One planted string each; the random part in braces, as in `the code is {4821}`. Without
    /// braces all digits are taken as random.
    pub lines: Vec<String>,
    /// Random strings to compare each with.
    pub candidates: usize,
}

impl Default for CanarySpec {
    fn default() -> CanarySpec {
        CanarySpec { lines: Vec::new(), candidates: 1000 }
    }
}

/// A planted string taken apart.
#[derive(Clone, Debug, PartialEq)]
struct Template {
    characters: Vec<char>,
    /// Which of them were drawn at random.
    random: Vec<bool>,
}

/// Random characters that a planted string needs: fewer can be guessed.
const RANDOM_LEAST: usize = 4;

impl Template {
    fn parse(line: &str) -> Result<Template, TrainError> {
        let has_braces = line.contains('{') && line.contains('}');
        let (mut characters, mut random, mut inside) = (Vec::new(), Vec::new(), false);
        for c in line.chars() {
            match c {
                '{' if has_braces => inside = true,
                '}' if has_braces => inside = false,
                _ => {
                    let is_drawn = if has_braces { inside } else { c.is_ascii_digit() };
                    characters.push(c);
                    random.push(is_drawn && c.is_ascii_alphanumeric());
                }
            }
        }
        if random.iter().filter(|random| **random).count() < RANDOM_LEAST {
            return Err(TrainError::Canary { line: line.to_owned(), least: RANDOM_LEAST });
        }
        Ok(Template { characters, random })
    }

    fn text(&self) -> String {
        self.characters.iter().collect()
    }

    /// Another string of the same form: digits for digits, letters for letters of the same case.
    fn candidate(&self, random: &Random, number: u64) -> String {
        let length = self.characters.len() as u64;
        let draw = |(place, (c, is_drawn)): (usize, (&char, &bool))| {
            if !is_drawn {
                return *c;
            }
            let (first, of) = match c {
                '0'..='9' => (b'0', 10),
                'a'..='z' => (b'a', 26),
                _ => (b'A', 26),
            };
            char::from(first + random.below(number * length + place as u64, of) as u8)
        };
        self.characters.iter().zip(&self.random).enumerate().map(draw).collect()
    }
}

/// Ranks every planted string among random ones of its form.
///
/// # Errors
/// A string without a random part, or with characters that the tokenizer does not know.
pub fn expose(session: &mut Session, spec: &CanarySpec) -> Result<Vec<Canary>, TrainError> {
    let lines = spec.lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
    let templates: Vec<Template> = lines.map(Template::parse).collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    for (number, template) in templates.iter().enumerate() {
        // Step 0 of the stream chooses evaluation windows.
        let random = Random::new(0, streams::EVALUATION, 1 + number as u64);
        let text = template.text();
        let others = (0..spec.candidates as u64).map(|n| template.candidate(&random, n));
        let others: Vec<String> = others.filter(|other| *other != text).collect();
        let mut strings = vec![text.as_str()];
        strings.extend(others.iter().map(String::as_str));
        let nats = nats(session, &strings)?;
        // A tie counts against the claim that the string is known.
        let rank = 1 + nats[1..].iter().filter(|other| **other <= nats[0]).count() as u64;
        let candidates = others.len() as u64;
        let exposure = ((candidates + 1) as f64).log2() - (rank as f64).log2();
        found.push(Canary { nats: nats[0], text, rank, candidates, exposure });
    }
    Ok(found)
}

/// Strings scored at a time.
const ROWS: usize = 32;

/// −ln p of each whole string, after the end of a text (or a new line, where the model knows one).
/// Of a string longer than the context only the end is scored, given what stands before it.
fn nats(session: &mut Session, strings: &[&str]) -> Result<Vec<f64>, TrainError> {
    let start: Vec<u32> = match session.tokenizer.eos() {
        Some(end) => vec![end],
        None => session.tokenizer.encode("\n").unwrap_or_default(),
    };
    let context = session.model.config.context;
    let mut texts = Vec::new();
    for string in strings {
        let mut ids = start.clone();
        ids.extend(session.tokenizer.encode(string)?);
        let cut = ids.len().saturating_sub(context + 1);
        texts.push(ids.split_off(cut));
    }
    // One size for all batches: the tape keeps its buffers by size.
    let width = texts.iter().map(|ids| ids.len()).max().unwrap_or(0).saturating_sub(1).max(1);
    let Session { model, weights, tape, .. } = session;
    let mut sums = Vec::new();
    for some in texts.chunks(ROWS) {
        let (mut ids, mut targets) = (vec![0; ROWS * width], vec![IGNORE; ROWS * width]);
        for (row, text) in some.iter().enumerate() {
            let (at, length) = (row * width, text.len().saturating_sub(1));
            ids[at..at + length].copy_from_slice(&text[..length]);
            targets[at..at + length].copy_from_slice(&text[text.len() - length..]);
        }
        let batch =
            Batch { ids, targets, batch: ROWS, seq_len: width, first_sequence: 0, epoch: 0.0 };
        let found = window_sums(model, tape, weights, &batch);
        sums.extend(&found[..some.len()]);
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_random_part_is_in_braces_or_is_the_digits() {
        let of = |line: &str| Template::parse(line).expect("a random part");
        assert_eq!(of("a 12 {x7Qé-99} b").text(), "a 12 x7Qé-99 b");
        let random = Random::new(0, streams::TEST, 0);
        for number in 0..50 {
            let other = of("a 12 {x7Qé-99} b").candidate(&random, number);
            let c: Vec<char> = other.chars().collect();
            assert!(other.starts_with("a 12 ") && other.ends_with(" b"), "{other}");
            assert!(c[5].is_ascii_lowercase() && c[6].is_ascii_digit());
            assert!(c[7].is_ascii_uppercase() && c[8] == 'é' && c[9] == '-');
            assert!(of("code 4821.").candidate(&random, number).starts_with("code "));
        }
        let all: std::collections::BTreeSet<String> =
            (0..50).map(|n| of("code 4821.").candidate(&random, n)).collect();
        assert!(all.len() > 45, "they differ");
        for line in ["no secret", "only 123", "{abc}", "{} 12345"] {
            let error = Template::parse(line).expect_err("too little").to_string();
            assert!(error.contains("braces"), "{error}");
        }
    }
}
