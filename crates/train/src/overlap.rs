//! What a model that answers questions has to beat: a rule that counts words, and saying nothing.
//!
//! The rule takes the sentence that shares most words with the question, rare words counting more,
//! and of it the run of words (at most as many as the middle training answer has) that is rarest,
//! has no word of the question, and does not begin or end with a frequent word. Richardson et al.
//! 2013 (MCTest) and Rajpurkar et al. 2016, section 5, have baselines of this kind.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use heldout_data::answers::{AnswerData, Question};
use heldout_measure::squad::AnswerScores;
use heldout_record::{AnswerBaselineRecord, AnswerFigures};

use crate::task::answer_scores;

/// The name of the rule.
pub const NAME: &str = "word overlap";

/// Words that occur in more than this share of sentences are no answer's first or last.
const FREQUENT: f64 = 0.1;

/// How rare words are, and how long answers.
pub struct Overlap {
    /// Sentences of training paragraphs that have a word.
    counts: HashMap<String, u32>,
    sentences: u32,
    /// Words of an answer, in the middle.
    length: usize,
}

/// Scores both on the held-out questions.
pub fn baseline(data: &AnswerData) -> AnswerBaselineRecord {
    let begin = Instant::now();
    let overlap = Overlap::of(&data.train);
    let of = |say: &dyn Fn(&Question) -> String| {
        let said: Vec<String> = data.validation.iter().map(say).collect();
        figures(&answer_scores(&data.validation, &said))
    };
    let unanswerable = data.validation.iter().any(|question| question.answers.is_empty());
    AnswerBaselineRecord {
        name: NAME.into(),
        rule: of(&|question| overlap.says(question)),
        silence: unanswerable.then(|| of(&|_| String::new())),
        examples: data.validation.len() as u64,
        seconds: begin.elapsed().as_secs_f64(),
    }
}

fn figures(scores: &[AnswerScores]) -> AnswerFigures {
    let mean = |of: fn(&AnswerScores) -> f64| {
        scores.iter().map(of).sum::<f64>() / scores.len().max(1) as f64
    };
    AnswerFigures { exact_match: mean(|s| s.exact_match), f1: mean(|s| s.f1) }
}

/// A word of a text: its lower case, its bytes.
struct Word {
    form: String,
    start: usize,
    end: usize,
}

/// Words (of ideographs each one) by sentence.
fn sentences(text: &str) -> Vec<Vec<Word>> {
    let mut all = vec![Vec::new()];
    let mut begun: Option<usize> = None;
    let is_ideograph = |c: char| ('\u{3040}'..'\u{a000}').contains(&c);
    let word =
        |start: usize, end: usize| Word { form: text[start..end].to_lowercase(), start, end };
    for (at, c) in text.char_indices().chain([(text.len(), '\n')]) {
        let inside = c.is_alphanumeric() && !is_ideograph(c);
        let last = all.last_mut().expect("there is always one");
        match begun {
            Some(start) if !inside => {
                last.push(word(start, at));
                begun = None;
            }
            None if inside => begun = Some(at),
            _ => {}
        }
        if is_ideograph(c) {
            last.push(word(at, at + c.len_utf8()));
        }
        let next = text[at..].chars().nth(1);
        let is_end = matches!(c, '.' | '!' | '?') && next.is_none_or(char::is_whitespace);
        if (is_end || matches!(c, '。' | '！' | '？' | '\n')) && !last.is_empty() {
            all.push(Vec::new());
        }
    }
    all.retain(|sentence| !sentence.is_empty());
    all
}

impl Overlap {
    /// Counts the words of training paragraphs.
    pub fn of(train: &[Question]) -> Overlap {
        let (mut counts, mut count) = (HashMap::new(), 0);
        let mut seen: HashSet<&str> = HashSet::new();
        for question in train.iter().filter(|question| seen.insert(&question.context)) {
            for sentence in sentences(&question.context) {
                count += 1;
                let forms: HashSet<String> = sentence.into_iter().map(|word| word.form).collect();
                forms.into_iter().for_each(|form| *counts.entry(form).or_insert(0) += 1);
            }
        }
        let answers = train.iter().filter_map(|question| question.answers.first());
        let words = |text: &str| sentences(text).iter().map(Vec::len).sum::<usize>();
        let mut lengths: Vec<usize> = answers.map(|answer| words(&answer.text)).collect();
        lengths.sort_unstable();
        let length = lengths.get(lengths.len() / 2).map_or(1, |length| (*length).max(1));
        Overlap { counts, sentences: count, length }
    }

    /// log(S / (1 + sentences with the word)), never below 0.
    fn rarity(&self, form: &str) -> f64 {
        let count = self.counts.get(form).copied().unwrap_or(0);
        (f64::from(self.sentences + 1) / f64::from(1 + count)).ln().max(0.0)
    }

    /// What the rule answers.
    pub fn says(&self, question: &Question) -> String {
        let asked: HashSet<String> =
            sentences(&question.question).into_iter().flatten().map(|word| word.form).collect();
        let all = sentences(&question.context);
        let shared = |sentence: &Vec<Word>| {
            let forms: HashSet<&str> = sentence.iter().map(|word| word.form.as_str()).collect();
            // In a fixed order, so that the sum's last bits are always the same.
            let mut forms: Vec<&str> =
                forms.into_iter().filter(|form| asked.contains(*form)).collect();
            forms.sort_unstable();
            forms.into_iter().map(|form| self.rarity(form)).sum::<f64>()
        };
        let mut best = (0.0, None);
        for sentence in &all {
            let score = shared(sentence);
            if best.1.is_none() || score > best.0 {
                best = (score, Some(sentence));
            }
        }
        best.1.map(|sentence| self.rarest(sentence, &asked, &question.context)).unwrap_or_default()
    }

    fn rarest(&self, sentence: &[Word], asked: &HashSet<String>, context: &str) -> String {
        let frequent = |word: &Word| {
            let count = self.counts.get(&word.form).copied().unwrap_or(0);
            f64::from(count) > FREQUENT * f64::from(self.sentences)
        };
        let mut best: (f64, Option<&[Word]>) = (0.0, None);
        for first in 0..sentence.len() {
            for last in first..sentence.len().min(first + self.length) {
                let run = &sentence[first..=last];
                if run.iter().any(|word| asked.contains(&word.form)) {
                    break;
                }
                if frequent(&run[0]) || frequent(&run[run.len() - 1]) {
                    continue;
                }
                let score: f64 = run.iter().map(|word| self.rarity(&word.form)).sum();
                if best.1.is_none() || score > best.0 {
                    best = (score, Some(run));
                }
            }
        }
        let run = best.1.unwrap_or(sentence);
        context[run[0].start..run[run.len() - 1].end].to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heldout_data::answers::Answer;
    use heldout_data::labelled::Place;

    fn question(question: &str, context: &str, answer: &str) -> Question {
        let start = context.find(answer).unwrap();
        Question {
            id: "q".into(),
            question: question.into(),
            context: context.into(),
            answers: vec![Answer { text: answer.into(), start }],
            place: Place::default(),
        }
    }

    #[test]
    fn sentences_and_words_are_told_apart() {
        let all = sentences("It cost 3.5 pounds. Who knew? 你好。Yes");
        let forms: Vec<Vec<&str>> =
            all.iter().map(|s| s.iter().map(|word| word.form.as_str()).collect()).collect();
        assert_eq!(
            forms,
            [
                vec!["it", "cost", "3", "5", "pounds"],
                vec!["who", "knew"],
                vec!["你", "好"],
                vec!["yes"]
            ]
        );
    }

    #[test]
    fn the_rarest_words_of_the_likeliest_sentence_are_said() {
        let context = "The cat sat in the barn. The dog lives with the smith. The cow is the best. \
                       Rain fell. Snow came. Wind blew. Nobody spoke. Night went. \
                       Day broke. Birds sang. Children played. We left.";
        let train = [question("Where did the cat sit?", context, "barn")];
        let overlap = Overlap::of(&train);
        assert_eq!(overlap.says(&question("With whom lives the dog?", context, "smith")), "smith");
        assert_eq!(overlap.says(&train[0]), "sat");
    }
}
