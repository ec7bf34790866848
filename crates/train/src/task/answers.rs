//! The task of question answering: the first and the last token of the answer in a context.

use std::sync::Arc;

use heldout_base::rng::{Random, streams};
use heldout_data::answers::{EncodedQuestions, PreparedAnswers, Question};
use heldout_data::labelled::{LabelledBatches, LabelledEvaluation, LabelledPlan};
use heldout_data::{DataError, IGNORE, Shuffle};
use heldout_kernels::{LossReport, Pass, Tape};
use heldout_measure::squad::{AnswerScores, score, score_or_none};
use heldout_measure::{Mean, Metric as _, Resampling, measure};
use heldout_model::Model;
use heldout_record::{AnswersRecord, Event, IntervalRecord, WrongAnswerRecord};
use heldout_regularize::live::OrderMeasure;
use serde_json::{Value, json};

use super::{Batch, Corpus, Figure, Judged, Lessons, Rows, Sample, Task, Terms, order_of};
use crate::baseline::Baseline;
use crate::control::Control;
use crate::error::TrainError;
use crate::evaluation::Tally;
use crate::job::Setup;
use crate::overlap;
use crate::recipe::{Metric, ResolvedRecipe};
use crate::spans::{LONGEST_ANSWER, Reply, Silence, SpanRule, replies};
use crate::task::shortness;
use crate::teachers::Lecturer;

/// Questions with their contexts, encoded.
pub struct Answering {
    batches: LabelledBatches,
    rows: usize,
    pad: u32,
    eos: Option<u32>,
    length_mean: f64,
    train: Side,
    validation: Side,
    /// Questions of the fixed samples.
    train_sample: Vec<u32>,
    held_out: Vec<u32>,
    rule: SpanRule,
    /// Windows scored at a time.
    evaluated_at_once: usize,
    /// What `config.json` says of how contexts are cut.
    cut: Value,
}

/// A split as text and as windows.
#[derive(Clone)]
struct Side {
    questions: Arc<Vec<Question>>,
    encoded: Arc<EncodedQuestions>,
}

/// Lengths are rounded up to a multiple of this, so that few shapes occur.
const MULTIPLE: usize = 8;

/// The key of `config.json` under which an export says how contexts are cut and whether "no
/// answer" was learned.
pub const CUT: &str = "heldout_answers";

impl Answering {
    /// Cuts the windows as the recipe says; evaluations look at `evaluated_at_once` at a time.
    pub fn new(
        data: &PreparedAnswers,
        recipe: &ResolvedRecipe,
        shuffle: Shuffle,
        evaluated_at_once: usize,
    ) -> Result<Answering, TrainError> {
        let encoder = data.encoder.encoder();
        let (pad, seed) = (encoder.pad(), recipe.run.seed);
        let windows = &data.train.windows;
        let rows = recipe.batch.size.unwrap_or(windows.len()).min(windows.len());
        let plan =
            LabelledPlan { shuffle, multiple: MULTIPLE, ..LabelledPlan::new(rows, seed, pad) };
        let length_mean = mean_length(&data.train);
        let silent = data.facts.has_unanswerable();
        let (questions, held_out) = (data.train.len(), data.validation.len());
        Ok(Answering {
            batches: LabelledBatches::new(windows, plan)?,
            rows,
            pad,
            eos: encoder.tokenizer().eos(),
            length_mean,
            train: Side { questions: data.data.train.clone(), encoded: data.train.clone() },
            validation: Side {
                questions: data.data.validation.clone(),
                encoded: data.validation.clone(),
            },
            train_sample: sample(questions, recipe.evaluate.train_windows, seed),
            held_out: sample(held_out, recipe.evaluate.windows.unwrap_or(held_out), seed),
            rule: SpanRule {
                longest: LONGEST_ANSWER,
                silence: if silent { Silence::Above(0.0) } else { Silence::Never },
            },
            evaluated_at_once: evaluated_at_once * shortness(recipe.model.context, length_mean),
            cut: json!({"window": encoder.max_length(), "stride": data.encoder.stride(),
                        "no_answer": silent}),
        })
    }

    /// What weights answer to some questions of a split.
    fn replies(
        &self,
        side: &Side,
        chosen: &[u32],
        (model, tape, weights): (&Model, &mut Tape, &[f32]),
    ) -> Vec<Reply> {
        let batches = batches_of(&side.encoded, chosen, self.pad);
        let batches = batches.batches(self.evaluated_at_once);
        let data = (&side.questions[..], &*side.encoded);
        replies((model, tape, weights), data, batches, chosen, self.rule)
    }
}

/// The windows of some questions in batches, the longest first.
pub fn batches_of(encoded: &EncodedQuestions, chosen: &[u32], pad: u32) -> LabelledEvaluation {
    let windows = chosen.iter().flat_map(|question| encoded.windows_of(*question as usize));
    let windows = windows.map(|window| window as u32).collect();
    LabelledEvaluation::chosen(&encoded.windows, windows, MULTIPLE, pad)
}

/// Tokens of a window in the mean.
pub fn mean_length(encoded: &EncodedQuestions) -> f64 {
    let windows = &encoded.windows;
    let tokens: usize = (0..windows.len()).map(|window| windows.length(window)).sum();
    tokens as f64 / windows.len().max(1) as f64
}

/// `count` of so many questions, chosen once and for all, in their order.
fn sample(questions: usize, count: usize, seed: u64) -> Vec<u32> {
    if count >= questions {
        return (0..questions as u32).collect();
    }
    let mut chosen = Random::new(seed, streams::EVALUATION, 0).permutation(questions);
    chosen.truncate(count);
    chosen.sort_unstable();
    chosen
}

/// Exact match and F1 of what was said to some questions: those of SQuAD 2.0 where any of them has
/// no answer, else those of 1.1.
pub fn answer_scores(questions: &[Question], said: &[String]) -> Vec<AnswerScores> {
    let of = match questions.iter().any(|question| question.answers.is_empty()) {
        true => score_or_none,
        false => score,
    };
    let one = |(question, said): (&Question, &String)| {
        let right: Vec<String> = question.answers.iter().map(|a| a.text.clone()).collect();
        of(said, &right)
    };
    questions.iter().zip(said).map(one).collect()
}

/// The two scores of a set, to be resampled.
pub fn means(scores: &[AnswerScores]) -> [(Metric, Mean); 2] {
    [
        (Metric::ExactMatch, Mean { values: scores.iter().map(|s| s.exact_match).collect() }),
        (Metric::F1, Mean { values: scores.iter().map(|s| s.f1).collect() }),
    ]
}

/// Questions that are told as most wrong, and how much of their context around the answer.
const MISTAKES: usize = 10;

impl Task for Answering {
    fn steps_per_epoch(&self) -> f64 {
        self.batches.steps_per_epoch() as f64
    }

    fn epoch_at(&self, step: u64) -> f64 {
        self.batches.epoch_at(step)
    }

    fn step_tokens(&self) -> f64 {
        self.rows as f64 * self.length_mean
    }

    /// The targets are the first and the last token of each window's answer: [B, 2].
    fn batch_at(&self, step: u64) -> Result<Batch, DataError> {
        let batch = self.batches.batch_at(step)?;
        let span = |window: &u32| self.train.encoded.spans[*window as usize];
        let spans = batch.rows.iter().map(span);
        let targets = spans.flat_map(|(first, last)| [first, last]).collect();
        Ok(Batch { targets, ..batch.into() })
    }

    fn order(&self) -> Result<OrderMeasure, TrainError> {
        order_of(self.batches.steps_per_epoch(), |step| Ok(self.batches.batch_at(step)?.rows))
    }

    fn loss(
        &self,
        model: &Model,
        pass: &mut Pass,
        rows: Rows,
        terms: &Terms,
        _: &Lessons,
    ) -> LossReport {
        let spans: Vec<(u32, u32)> =
            rows.targets.chunks_exact(2).map(|ends| (ends[0], ends[1])).collect();
        // Every end is a target of its own, so that the mean over targets is the mean over ends.
        let scale = 2.0 * terms.spec.scale;
        let report = model.locate(pass, rows.into(), &spans, &terms.noise, scale);
        LossReport {
            objective_sum: 2.0 * report.objective_sum,
            nll_sum: 2.0 * report.nll_sum,
            targets: 2 * report.targets,
        }
    }

    fn listen(&self, _: Lecturer, _: &mut Pass, _: Rows, _: &mut Vec<f32>) {
        unreachable!("distillation is refused for answers: their ends have a loss of their own")
    }

    /// 1 at the tokens of the answer, 0 at others.
    fn token_targets(&self, batch: &Batch) -> Vec<u32> {
        let mut targets = vec![IGNORE; batch.ids.len()];
        let spans = batch.targets.chunks_exact(2);
        for ((row, length), span) in
            targets.chunks_mut(batch.seq_len).zip(&batch.lengths).zip(spans)
        {
            row[..*length as usize].fill(0);
            row[span[0] as usize..=span[1] as usize].fill(1);
        }
        targets
    }

    fn judge(
        &self,
        sample: Sample,
        model: &Model,
        tape: &mut Tape,
        weights: &[f32],
    ) -> Result<Judged, TrainError> {
        let whole: Vec<u32>;
        let (side, chosen) = match sample {
            Sample::Train => (&self.train, &self.train_sample),
            Sample::HeldOut => (&self.validation, &self.held_out),
            Sample::Whole => {
                whole = (0..self.validation.questions.len() as u32).collect();
                (&self.validation, &whole)
            }
        };
        let found = self.replies(side, chosen, (model, tape, weights));
        let questions: Vec<Question> =
            chosen.iter().map(|at| side.questions[*at as usize].clone()).collect();
        let mut tally = Tally::default();
        found.iter().for_each(|reply| tally.add_row(&[reply.loss as f32], &[0]));
        let said: Vec<String> = found.into_iter().map(|reply| reply.text).collect();
        let means = means(&answer_scores(&questions, &said));
        let figure = |(metric, mean): (Metric, Mean)| Figure {
            metric,
            value: heldout_measure::resample::value(&mean),
        };
        Ok(Judged { score: tally.score(), metrics: means.map(figure).into() })
    }

    fn held_out(&self) -> (usize, &'static str) {
        (self.held_out.len(), "questions")
    }

    fn unit(&self) -> &'static str {
        "question"
    }

    fn afterwards(
        &self,
        setup: &Setup,
        tape: &mut Tape,
        weights: &[f32],
        step: u64,
    ) -> Result<Option<Event>, TrainError> {
        let questions = &self.validation.questions;
        let all: Vec<u32> = (0..questions.len() as u32).collect();
        let found = self.replies(&self.validation, &all, (&setup.model, tape, weights));
        let said: Vec<String> = found.iter().map(|reply| reply.text.clone()).collect();
        let scores = answer_scores(questions, &said);
        let interval = |mean: Mean| -> Result<IntervalRecord, TrainError> {
            let found = measure(&mean, &Resampling::default())?;
            let (low, high) = (found.interval.low, found.interval.high);
            Ok(IntervalRecord { value: found.value, low, high })
        };
        let [(_, exact_match), (_, f1)] = means(&scores);
        Ok(Some(Event::Answers(AnswersRecord {
            step,
            questions: exact_match.count() as u64,
            exact_match: interval(exact_match)?,
            f1: interval(f1)?,
            most_wrong: most_wrong(questions, &found, &scores),
        })))
    }

    fn describe(&self, config: &mut Value) {
        config[CUT] = self.cut.clone();
    }

    fn pad(&self) -> Option<u32> {
        Some(self.pad).filter(|pad| Some(*pad) != self.eos)
    }

    fn baseline(&self, setup: &Setup, _: &Control) -> Result<Baseline, TrainError> {
        let Corpus::Answers(data) = &setup.data else {
            unreachable!("the task is made of this data")
        };
        Ok(Baseline::Answers(Box::new(overlap::baseline(&data.data))))
    }
}

/// The questions with the lowest F1, the surest replies first.
pub fn most_wrong(
    questions: &[Question],
    found: &[Reply],
    scores: &[AnswerScores],
) -> Vec<WrongAnswerRecord> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|at| scores[*at].f1 < 1.0).collect();
    let sureness = |at: usize| (scores[at].f1, -found[at].score);
    order.sort_by(|a, b| {
        let ((f, s), (g, t)) = (sureness(*a), sureness(*b));
        f.total_cmp(&g).then(s.total_cmp(&t))
    });
    let one = |at: usize| WrongAnswerRecord {
        id: questions[at].id.clone(),
        line: questions[at].place.line,
        question: questions[at].question.clone(),
        answer: questions[at].answers.first().map(|a| a.text.clone()).unwrap_or_default(),
        said: found[at].text.clone(),
        f1: scores[at].f1,
        score: found[at].score,
    };
    order.into_iter().take(MISTAKES).map(one).collect()
}
