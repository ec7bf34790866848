//! From the scores of positions to the text of an answer.
//!
//! A span's score is the sum of its first and last token's logits (Devlin et al. 2019, section
//! 4.2); only spans within the context and of at most so many tokens count. The windows of a long
//! context are merged by score. "No answer" has the score of the first token as both ends, the
//! least of all windows (section 4.3): a window without the answer must not outvote the one with.

use std::ops::Range;

use heldout_data::answers::{EncodedQuestions, Question};
use heldout_data::labelled::LabelledBatch;
use heldout_kernels::{PassKind, Tape};
use heldout_model::{Model, NoiseRates, Sequences, span_nll};

/// Spans kept of each window, and of each question.
const BEST: usize = 20;

/// Tokens of an answer at most, where nobody says otherwise.
pub const LONGEST_ANSWER: usize = 30;

/// Which spans may be said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpanRule {
    /// Tokens of an answer at most.
    pub longest: usize,
    /// Whether, and how readily, it may be said that there is no answer.
    pub silence: Silence,
}

/// When nothing is said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Silence {
    Never,
    /// Where the score of no answer exceeds that of the best span by more than this.
    Above(f64),
}

/// What is said to a question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// A piece of the context; empty where there is no answer.
    pub text: String,
    /// Byte of the context at which it begins.
    pub start: usize,
    /// Its share of the probability of the best spans (and of no answer, where that may be said).
    pub score: f64,
    /// Score of no answer less the best span's.
    pub silence: f64,
    /// Mean over windows of the loss of the right ends, nats; of no meaning where nobody knows.
    pub loss: f64,
    /// The best spans, the first of which is said unless nothing is.
    pub others: Vec<(String, f64)>,
}

/// What a window says.
#[derive(Clone, Debug, Default)]
struct Found {
    /// Scores and bytes, the best first.
    best: Vec<(f64, Range<usize>)>,
    silence: f64,
    loss: f64,
}

/// Runs a model over batches of windows, without noise, and answers the questions whose windows
/// these are, all of them.
pub fn replies(
    (model, tape, weights): (&Model, &mut Tape, &[f32]),
    (questions, encoded): (&[Question], &EncodedQuestions),
    batches: impl Iterator<Item = LabelledBatch>,
    chosen: &[u32],
    rule: SpanRule,
) -> Vec<Reply> {
    let mut found: Vec<Found> = vec![Found::default(); encoded.spans.len()];
    for batch in batches {
        let LabelledBatch { ids, lengths, segments, batch: rows, seq_len, .. } = &batch;
        let (rows, seq_len) = (*rows, *seq_len);
        let segments = Some(&segments[..]).filter(|segments| !segments.is_empty());
        let sequences = Sequences { ids, lengths, segments, batch: rows, seq_len };
        let mut pass = tape.pass(weights, PassKind::Evaluate);
        let logits = model.span_scores(&mut pass, sequences, &NoiseRates::default());
        let logits = pass.value(logits).chunks(2 * seq_len);
        for ((window, length), logits) in batch.rows.iter().zip(lengths).zip(logits) {
            let window = *window as usize;
            let logits = &logits[..2 * *length as usize];
            let best = best_spans(logits, encoded.context_of(window), rule.longest);
            found[window] = Found {
                best: best
                    .into_iter()
                    .map(|(score, first, last)| (score, encoded.bytes(window, first, last)))
                    .collect(),
                silence: f64::from(logits[0]) + f64::from(logits[1]),
                loss: span_nll(logits, encoded.spans[window]),
            };
        }
    }
    let one = |question: &u32| {
        let number = *question as usize;
        reply(&questions[number].context, &found[encoded.windows_of(number)], rule)
    };
    chosen.iter().map(one).collect()
}

/// The spans of a window with the highest scores, the best first, as (score, first, last); of
/// equal ones the earlier.
fn best_spans(logits: &[f32], context: Range<usize>, longest: usize) -> Vec<(f64, usize, usize)> {
    let mut best: Vec<(f64, usize, usize)> = Vec::with_capacity(BEST + 1);
    for first in context.clone() {
        let begin = f64::from(logits[2 * first]);
        for last in first..context.end.min(first + longest) {
            let score = begin + f64::from(logits[2 * last + 1]);
            if best.len() == BEST && score <= best[BEST - 1].0 {
                continue;
            }
            let at = best.partition_point(|(other, ..)| *other >= score);
            best.insert(at, (score, first, last));
            best.truncate(BEST);
        }
    }
    best
}

/// Merges the windows of a question.
fn reply(context: &str, windows: &[Found], rule: SpanRule) -> Reply {
    let mut best: Vec<(f64, Range<usize>)> = Vec::new();
    for (score, bytes) in windows.iter().flat_map(|window| &window.best) {
        let bytes = piece(context, bytes);
        // White space is no answer. A span that several windows have, or that only differs in
        // white space, counts once, with its best score.
        match best.iter_mut().find(|(_, other)| *other == bytes) {
            _ if bytes.is_empty() => {}
            Some(known) => known.0 = known.0.max(*score),
            None => best.push((*score, bytes)),
        }
    }
    best.sort_by(|a, b| b.0.total_cmp(&a.0));
    best.truncate(BEST);
    let silence = windows.iter().map(|window| window.silence).fold(f64::INFINITY, f64::min);
    let loss = windows.iter().map(|window| window.loss).sum::<f64>() / windows.len() as f64;
    let most = best.first().map_or(f64::NEG_INFINITY, |(score, _)| *score);
    let above = silence - most;
    let may_be_silent = rule.silence != Silence::Never;
    let top = if may_be_silent { most.max(silence) } else { most };
    let mass = |score: f64| (score - top).exp();
    let sum: f64 = best.iter().map(|(score, _)| mass(*score)).sum::<f64>()
        + if may_be_silent { mass(silence) } else { 0.0 };
    let text = |bytes: &Range<usize>| context[bytes.clone()].to_string();
    let others = best.iter().map(|(score, bytes)| (text(bytes), mass(*score) / sum)).collect();
    let is_silent = match rule.silence {
        Silence::Never => best.is_empty(),
        Silence::Above(threshold) => best.is_empty() || above > threshold,
    };
    let said = Reply { silence: above, loss, others, ..Reply::default() };
    match best.first() {
        Some((score, bytes)) if !is_silent => {
            Reply { text: text(bytes), start: bytes.start, score: mass(*score) / sum, ..said }
        }
        _ if may_be_silent => Reply { score: mass(silence) / sum, ..said },
        // A context of white space alone has no span to say.
        _ => said,
    }
}

/// These bytes of the context, whole characters, without white space around them.
fn piece(context: &str, bytes: &Range<usize>) -> Range<usize> {
    // Tokens of bytes may begin or end within a character.
    let start = (0..=bytes.start).rev().find(|at| context.is_char_boundary(*at)).unwrap_or(0);
    let end = (bytes.end..=context.len()).find(|at| context.is_char_boundary(*at));
    let whole = &context[start..end.unwrap_or(context.len())];
    let start = start + whole.len() - whole.trim_start().len();
    start..start + whole.trim().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores of 5 positions, of which 2..5 are the context's.
    const LOGITS: [f32; 10] = [1.0, 2.0, 9.0, 9.0, 0.5, 0.0, 2.0, -1.0, -3.0, 1.5];

    #[test]
    fn the_best_spans_are_within_the_context_and_no_longer_than_they_may_be() {
        let found = best_spans(&LOGITS, 2..5, 30);
        assert_eq!(found.len(), 6);
        assert_eq!(found[0], (3.5, 3, 4));
        assert_eq!(found[1], (2.0, 2, 4));
        assert!(found.iter().all(|(_, first, last)| first <= last));
        assert!(best_spans(&LOGITS, 2..5, 1).iter().all(|(_, first, last)| first == last));
    }

    fn found(best: &[(f64, Range<usize>)], silence: f64) -> Found {
        Found { best: best.to_vec(), silence, loss: 1.0 }
    }

    #[test]
    fn windows_are_merged_by_score_and_silence_needs_all_of_them() {
        let context = "It rains in Ulm, often.";
        let windows = [
            found(&[(1.0, 3..8), (0.0, 0..2)], 7.0),
            found(&[(4.0, 12..15), (2.0, 2..8), (9.0, 2..3)], 3.0),
        ];
        let rule = SpanRule { longest: 30, silence: Silence::Never };
        let said = reply(context, &windows, rule);
        assert_eq!((said.text.as_str(), said.start, said.others.len()), ("Ulm", 12, 3));
        let sum = 1.0 + (-2f64).exp() + (-4f64).exp();
        assert!((said.score - 1.0 / sum).abs() < 1e-12);
        assert_eq!(said.silence, -1.0);
        let readily = SpanRule { silence: Silence::Above(-2.0), ..rule };
        let said = reply(context, &windows, readily);
        assert_eq!(said.text, "");
        assert!((said.score - (-1f64).exp() / (sum + (-1f64).exp())).abs() < 1e-12);
        assert_eq!(
            reply(context, &windows, SpanRule { silence: Silence::Above(0.0), ..rule }).start,
            12
        );
    }

    #[test]
    fn pieces_are_whole_characters() {
        assert_eq!(piece("a 中 b", &(2..3)), 2..5);
        assert_eq!(piece("a 中 b", &(1..6)), 2..5);
        assert!(piece("a 中 b", &(5..6)).is_empty());
    }
}
