//! A trained model that answers questions, in use: scored on questions beside simple methods, and
//! put to work.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use heldout_data::answers::{
    AnswerData, AnswerFields, Question, QuestionEncoder, for_each_question, read_answers,
    read_scored,
};
use heldout_data::labelled::{Encoder, SpecialTokens};
use heldout_kernels::Device;
use heldout_measure::squad::AnswerScores;
use heldout_measure::{Mean, Resampling, compare, measure, resample};
use heldout_model::Head;
use heldout_record::{RunDir, WrongAnswerRecord};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::classify::Estimate;
use crate::error::TrainError;
use crate::evaluate::Split;
use crate::evaluation::{Score, Tally};
use crate::job::{answer_spec, resolved_data, rows_at_once};
use crate::overlap::{self, Overlap};
use crate::recipe::{self, Metric, Recipe, TaskKind};
use crate::session::{self, Session};
use crate::spans::{LONGEST_ANSWER, Reply, Silence, SpanRule, replies};
use crate::task::{CUT, answer_scores, batches_of, mean_length, means, most_wrong, shortness};

/// A model with a head of spans, ready to use.
pub struct Answerer {
    session: Session,
    encoder: QuestionEncoder,
    /// Which spans may be said.
    pub rule: SpanRule,
}

/// A simple method on the same questions.
#[derive(Clone, Debug, Serialize)]
pub struct BesideAnswers {
    pub name: String,
    pub exact_match: f64,
    pub f1: f64,
    /// F1 by which the network is better, with its paired bootstrap interval.
    pub better: f64,
    pub low: f64,
    pub high: f64,
}

/// What a model reaches on questions.
#[derive(Clone, Debug, Serialize)]
pub struct AnswerEvaluation {
    /// What was scored, in words.
    pub data: String,
    pub questions: u64,
    /// Of these, without an answer in their context.
    pub unanswerable: u64,
    /// Nats per question.
    pub loss: f64,
    pub loss_se: f64,
    /// Exact match first.
    pub metrics: Vec<Estimate>,
    pub most_wrong: Vec<WrongAnswerRecord>,
    /// Simple methods; empty where the run's training questions cannot be read.
    pub baselines: Vec<BesideAnswers>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baselines_missing: Option<String>,
}

/// A question with what is said to it.
#[derive(Clone, Debug)]
pub struct Answered {
    pub question: Question,
    /// The record as it was read, where it is not one of a SQuAD file.
    pub record: Option<Map<String, Value>>,
    pub reply: Reply,
}

/// Windows where neither the model nor a recipe says how long they are (Devlin et al. 2019).
const WINDOW: usize = 384;
const STRIDE: usize = 128;
/// Questions read before they are answered together, alike in length.
const CHUNK: usize = 256;

/// Scores the model at `path` on a split of its own run, or on files of questions. `silence` is
/// what the user wants of questions without an answer, if anything.
pub fn evaluate_answers(
    path: &Path,
    which: Result<Split, (&[String], &AnswerFields)>,
    device: Arc<Device>,
    silence: Option<Silence>,
) -> Result<AnswerEvaluation, TrainError> {
    let mut answerer = Answerer::open(path, device)?;
    let own = RunDir::open(path).map_err(TrainError::from).and_then(|run| own_data(&run));
    let (words, questions, own) = match which {
        Ok(split) => {
            let own = own?;
            let words = format!("the {} split of {}", split.word(), path.display());
            (words, of_split(&own, split, path)?.to_vec(), Ok(own))
        }
        Err((files, fields)) => (files.join(", "), read_scored(files, fields)?, own),
    };
    let unanswerable = questions.iter().filter(|question| question.answers.is_empty()).count();
    // Where the data has such questions and nobody says otherwise, silence is to be allowed.
    answerer.rule.silence = match silence {
        Some(silence) => silence,
        None if unanswerable > 0 => Silence::Above(0.0),
        None => answerer.rule.silence,
    };
    let found = answerer.replies(&questions)?;
    let said: Vec<String> = found.iter().map(|reply| reply.text.clone()).collect();
    let scores = answer_scores(&questions, &said);
    let score = loss_of(&found);
    let mut evaluation = AnswerEvaluation {
        data: words,
        questions: questions.len() as u64,
        unanswerable: unanswerable as u64,
        loss: score.loss,
        loss_se: score.se,
        metrics: estimates(&scores)?,
        most_wrong: most_wrong(&questions, &found, &scores),
        baselines: Vec::new(),
        baselines_missing: None,
    };
    match own {
        Ok(own) => evaluation.baselines = beside(&own, &questions, &scores)?,
        Err(error) => evaluation.baselines_missing = Some(error.to_string()),
    }
    Ok(evaluation)
}

fn loss_of(found: &[Reply]) -> Score {
    let mut tally = Tally::default();
    found.iter().for_each(|reply| tally.add_row(&[reply.loss as f32], &[0]));
    tally.score()
}

/// Every figure with its interval.
fn estimates(scores: &[AnswerScores]) -> Result<Vec<Estimate>, TrainError> {
    let one = |(metric, mean): (Metric, Mean)| -> Result<Estimate, TrainError> {
        let found = measure(&mean, &Resampling::default())?;
        let (low, high) = (found.interval.low, found.interval.high);
        Ok(Estimate { name: metric.word().to_owned(), value: found.value, low, high })
    };
    means(scores).into_iter().map(one).collect()
}

/// A run's questions, split as they were.
fn own_data(run: &RunDir) -> Result<AnswerData, TrainError> {
    let draft = Recipe::read(&run.recipe())?.draft()?;
    let (recipe, seed) = resolved_data(&draft)?;
    if recipe.task != TaskKind::QuestionAnswering {
        let problem = "the run answered no questions".into();
        return Err(TrainError::Folder { path: run.root.clone(), problem });
    }
    let longest = recipe::longest_example(&draft, None);
    Ok(read_answers(&answer_spec(&recipe, seed, longest)?)?)
}

fn of_split<'a>(
    data: &'a AnswerData,
    split: Split,
    path: &Path,
) -> Result<&'a [Question], TrainError> {
    match split {
        Split::Train => Ok(&data.train),
        Split::Validation => Ok(&data.validation),
        Split::Test if data.test.is_empty() => {
            let problem = "the run's recipe sets no test split aside".into();
            Err(TrainError::Folder { path: path.to_path_buf(), problem })
        }
        Split::Test => Ok(&data.test),
    }
}

/// Simple methods on the same questions.
fn beside(
    own: &AnswerData,
    questions: &[Question],
    network: &[AnswerScores],
) -> Result<Vec<BesideAnswers>, TrainError> {
    let overlap = Overlap::of(&own.train);
    let rule = questions.iter().map(|question| overlap.says(question)).collect();
    let mut all: Vec<(&str, Vec<String>)> = vec![(overlap::NAME, rule)];
    if questions.iter().any(|question| question.answers.is_empty()) {
        all.push(("always no answer", vec![String::new(); questions.len()]));
    }
    let [_, (_, network)] = means(network);
    all.into_iter()
        .map(|(name, said)| {
            let [(_, exact_match), (_, f1)] = means(&answer_scores(questions, &said));
            let difference = compare(&network, &f1, &Resampling::default())?;
            Ok(BesideAnswers {
                name: name.into(),
                exact_match: resample::value(&exact_match),
                f1: resample::value(&f1),
                better: difference.difference,
                low: difference.interval.low,
                high: difference.interval.high,
            })
        })
        .collect()
}

impl Answerer {
    /// Opens a run (its result), a checkpoint, or a Hugging Face folder of a model with a head of
    /// spans. What such a folder does not say of windows is as usual; that there is no answer is
    /// said by models that learned it.
    pub fn open(path: &Path, device: Arc<Device>) -> Result<Answerer, TrainError> {
        let session = Session::open(path, device)?;
        if session.model.config.head != Head::Span {
            let problem = "this model answers no questions: teach it with `heldout finetune MODEL \
                           DATA --task qa`";
            let path = session.folder;
            return Err(TrainError::Folder { path, problem: problem.into() });
        }
        let cut = &session::read_json(&session.folder)?[CUT];
        let size = |name: &str, usual: usize| {
            cut[name].as_u64().map_or(usual, |size| (size as usize).max(1))
        };
        let window = size("window", WINDOW).min(session.model.config.context);
        let tokenizer = session.tokenizer.clone();
        let encoder = Encoder::new(tokenizer, SpecialTokens::Encoder, window)?;
        let encoder = QuestionEncoder::new(encoder, size("stride", STRIDE))?;
        let silence = match cut["no_answer"].as_bool() {
            Some(true) => Silence::Above(0.0),
            Some(false) | None => Silence::Never,
        };
        Ok(Answerer { session, encoder, rule: SpanRule { longest: LONGEST_ANSWER, silence } })
    }

    /// What it says to questions, in their order.
    pub fn replies(&mut self, questions: &[Question]) -> Result<Vec<Reply>, TrainError> {
        let encoded = self.encoder.encode_all(questions)?;
        let all: Vec<u32> = (0..questions.len() as u32).collect();
        let longest = self.encoder.encoder().max_length();
        let rows = rows_at_once(longest) * shortness(longest, mean_length(&encoded));
        let batches = batches_of(&encoded, &all, self.encoder.encoder().pad());
        let Session { model, weights, tape, .. } = &mut self.session;
        let data = (questions, &encoded);
        Ok(replies((model, tape, weights), data, batches.batches(rows), &all, self.rule))
    }

    /// Answers the questions of some files, one after another.
    pub fn predict_files(
        &mut self,
        files: &[String],
        fields: &AnswerFields,
        tell: &mut dyn FnMut(Answered) -> ControlFlow<()>,
    ) -> Result<(), TrainError> {
        let mut waiting: Vec<(Question, Option<Map<String, Value>>)> = Vec::new();
        let mut ended: Result<ControlFlow<()>, TrainError> = Ok(ControlFlow::Continue(()));
        for_each_question(files, fields, &mut |question, record| {
            if !matches!(ended, Ok(ControlFlow::Continue(()))) {
                return Ok(());
            }
            waiting.push((question, record.cloned()));
            if waiting.len() == CHUNK {
                ended = self.tell(std::mem::take(&mut waiting), tell);
            }
            Ok(())
        })?;
        if ended?.is_continue() {
            // Nobody is left to be told to stop.
            let _ = self.tell(waiting, tell)?;
        }
        Ok(())
    }

    fn tell(
        &mut self,
        waiting: Vec<(Question, Option<Map<String, Value>>)>,
        tell: &mut dyn FnMut(Answered) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, TrainError> {
        let (questions, records): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        let found = self.replies(&questions)?;
        for ((question, record), reply) in questions.into_iter().zip(records).zip(found) {
            if tell(Answered { question, record, reply }).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
