//! Exact match and F1 of extracted answers, as SQuAD's evaluation script v1.1 computes them
//! (Rajpurkar et al. 2016). Shares; the script prints a hundred times their means.

use std::collections::HashMap;

use crate::bleu::check_references;
use crate::error::MeasureError;
use crate::resample::Mean;
use crate::tokenize::words;

/// An answer against the reference that is kindest to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnswerScores {
    /// 1 where the normalized answer is a normalized reference, else 0.
    pub exact_match: f64,
    /// 2·P·R / (P + R) of the normalized words in common; 0 where there are none.
    pub f1: f64,
}

/// Lower case; without ASCII punctuation; without the articles a, an, the; single spaces.
pub fn normalize(answer: &str) -> String {
    let bare: String =
        answer.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    // An article is a run of letters and digits, as `\b` finds it: also in "the—end".
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut spaced = String::with_capacity(bare.len());
    let mut rest = bare.as_str();
    while let Some(first) = rest.chars().next() {
        let same = |c: char| is_word(c) == is_word(first);
        let (run, tail) = rest.split_at(rest.find(|c| !same(c)).unwrap_or(rest.len()));
        spaced.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = tail;
    }
    words(&spaced).collect::<Vec<_>>().join(" ")
}

/// Scores one answer: each number is the best over the references.
pub fn score(prediction: &str, references: &[String]) -> AnswerScores {
    let prediction = normalize(prediction);
    let mut best = AnswerScores { exact_match: 0.0, f1: 0.0 };
    for reference in references {
        let reference = normalize(reference);
        if prediction == reference {
            best.exact_match = 1.0;
        }
        best.f1 = best.f1.max(f1(&prediction, &reference));
    }
    best
}

/// As [`score`], as SQuAD 2.0 has it, where a question may have no answer: without references what
/// says nothing is right, and what says something is wrong. References of which normalization
/// leaves nothing count for none.
pub fn score_or_none(prediction: &str, references: &[String]) -> AnswerScores {
    let is_left = |reference: &&String| !normalize(reference).is_empty();
    let references: Vec<String> = references.iter().filter(is_left).cloned().collect();
    if references.is_empty() {
        let right = f64::from(u8::from(normalize(prediction).is_empty()));
        return AnswerScores { exact_match: right, f1: right };
    }
    score(prediction, &references)
}

fn f1(prediction: &str, reference: &str) -> f64 {
    let mut left: HashMap<&str, usize> = HashMap::new();
    let mut reference_count = 0;
    for word in words(reference) {
        *left.entry(word).or_default() += 1;
        reference_count += 1;
    }
    let (mut shared, mut prediction_count) = (0, 0);
    for word in words(prediction) {
        prediction_count += 1;
        if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    if shared == 0 {
        return 0.0;
    }
    let precision = f64::from(shared) / f64::from(prediction_count);
    let recall = f64::from(shared) / f64::from(reference_count);
    2.0 * precision * recall / (precision + recall)
}

/// The two scores of a set of answers, to be resampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    pub exact_match: Mean,
    pub f1: Mean,
}

/// Scores a set; `references[i]` are the accepted answers to question `i`.
///
/// # Errors
/// Unequal lengths, no questions, a question without reference.
pub fn answers(
    predictions: &[String],
    references: &[Vec<String>],
) -> Result<Answers, MeasureError> {
    check_references(predictions.len(), references)?;
    let scores: Vec<AnswerScores> =
        predictions.iter().zip(references).map(|(p, r)| score(p, r)).collect();
    Ok(Answers {
        exact_match: Mean { values: scores.iter().map(|s| s.exact_match).collect() },
        f1: Mean { values: scores.iter().map(|s| s.f1).collect() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saying_nothing_is_right_where_there_is_no_answer() {
        let of = |said: &str, right: &[&str]| {
            let right: Vec<String> = right.iter().map(|r| r.to_string()).collect();
            let found = score_or_none(said, &right);
            (found.exact_match, found.f1)
        };
        assert_eq!(of("", &[]), (1.0, 1.0));
        assert_eq!(of("Ulm", &[]), (0.0, 0.0));
        assert_eq!(of("the", &[]), (1.0, 1.0), "an article is nothing");
        assert_eq!(of("", &["Ulm"]), (0.0, 0.0));
        assert_eq!(of("in Ulm", &["The!", "Ulm"]), (0.0, 2.0 / 3.0));
        assert_eq!(of("", &["The!"]), (1.0, 1.0), "what is nothing counts for no answer");
    }
}
