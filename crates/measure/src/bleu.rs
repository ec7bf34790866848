//! Corpus BLEU as sacreBLEU computes it (Papineni et al. 2002; Post 2018), from statistics of the
//! sentences that can be resampled.

use std::collections::HashMap;

use crate::error::{MeasureError, check_lengths};
use crate::ngrams;
use crate::resample::{Metric, weighted_sum};
use crate::tokenize::{Case, Tokenizer};

/// The longest n-gram.
pub const ORDER: usize = 4;

/// Counts of a sentence: lengths of hypothesis and closest reference, matched n-grams of each
/// order, all n-grams of each order. Sums of them score corpora.
pub type Statistics = [u64; 2 + 2 * ORDER];

/// BLEU's settings; the defaults are sacreBLEU's (4-grams, exponential smoothing).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bleu {
    pub tokenizer: Tokenizer,
    pub case: Case,
}

/// Which orders of n-grams a score is a mean of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Orders {
    /// 1 to 4, as for a corpus.
    All,
    /// Those that the hypothesis is long enough for, as for a sentence.
    Effective,
}

/// A BLEU score and what it is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BleuScore {
    /// Brevity penalty · exp(mean of the precisions' logarithms), between 0 and 100.
    pub score: f64,
    /// Matched n-grams over all n-grams of the hypotheses, percent, after smoothing.
    pub precisions: [f64; ORDER],
    /// min(1, exp(1 − references / hypotheses)) of the lengths.
    pub brevity_penalty: f64,
    /// Tokens in the hypotheses.
    pub hypothesis_length: u64,
    /// Tokens in the references closest in length.
    pub reference_length: u64,
}

impl Bleu {
    /// What was computed, in sacreBLEU's notation; the version is this program's.
    pub fn signature(&self, references: &[Vec<String>]) -> String {
        format!(
            "nrefs:{}|case:{}|eff:no|tok:{}|smooth:exp|version:heldout-{}",
            reference_count(references),
            self.case.name(),
            self.tokenizer.name(),
            env!("CARGO_PKG_VERSION"),
        )
    }

    /// The statistics of one hypothesis. A match counts as often as it occurs in the reference that
    /// has it most often; the length is that of the reference closest to the hypothesis, the
    /// shorter one on a tie.
    pub fn statistics(&self, hypothesis: &str, references: &[String]) -> Statistics {
        let hypothesis = self.tokenizer.tokens(&self.case.apply(hypothesis));
        let references: Vec<Vec<String>> = references
            .iter()
            .map(|reference| self.tokenizer.tokens(&self.case.apply(reference)))
            .collect();
        let length = hypothesis.len();
        let closest = references.iter().map(Vec::len).min_by_key(|l| (l.abs_diff(length), *l));
        let mut statistics = [0; 2 + 2 * ORDER];
        statistics[0] = length as u64;
        statistics[1] = closest.unwrap_or(0) as u64;
        for order in 1..=ORDER {
            let mut most = HashMap::new();
            for reference in &references {
                for (ngram, count) in ngrams::counts(reference, order) {
                    let slot = most.entry(ngram).or_insert(0);
                    *slot = count.max(*slot);
                }
            }
            statistics[1 + order] = ngrams::shared(&ngrams::counts(&hypothesis, order), &most);
            statistics[1 + ORDER + order] = ngrams::total(length, order);
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

/// What `statistics` finds in each hypothesis beside its references.
pub(crate) fn each_sentence<S>(
    hypotheses: &[String],
    references: &[Vec<String>],
    statistics: impl Fn(&str, &[String]) -> S,
) -> Result<Vec<S>, MeasureError> {
    check_references(hypotheses.len(), references)?;
    Ok(hypotheses.iter().zip(references).map(|(h, r)| statistics(h, r)).collect())
}

/// One prediction for each list of references, and no empty list.
pub(crate) fn check_references(
    predictions: usize,
    references: &[Vec<String>],
) -> Result<(), MeasureError> {
    check_lengths(predictions, references.len())?;
    match references.iter().position(Vec::is_empty) {
        Some(index) => Err(MeasureError::NoReference { index }),
        None => Ok(()),
    }
}

/// How many references each example has, or `var`.
pub(crate) fn reference_count(references: &[Vec<String>]) -> String {
    let first = references.first().map_or(0, Vec::len);
    let same = references.iter().all(|some| some.len() == first);
    if same { first.to_string() } else { "var".to_string() }
}

/// The score of summed statistics.
pub fn score(statistics: &Statistics) -> BleuScore {
    score_of(statistics, Orders::All)
}

/// The score of one sentence: a mean over the orders for which it is long enough, as sacreBLEU's
/// `sentence_bleu`. To find good and bad sentences; a corpus's score is no mean of these.
pub fn sentence_score(statistics: &Statistics) -> BleuScore {
    score_of(statistics, Orders::Effective)
}

fn score_of(statistics: &Statistics, orders: Orders) -> BleuScore {
    let [hypothesis_length, reference_length] = [statistics[0], statistics[1]];
    let (matches, totals) = statistics[2..].split_at(ORDER);
    let brevity_penalty = match (hypothesis_length, reference_length) {
        (0, 1..) => 0.0,
        (h, r) if h < r => (1.0 - r as f64 / h as f64).exp(),
        _ => 1.0,
    };
    let mut precisions = [0.0; ORDER];
    let (mut halvings, mut reached) = (1.0, 0);
    if matches.iter().any(|count| *count > 0) {
        for (order, precision) in precisions.iter_mut().enumerate() {
            if totals[order] == 0 {
                break;
            }
            reached = order + 1;
            // Smoothing "exp" (Chen & Cherry 2014, method 3): the k-th order without a match counts
            // as 2⁻ᵏ matches.
            let matched = if matches[order] == 0 {
                halvings *= 2.0;
                1.0 / halvings
            } else {
                matches[order] as f64
            };
            *precision = 100.0 * matched / totals[order] as f64;
        }
    }
    let mean_of = if orders == Orders::All { ORDER } else { reached };
    let score = if reached == 0 || reached < mean_of {
        0.0
    } else {
        let logarithms: f64 = precisions[..mean_of].iter().map(|p| p.ln()).sum();
        brevity_penalty * (logarithms / mean_of as f64).exp()
    };
    BleuScore { score, precisions, brevity_penalty, hypothesis_length, reference_length }
}

/// The sentences' statistics: a corpus that can be resampled without counting again.
#[derive(Clone, Debug, PartialEq)]
pub struct Corpus {
    pub sentences: Vec<Statistics>,
}

impl Corpus {
    /// The score of the whole with what it is made of.
    pub fn bleu(&self) -> BleuScore {
        score(&weighted_sum(&self.sentences, &vec![1; self.sentences.len()]))
    }
}

impl Metric for Corpus {
    fn count(&self) -> usize {
        self.sentences.len()
    }

    fn score(&self, times: &[u32]) -> f64 {
        score(&weighted_sum(&self.sentences, times)).score
    }
}
