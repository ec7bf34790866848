//! ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum as the Python package rouge-score computes them without
//! stemming (Lin 2004, "ROUGE: a package for automatic evaluation of summaries").
//!
//! Its tokens are runs of the letters a to z and of digits, in lower case: a text in another script
//! has none, and scores 0.

use std::collections::HashMap;

use crate::bleu::check_references;
use crate::error::MeasureError;
use crate::ngrams;
use crate::resample::Mean;

/// One of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rouge {
    /// Words in common.
    One,
    /// Pairs of words in common.
    Two,
    /// The longest common subsequence of the whole texts.
    L,
    /// For each sentence of the reference, the union of its longest common subsequences with the
    /// prediction's sentences; a sentence is a line.
    LSum,
}

impl Rouge {
    /// All four, in the usual order.
    pub const ALL: [Rouge; 4] = [Rouge::One, Rouge::Two, Rouge::L, Rouge::LSum];

    /// As rouge-score calls it.
    pub fn name(self) -> &'static str {
        match self {
            Rouge::One => "rouge1",
            Rouge::Two => "rouge2",
            Rouge::L => "rougeL",
            Rouge::LSum => "rougeLsum",
        }
    }

    /// The score against the reference with the highest F; the first one on a tie. All 0 without
    /// references.
    pub fn score(self, prediction: &str, references: &[String]) -> RougeScore {
        let mut best: Option<RougeScore> = None;
        for reference in references {
            let score = self.against(prediction, reference);
            if best.is_none_or(|best| score.f1 > best.f1) {
                best = Some(score);
            }
        }
        best.unwrap_or(RougeScore::of(0, 0, 0))
    }

    fn against(self, prediction: &str, reference: &str) -> RougeScore {
        match self {
            Rouge::One => by_ngrams(prediction, reference, 1),
            Rouge::Two => by_ngrams(prediction, reference, 2),
            Rouge::L => {
                let (prediction, reference) = (tokens(prediction), tokens(reference));
                let common = Common::new(&reference, &prediction).length();
                RougeScore::of(common, prediction.len(), reference.len())
            }
            Rouge::LSum => by_sentences(prediction, reference),
        }
    }

    /// The F of each prediction, to be averaged and resampled; `references[i]` are those of
    /// `predictions[i]`.
    ///
    /// # Errors
    /// Unequal lengths, no examples, an example without reference.
    pub fn corpus(
        self,
        predictions: &[String],
        references: &[Vec<String>],
    ) -> Result<Mean, MeasureError> {
        check_references(predictions.len(), references)?;
        let score = |(p, r): (&String, &Vec<String>)| self.score(p, r).f1;
        Ok(Mean { values: predictions.iter().zip(references).map(score).collect() })
    }
}

/// Precision, recall, and their harmonic mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RougeScore {
    /// What is in common, over the prediction's length.
    pub precision: f64,
    /// What is in common, over the reference's length.
    pub recall: f64,
    /// 2·P·R / (P + R); 0 where both are.
    pub f1: f64,
}

impl RougeScore {
    fn of(common: usize, prediction: usize, reference: usize) -> RougeScore {
        let precision = common as f64 / prediction.max(1) as f64;
        let recall = common as f64 / reference.max(1) as f64;
        let sum = precision + recall;
        let f1 = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        RougeScore { precision, recall, f1 }
    }
}

/// Runs of a–z and 0–9 of the text in lower case.
fn tokens(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|token| !token.is_empty())
        .map(str::to_string)
        .collect()
}

fn by_ngrams(prediction: &str, reference: &str, order: usize) -> RougeScore {
    let (prediction, reference) = (tokens(prediction), tokens(reference));
    let shared =
        ngrams::shared(&ngrams::counts(&prediction, order), &ngrams::counts(&reference, order));
    let total = |tokens: &[String]| ngrams::total(tokens.len(), order) as usize;
    RougeScore::of(shared as usize, total(&prediction), total(&reference))
}

fn by_sentences(prediction: &str, reference: &str) -> RougeScore {
    let sentences = |text: &str| text.split('\n').map(tokens).collect::<Vec<Vec<String>>>();
    let (prediction, reference) = (sentences(prediction), sentences(reference));
    let mut left = [counted(&prediction), counted(&reference)];
    let mut hits = 0;
    for sentence in &reference {
        let mut is_common = vec![false; sentence.len()];
        for other in &prediction {
            for index in Common::new(sentence, other).indices() {
                is_common[index] = true;
            }
        }
        for (token, _) in sentence.iter().zip(&is_common).filter(|(_, common)| **common) {
            // No token counts more often than either text has it.
            if left.iter().all(|counts| counts.get(token.as_str()).is_some_and(|c| *c > 0)) {
                hits += 1;
                for counts in &mut left {
                    *counts.entry(token).or_default() -= 1;
                }
            }
        }
    }
    let length = |sentences: &[Vec<String>]| sentences.iter().map(Vec::len).sum();
    RougeScore::of(hits, length(&prediction), length(&reference))
}

fn counted(sentences: &[Vec<String>]) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for token in sentences.iter().flatten() {
        *counts.entry(token.as_str()).or_default() += 1;
    }
    counts
}

/// Lengths of the longest common subsequences of all beginnings of two texts.
struct Common<'a> {
    a: &'a [String],
    b: &'a [String],
    /// [a + 1, b + 1].
    table: Vec<u32>,
}

impl Common<'_> {
    fn new<'a>(a: &'a [String], b: &'a [String]) -> Common<'a> {
        let width = b.len() + 1;
        let mut table = vec![0; (a.len() + 1) * width];
        for (i, ours) in a.iter().enumerate() {
            let (above, row) = table[i * width..(i + 2) * width].split_at_mut(width);
            for (j, theirs) in b.iter().enumerate() {
                let longer = above[j] + 1;
                row[j + 1] = if ours == theirs { longer } else { row[j].max(above[j + 1]) };
            }
        }
        Common { a, b, table }
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.table[i * (self.b.len() + 1) + j]
    }

    fn length(&self) -> usize {
        self.at(self.a.len(), self.b.len()) as usize
    }

    /// The places in `a` of one longest subsequence, last first: the one that rouge-score reads.
    fn indices(&self) -> Vec<usize> {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        let mut indices = Vec::new();
        while i > 0 && j > 0 {
            if self.a[i - 1] == self.b[j - 1] {
                indices.push(i - 1);
                (i, j) = (i - 1, j - 1);
            } else if self.at(i, j - 1) > self.at(i - 1, j) {
                j -= 1;
            } else {
                i -= 1;
            }
        }
        indices
    }
}
