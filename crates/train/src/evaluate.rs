//! Scores a trained model on held-out or other text, outside of training.

use std::path::Path;
use std::sync::Arc;

use heldout_data::{
    Batch, DataError, Document, EvaluationWindows, IGNORE, Prepared, Progress, documents, prepare,
};
use heldout_kernels::{Device, PassKind};
use heldout_record::RunDir;
use serde::Serialize;

use crate::baseline::{BaselineEvaluation, Beside, Reference};
use crate::error::TrainError;
use crate::evaluation::{Tally, bits_per_byte};
use crate::job::{boundary, prepare_spec, resolved_data, rows_at_once};
use crate::recipe::Recipe;
use crate::session::{Session, read_config};

/// What a model reaches on a text.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// What was scored, in words.
    pub data: String,
    /// Nats per token.
    pub loss: f64,
    /// Its standard error, clustered by window.
    pub loss_se: f64,
    /// e to the loss.
    pub perplexity: f64,
    pub bits_per_byte: f64,
    /// Share of tokens that the model ranks first.
    pub accuracy: f64,
    /// Its standard error, clustered by window.
    pub accuracy_se: f64,
    /// Tokens scored.
    pub tokens: u64,
    /// Windows they lie in.
    pub windows: usize,
    /// UTF-8 bytes of text per token.
    pub bytes_per_token: f64,
    /// The run's n-gram model on the same windows, where the run has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<BaselineEvaluation>,
    /// Why it is missing, where the run has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline_missing: Option<String>,
}

/// Which of a run's splits to score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Train,
    Validation,
    Test,
}

impl Split {
    /// The word for messages.
    pub fn word(self) -> &'static str {
        match self {
            Split::Train => "training",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }
}

/// Scores a run's result on one of its own splits, whole. `cache` is where prepared data lies.
pub fn evaluate_run(
    run: &RunDir,
    split: Split,
    cache: &Path,
    device: Arc<Device>,
    preparing: &mut dyn FnMut(Progress),
) -> Result<Evaluation, TrainError> {
    evaluate_split(run, split, cache, device, preparing, &|data| match split {
        // It would only be seen to know by heart what it has counted.
        Split::Train => Ok(None),
        Split::Validation | Split::Test => Reference::of_data(run, data),
    })
}

/// As [`evaluate_run`], without the n-gram model, which takes longer to count than a small network
/// takes to be scored.
pub fn evaluate_run_alone(
    run: &RunDir,
    split: Split,
    cache: &Path,
    device: Arc<Device>,
) -> Result<Evaluation, TrainError> {
    evaluate_split(run, split, cache, device, &mut |_| {}, &|_| Ok(None))
}

/// Scores a run's result on a split beside what `reference` makes of the run's data.
fn evaluate_split(
    run: &RunDir,
    split: Split,
    cache: &Path,
    device: Arc<Device>,
    preparing: &mut dyn FnMut(Progress),
    reference: &dyn Fn(&Prepared) -> Result<Option<Reference>, String>,
) -> Result<Evaluation, TrainError> {
    let (text, data) = SplitText::prepare(run, split, cache, preparing)?;
    let reference = reference(&data);
    let mut session = Session::open(&run.root, device)?;
    Ok(text.score(&mut session, &reference, &mut |_, _| {}))
}

/// What is shown a batch and the loss of each of its positions.
pub(crate) type See<'a> = dyn FnMut(&Batch, &[f32]) + 'a;

/// One of a run's own splits, whole, in windows of the run's context.
pub(crate) struct SplitText {
    windows: EvaluationWindows,
    context: usize,
    bytes_per_token: f64,
    words: String,
}

impl SplitText {
    /// The split, and the data that it is part of.
    pub fn prepare(
        run: &RunDir,
        split: Split,
        cache: &Path,
        preparing: &mut dyn FnMut(Progress),
    ) -> Result<(SplitText, Prepared), TrainError> {
        let draft = Recipe::read(&run.recipe())?.draft()?;
        let (recipe, seed) = resolved_data(&draft)?;
        let data = prepare(&prepare_spec(&recipe, seed)?, cache, preparing)?;
        let (store, bytes_per_token) = match split {
            Split::Train => (&data.train, data.facts.bytes_per_token_train),
            Split::Validation => (&data.validation, data.facts.bytes_per_token_validation),
            Split::Test => match &data.test {
                Some(test) => (test, data.facts.bytes_per_token_test),
                None => {
                    let problem = "the run's recipe sets no test split aside".into();
                    return Err(TrainError::Folder { path: run.root.clone(), problem });
                }
            },
        };
        let context = match draft.model.context {
            Some(context) => context.value as usize,
            None => read_config(&run.root)?.context,
        };
        let windows = EvaluationWindows::whole(store, context)?;
        let words = format!("the {} split of {}", split.word(), run.root.display());
        Ok((SplitText { windows, context, bytes_per_token, words }, data))
    }

    /// Scores a model that has the run's tokenizer.
    pub fn score(
        &self,
        session: &mut Session,
        reference: &Result<Option<Reference>, String>,
        see: &mut See,
    ) -> Evaluation {
        let mut scorer = Scorer::new(reference);
        for batch in self.windows.batches(rows(session, self.context)) {
            scorer.add(session, &batch, see);
        }
        scorer.evaluation(self.words.clone(), self.bytes_per_token)
    }
}

/// Scores a model on text files, folders or patterns, read as a stream.
pub fn evaluate_files(
    session: &mut Session,
    files: &[String],
    field: Option<&str>,
    boundary_name: &str,
) -> Result<Evaluation, TrainError> {
    evaluate_files_beside(session, files, field, boundary_name, &Ok(None))
}

/// Text files, folders or patterns, as they are named on the command line.
#[derive(Clone, Copy, Debug)]
pub struct TextFiles<'a> {
    pub files: &'a [String],
    /// The text's field in JSON and CSV records.
    pub field: Option<&'a str>,
    /// What ends a document, by its name in a recipe.
    pub boundary: &'a str,
}

/// As [`evaluate_files`], beside the n-gram model of the same run where there is one; its error
/// says why there is none.
pub fn evaluate_files_beside(
    session: &mut Session,
    files: &[String],
    field: Option<&str>,
    boundary_name: &str,
    reference: &Result<Option<Reference>, String>,
) -> Result<Evaluation, TrainError> {
    let text = TextFiles { files, field, boundary: boundary_name };
    score_files(session, text, reference, &mut |_, _| {})
}

/// As [`evaluate_files_beside`]; `see` is shown every batch.
pub(crate) fn score_files(
    session: &mut Session,
    text: TextFiles,
    reference: &Result<Option<Reference>, String>,
    see: &mut See,
) -> Result<Evaluation, TrainError> {
    let context = session.model.config.context;
    let rows = rows(session, context);
    let mut stream = Stream { ids: Vec::new(), context, bytes: 0, tokens: 0, documents: 0 };
    let mut scorer = Scorer::new(reference);
    documents(text.files, text.field, boundary(text.boundary), &mut |document| {
        stream.take(session, &document)?;
        while let Some(batch) = stream.full_batch(rows) {
            scorer.add(session, &batch, see);
        }
        Ok(())
    })?;
    stream.end_document(session);
    while let Some(batch) = stream.full_batch(rows).or_else(|| stream.rest()) {
        scorer.add(session, &batch, see);
    }
    if scorer.losses.score().targets == 0 {
        let needed = 2;
        let tokens = stream.tokens;
        let split = "given".into();
        return Err(DataError::TooShort { split, tokens, seq_len: 1, needed }.into());
    }
    let bytes_per_token = stream.bytes as f64 / stream.tokens.max(1) as f64;
    Ok(scorer.evaluation(text.files.join(", "), bytes_per_token))
}

/// Most bytes of logits held at once.
const LOGITS_BYTES: usize = 64 << 20;

/// Windows of `context` tokens whose logits are held at once.
pub fn rows(session: &Session, context: usize) -> usize {
    let one = 4 * context * session.model.config.vocabulary;
    rows_at_once(context).min(LOGITS_BYTES / one).max(1)
}

/// Losses and hits so far.
struct Scorer<'a> {
    losses: Tally,
    hits: Tally,
    beside: Option<Beside<'a>>,
    missing: Option<&'a String>,
}

impl<'a> Scorer<'a> {
    fn new(reference: &'a Result<Option<Reference>, String>) -> Scorer<'a> {
        let beside = reference.as_ref().ok().and_then(Option::as_ref).map(Beside::new);
        let missing = reference.as_ref().err();
        Scorer { losses: Tally::default(), hits: Tally::default(), beside, missing }
    }

    fn add(&mut self, session: &mut Session, batch: &Batch, see: &mut See) {
        let Session { model, weights, tape, .. } = session;
        let Scorer { losses, beside, .. } = self;
        losses.add_seen(model, tape, weights, batch, |network| {
            if let Some(beside) = beside {
                beside.add(batch, network);
            }
            see(batch, network);
        });
        let mut pass = tape.pass(weights, PassKind::Evaluate);
        let logits = model.logits(&mut pass, &batch.ids, batch.batch, batch.seq_len);
        let rows = pass.value(logits).chunks(model.config.vocabulary).zip(&batch.targets);
        let hits: Vec<f32> = rows.map(|(logits, target)| hit(logits, *target)).collect();
        self.hits.add_losses(&hits, batch);
    }

    fn evaluation(&self, data: String, bytes_per_token: f64) -> Evaluation {
        let (losses, hits) = (self.losses.score(), self.hits.score());
        Evaluation {
            data,
            loss: losses.loss,
            loss_se: losses.se,
            perplexity: losses.loss.exp(),
            bits_per_byte: bits_per_byte(losses.loss, bytes_per_token),
            accuracy: hits.loss,
            accuracy_se: hits.se,
            tokens: losses.targets,
            windows: losses.windows,
            bytes_per_token,
            baseline: self.beside.as_ref().map(|beside| beside.evaluation(bytes_per_token)),
            baseline_missing: self.missing.cloned(),
        }
    }
}

/// 1 where the target has the highest logit (ties go to the lower id), else 0.
fn hit(logits: &[f32], target: u32) -> f32 {
    if target == IGNORE {
        return 0.0;
    }
    let target = target as usize;
    let beaten = |(id, logit): (usize, &f32)| {
        *logit > logits[target] || (*logit == logits[target] && id < target)
    };
    if logits.iter().enumerate().any(beaten) { 0.0 } else { 1.0 }
}

/// Tokens of a text as it is read, cut into windows as soon as they are full.
struct Stream {
    /// Not yet scored; the first one is context only.
    ids: Vec<u32>,
    context: usize,
    bytes: u64,
    tokens: u64,
    documents: u64,
}

impl Stream {
    fn take(&mut self, session: &Session, document: &Document) -> Result<(), DataError> {
        if document.part == 0 && self.documents > 0 {
            self.end_document(session);
        }
        self.documents += u64::from(document.part == 0);
        let ids = session.tokenizer.encode(&document.text)?;
        self.bytes += document.text.len() as u64;
        self.tokens += ids.len() as u64;
        self.ids.extend(ids);
        Ok(())
    }

    /// Models whose tokenizer has an end-of-text token were trained to predict it.
    fn end_document(&mut self, session: &Session) {
        self.tokens += u64::from(session.tokenizer.eos().is_some());
        self.ids.extend(session.tokenizer.eos());
    }

    fn full_batch(&mut self, rows: usize) -> Option<Batch> {
        let length = rows * self.context;
        if self.ids.len() <= length {
            return None;
        }
        let batch = self.batch(rows, length);
        self.ids.drain(..length);
        Some(batch)
    }

    /// What is left when the text has ended, padded.
    fn rest(&mut self) -> Option<Batch> {
        let targets = self.ids.len().saturating_sub(1);
        if targets == 0 {
            return None;
        }
        let batch = self.batch(targets.div_ceil(self.context), targets);
        self.ids.clear();
        Some(batch)
    }

    /// `rows` windows that hold the next `targets` targets.
    fn batch(&self, rows: usize, targets: usize) -> Batch {
        let size = rows * self.context;
        let mut ids = self.ids[..targets].to_vec();
        let mut next = self.ids[1..=targets].to_vec();
        ids.resize(size, 0);
        next.resize(size, IGNORE);
        Batch {
            ids,
            targets: next,
            batch: rows,
            seq_len: self.context,
            first_sequence: 0,
            epoch: 0.0,
        }
    }
}
