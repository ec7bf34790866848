//! The search for one source's target: which texts are followed, which are finished, and when
//! nothing better can come. The numbers are f32 and the order of operations is that of
//! transformers, so that the same texts win.

use super::{Beam, EarlyStopping, Hypothesis};
use crate::ModelConfig;

/// The score of what does not count.
const NOTHING: f32 = -1e9;

/// What a search may choose, and when it ends.
pub(super) struct Rules<'a> {
    beam: &'a Beam,
    vocabulary: usize,
    end: u32,
    forced_first: Option<u32>,
    forced_last: Option<u32>,
}

impl<'a> Rules<'a> {
    pub fn new(beam: &'a Beam, config: &ModelConfig) -> Rules<'a> {
        let decoder = &config.decoder;
        Rules {
            beam,
            vocabulary: config.vocabulary,
            end: decoder.end,
            forced_first: decoder.forced_first,
            forced_last: decoder.forced_last,
        }
    }

    /// Scores of tokens that cannot follow `text` become −∞; where one is forced it is 0.
    fn apply(&self, text: &[u32], scores: &mut [f32]) {
        let n = self.beam.no_repeat_ngram;
        if n > 0 && text.len() + 1 >= n {
            let last = &text[text.len() + 1 - n..];
            for run in text.windows(n) {
                if run[..n - 1] == *last {
                    scores[run[n - 1] as usize] = f32::NEG_INFINITY;
                }
            }
        }
        for id in &self.beam.suppressed {
            scores[*id as usize] = f32::NEG_INFINITY;
        }
        let first = self.forced_first.filter(|_| text.len() == 1);
        let last = self.forced_last.filter(|_| text.len() == self.beam.max_length - 1);
        if let Some(forced) = last.or(first) {
            scores.fill(f32::NEG_INFINITY);
            scores[forced as usize] = 0.0;
        }
    }

    /// Whether a text goes on no further.
    fn ends(&self, text: &[u32]) -> bool {
        text.last() == Some(&self.end) || text.len() >= self.beam.max_length
    }
}

/// A text with its start, and its score.
#[derive(Clone, Debug)]
struct Text {
    tokens: Vec<u32>,
    score: f32,
}

/// See the module.
pub(super) struct Search {
    /// The best first.
    running: Vec<Text>,
    /// As many as beams, the best first; None where nothing is finished yet.
    finished: Vec<Option<Text>>,
    /// Whether something better may come.
    is_open: bool,
}

/// A continuation of a running text.
#[derive(Clone, Copy)]
struct Next {
    score: f32,
    parent: usize,
    token: u32,
}

impl Search {
    pub fn new(beams: usize, start: u32) -> Search {
        // All texts are the same at first: only one of them counts.
        let score = |beam: usize| if beam == 0 { 0.0 } else { NOTHING };
        let text = |beam: usize| Text { tokens: vec![start], score: score(beam) };
        Search {
            running: (0..beams).map(text).collect(),
            finished: vec![None; beams],
            is_open: true,
        }
    }

    /// The tokens to read next.
    pub fn last_tokens(&self) -> impl Iterator<Item = u32> {
        self.running.iter().map(|text| *text.tokens.last().expect("a start"))
    }

    /// Takes the next token of every text, given the logits [beams, V], and returns which text each
    /// new one continues.
    pub fn advance(&mut self, logits: &mut [f32], rules: &Rules) -> Vec<usize> {
        for (text, logits) in self.running.iter().zip(logits.chunks_exact_mut(rules.vocabulary)) {
            log_softmax(logits);
            rules.apply(&text.tokens, logits);
        }
        if self.running.len() == 1 {
            self.advance_greedily(logits, rules);
            return vec![0];
        }
        let beams = self.running.len();
        for (text, scores) in self.running.iter().zip(logits.chunks_exact_mut(rules.vocabulary)) {
            scores.iter_mut().for_each(|score| *score += text.score);
        }
        let nexts = best(logits, rules.vocabulary, 2 * beams);
        let continued = |next: &Next| {
            let mut tokens = self.running[next.parent].tokens.clone();
            tokens.push(next.token);
            Text { tokens, score: next.score }
        };
        let texts: Vec<Text> = nexts.iter().map(continued).collect();
        let ended: Vec<bool> = texts.iter().map(|text| rules.ends(&text.tokens)).collect();
        let going_on = (0..nexts.len()).filter(|at| !ended[*at]);
        // At the longest length all end.
        let going_on: Vec<usize> = going_on.take(beams).collect();
        self.finish(&texts[..beams], &ended, rules);
        if going_on.len() < beams {
            self.is_open = false;
            return (0..beams).collect();
        }
        self.running = going_on.iter().map(|at| texts[*at].clone()).collect();
        self.close(rules);
        going_on.iter().map(|at| nexts[*at].parent).collect()
    }

    fn advance_greedily(&mut self, scores: &[f32], rules: &Rules) {
        let chosen = best(scores, rules.vocabulary, 1)[0];
        let text = &mut self.running[0];
        text.tokens.push(chosen.token);
        text.score += chosen.score;
        if rules.ends(&text.tokens) {
            self.finished[0] = Some(text.clone());
            self.is_open = false;
        }
    }

    /// Keeps those of the best continuations that have ended, if they are better.
    fn finish(&mut self, best: &[Text], ended: &[bool], rules: &Rules) {
        for (text, _) in best.iter().zip(ended).filter(|(_, ended)| **ended) {
            let length = (text.tokens.len() - 1) as f64;
            let power = length.powf(f64::from(rules.beam.length_penalty)) as f32;
            let score = text.score / power;
            if score == f32::NEG_INFINITY {
                continue; // nothing else was allowed
            }
            let found = Text { tokens: text.tokens.clone(), score };
            let worse = |other: &Option<Text>| other.as_ref().is_none_or(|o| o.score < score);
            if let Some(at) = self.finished.iter().position(worse) {
                self.finished.insert(at, Some(found));
                self.finished.pop();
            }
        }
    }

    /// Decides whether something better may come.
    fn close(&mut self, rules: &Rules) {
        let penalty = f64::from(rules.beam.length_penalty);
        let length = match rules.beam.early_stopping {
            EarlyStopping::Never if penalty > 0.0 => rules.beam.max_length - 1,
            _ => self.running[0].tokens.len() - 1,
        };
        let possible = self.running[0].score / (length as f64).powf(penalty) as f32;
        let worst = self.finished.iter().map(|text| text.as_ref().map_or(NOTHING, |t| t.score));
        let worst = worst.fold(f32::INFINITY, f32::min);
        let improves = |text: &Option<Text>| match text {
            Some(_) => possible > worst,
            None => possible > NOTHING,
        };
        let is_full = self.finished.iter().all(Option::is_some);
        let stops = rules.beam.early_stopping == EarlyStopping::Yes && is_full;
        self.is_open = self.finished.iter().any(improves) && !stops;
    }

    /// Whether the best text is known.
    pub fn is_done(&self) -> bool {
        !self.is_open
    }

    /// The best of the finished texts.
    pub fn best(&self, rules: &Rules) -> Hypothesis {
        // Where nothing was allowed to finish, what was followed last.
        let text = self.finished[0].as_ref().unwrap_or(&self.running[0]);
        let tokens = text.tokens[1..].iter().copied().filter(|id| *id != rules.end).collect();
        Hypothesis { tokens, score: text.score }
    }
}

/// logits − ln Σ e^logits.
fn log_softmax(logits: &mut [f32]) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .chunks(256)
        .map(|part| {
            f64::from(part.iter().map(|&x| heldout_kernels::math::exp(x - most)).sum::<f32>())
        })
        .sum();
    let log_sum = sum.ln() as f32;
    logits.iter_mut().for_each(|logit| *logit = *logit - most - log_sum);
}

/// The `count` best continuations, the best first and of equal ones the first.
fn best(scores: &[f32], vocabulary: usize, count: usize) -> Vec<Next> {
    let mut found: Vec<Next> = Vec::with_capacity(count + 1);
    for (parent, scores) in scores.chunks_exact(vocabulary).enumerate() {
        for (token, &score) in scores.iter().enumerate() {
            if found.len() == count && found[count - 1].score >= score {
                continue;
            }
            let at = found.partition_point(|other| other.score >= score);
            found.insert(at, Next { score, parent, token: token as u32 });
            found.truncate(count);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelConfig;

    fn beam() -> Beam {
        Beam {
            beams: 2,
            length_penalty: 1.0,
            no_repeat_ngram: 0,
            max_length: 8,
            early_stopping: EarlyStopping::No,
            suppressed: Vec::new(),
        }
    }

    #[test]
    fn runs_do_not_come_twice_and_forced_tokens_win() {
        let mut config = ModelConfig::bart(6, 8, 1, 1, 4);
        (config.decoder.forced_first, config.decoder.forced_last) = (Some(4), Some(2));
        let allowed = |beam: &Beam, text: &[u32]| -> Vec<u32> {
            let mut scores = vec![-1.0; 6];
            Rules::new(beam, &config).apply(text, &mut scores);
            (0..6).filter(|id| scores[*id as usize] > f32::NEG_INFINITY).collect()
        };
        let free = beam();
        assert_eq!(allowed(&free, &[2, 4, 3]), [0, 1, 2, 3, 4, 5]);
        assert_eq!(allowed(&free, &[2]), [4]);
        assert_eq!(allowed(&free, &[2, 4, 3, 3, 3, 3, 3]), [2]);
        let pairs = Beam { no_repeat_ngram: 2, suppressed: vec![1], ..beam() };
        assert_eq!(allowed(&pairs, &[2, 4, 3, 5, 3]), [0, 2, 3, 4]);
        let single = Beam { no_repeat_ngram: 1, ..beam() };
        assert_eq!(allowed(&single, &[2, 4]), [0, 1, 3, 5]);
    }

    #[test]
    fn the_best_of_equals_is_the_first() {
        let scores = [0.0, 3.0, 1.0, 3.0, 2.0, 2.5];
        let found: Vec<(usize, u32)> =
            best(&scores, 3, 4).iter().map(|next| (next.parent, next.token)).collect();
        assert_eq!(found, [(0, 1), (1, 0), (1, 2), (1, 1)]);
    }
}
