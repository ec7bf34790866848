//! What a run learns: where its batches come from, what a pass computes, what an evaluation
//! measures. The loop, the plan and the checkpoints are the same for every task.
//!
//! A task is a file here that implements [`Task`], and a branch of [`Corpus`]. It fills a
//! [`Batch`] with whatever its own [`Task::loss`] reads; the trainer only cuts it into rows.

mod answers;
mod classification;
mod corpus;
mod language;
mod masked;
mod seq2seq;

use std::collections::BTreeMap;
use std::ops::Range;

use heldout_data::{DataError, Shuffle};
use heldout_kernels::{LossReport, LossSpec, Pass, Tape};
use heldout_model::{Model, NoiseRates};
use heldout_record::{Event, MetricRecord};
use heldout_regularize::Plan;
use heldout_regularize::live::{
    AugmentMeasure, ClassWeightsMeasure, OrderMeasure, PredictableMeasure,
};
use serde_json::Value;

use crate::control::Control;
use crate::error::TrainError;
use crate::evaluation::Score;
use crate::job::Setup;
use crate::recipe::Metric;
use crate::teachers::Lecturer;

pub use answers::{Answering, CUT, answer_scores, batches_of, mean_length, means, most_wrong};
pub use classification::{Classification, Predictions, SCORES, predictions, shortness};
pub use corpus::{Corpus, CorpusFacts};
pub use language::{LanguageModel, held_out_windows};
pub use masked::{FIXED_SEED, MaskedModel, judged, masking};
pub use seq2seq::{BEAMS, Seq2Seq, Written, beam, score_pairs, source_batches, write_texts};

/// A step's batch: B sequences of T tokens, one after the other, and what they should give.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// [B, T] token ids.
    pub ids: Vec<u32>,
    /// What the task predicts: the same number of values for every sequence ([B, T] following
    /// tokens, [B] labels, or [B, 2] ends of answers); [`heldout_data::IGNORE`] where nothing is.
    pub targets: Vec<u32>,
    /// [B] tokens that are no padding; empty where all are text.
    pub lengths: Vec<u32>,
    /// [B, T] numbers of the text that a token belongs to; empty where there is one.
    pub segments: Vec<u32>,
    /// [B, T] marks: where one is 0, noise over whole tokens leaves the token alone; empty where it
    /// acts on all.
    pub marks: Vec<u32>,
    /// B.
    pub batch: usize,
    /// T.
    pub seq_len: usize,
    /// Index of the first sequence among all of the run, from 0.
    pub first_sequence: u64,
    /// Epochs completed before this batch, with the fraction of the current one.
    pub epoch: f64,
}

/// Some sequences of a [`Batch`], as its fields.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    pub ids: &'a [u32],
    pub targets: &'a [u32],
    pub lengths: &'a [u32],
    pub segments: &'a [u32],
    pub marks: &'a [u32],
    pub batch: usize,
    pub seq_len: usize,
}

impl Batch {
    /// Targets that count.
    pub fn target_count(&self) -> u64 {
        self.targets.iter().filter(|target| **target != heldout_data::IGNORE).count() as u64
    }

    /// The sequences `rows`.
    pub fn rows(&self, rows: Range<usize>) -> Rows<'_> {
        let of = |all: &'_ [u32]| {
            let each = all.len() / self.batch;
            rows.start * each..rows.end * each
        };
        Rows {
            ids: &self.ids[of(&self.ids)],
            targets: &self.targets[of(&self.targets)],
            lengths: &self.lengths[of(&self.lengths)],
            segments: &self.segments[of(&self.segments)],
            marks: &self.marks[of(&self.marks)],
            batch: rows.len(),
            seq_len: self.seq_len,
        }
    }
}

/// What a pass minimises besides the bare loss, as the plan has it at this step.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub noise: NoiseRates,
    pub spec: LossSpec,
    /// Strength of R-Drop: every sequence is passed twice.
    pub twins: Option<f32>,
    /// Weight of heads that look further ahead.
    pub ahead: f32,
    /// The teachers' share, and the temperature at which they are heard.
    pub teaching: Option<(f32, f32)>,
    /// γ of the focal loss; 0 is none.
    pub focus: f32,
}

impl Terms {
    /// Passes of each sequence.
    pub fn copies(&self) -> usize {
        if self.twins.is_some() { 2 } else { 1 }
    }
}

/// Which examples an evaluation looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// A fixed sample of the training split.
    Train,
    /// The held-out split, or the fixed sample of it that the run's evaluations see.
    HeldOut,
    /// The whole held-out split.
    Whole,
}

/// What an evaluation measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Mean loss, without noise or smoothing.
    pub score: Score,
    /// The task's own figures, in the order in which they are told; none of a language model.
    pub metrics: Vec<Figure>,
}

/// A figure of a task. Higher is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub metric: Metric,
    pub value: f64,
}

impl Judged {
    /// What decides which weights are best; lower is better.
    pub fn key(&self, monitor: Metric) -> f64 {
        match self.metrics.iter().find(|figure| figure.metric == monitor) {
            Some(figure) => -figure.value,
            None => self.score.loss,
        }
    }

    /// The figures of both sides for the record.
    pub fn records(&self, train: &Judged) -> Vec<MetricRecord> {
        let both = self.metrics.iter().zip(&train.metrics);
        let of = |(valid, train): (&Figure, &Figure)| MetricRecord {
            name: valid.metric.word().into(),
            train: train.value,
            valid: valid.value,
        };
        both.map(of).collect()
    }
}

/// Whether epochs are drawn anew, as the plan wants it.
pub fn shuffle(plan: &Plan) -> Shuffle {
    if plan.order.is_some() { Shuffle::Yes } else { Shuffle::No }
}

/// Examples compared to see whether shuffling moves any.
const EXAMPLES_COMPARED: usize = 256;

/// How many of the first examples of an epoch do not stand where they are stored; `rows_at` gives a
/// step's, by their places in store.
pub fn order_of(
    steps: u64,
    rows_at: impl Fn(u64) -> Result<Vec<u32>, TrainError>,
) -> Result<OrderMeasure, TrainError> {
    let mut places = Vec::new();
    for step in 0..steps {
        places.extend(rows_at(step)?);
        if places.len() >= EXAMPLES_COMPARED {
            break;
        }
    }
    places.truncate(EXAMPLES_COMPARED);
    let moved = places.iter().enumerate().filter(|(at, place)| *at != **place as usize);
    Ok(OrderMeasure { windows: places.len() as u64, moved: moved.count() as u64 })
}

/// What a run learns. Everything is fixed when it is made: a step's batch is a function of the
/// step, and an evaluation one of the weights.
pub trait Task: Send + Sync {
    /// Steps in an epoch; a fraction where batches run across epochs.
    fn steps_per_epoch(&self) -> f64;

    /// Epochs done before step `step` (from 0).
    fn epoch_at(&self, step: u64) -> f64;

    /// Tokens of a full batch, about.
    fn step_tokens(&self) -> f64;

    /// The batch of a step (from 0).
    fn batch_at(&self, step: u64) -> Result<Batch, DataError>;

    /// How far shuffling moved the first sequences from their stored order.
    fn order(&self) -> Result<OrderMeasure, TrainError>;

    /// How predictable the tokens are that noise is guided to; `None` where it is not.
    fn predictable(&self) -> Option<PredictableMeasure> {
        None
    }

    /// What each change of the training texts does to them, by its owner.
    fn augmented(&self, _setup: &Setup) -> BTreeMap<String, AugmentMeasure> {
        BTreeMap::new()
    }

    /// By how much each class counts in the loss; `None` where all count alike.
    fn class_weights(&self, _tape: &mut Tape) -> Option<ClassWeightsMeasure> {
        None
    }

    /// Adds the loss of some sequences to a training pass. `teachers` have just heard the same
    /// sequences, where the terms ask for teaching.
    fn loss(
        &self,
        model: &Model,
        pass: &mut Pass,
        rows: Rows,
        terms: &Terms,
        teachers: &Lessons,
    ) -> LossReport;

    /// What a teacher says about some sequences, in an evaluation pass of its own: as many values
    /// as [`Task::loss`] wants of it.
    fn listen(&self, teacher: Lecturer, pass: &mut Pass, rows: Rows, said: &mut Vec<f32>);

    /// A target for every token of a batch, as [`Model::loss`] would take them: what receipts are
    /// measured with.
    fn token_targets(&self, batch: &Batch) -> Vec<u32>;

    /// Loss and figures of weights, without noise.
    fn judge(
        &self,
        sample: Sample,
        model: &Model,
        tape: &mut Tape,
        weights: &[f32],
    ) -> Result<Judged, TrainError>;

    /// Sequences of [`Sample::HeldOut`], and what one is called.
    fn held_out(&self) -> (usize, &'static str);

    /// What a loss is the mean over, in one or two words.
    fn unit(&self) -> &'static str {
        "token"
    }

    /// The beginnings of some held-out texts, to see how the model goes on; none by default.
    fn prompts(&self, _count: usize) -> Vec<Vec<u32>> {
        Vec::new()
    }

    /// What is told of the result when a run is over, besides its loss; nothing by default.
    fn afterwards(
        &self,
        _setup: &Setup,
        _tape: &mut Tape,
        _weights: &[f32],
        _step: u64,
    ) -> Result<Option<Event>, TrainError> {
        Ok(None)
    }

    /// What `config.json` says beyond the model: the names of labels.
    fn describe(&self, _config: &mut Value) {}

    /// The id that fills short sequences, where the model must know it.
    fn pad(&self) -> Option<u32> {
        None
    }

    /// What simple methods reach on the same held-out text.
    fn baseline(
        &self,
        setup: &Setup,
        control: &Control,
    ) -> Result<crate::baseline::Baseline, TrainError>;
}

/// What teachers said about the sequences at hand, as [`Task::listen`] wrote it.
pub struct Lessons<'a> {
    pub teachers: &'a [Lecturer<'a>],
    pub said: &'a [Vec<f32>],
}
