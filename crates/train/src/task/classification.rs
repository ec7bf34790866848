//! The task of a classifier: texts of one or two parts, a label for each.

use std::collections::BTreeMap;
use std::sync::Arc;

use heldout_base::nearest::nearest;
use heldout_data::labelled::{
    Augmented, EncodedExamples, LabelledBatch, LabelledBatches, LabelledEvaluation, LabelledPlan,
    PreparedLabelled, class_counts,
};
use heldout_data::{DataError, IGNORE};
use heldout_kernels::{ClassTeaching, EmbeddingNoise, LossReport, Pass, PassKind, Tape, Weight};
use heldout_measure::calibration::likeliest;
use heldout_measure::classification::{Average, Confusion, Score};
use heldout_measure::probabilities::Probabilities;
use heldout_model::huggingface::labels;
use heldout_model::{ClassObjective, Model, Sequences};
use heldout_record::{ConfusionRecord, Event, WrongRecord};
use heldout_regularize::live::{AugmentMeasure, ClassWeightsMeasure, OrderMeasure};
use heldout_regularize::{Plan, SettingError};
use serde_json::Value;

use super::{Batch, Corpus, Figure, Judged, Lessons, Rows, Sample, Task, Terms, order_of, shuffle};
use crate::augmentation::{self, OwnedAugmenter};
use crate::bag;
use crate::baseline::Baseline;
use crate::control::Control;
use crate::error::TrainError;
use crate::evaluation::{self, Tally};
use crate::job::Setup;
use crate::recipe::{Metric, ResolvedRecipe};
use crate::teachers::Lecturer;

/// Labelled texts, encoded.
pub struct Classification {
    batches: LabelledBatches,
    rows: usize,
    names: Vec<String>,
    pad: u32,
    eos: Option<u32>,
    length_mean: f64,
    train: LabelledEvaluation,
    held_out: LabelledEvaluation,
    validation: Arc<EncodedExamples>,
    /// Examples scored at a time.
    evaluated_at_once: usize,
    /// What changes the training texts.
    augmenters: Vec<OwnedAugmenter>,
    /// How much each class counts; empty where all count alike.
    weights: Vec<f32>,
}

/// Lengths are rounded up to a multiple of this, so that few shapes occur.
const MULTIPLE: usize = 8;

impl Classification {
    /// Cuts the examples as the recipe says; evaluations look at `evaluated_at_once` at a time.
    pub fn new(
        data: &PreparedLabelled,
        recipe: &ResolvedRecipe,
        plan: &Plan,
        evaluated_at_once: usize,
    ) -> Result<Classification, TrainError> {
        let (pad, seed) = (data.encoder.pad(), recipe.run.seed);
        let rows = recipe.batch.size.unwrap_or(data.train.len()).min(data.train.len());
        let augmenters = augmentation::augmenters(plan, data, seed)?;
        let weights = class_weights(data, plan)?;
        let cut = LabelledPlan {
            shuffle: shuffle(plan),
            multiple: MULTIPLE,
            ..LabelledPlan::new(rows, seed, pad)
        };
        let held_out = match recipe.evaluate.windows {
            Some(count) => LabelledEvaluation::sample(&data.validation, count, seed, MULTIPLE, pad),
            None => LabelledEvaluation::whole(&data.validation, MULTIPLE, pad),
        };
        let count = recipe.evaluate.train_windows;
        let length_mean = data.facts.train.lengths.mean;
        Ok(Classification {
            batches: changed(LabelledBatches::new(&data.train, cut)?, data, &augmenters)?,
            rows,
            names: data.data.labels.names.clone(),
            pad,
            eos: data.encoder.tokenizer().eos(),
            length_mean,
            train: LabelledEvaluation::sample(&data.train, count, seed, MULTIPLE, pad),
            held_out,
            validation: data.validation.clone(),
            evaluated_at_once: evaluated_at_once * shortness(recipe.model.context, length_mean),
            augmenters,
            weights,
        })
    }

    /// Whether what the plan asks of labelled texts can be done with these.
    ///
    /// # Errors
    /// As [`augmentation::augmenters`]; a weight for a label that there is not.
    pub fn check(data: &PreparedLabelled, plan: &Plan, seed: u64) -> Result<(), SettingError> {
        augmentation::augmenters(plan, data, seed)?;
        class_weights(data, plan)?;
        Ok(())
    }
}

/// The batches with the texts changed, where anything changes them.
fn changed(
    batches: LabelledBatches,
    data: &PreparedLabelled,
    augmenters: &[OwnedAugmenter],
) -> Result<LabelledBatches, DataError> {
    if augmenters.is_empty() {
        return Ok(batches);
    }
    batches.with_augmentation(Augmented {
        examples: Arc::new(data.data.train.clone()),
        encoder: data.encoder.clone(),
        augmenters: augmenters.iter().map(|owned| owned.value.clone()).collect(),
    })
}

/// A weight for each class, as the plan says; none where it says nothing.
fn class_weights(data: &PreparedLabelled, plan: &Plan) -> Result<Vec<f32>, SettingError> {
    let Some(owned) = &plan.labelled.class_weights else { return Ok(Vec::new()) };
    let names = &data.data.labels.names;
    let counts = class_counts(data.train.labels().iter().copied(), names.len());
    owned.value.weights(names, &counts).map_err(|unknown| SettingError::Unusable {
        technique: owned.owner.clone(),
        knob: "weights".to_owned(),
        reason: match nearest(&unknown, names.iter().map(String::as_str)) {
            Some(near) => format!("there is no label {unknown:?}, did you mean {near:?}?"),
            None => format!("there is no label {unknown:?}"),
        },
        remedy: format!("the labels are: {}", names.join(", ")),
    })
}

/// How many texts of usual length take the room of one of the longest, within reason: the longest
/// come together.
pub fn shortness(longest: usize, length_mean: f64) -> usize {
    ((longest as f64 / length_mean.max(1.0)) as usize).clamp(1, 4)
}

impl From<LabelledBatch> for Batch {
    fn from(batch: LabelledBatch) -> Batch {
        let LabelledBatch { ids, segments, lengths, labels, .. } = batch;
        let LabelledBatch { batch, seq_len, first_sequence, epoch, .. } = batch;
        let marks = Vec::new();
        Batch {
            ids,
            targets: labels,
            lengths,
            segments,
            marks,
            batch,
            seq_len,
            first_sequence,
            epoch,
        }
    }
}

impl<'a> From<Rows<'a>> for Sequences<'a> {
    fn from(rows: Rows<'a>) -> Sequences<'a> {
        let Rows { ids, lengths, segments, batch, seq_len, .. } = rows;
        let segments = Some(segments).filter(|segments| !segments.is_empty());
        Sequences { ids, lengths, segments, batch, seq_len }
    }
}

/// What a classifier says about some examples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// [N, K] logits.
    pub logits: Vec<f32>,
    /// [N] right classes; [`IGNORE`] where nobody knows.
    pub labels: Vec<u32>,
    /// [N] places of the examples in their split.
    pub places: Vec<u32>,
    /// [N] negative log-likelihoods, nats; 0 where the label is not known.
    pub losses: Vec<f32>,
}

/// Runs a classifier over batches, without noise.
pub fn predictions(
    model: &Model,
    tape: &mut Tape,
    weights: &[f32],
    batches: impl Iterator<Item = LabelledBatch>,
) -> Predictions {
    let mut found = Predictions::default();
    for batch in batches {
        let LabelledBatch { ids, lengths, segments, batch: rows, seq_len, .. } = &batch;
        let (batch_size, seq_len) = (*rows, *seq_len);
        let segments = Some(&segments[..]).filter(|segments| !segments.is_empty());
        let sequences = Sequences { ids, lengths, segments, batch: batch_size, seq_len };
        let mut pass = tape.pass(weights, PassKind::Evaluate);
        let logits = model.scores(&mut pass, sequences);
        found.logits.extend_from_slice(pass.value(logits));
        pass.class_loss(logits, &batch.labels, &ClassObjective::plain(1.0));
        found.losses.extend_from_slice(pass.token_nll());
        found.labels.extend_from_slice(&batch.labels);
        found.places.extend_from_slice(&batch.rows);
    }
    found
}

impl Predictions {
    /// The likeliest class of every example; the lower one on ties.
    pub fn classes(&self) -> Vec<u32> {
        let count = self.logits.len() / self.labels.len().max(1);
        self.logits.chunks(count.max(1)).map(likeliest).collect()
    }

    /// The same in the order of the examples' places.
    pub fn in_order(&self) -> Predictions {
        let width = self.logits.len() / self.labels.len().max(1);
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        order.sort_unstable_by_key(|at| self.places[*at]);
        Predictions {
            logits: order
                .iter()
                .flat_map(|at| &self.logits[at * width..][..width])
                .copied()
                .collect(),
            labels: order.iter().map(|at| self.labels[*at]).collect(),
            places: order.iter().map(|at| self.places[*at]).collect(),
            losses: order.iter().map(|at| self.losses[*at]).collect(),
        }
    }

    /// Mean loss with its standard error; examples are independent.
    pub fn score(&self) -> evaluation::Score {
        let mut tally = Tally::default();
        for (loss, label) in self.losses.iter().zip(&self.labels) {
            tally.add_row(&[*loss], &[*label]);
        }
        tally.score()
    }

    /// Accuracy, macro F1 and Matthews correlation.
    fn figures(&self, labels: usize) -> Result<Vec<Figure>, TrainError> {
        let confusion = Confusion::new(&self.classes(), &self.labels, labels)?;
        let figure = |(metric, score)| Figure { metric, value: confusion.score(score) };
        Ok(SCORES.map(figure).into())
    }
}

/// The figures of a classifier, in the order in which they are told.
pub const SCORES: [(Metric, Score); 3] = [
    (Metric::Accuracy, Score::Accuracy),
    (Metric::F1, Score::F1(Average::Macro)),
    (Metric::Mcc, Score::Mcc),
];

/// What teachers say together: the logarithm of their mean probability at temperature t, times t,
/// so that a softmax at that temperature gives the mean back.
fn together(said: &[Vec<f32>], classes: usize, temperature: f32) -> Vec<f32> {
    if let [only] = said {
        return only.clone();
    }
    let Some(first) = said.first() else { return Vec::new() };
    let mut mean = vec![0.0; first.len()];
    for logits in said {
        for (mean, logits) in mean.chunks_mut(classes).zip(logits.chunks(classes)) {
            let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let of = |z: &f32| ((z - most) / temperature).exp();
            let sum: f32 = logits.iter().map(of).sum();
            let share = 1.0 / said.len() as f32;
            mean.iter_mut().zip(logits).for_each(|(m, z)| *m += share * of(z) / sum);
        }
    }
    mean.iter().map(|m| temperature * m.max(f32::MIN_POSITIVE).ln()).collect()
}

/// Texts that are told as most wrong, and how much of each.
const MISTAKES: usize = 10;
const TEXT_CHARACTERS: usize = 300;

impl Task for Classification {
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
        order_of(self.batches.steps_per_epoch(), |step| Ok(self.batches.batch_at(step)?.rows))
    }

    fn augmented(&self, setup: &Setup) -> BTreeMap<String, AugmentMeasure> {
        let Corpus::Labelled(data) = &setup.data else { return BTreeMap::new() };
        let one = |owned: &OwnedAugmenter| {
            (owned.owner.clone(), augmentation::measure(&owned.value, &data.data.train))
        };
        self.augmenters.iter().map(one).collect()
    }

    fn class_weights(&self, tape: &mut Tape) -> Option<ClassWeightsMeasure> {
        let classes = self.weights.len();
        let logits = Weight { offset: 0, rows: 1, cols: classes };
        // A right answer of any class costs ln K nats, times its weight.
        let parameters = vec![0.0; classes];
        let one = |class: usize| {
            let mut pass = tape.pass(&parameters, PassKind::Evaluate);
            let x = pass.embedding(logits, &[0], None, 1, EmbeddingNoise::default());
            let loss = ClassObjective { weights: &self.weights, ..ClassObjective::plain(1.0) };
            let LossReport { objective_sum, nll_sum, .. } =
                pass.class_loss(x, &[class as u32], &loss);
            (self.names[class].clone(), f64::from(self.weights[class]), objective_sum / nll_sum)
        };
        (classes > 0).then(|| ClassWeightsMeasure { classes: (0..classes).map(one).collect() })
    }

    fn loss(
        &self,
        model: &Model,
        pass: &mut Pass,
        rows: Rows,
        terms: &Terms,
        lessons: &Lessons,
    ) -> LossReport {
        let temperature = terms.teaching.map_or(1.0, |(_, temperature)| temperature);
        let lesson = together(lessons.said, self.names.len(), temperature);
        let teaching = terms.teaching.map(|(share, temperature)| ClassTeaching {
            share,
            temperature,
            logits: &lesson,
        });
        let objective = ClassObjective {
            spec: terms.spec,
            weights: &self.weights,
            focus: terms.focus,
            twins: terms.twins,
            teaching,
        };
        model.classify(pass, rows.into(), rows.targets, &terms.noise, &objective)
    }

    fn listen(&self, (model, _): Lecturer, pass: &mut Pass, rows: Rows, said: &mut Vec<f32>) {
        let logits = model.scores(pass, rows.into());
        said.clear();
        said.extend_from_slice(pass.value(logits));
    }

    /// The label at every token of its text: a head of labels takes them as it takes words.
    fn token_targets(&self, batch: &Batch) -> Vec<u32> {
        let mut targets = vec![IGNORE; batch.ids.len()];
        let rows = targets.chunks_mut(batch.seq_len).zip(&batch.lengths).zip(&batch.targets);
        for ((row, length), label) in rows {
            row[..*length as usize].fill(*label);
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
        let examples = match sample {
            Sample::Train => &self.train,
            Sample::HeldOut => &self.held_out,
            Sample::Whole => {
                whole = LabelledEvaluation::whole(&self.validation, MULTIPLE, self.pad);
                &whole
            }
        };
        let found = predictions(model, tape, weights, examples.batches(self.evaluated_at_once));
        Ok(Judged { score: found.score(), metrics: found.figures(self.names.len())? })
    }

    fn held_out(&self) -> (usize, &'static str) {
        (self.held_out.len(), "examples")
    }

    fn unit(&self) -> &'static str {
        "text"
    }

    fn afterwards(
        &self,
        setup: &Setup,
        tape: &mut Tape,
        weights: &[f32],
        step: u64,
    ) -> Result<Option<Event>, TrainError> {
        let Corpus::Labelled(data) = &setup.data else { return Ok(None) };
        let whole = LabelledEvaluation::whole(&self.validation, MULTIPLE, self.pad);
        let batches = whole.batches(self.evaluated_at_once);
        let found = predictions(&setup.model, tape, weights, batches).in_order();
        let classes = self.names.len();
        let confusion = Confusion::new(&found.classes(), &found.labels, classes)?;
        let all = Probabilities::from_logits(&found.logits, classes)?;
        let wrong = all.most_wrong(&found.labels, MISTAKES)?.into_iter();
        let wrong = wrong.filter(|wrong| wrong.reference != wrong.prediction).map(|wrong| {
            let example = &data.data.validation[wrong.index];
            WrongRecord {
                line: example.place.line,
                text: example.text.chars().take(TEXT_CHARACTERS).collect(),
                label: self.names[wrong.reference as usize].clone(),
                said: self.names[wrong.prediction as usize].clone(),
                probability: wrong.probability,
            }
        });
        Ok(Some(Event::Confusion(ConfusionRecord {
            step,
            labels: self.names.clone(),
            counts: confusion.counts.chunks(classes).map(<[u64]>::to_vec).collect(),
            most_wrong: wrong.collect(),
        })))
    }

    fn describe(&self, config: &mut Value) {
        labels::write(config, &self.names);
    }

    /// transformers looks for the last token that is no padding: an id that also ends a text would
    /// lead it astray.
    fn pad(&self) -> Option<u32> {
        Some(self.pad).filter(|pad| Some(*pad) != self.eos)
    }

    fn baseline(&self, setup: &Setup, control: &Control) -> Result<Baseline, TrainError> {
        let Corpus::Labelled(data) = &setup.data else {
            unreachable!("the task is made of this data")
        };
        Ok(match bag::baseline(&data.data, setup.recipe.run.seed, control)? {
            Some(record) => Baseline::Labels(Box::new(record)),
            None => Baseline::Absent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_teachers_say_their_mean() {
        // p = (1/2, 1/2) and (1/5, 4/5) at temperature 2: the mean is (0.35, 0.65).
        let said = [vec![0.0, 0.0], vec![0.0, 2.0 * 4f32.ln()]];
        let both = together(&said, 2, 2.0);
        let odds = ((both[1] - both[0]) / 2.0).exp();
        assert!((odds - 0.65 / 0.35).abs() < 1e-5, "{odds}");
        assert_eq!(together(&said[1..], 2, 2.0), said[1]);
    }

    #[test]
    fn figures_count_right_answers() {
        let logits = vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 2.0, 2.0];
        let found = Predictions { logits, labels: vec![0, 1, 1, 1], ..Predictions::default() };
        assert_eq!(found.classes(), [0, 1, 0, 0]);
        let figures = found.figures(2).unwrap();
        assert_eq!((figures[0].metric, figures[0].value), (Metric::Accuracy, 0.5));
        // F1 of 0: 2·1/(1 + 3); of 1: 2·1/(3 + 1).
        assert_eq!((figures[1].metric, figures[1].value), (Metric::F1, 0.5));
    }
}
