//! From logits to the next token: penalty, temperature, top-k, top-p and the draw, as pure
//! functions in the order of transformers' `generate`.

use heldout_kernels::Device;
use heldout_kernels::math::exp;
use heldout_kernels::simd::dispatch;

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

/// Logits in a block: what is searched for is looked for in the blocks that can hold it.
const BLOCK: usize = 64;
const LANES: usize = 16;

/// Whether every logit is a number.
pub fn all_finite(logits: &[f32]) -> bool {
    let not_finite = dispatch(
        Device::detect_isa(),
        #[inline(always)]
        || {
            let mut count = 0u32;
            for logit in logits {
                count += u32::from(logit.abs().to_bits() >= f32::INFINITY.to_bits());
            }
            count
        },
    );
    not_finite == 0
}

/// The greatest logit of every block.
fn maxima(logits: &[f32]) -> Vec<f32> {
    let mut maxima = Vec::with_capacity(logits.len().div_ceil(BLOCK));
    dispatch(
        Device::detect_isa(),
        #[inline(always)]
        || {
            for block in logits.chunks(BLOCK) {
                let mut lanes = [f32::NEG_INFINITY; LANES];
                let (pieces, tail) = block.as_chunks::<LANES>();
                for piece in pieces {
                    for (lane, &logit) in lanes.iter_mut().zip(piece) {
                        *lane = if logit > *lane { logit } else { *lane };
                    }
                }
                for (lane, &logit) in lanes.iter_mut().zip(tail) {
                    *lane = if logit > *lane { logit } else { *lane };
                }
                maxima.push(lanes.into_iter().fold(f32::NEG_INFINITY, f32::max));
            }
        },
    );
    maxima
}

/// The token with the largest logit; the lowest id on a tie.
pub fn likeliest(logits: &[f32]) -> u32 {
    let maxima = maxima(logits);
    let greatest = greatest(&maxima);
    let block = maxima.iter().position(|&most| most == greatest).unwrap_or(0) * BLOCK;
    let within = logits[block..].iter().position(|&logit| logit == greatest);
    (block + within.unwrap_or(0)) as u32
}

fn greatest(values: &[f32]) -> f32 {
    values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Relative weights e^((logit − greatest) / temperature), to f32's precision.
fn weights(logits: &[f32], greatest: f32, temperature: f32) -> Vec<f32> {
    let mut weights = vec![0.0; logits.len()];
    dispatch(
        Device::detect_isa(),
        #[inline(always)]
        || {
            for (weight, logit) in weights.iter_mut().zip(logits) {
                *weight = exp((logit - greatest) / temperature);
            }
        },
    );
    weights
}

/// Sums of the blocks of weights.
fn block_sums(weights: &[f32]) -> Vec<f64> {
    weights.chunks(BLOCK).map(|block| block.iter().map(|&w| f64::from(w)).sum()).collect()
}

/// The n likeliest tokens, and those tied with the last of them, the likeliest first.
fn top(logits: &[f32], n: usize) -> Vec<u32> {
    let maxima = maxima(logits);
    // n blocks hold a logit of at least their maximum, so the n-th greatest is no less than the
    // n-th greatest maximum.
    let floor = match n.checked_sub(1).filter(|&last| last < maxima.len()) {
        Some(last) => *maxima.clone().select_nth_unstable_by(last, |a, b| b.total_cmp(a)).1,
        None => f32::NEG_INFINITY,
    };
    let mut found: Vec<(f32, u32)> = Vec::new();
    for (number, (block, &most)) in logits.chunks(BLOCK).zip(&maxima).enumerate() {
        if most >= floor {
            let ids = (number * BLOCK) as u32..;
            let each = block.iter().copied().zip(ids);
            found.extend(each.filter(|(logit, _)| *logit >= floor));
        }
    }
    if n < found.len() {
        let least = found.select_nth_unstable_by(n - 1, |a, b| b.0.total_cmp(&a.0)).1.0;
        found.retain(|(logit, _)| *logit >= least);
    }
    found.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.into_iter().map(|(_, id)| id).collect()
}

/// The tokens that may be drawn at temperature > 0 and their probabilities, which sum to 1.
///
/// Without top-k and top-p these are all tokens, by id; otherwise the likeliest first.
pub fn candidates(logits: &[f32], sampling: &Sampling) -> Vec<Candidate> {
    let greatest = greatest(&maxima(logits));
    let weigh = |logits: &[f32]| weights(logits, greatest, sampling.temperature);
    let with = |ids: Vec<u32>| -> Vec<Candidate> {
        let logits: Vec<f32> = ids.iter().map(|&id| logits[id as usize]).collect();
        ids.into_iter().zip(weigh(&logits).into_iter().map(f64::from)).collect()
    };
    let mut all = match (sampling.top_k, sampling.top_p.filter(|p| *p < 1.0)) {
        (None, None) => with((0..logits.len() as u32).collect()),
        (Some(k), p) => {
            let mut likely = with(top(logits, k));
            if let Some(p) = p {
                let sum: f64 = likely.iter().map(|candidate| candidate.1).sum();
                let kept = reach(&likely, f64::from(p) * sum).unwrap_or(likely.len());
                likely.truncate(kept);
            }
            likely
        }
        (None, Some(p)) => {
            let goal = f64::from(p) * block_sums(&weigh(logits)).iter().sum::<f64>();
            let mut count = 64;
            loop {
                let mut likely = with(top(logits, count));
                let kept = reach(&likely, goal);
                if kept.is_some() || count >= logits.len() {
                    likely.truncate(kept.unwrap_or(likely.len()));
                    break likely;
                }
                count *= 8;
            }
        }
    };
    normalize(&mut all);
    all
}

/// How many of the first candidates together weigh `goal`, if they do.
fn reach(candidates: &[Candidate], goal: f64) -> Option<usize> {
    let mut reached = 0.0;
    let crossing = candidates.iter().position(|(_, weight)| {
        reached += weight;
        reached >= goal
    });
    crossing.map(|last| last + 1)
}

/// Draws among all tokens: as [`draw`] among all [`candidates`], without listing them.
pub fn draw_any(logits: &[f32], temperature: f32, uniform: f64) -> u32 {
    let weights = weights(logits, greatest(&maxima(logits)), temperature);
    let sums = block_sums(&weights);
    let goal = uniform * sums.iter().sum::<f64>();
    let mut before = 0.0;
    for (number, (block, sum)) in weights.chunks(BLOCK).zip(&sums).enumerate() {
        let mut reached = before;
        before += sum;
        if goal >= before {
            continue;
        }
        for (within, weight) in block.iter().enumerate() {
            reached += f64::from(*weight);
            if goal < reached && *weight > 0.0 {
                return (number * BLOCK + within) as u32;
            }
        }
    }
    // Rounding may leave the sum a hair below; the last possible token takes the rest.
    let possible = weights.iter().rposition(|weight| *weight > 0.0);
    possible.expect("the likeliest token is possible") as u32
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

    /// Many logits, some of them equal.
    fn many(count: usize) -> Vec<f32> {
        let random = Random::new(5, streams::TEST, 0);
        (0..count as u64).map(|i| (random.uniform(i) * 400.0).floor() as f32 / 20.0).collect()
    }

    #[test]
    fn searching_by_blocks_finds_what_sorting_finds() {
        for count in [1, 63, 64, 65, 1000, 5000] {
            let logits = many(count);
            let mut sorted: Vec<u32> = (0..count as u32).collect();
            sorted.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
            assert_eq!(likeliest(&logits), sorted[0]);
            for n in [1, 2, 7, 64, 100, 4999, 9999] {
                let last = logits[sorted[n.min(count) - 1] as usize];
                let tied = sorted.iter().filter(|&&id| logits[id as usize] >= last).count();
                assert_eq!(top(&logits, n), sorted[..tied], "{n} of {count}");
            }
            for p in [0.1, 0.5, 0.9, 0.999_999] {
                let sampling = Sampling { top_p: Some(p), temperature: 4.0, ..Sampling::default() };
                let found = candidates(&logits, &sampling);
                let weigh = |id: &u32| (f64::from(logits[*id as usize]) / 4.0).exp();
                let total: f64 = sorted.iter().map(weigh).sum();
                let inside: f64 = found.iter().map(|(id, _)| weigh(id)).sum::<f64>() / total;
                let least = weigh(&found[found.len() - 1].0) / total;
                assert!(inside > f64::from(p) - 1e-6 && inside - least < f64::from(p) + 1e-6);
                assert_eq!(found.iter().map(|c| c.0).collect::<Vec<_>>(), sorted[..found.len()]);
            }
        }
    }

    #[test]
    fn a_draw_among_all_is_one_among_all_candidates() {
        let logits = many(777);
        let sampling = Sampling { temperature: 2.0, ..Sampling::default() };
        let candidates = candidates(&logits, &sampling);
        let random = Random::new(6, streams::TEST, 0);
        for uniform in (0..500).map(|i| random.uniform(i)).chain([0.0, 1.0 - f64::EPSILON / 2.0]) {
            assert_eq!(draw_any(&logits, 2.0, uniform), draw(&candidates, uniform), "{uniform}");
        }
        assert_eq!(draw_any(&[-3.0, 500.0, 2.0], 1e-3, 0.9), 1);
    }

    #[test]
    fn numbers_are_told_from_what_is_none() {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut logits = many(100);
            assert!(all_finite(&logits));
            logits[99] = odd;
            assert!(!all_finite(&logits));
        }
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
