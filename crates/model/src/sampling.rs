//! From logits to the next token: penalty, temperature, top-k, top-p and the draw, as pure
//! functions in the order of transformers' `generate`.

use crate::ModelError;

/// How the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token (greedy), the lower id on a tie.
    pub temperature: f32,
    /// Only the k likeliest tokens (and those tied with the last of them) may be drawn.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together reach this probability may be drawn.
    pub top_p: Option<f32>,
    /// Above 1, logits of tokens that occurred before are divided by it where positive and
    /// multiplied where negative (Keskar et al. 2019); 1 leaves them alone.
    pub repetition_penalty: f32,
    /// Same seed, same text.
    pub seed: u64,
    /// Tokens to generate at most.
    pub max_new_tokens: usize,
    /// Generation ends at any of these; they are not part of the result.
    pub stop_tokens: Vec<u32>,
}

impl Default for Sampling {
    /// Draws from the model's own distribution, at most 256 tokens.
    fn default() -> Sampling {
        Sampling {
            temperature: 1.0,
            top_k: None,
            top_p: None,
            repetition_penalty: 1.0,
            seed: 0,
            max_new_tokens: 256,
            stop_tokens: Vec::new(),
        }
    }
}

impl Sampling {
    /// The likeliest token at every step.
    pub fn greedy(max_new_tokens: usize) -> Sampling {
        Sampling { temperature: 0.0, max_new_tokens, ..Sampling::default() }
    }

    /// Whether every setting is in its range.
    pub fn validate(&self) -> Result<(), ModelError> {
        let fail =
            |key, found: String, expected| Err(ModelError::Sampling { key, found, expected });
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            let expected = "a number ≥ 0 (0 takes the likeliest token)";
            return fail("temperature", self.temperature.to_string(), expected);
        }
        if self.top_k == Some(0) {
            return fail("top-k", "0".into(), "at least 1; leave it out to allow every token");
        }
        if let Some(p) = self.top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            return fail("top-p", p.to_string(), "a probability above 0 and at most 1");
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            let expected = "a number above 0 (1 means no penalty, 1.1 a mild one)";
            return fail("repetition-penalty", self.repetition_penalty.to_string(), expected);
        }
        Ok(())
    }
}

/// A token and its probability.
pub type Candidate = (u32, f64);

/// Divides the positive logits of tokens in `seen` by `penalty` and multiplies the negative ones;
/// a token that occurred twice is penalised once.
pub fn penalize(logits: &mut [f32], seen: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    let mut ids = seen.to_vec();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let logit = &mut logits[id as usize];
        *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
    }
}

/// The token with the largest logit; the lowest id on a tie.
pub fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// The tokens that may be drawn at temperature > 0 and their probabilities, which sum to 1.
///
/// Without top-k and top-p these are all tokens, by id; otherwise the likeliest first.
pub fn candidates(logits: &[f32], sampling: &Sampling) -> Vec<Candidate> {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let temperature = f64::from(sampling.temperature);
    let weight = |logit: f32| ((f64::from(logit) - f64::from(greatest)) / temperature).exp();
    let mut all: Vec<Candidate> =
        logits.iter().enumerate().map(|(id, &logit)| (id as u32, weight(logit))).collect();
    if sampling.top_k.is_none() && sampling.top_p.is_none() {
        normalize(&mut all);
        return all;
    }
    if let Some(k) = sampling.top_k {
        keep_top_k(&mut all, k);
    }
    all.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    normalize(&mut all);
    if let Some(p) = sampling.top_p.filter(|p| *p < 1.0) {
        let mut before = 0.0;
        let kept = all.iter().take_while(|(_, probability)| {
            let keep = before < f64::from(p);
            before += probability;
            keep
        });
        let kept = kept.count();
        all.truncate(kept);
        normalize(&mut all);
    }
    all
}

/// Draws from `candidates` with `uniform` from [0, 1).
pub fn draw(candidates: &[Candidate], uniform: f64) -> u32 {
    let mut reached = 0.0;
    for (id, probability) in candidates {
        reached += probability;
        if uniform < reached {
            return *id;
        }
    }
    // Rounding may leave the sum a hair below 1; the last possible token takes the rest.
    let possible = candidates.iter().rev().find(|candidate| candidate.1 > 0.0);
    possible.expect("at least one token is possible").0
}

fn keep_top_k(all: &mut Vec<Candidate>, k: usize) {
    if k >= all.len() {
        return;
    }
    let mut weights: Vec<f64> = all.iter().map(|candidate| candidate.1).collect();
    let (_, least, _) = weights.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let least = *least;
    all.retain(|candidate| candidate.1 >= least);
}

fn normalize(candidates: &mut [Candidate]) {
    let sum: f64 = candidates.iter().map(|candidate| candidate.1).sum();
    for candidate in candidates {
        candidate.1 /= sum;
    }
}

#[cfg(test)]
mod tests {
    use heldout_base::rng::{Random, streams};
    use proptest::prelude::*;

    use super::*;

    const LOGITS: [f32; 6] = [1.0, -0.5, 2.0, 0.0, 2.0, -3.0];

    fn counts(sampling: &Sampling, draws: u64) -> Vec<f64> {
        let random = Random::new(11, streams::SAMPLING, 0);
        let candidates = candidates(&LOGITS, sampling);
        let mut counts = vec![0.0; LOGITS.len()];
        for index in 0..draws {
            counts[draw(&candidates, random.uniform(index)) as usize] += 1.0;
        }
        counts
    }

    #[test]
    fn draws_follow_the_softmax() {
        for temperature in [0.5, 1.0, 3.0] {
            let sampling = Sampling { temperature, ..Sampling::default() };
            let weights = LOGITS.map(|logit| f64::from(logit / temperature).exp());
            let sum: f64 = weights.iter().sum();
            let draws = 100_000;
            // Pearson's χ² with 5 degrees of freedom exceeds 25.7 once in 10,000.
            let chi: f64 = counts(&sampling, draws)
                .iter()
                .zip(weights)
                .map(|(count, weight)| {
                    let expected = draws as f64 * weight / sum;
                    (count - expected).powi(2) / expected
                })
                .sum();
            assert!(chi < 25.7, "temperature {temperature}: χ² {chi}");
        }
    }

    #[test]
    fn top_k_keeps_ties_and_top_p_keeps_the_token_that_crosses() {
        let ids = |top_k, top_p| -> Vec<u32> {
            let sampling = Sampling { top_k, top_p, ..Sampling::default() };
            candidates(&LOGITS, &sampling).into_iter().map(|candidate| candidate.0).collect()
        };
        assert_eq!(ids(Some(1), None), [2, 4]);
        assert_eq!(ids(Some(3), None), [2, 4, 0]);
        assert_eq!(ids(Some(100), None).len(), 6);
        // Probabilities of 2, 4, 0: 0.38, 0.38, 0.14.
        assert_eq!(ids(None, Some(0.3)), [2]);
        assert_eq!(ids(None, Some(0.5)), [2, 4]);
        assert_eq!(ids(None, Some(0.8)), [2, 4, 0]);
        assert_eq!(ids(None, Some(1.0)).len(), 6);
        let sampling = Sampling { top_k: Some(3), ..Sampling::default() };
        assert_eq!(counts(&sampling, 1000)[1], 0.0);
    }

    #[test]
    fn the_penalty_pushes_down_whatever_the_sign_and_only_once() {
        let mut logits = LOGITS;
        penalize(&mut logits, &[1, 2, 2, 3], 2.0);
        assert_eq!(logits, [1.0, -1.0, 1.0, 0.0, 2.0, -3.0]);
    }

    #[test]
    fn greedy_takes_the_lower_id_on_a_tie() {
        assert_eq!(likeliest(&LOGITS), 2);
        assert_eq!(likeliest(&[f32::NEG_INFINITY, -5.0]), 1);
    }

    #[test]
    fn settings_outside_their_range_are_named() {
        let good = Sampling::default();
        assert_eq!(good.validate(), Ok(()));
        assert_eq!(Sampling::greedy(3).validate(), Ok(()));
        let check = |sampling: Sampling, key: &str| {
            let message = sampling.validate().unwrap_err().to_string();
            assert!(message.starts_with(key), "{message}");
        };
        check(Sampling { temperature: -1.0, ..good.clone() }, "temperature = -1");
        check(Sampling { temperature: f32::NAN, ..good.clone() }, "temperature = NaN");
        check(Sampling { top_k: Some(0), ..good.clone() }, "top-k = 0");
        check(Sampling { top_p: Some(0.0), ..good.clone() }, "top-p = 0");
        check(Sampling { top_p: Some(1.1), ..good.clone() }, "top-p = 1.1");
        check(Sampling { repetition_penalty: 0.0, ..good }, "repetition-penalty = 0");
    }

    proptest! {
        /// Whatever the logits and settings: probabilities sum to 1, the likeliest token survives,
        /// and a draw is always one of the candidates with a chance.
        #[test]
        fn candidates_are_a_distribution(
            logits in prop::collection::vec(-80f32..80.0, 1..40),
            temperature in 0.05f32..5.0,
            top_k in prop::option::of(1usize..50),
            top_p in prop::option::of(0.001f32..=1.0),
            uniform in 0.0f64..1.0,
        ) {
            let sampling = Sampling { temperature, top_k, top_p, ..Sampling::default() };
            let candidates = candidates(&logits, &sampling);
            let sum: f64 = candidates.iter().map(|candidate| candidate.1).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9);
            let best = likeliest(&logits);
            prop_assert!(candidates.iter().any(|candidate| candidate.0 == best));
            let drawn = draw(&candidates, uniform);
            prop_assert!(candidates.iter().any(|c| c.0 == drawn && c.1 > 0.0));
        }
    }
}
