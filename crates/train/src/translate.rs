//! A trained encoder-decoder in use: scored on pairs beside what needs no model, and put to work.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use heldout_data::DataError;
use heldout_data::labelled::{Encoder, Place, SpecialTokens};
use heldout_data::pairs::{
    EncodedPairs, PairEvaluation, PairExample, PairFacts, SideNames, SourceRecord, pairs_of,
    read_pairs,
};
use heldout_kernels::Device;
use heldout_model::Beam;
use heldout_record::{RunDir, WritingRecord};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::TrainError;
use crate::evaluate::Split;
use crate::job::{pair_spec, resolved_data, rows_at_once};
use crate::recipe::{self, Draft, Recipe, ScoredAs, TaskKind};
use crate::session::Session;
use crate::task::{BEAMS, Written, beam, score_pairs, source_batches, write_texts};
use crate::writing::Scoring;

/// An encoder-decoder with its tokenizer, ready to write.
pub struct Translator {
    session: Session,
    encoder: Encoder,
    /// The source's field, where the run's recipe names one.
    pub source: Option<String>,
}

/// How texts are written; what is `None` is the usual choice.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WritingOptions {
    /// Texts followed at a time: 4; 1 takes the likeliest token every time.
    pub beams: Option<usize>,
    /// Above 1 favours longer texts, below 1 shorter ones: 1.
    pub length_penalty: Option<f32>,
    /// No run of so many tokens comes twice: 0, all may.
    pub no_repeat_ngram: Option<usize>,
    /// Tokens of a text at most: as many as the model has positions.
    pub max_length: Option<usize>,
}

/// What the model writes for a source.
#[derive(Clone, Debug)]
pub struct Translation {
    /// The record as it was read.
    pub record: Map<String, Value>,
    pub text: String,
}

/// What an encoder-decoder reaches on pairs.
#[derive(Clone, Debug, Serialize)]
pub struct TextEvaluation {
    /// What was scored, in words.
    pub data: String,
    /// Target tokens.
    pub tokens: u64,
    /// Nats per token of the targets.
    pub loss: f64,
    pub loss_se: f64,
    /// e to the loss.
    pub perplexity: f64,
    /// What was written, and its figures.
    pub written: WritingRecord,
}

/// Sources read before texts are written for them together, alike in length.
const CHUNK: usize = 64;
/// Lengths are rounded up to a multiple of this, so that few shapes occur.
const MULTIPLE: usize = 8;

/// Scores the encoder-decoder at `path` on a split of its own run.
///
/// # Errors
/// It is no such model, its run's data cannot be read, or the run has no such split.
pub fn evaluate_texts(
    path: &Path,
    split: Split,
    options: &WritingOptions,
    device: Arc<Device>,
) -> Result<TextEvaluation, TrainError> {
    let mut translator = Translator::open(path, device)?;
    let run = RunDir::open(path)?;
    let draft = draft_of(&run)?;
    let (recipe, seed) = resolved_data(&draft)?;
    if recipe.task != TaskKind::Seq2Seq {
        let problem = "the run did not learn from pairs of texts".into();
        return Err(TrainError::Folder { path: run.root.clone(), problem });
    }
    let longest = recipe::longest_side(&draft, None);
    let data = read_pairs(&pair_spec(&recipe, seed, longest)?)?;
    let pairs = match split {
        Split::Train => &data.train,
        Split::Validation => &data.validation,
        Split::Test if data.test.is_empty() => {
            let problem = "the run's recipe sets no test split aside".into();
            return Err(TrainError::Folder { path: path.to_path_buf(), problem });
        }
        Split::Test => &data.test,
    };
    let words = format!("the {} split of {}", split.word(), path.display());
    let scoring = Scoring::of(scored_as(&draft), &data.facts);
    translator.evaluate(words, pairs, scoring, options)
}

/// Scores the encoder-decoder at `path` on two line-aligned files, or on records.
///
/// # Errors
/// It is no such model, or the files are no pairs.
pub fn evaluate_texts_of(
    path: &Path,
    (files, fields): (&[String], &SideNames),
    options: &WritingOptions,
    device: Arc<Device>,
) -> Result<TextEvaluation, TrainError> {
    let mut translator = Translator::open(path, device)?;
    // The run's own fields and figures, where there is a run.
    let draft = RunDir::open(path).ok().and_then(|run| draft_of(&run).ok());
    let own = draft.as_ref().map(|draft| &draft.data);
    let name = |asked: &Option<String>, own: Option<String>| asked.clone().or(own);
    let source = own.and_then(|data| Some(data.source.as_ref()?.value.clone()));
    let target = own.and_then(|data| Some(data.target.as_ref()?.value.clone()));
    let names =
        SideNames { source: name(&fields.source, source), target: name(&fields.target, target) };
    let pairs = pairs_of(files, &names)?;
    let mut facts = PairFacts::default();
    let mean = |of: &dyn Fn(&PairExample) -> usize| {
        pairs.iter().map(of).sum::<usize>() as f64 / pairs.len().max(1) as f64
    };
    facts.train.source.characters = mean(&|pair| pair.source.chars().count());
    facts.train.target.characters = mean(&|pair| pair.targets[0].chars().count());
    let scoring = Scoring::of(draft.as_ref().map_or(ScoredAs::Auto, scored_as), &facts);
    translator.evaluate(files.join(", "), &pairs, scoring, options)
}

fn draft_of(run: &RunDir) -> Result<Draft, TrainError> {
    Ok(Recipe::read(&run.recipe())?.draft()?)
}

fn scored_as(draft: &Draft) -> ScoredAs {
    draft.evaluate.metrics.as_ref().map_or(ScoredAs::Auto, |set| ScoredAs::named(set.value))
}

impl Translator {
    /// Opens a run (its result), a checkpoint, or a Hugging Face folder of an encoder-decoder.
    ///
    /// # Errors
    /// A folder that cannot be opened, or holds another kind of model.
    pub fn open(path: &Path, device: Arc<Device>) -> Result<Translator, TrainError> {
        let session = Session::open(path, device)?;
        session.model.config.require_seq2seq()?;
        let context = session.model.config.context;
        let draft = RunDir::open(path).ok().and_then(|run| draft_of(&run).ok());
        let own = draft.as_ref().map(|draft| (&draft.model.context, &draft.data.source));
        let trained = own.and_then(|(context, _)| Some(context.as_ref()?.value as usize));
        let source = own.and_then(|(_, source)| Some(source.as_ref()?.value.clone()));
        let longest = trained.unwrap_or(context).min(context);
        let encoder = Encoder::new(session.tokenizer.clone(), SpecialTokens::Pairs, longest)?;
        Ok(Translator { session, encoder, source })
    }

    /// The search that `options` ask for, checked.
    fn beam(&self, options: &WritingOptions) -> Result<Beam, TrainError> {
        let usual = beam(&self.session.model.config, options.beams.unwrap_or(BEAMS));
        let beam = Beam {
            length_penalty: options.length_penalty.unwrap_or(usual.length_penalty),
            no_repeat_ngram: options.no_repeat_ngram.unwrap_or(usual.no_repeat_ngram),
            max_length: options.max_length.unwrap_or(usual.max_length),
            ..usual
        };
        beam.validate(&self.session.model)?;
        Ok(beam)
    }

    /// Texts for some pairs' sources, in their order.
    fn write(&mut self, pairs: &EncodedPairs, beam: &Beam) -> Result<Vec<String>, TrainError> {
        let sources = source_batches(pairs, &self.encoder);
        let Session { model, weights, tape, .. } = &mut self.session;
        let model = (&*model, &weights[..]);
        let mut written = write_texts(model, tape, &self.encoder, sources, beam)?;
        written.sort_by_key(|one| one.place);
        Ok(written.into_iter().map(|Written { text, .. }| text).collect())
    }

    fn encode(&self, pairs: &[PairExample]) -> Result<EncodedPairs, TrainError> {
        let one = |pair: &PairExample| -> Result<_, DataError> {
            let side = |text: &str| self.encoder.encode(text, None);
            Ok([side(&pair.source)?, side(&pair.targets[0])?])
        };
        Ok(EncodedPairs::collect(pairs.iter().map(one).collect::<Result<Vec<_>, _>>()?))
    }

    fn evaluate(
        &mut self,
        data: String,
        pairs: &[PairExample],
        scoring: Scoring,
        options: &WritingOptions,
    ) -> Result<TextEvaluation, TrainError> {
        let beam = self.beam(options)?;
        let encoded = self.encode(pairs)?;
        let all = PairEvaluation::whole(&encoded, MULTIPLE, self.encoder.pad());
        let Session { model, weights, tape, .. } = &mut self.session;
        let rows = rows_at_once(self.encoder.max_length()).max(8);
        let score = score_pairs((model, weights), tape, all.batches(rows));
        let written = self.write(&encoded, &beam)?;
        let examples: Vec<&PairExample> = pairs.iter().collect();
        Ok(TextEvaluation {
            data,
            tokens: score.targets,
            loss: score.loss,
            loss_se: score.se,
            perplexity: score.loss.exp(),
            written: scoring.judge(&examples, &written, beam.beams)?,
        })
    }

    /// Writes a text for each source that `read` hands on, some at a time, and tells them in their
    /// order until the listener has enough.
    ///
    /// # Errors
    /// What is wrong with the options, an input, or the model.
    pub fn write_all(
        &mut self,
        options: &WritingOptions,
        read: ReadSources<'_>,
        tell: &mut dyn FnMut(Translation) -> ControlFlow<()>,
    ) -> Result<(), TrainError> {
        let beam = self.beam(options)?;
        let mut waiting: Vec<SourceRecord> = Vec::new();
        let mut ended: Result<ControlFlow<()>, TrainError> = Ok(ControlFlow::Continue(()));
        read(&mut |record| {
            if !matches!(ended, Ok(ControlFlow::Continue(()))) {
                return Ok(());
            }
            waiting.push(record);
            if waiting.len() == CHUNK {
                ended = self.tell(std::mem::take(&mut waiting), &beam, tell);
            }
            Ok(())
        })?;
        if ended?.is_continue() {
            // Nobody is left to be told to stop.
            let _ = self.tell(waiting, &beam, tell)?;
        }
        Ok(())
    }

    fn tell(
        &mut self,
        records: Vec<SourceRecord>,
        beam: &Beam,
        tell: &mut dyn FnMut(Translation) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, TrainError> {
        if records.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let pair = |record: &SourceRecord| PairExample {
            source: record.source.clone(),
            targets: vec![String::new()],
            place: Place { input: 0, line: record.line },
        };
        let pairs: Vec<PairExample> = records.iter().map(pair).collect();
        let encoded = self.encode(&pairs)?;
        for (record, text) in records.into_iter().zip(self.write(&encoded, beam)?) {
            if tell(Translation { record: record.record, text }).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Hands sources on, one after another.
pub type ReadSources<'a> = &'a mut dyn FnMut(
    &mut dyn FnMut(SourceRecord) -> Result<(), DataError>,
) -> Result<(), DataError>;
