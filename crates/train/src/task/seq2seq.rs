//! The task of an encoder-decoder: texts to be written from texts.

use std::sync::Arc;

use heldout_data::labelled::{Encoder, LabelledBatch, LabelledPlan};
use heldout_data::pairs::{
    EncodedPairs, PairBatch, PairBatches, PairEvaluation, PairExample, PreparedPairs, shifted_right,
};
use heldout_data::{DataError, IGNORE, Shuffle};
use heldout_kernels::{Joint, LossReport, LossSpec, Pass, PassKind, Tape, Twins};
use heldout_model::{
    Beam, EarlyStopping, Model, ModelConfig, ModelError, NoiseRates, Objective, Pairs, Sequences,
};
use heldout_record::Event;
use heldout_regularize::live::OrderMeasure;

use super::{
    Batch, Corpus, Figure, Judged, Lessons, Rows, Sample, Task, Terms, order_of, shortness,
};
use crate::baseline::Baseline;
use crate::control::Control;
use crate::error::TrainError;
use crate::evaluation::{Score, Tally};
use crate::job::Setup;
use crate::recipe::{Metric, RecipeError, ResolvedRecipe};
use crate::teachers::Lecturer;
use crate::writing::Scoring;

/// Pairs of texts, encoded.
pub struct Seq2Seq {
    batches: PairBatches,
    rows: usize,
    length_mean: f64,
    train: PairEvaluation,
    held_out: PairEvaluation,
    validation: EncodedPairs,
    /// What is written at each evaluation.
    written_train: Exercise,
    written_held_out: Exercise,
    encoder: Encoder,
    scoring: Scoring,
    /// Of evaluations: greedy.
    beam: Beam,
    seed: u64,
    /// Pairs scored at a time.
    evaluated_at_once: usize,
}

/// Lengths are rounded up to a multiple of this, so that few shapes occur.
const MULTIPLE: usize = 8;

/// Beams of what is written at the end.
pub const BEAMS: usize = 4;

/// Held-out pairs that are written at the end, at most.
const WRITTEN_MOST: usize = 2000;

/// Sources that are written for at a time.
const WRITTEN_AT_ONCE: usize = 32;

/// Sources to be written for, with what the texts are compared with, in their order.
struct Exercise {
    pairs: PairEvaluation,
    sources: Vec<String>,
    references: Vec<Vec<String>>,
}

impl Exercise {
    fn new(pairs: PairEvaluation, texts: &[PairExample]) -> Exercise {
        let rows: Vec<u32> =
            pairs.batches(WRITTEN_AT_ONCE).flat_map(|batch| batch.source.rows).collect();
        let of = |row: &u32| &texts[*row as usize];
        Exercise {
            sources: rows.iter().map(|row| of(row).source.clone()).collect(),
            references: rows.iter().map(|row| of(row).targets.clone()).collect(),
            pairs,
        }
    }
}

impl Seq2Seq {
    /// Cuts the pairs as the recipe says; evaluations look at `evaluated_at_once` texts of the
    /// longest length at a time.
    ///
    /// # Errors
    /// A recipe that watches a figure that is not measured.
    pub fn new(
        data: &PreparedPairs,
        recipe: &ResolvedRecipe,
        model: &Model,
        shuffle: Shuffle,
        evaluated_at_once: usize,
    ) -> Result<Seq2Seq, TrainError> {
        let (pad, seed) = (data.encoder.pad(), recipe.run.seed);
        let (evaluate, facts) = (&recipe.evaluate, &data.facts);
        let scoring = Scoring::of(evaluate.scored_as, facts);
        check_monitor(recipe, scoring)?;
        let rows = recipe.batch.size.unwrap_or(data.train.len()).min(data.train.len());
        let plan =
            LabelledPlan { shuffle, multiple: MULTIPLE, ..LabelledPlan::new(rows, seed, pad) };
        let sample =
            |split: &EncodedPairs, count| PairEvaluation::sample(split, count, seed, MULTIPLE, pad);
        let held_out = match evaluate.windows {
            Some(count) => sample(&data.validation, count),
            None => PairEvaluation::whole(&data.validation, MULTIPLE, pad),
        };
        let length_mean = facts.train.source.lengths.mean + facts.train.target.lengths.mean;
        // Twice the longest target seen: a model that knows no end yet would fill all positions.
        let longest = facts.train.target.lengths.maximum.min(facts.max_length) as usize;
        let max_length = (2 * longest + 8).min(recipe.model.context);
        let beam = Beam { max_length, ..beam(&model.config, 1) };
        beam.validate(model)?;
        let written = evaluate.written;
        Ok(Seq2Seq {
            batches: PairBatches::new(&data.train, plan)?,
            rows,
            length_mean,
            train: sample(&data.train, evaluate.train_windows),
            held_out,
            validation: data.validation.clone(),
            written_train: Exercise::new(sample(&data.train, written), &data.data.train),
            written_held_out: Exercise::new(
                sample(&data.validation, written),
                &data.data.validation,
            ),
            encoder: data.encoder.clone(),
            scoring,
            beam,
            seed,
            evaluated_at_once: evaluated_at_once
                * shortness(recipe.model.context, length_mean / 2.0),
        })
    }

    fn whole(&self) -> PairEvaluation {
        PairEvaluation::whole(&self.validation, MULTIPLE, self.encoder.pad())
    }

    /// The figures of what is written for an exercise. Weights that give no numbers write nothing:
    /// the guard deals with them.
    fn figures(
        &self,
        exercise: &Exercise,
        model: &Model,
        tape: &mut Tape,
        weights: &[f32],
    ) -> Result<Vec<Figure>, TrainError> {
        if exercise.sources.is_empty() {
            return Ok(Vec::new());
        }
        let sources = exercise.pairs.batches(WRITTEN_AT_ONCE).map(|batch| batch.source);
        match write_texts((model, weights), tape, &self.encoder, sources, &self.beam) {
            Ok(written) => {
                let texts: Vec<String> = written.into_iter().map(|one| one.text).collect();
                self.scoring.figures(&texts, &exercise.references)
            }
            Err(_) => {
                let nothing = |metric: &Metric| Figure { metric: *metric, value: 0.0 };
                Ok(self.scoring.metrics().iter().map(nothing).collect())
            }
        }
    }
}

/// A figure that is watched must be measured.
fn check_monitor(recipe: &ResolvedRecipe, scoring: Scoring) -> Result<(), TrainError> {
    let (monitor, written) = (recipe.evaluate.monitor, recipe.evaluate.written);
    if monitor == Metric::Loss || scoring.metrics().contains(&monitor) && written > 0 {
        return Ok(());
    }
    let name = monitor.word();
    if written == 0 {
        let message = format!("evaluate.monitor is \"{name}\" and no text is written");
        return Err(RecipeError::general(message).note("set evaluate.written = 100").into());
    }
    let words: Vec<&str> = scoring.metrics().iter().map(|metric| metric.word()).collect();
    let other = match scoring {
        Scoring::Translation => "summary",
        Scoring::Summary => "translation",
    };
    let message = format!("evaluate.monitor is \"{name}\", which is not measured on these pairs");
    let note = format!(
        "measured are loss, {}; set evaluate.metrics = \"{other}\" for the others",
        words.join(", ")
    );
    Err(RecipeError::general(message).note(note).into())
}

/// How texts are searched for where nobody says otherwise.
pub fn beam(config: &ModelConfig, beams: usize) -> Beam {
    Beam {
        beams,
        length_penalty: 1.0,
        no_repeat_ngram: 0,
        max_length: config.context,
        early_stopping: EarlyStopping::No,
        suppressed: vec![config.decoder.padding],
    }
}

/// A text that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Place of its source in its split.
    pub place: u32,
    pub text: String,
    /// As [`heldout_model::Hypothesis::score`].
    pub score: f32,
}

/// Writes a text for each source, in the order of the batches.
///
/// # Errors
/// What the search refuses, and weights that give no numbers.
pub fn write_texts(
    (model, weights): (&Model, &[f32]),
    tape: &mut Tape,
    encoder: &Encoder,
    sources: impl Iterator<Item = LabelledBatch>,
    beam: &Beam,
) -> Result<Vec<Written>, ModelError> {
    let tokenizer = encoder.tokenizer();
    let specials: Vec<u32> = tokenizer.specials().iter().map(|(_, id)| *id).collect();
    let mut written = Vec::new();
    for batch in sources {
        let LabelledBatch { ids, lengths, batch: rows, seq_len, .. } = &batch;
        let (batch_size, seq_len) = (*rows, *seq_len);
        let source = Sequences { ids, lengths, segments: None, batch: batch_size, seq_len };
        let found = model.beam_search(tape, weights, source, beam)?;
        for (hypothesis, place) in found.into_iter().zip(&batch.rows) {
            let words = hypothesis.tokens.into_iter().filter(|id| !specials.contains(id));
            let text = tokenizer.decode(&words.collect::<Vec<u32>>()).trim().to_string();
            written.push(Written { place: *place, text, score: hypothesis.score });
        }
    }
    Ok(written)
}

/// The loss of targets, clustered by pair.
pub fn score_pairs(
    (model, weights): (&Model, &[f32]),
    tape: &mut Tape,
    batches: impl Iterator<Item = PairBatch>,
) -> Score {
    let mut tally = Tally::default();
    for batch in batches {
        let mut pass = tape.pass(weights, PassKind::Evaluate);
        let PairBatch { source, targets, .. } = &batch;
        let LabelledBatch { ids, lengths, batch: rows, seq_len, .. } = source;
        let sides = Sides::new(targets, *rows, &model.config);
        let source = Sequences { ids, lengths, segments: None, batch: *rows, seq_len: *seq_len };
        let pairs = Pairs { source, target: sides.sequences(), targets };
        let spec = LossSpec::plain(1.0);
        let objective = Objective { spec, joint: Joint::default(), ahead: 0.0, marks: None };
        model.seq_loss(&mut pass, &pairs, &NoiseRates::default(), &objective);
        // One loss for each target that is told, row after row.
        let mut losses = pass.token_nll();
        for (row, length) in targets.chunks(batch.target_len).zip(&sides.lengths) {
            let (own, others) = losses.split_at(*length as usize);
            tally.add_row(own, &row[..own.len()]);
            losses = others;
        }
    }
    tally.score()
}

/// What the decoder reads for some targets.
struct Sides {
    ids: Vec<u32>,
    lengths: Vec<u32>,
    batch: usize,
}

impl Sides {
    /// Of [B, U] targets.
    fn new(targets: &[u32], batch: usize, config: &ModelConfig) -> Sides {
        let target_len = targets.len() / batch;
        let told = |row: &[u32]| row.iter().filter(|id| **id != IGNORE).count() as u32;
        Sides {
            ids: shifted_right(targets, target_len, config.decoder.start, config.decoder.padding),
            lengths: targets.chunks(target_len).map(told).collect(),
            batch,
        }
    }

    fn sequences(&self) -> Sequences<'_> {
        let Sides { ids, lengths, batch } = self;
        let seq_len = ids.len() / batch;
        Sequences { ids, lengths, segments: None, batch: *batch, seq_len }
    }
}

impl From<PairBatch> for Batch {
    fn from(batch: PairBatch) -> Batch {
        let LabelledBatch { ids, lengths, batch: rows, seq_len, .. } = batch.source;
        Batch {
            ids,
            targets: batch.targets,
            lengths,
            segments: Vec::new(),
            marks: Vec::new(),
            batch: rows,
            seq_len,
            first_sequence: batch.source.first_sequence,
            epoch: batch.source.epoch,
        }
    }
}

impl Task for Seq2Seq {
    fn steps_per_epoch(&self) -> f64 {
        self.batches.steps_per_epoch() as f64
    }

    fn epoch_at(&self, step: u64) -> f64 {
        self.batches.epoch_at(step)
    }

    fn step_tokens(&self) -> f64 {
        self.rows as f64 * self.length_mean
    }

    fn batch_at(&self, step: u64) -> Result<Batch, DataError> {
        Ok(self.batches.batch_at(step)?.into())
    }

    fn order(&self) -> Result<OrderMeasure, TrainError> {
        order_of(self.batches.steps_per_epoch(), |step| {
            Ok(self.batches.batch_at(step)?.source.rows)
        })
    }

    fn loss(
        &self,
        model: &Model,
        pass: &mut Pass,
        rows: Rows,
        terms: &Terms,
        _lessons: &Lessons,
    ) -> LossReport {
        let Rows { ids, lengths, targets, batch, seq_len, .. } = rows;
        let sides = Sides::new(targets, batch, &model.config);
        let source = Sequences { ids, lengths, segments: None, batch, seq_len };
        let pairs = Pairs { source, target: sides.sequences(), targets };
        let twins = terms.twins.map(|strength| Twins { strength, seq_len });
        let joint = Joint { twins, teaching: None };
        let objective = Objective { spec: terms.spec, joint, ahead: 0.0, marks: None };
        model.seq_loss(pass, &pairs, &terms.noise, &objective)
    }

    fn listen(&self, _teacher: Lecturer, _pass: &mut Pass, _rows: Rows, _said: &mut Vec<f32>) {
        unreachable!("a plan with teachers is refused for pairs")
    }

    /// The source itself, as far as it is text: what a model of one sequence is asked for.
    fn token_targets(&self, batch: &Batch) -> Vec<u32> {
        let mut targets = vec![IGNORE; batch.ids.len()];
        let rows = targets.chunks_mut(batch.seq_len).zip(batch.ids.chunks(batch.seq_len));
        for ((row, ids), length) in rows.zip(&batch.lengths) {
            let length = *length as usize;
            row[..length].copy_from_slice(&ids[..length]);
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
        let whole;
        let (pairs, exercise) = match sample {
            Sample::Train => (&self.train, Some(&self.written_train)),
            Sample::HeldOut => (&self.held_out, Some(&self.written_held_out)),
            Sample::Whole => {
                whole = self.whole();
                (&whole, None)
            }
        };
        let batches = pairs.batches(self.evaluated_at_once);
        let score = score_pairs((model, weights), tape, batches);
        let metrics = match exercise {
            Some(exercise) => self.figures(exercise, model, tape, weights)?,
            None => Vec::new(),
        };
        Ok(Judged { score, metrics })
    }

    fn held_out(&self) -> (usize, &'static str) {
        (self.held_out.len(), "pairs")
    }

    fn afterwards(
        &self,
        setup: &Setup,
        tape: &mut Tape,
        weights: &[f32],
        step: u64,
    ) -> Result<Option<Event>, TrainError> {
        let Corpus::Pairs(data) = &setup.data else { return Ok(None) };
        let pad = self.encoder.pad();
        let pairs =
            PairEvaluation::sample(&self.validation, WRITTEN_MOST, self.seed, MULTIPLE, pad);
        let beam = Beam { beams: BEAMS, ..self.beam.clone() };
        let sources = pairs.batches(WRITTEN_AT_ONCE).map(|batch| batch.source);
        let model = (&setup.model, weights);
        let mut written = write_texts(model, tape, &self.encoder, sources, &beam)?;
        written.sort_by_key(|one| one.place);
        let examples: Vec<&PairExample> =
            written.iter().map(|one| &data.data.validation[one.place as usize]).collect();
        let texts: Vec<String> = written.iter().map(|one| one.text.clone()).collect();
        let record = self.scoring.judge(&examples, &texts, BEAMS)?;
        Ok(Some(Event::Writing(heldout_record::WritingRecord { step, ..record })))
    }

    fn baseline(&self, _setup: &Setup, _control: &Control) -> Result<Baseline, TrainError> {
        let Exercise { sources, references, .. } = &self.written_held_out;
        if sources.is_empty() {
            return Ok(Baseline::Absent);
        }
        Ok(Baseline::Texts(Box::new(self.scoring.baseline(sources, references)?)))
    }
}

/// Sources as they are written for: the longest first, so that little is padded.
pub fn source_batches(
    pairs: &EncodedPairs,
    encoder: &Encoder,
) -> impl Iterator<Item = LabelledBatch> {
    let sources = heldout_data::labelled::LabelledEvaluation::whole(
        &Arc::clone(&pairs.source),
        MULTIPLE,
        encoder.pad(),
    );
    sources.batches(WRITTEN_AT_ONCE).collect::<Vec<_>>().into_iter()
}
