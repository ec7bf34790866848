//! The task of a masked language model (Devlin et al. 2019): passages with some tokens masked, the
//! tokens that stood there. Masks are drawn anew in every epoch (Liu et al. 2019); evaluations see
//! passages under masks that never change.

use std::collections::HashMap;
use std::time::Instant;

use heldout_data::masking::{Masking, Unit};
use heldout_data::{
    DataError, IGNORE, MaskedBatch, MaskedBatches, MaskedEvaluation, Passages, Prepared, Shuffle,
    TokenStore,
};
use heldout_kernels::{Joint, LossReport, Pass, PassKind, Tape, Twins};
use heldout_measure::calibration::likeliest;
use heldout_model::{ClassObjective, Model, Objective, Sequences};
use heldout_record::BaselineRecord;
use heldout_regularize::live::OrderMeasure;

use super::{Batch, Figure, Judged, Lessons, Rows, Sample, Task, Terms, order_of};
use crate::baseline::Baseline;
use crate::control::Control;
use crate::error::TrainError;
use crate::evaluation::{Score, Tally};
use crate::job::Setup;
use crate::recipe::{DataRecipe, Metric, ResolvedRecipe};
use crate::teachers::Lecturer;

/// Passages of a tokenized text.
pub struct MaskedModel {
    batches: MaskedBatches,
    length_mean: f64,
    store: TokenStore,
    /// How evaluations mask.
    fixed: Masking,
    validation: Passages,
    /// A fixed sample of the training split.
    train: MaskedEvaluation,
    /// The held-out split, or a fixed sample of it.
    held_out: MaskedEvaluation,
    /// Passages scored at a time.
    evaluated_at_once: usize,
}

impl MaskedModel {
    /// Cuts the text as the recipe says; evaluations look at as many tokens at a time as `rows` of
    /// the longest passages have.
    pub fn new(
        data: &Prepared,
        recipe: &ResolvedRecipe,
        shuffle: Shuffle,
        rows: usize,
    ) -> Result<MaskedModel, TrainError> {
        let (context, seed) = (recipe.model.context, recipe.run.seed);
        let fixed = masking(data, &recipe.data, FIXED_SEED)?;
        let train = Passages::new(&data.train, &data.tokenizer, context)?;
        let validation = Passages::new(&data.validation, &data.tokenizer, context)?;
        let size = recipe.batch.size.unwrap_or(train.len());
        let drawn = masking(data, &recipe.data, seed)?;
        let batches = MaskedBatches::new(&train, drawn, size, seed, shuffle)?;
        let evaluation =
            |of: &Passages, count| MaskedEvaluation::new(of, fixed.clone(), count, seed);
        let length_mean = train.length_mean();
        Ok(MaskedModel {
            train: evaluation(&train, Some(recipe.evaluate.train_windows)),
            held_out: evaluation(&validation, recipe.evaluate.windows),
            batches,
            length_mean,
            store: data.train.clone(),
            fixed,
            validation,
            evaluated_at_once: rows * super::shortness(context, length_mean),
        })
    }

    /// As common as each token is in training, by one more than it occurs: what is told without a
    /// look at the text around the mask.
    fn commonness(&self, control: &Control) -> Option<(HashMap<u32, u64>, u64)> {
        let (mut counts, mut at, total) = (HashMap::new(), 0, self.store.len());
        while at < total {
            if control.is_stopping() {
                return None;
            }
            let end = (at + CHUNK).min(total);
            for id in self.store.tokens(at..end) {
                *counts.entry(id).or_insert(0) += 1;
            }
            at = end;
        }
        Some((counts, total))
    }
}

/// Tokens counted between two looks at whether the run should stop.
const CHUNK: u64 = 1 << 18;

/// Of the masks that evaluations see: the same for every run on the same text.
pub const FIXED_SEED: u64 = 0;

/// The rule by which a run masks.
pub fn masking(data: &Prepared, recipe: &DataRecipe, seed: u64) -> Result<Masking, TrainError> {
    let unit = if recipe.whole_word { Unit::Word } else { Unit::Token };
    Ok(Masking::new(&data.tokenizer, recipe.mask_rate, unit, seed)?)
}

/// Loss of masked tokens and the share of them that the model finds, without noise.
pub fn judged(
    model: &Model,
    tape: &mut Tape,
    weights: &[f32],
    batches: impl Iterator<Item = MaskedBatch>,
) -> Judged {
    let (mut tally, mut right) = (Tally::default(), 0u64);
    for batch in batches {
        let MaskedBatch { ids, targets, lengths, batch: rows, seq_len, .. } = &batch;
        let kept: Vec<u32> =
            (0..targets.len() as u32).filter(|at| targets[*at as usize] != IGNORE).collect();
        if kept.is_empty() {
            continue;
        }
        let told: Vec<u32> = kept.iter().map(|at| targets[*at as usize]).collect();
        let (batch, seq_len) = (*rows, *seq_len);
        let sequences = Sequences { ids, lengths, segments: None, batch, seq_len };
        let mut pass = tape.pass(weights, PassKind::Evaluate);
        let logits = model.masked_logits(&mut pass, sequences, &kept); // [R, V]
        let values = pass.value(logits).chunks_exact(model.config.vocabulary);
        right += values.zip(&told).filter(|(z, told)| likeliest(z) == **told).count() as u64;
        pass.class_loss(logits, &told, &ClassObjective::plain(1.0));
        // Tokens of one passage share their text: they are one cluster.
        let of = |at: &u32| *at as usize / seq_len;
        let mut losses = pass.token_nll();
        let mut told = &told[..];
        for passage in kept.chunk_by(|a, b| of(a) == of(b)) {
            let (own, rest) = losses.split_at(passage.len());
            let (own_told, rest_told) = told.split_at(passage.len());
            tally.add_row(own, own_told);
            (losses, told) = (rest, rest_told);
        }
    }
    let score = tally.score();
    let value = right as f64 / score.targets.max(1) as f64;
    Judged { score, metrics: vec![Figure { metric: Metric::Accuracy, value }] }
}

impl From<MaskedBatch> for Batch {
    fn from(masked: MaskedBatch) -> Batch {
        let MaskedBatch { ids, targets, lengths, batch, seq_len, first_sequence, epoch } = masked;
        let (segments, marks) = (Vec::new(), Vec::new());
        Batch { ids, targets, lengths, segments, marks, batch, seq_len, first_sequence, epoch }
    }
}

impl Task for MaskedModel {
    fn steps_per_epoch(&self) -> f64 {
        self.batches.steps_per_epoch() as f64
    }

    fn epoch_at(&self, step: u64) -> f64 {
        self.batches.epoch_at(step)
    }

    fn step_tokens(&self) -> f64 {
        self.batches.rows() as f64 * self.length_mean
    }

    fn batch_at(&self, step: u64) -> Result<Batch, DataError> {
        Ok(self.batches.batch_at(step).into())
    }

    fn order(&self) -> Result<OrderMeasure, TrainError> {
        order_of(self.batches.steps_per_epoch(), |step| Ok(self.batches.numbers_at(step)))
    }

    fn loss(
        &self,
        model: &Model,
        pass: &mut Pass,
        rows: Rows,
        terms: &Terms,
        _lessons: &Lessons,
    ) -> LossReport {
        let twins = terms.twins.map(|strength| Twins { strength, seq_len: rows.seq_len });
        let joint = Joint { twins, teaching: None };
        let objective = Objective { spec: terms.spec, joint, ahead: 0.0, marks: None };
        model.masked(pass, rows.into(), rows.targets, &terms.noise, &objective)
    }

    fn listen(&self, _: Lecturer, _: &mut Pass, _: Rows, _: &mut Vec<f32>) {
        unreachable!("a job of masked tokens with teachers is refused");
    }

    fn token_targets(&self, batch: &Batch) -> Vec<u32> {
        batch.targets.clone()
    }

    fn judge(
        &self,
        sample: Sample,
        model: &Model,
        tape: &mut Tape,
        weights: &[f32],
    ) -> Result<Judged, TrainError> {
        let whole;
        let passages = match sample {
            Sample::Train => &self.train,
            Sample::HeldOut => &self.held_out,
            Sample::Whole => {
                whole = MaskedEvaluation::new(&self.validation, self.fixed.clone(), None, 0);
                &whole
            }
        };
        Ok(judged(model, tape, weights, passages.batches(self.evaluated_at_once)))
    }

    fn held_out(&self) -> (usize, &'static str) {
        (self.held_out.len(), "passages")
    }

    fn unit(&self) -> &'static str {
        "masked token"
    }

    /// Tells every masked token by how common it is: what a model that looks around it must beat.
    fn baseline(&self, setup: &Setup, control: &Control) -> Result<Baseline, TrainError> {
        let begin = Instant::now();
        let Some((counts, total)) = self.commonness(control) else { return Ok(Baseline::Absent) };
        let vocabulary = setup.model.config.vocabulary as u64;
        let all = ((total + vocabulary) as f64).ln();
        let loss = |id: &u32| match *id {
            IGNORE => 0.0,
            id => (all - ((counts.get(&id).copied().unwrap_or(0) + 1) as f64).ln()) as f32,
        };
        let mut tally = Tally::default();
        for batch in self.held_out.batches(self.evaluated_at_once) {
            for targets in batch.targets.chunks(batch.seq_len) {
                let losses: Vec<f32> = targets.iter().map(loss).collect();
                tally.add_row(&losses, targets);
            }
        }
        let Score { loss, se, .. } = tally.score();
        Ok(Baseline::Made(Box::new(BaselineRecord {
            smoothing: "how common each token is".into(),
            order: 1,
            choice: Vec::new(),
            loss_valid: loss,
            loss_valid_se: se,
            perplexity: loss.exp(),
            bits_per_byte: f64::INFINITY,
            loss_whole: None,
            loss_whole_se: None,
            tokens: total,
            ngrams: counts.len() as u64,
            seconds: begin.elapsed().as_secs_f64(),
            limit: None,
        })))
    }
}
