//! chrF, the F-score of character n-grams, as sacreBLEU computes it (Popović 2015, 2017), from
//! statistics of the sentences that can be resampled.

use crate::bleu::{each_sentence, reference_count};
use crate::error::MeasureError;
use crate::ngrams;
use crate::resample::{Metric, weighted_sum};
use crate::tokenize::{Case, words};

/// The longest run of characters.
pub const CHARACTERS: usize = 6;
/// The longest run of words that chrF++ counts.
const WORDS: usize = 2;
/// Recall counts β times as much as precision.
const BETA: f64 = 2.0;
const ORDERS: usize = CHARACTERS + WORDS;

/// Counts of a sentence for each order, of characters first, then of words: n-grams of the
/// hypothesis, of the reference, and matched.
pub type Statistics = [u64; 3 * ORDERS];

/// Which n-grams count besides those of 1 to 6 characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WordOrder {
    /// None: chrF2.
    #[default]
    None,
    /// Words and pairs of words: chrF2++.
    Two,
}

/// chrF's settings; the defaults are sacreBLEU's (6 characters, no words, β = 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chrf {
    pub words: WordOrder,
    pub case: Case,
}

impl Chrf {
    /// As sacreBLEU calls it.
    pub fn name(&self) -> &'static str {
        match self.words {
            WordOrder::None => "chrF2",
            WordOrder::Two => "chrF2++",
        }
    }

    /// What was computed, in sacreBLEU's notation; the version is this program's.
    pub fn signature(&self, references: &[Vec<String>]) -> String {
        format!(
            "nrefs:{}|case:{}|eff:yes|nc:{CHARACTERS}|nw:{}|space:no|version:heldout-{}",
            reference_count(references),
            self.case.name(),
            if self.words == WordOrder::Two { WORDS } else { 0 },
            env!("CARGO_PKG_VERSION"),
        )
    }

    /// The statistics of one hypothesis against the reference that gives it the highest score.
    pub fn statistics(&self, hypothesis: &str, references: &[String]) -> Statistics {
        let hypothesis = Counted::of(&self.case.apply(hypothesis));
        let mut best = ([0; 3 * ORDERS], -1.0);
        for reference in references {
            let reference = Counted::of(&self.case.apply(reference));
            let statistics = self.against(&hypothesis, &reference);
            let score = score(&statistics);
            if score > best.1 {
                best = (statistics, score);
            }
        }
        best.0
    }

    fn against(&self, hypothesis: &Counted, reference: &Counted) -> Statistics {
        let mut statistics = [0; 3 * ORDERS];
        let (characters, words) = statistics.split_at_mut(3 * CHARACTERS);
        fill(characters, &hypothesis.characters, &reference.characters);
        if self.words == WordOrder::Two {
            fill(words, &hypothesis.words, &reference.words);
        }
        statistics
    }

    /// The statistics of a corpus; `references[i]` are those of `hypotheses[i]`.
    ///
    /// # Errors
    /// Unequal lengths, no examples, an example without reference.
    pub fn corpus(
        &self,
        hypotheses: &[String],
        references: &[Vec<String>],
    ) -> Result<Corpus, MeasureError> {
        let sentences = each_sentence(hypotheses, references, |h, r| self.statistics(h, r))?;
        Ok(Corpus { sentences })
    }
}

/// What of a text is counted.
struct Counted {
    /// Without whitespace.
    characters: Vec<char>,
    words: Vec<String>,
}

impl Counted {
    fn of(text: &str) -> Counted {
        Counted {
            characters: words(text).flat_map(str::chars).collect(),
            words: words(text).flat_map(without_sign).collect(),
        }
    }
}

/// A sign of punctuation at the end of a word, else at its start, is a word of its own; a second
/// one stays, as in the original chrF.
fn without_sign(word: &str) -> Vec<String> {
    let is_sign = |c: Option<char>| c.is_some_and(|c| c.is_ascii_punctuation());
    let (first, last) = (word.chars().next(), word.chars().next_back());
    // A sign is one byte.
    match word.chars().nth(1) {
        Some(_) if is_sign(last) => {
            let (rest, sign) = word.split_at(word.len() - 1);
            vec![rest.to_string(), sign.to_string()]
        }
        Some(_) if is_sign(first) => {
            let (sign, rest) = word.split_at(1);
            vec![sign.to_string(), rest.to_string()]
        }
        _ => vec![word.to_string()],
    }
}

fn fill<T: Eq + std::hash::Hash>(out: &mut [u64], hypothesis: &[T], reference: &[T]) {
    for (order, out) in (1..).zip(out.chunks_exact_mut(3)) {
        let (ours, theirs) =
            (ngrams::total(hypothesis.len(), order), ngrams::total(reference.len(), order));
        let counted = ngrams::counts(hypothesis, order);
        // Where the reference is too short for an order, the order does not count.
        out[0] = if theirs > 0 { ours } else { 0 };
        out[1] = theirs;
        out[2] = ngrams::shared(&counted, &ngrams::counts(reference, order));
    }
}

/// (1 + β²)·P·R / (β²·P + R), times 100, of summed statistics; P and R are means of the precisions
/// and recalls of the orders that both sides are long enough for.
pub fn score(statistics: &Statistics) -> f64 {
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for order in statistics.chunks_exact(3) {
        if order[0] > 0 && order[1] > 0 {
            precision += order[2] as f64 / order[0] as f64;
            recall += order[2] as f64 / order[1] as f64;
            orders += 1.0;
        }
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / orders, recall / orders);
    let factor = BETA * BETA;
    100.0 * (1.0 + factor) * precision * recall / (factor * precision + recall)
}

/// The sentences' statistics: a corpus that can be resampled without counting again.
#[derive(Clone, Debug, PartialEq)]
pub struct Corpus {
    pub sentences: Vec<Statistics>,
}

impl Metric for Corpus {
    fn count(&self) -> usize {
        self.sentences.len()
    }

    fn score(&self, times: &[u32]) -> f64 {
        score(&weighted_sum(&self.sentences, times))
    }
}
