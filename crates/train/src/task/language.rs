//! The task of a language model: windows of text, the following token at every position.

use std::sync::Arc;

use heldout_data::ngram::Predictable;
use heldout_data::{
    BatchPlan, BatchSize, Batches, DataError, EvaluationWindows, Prepared, Shuffle, TokenStore,
};
use heldout_kernels::{Joint, LossReport, Pass, Tape, TeacherRows, Teaching, Twins};
use heldout_model::{Model, NoiseRates, Objective, Tokens};
use heldout_regularize::Plan;
use heldout_regularize::live::{OrderMeasure, PredictableMeasure};

use super::{Batch, Judged, Lessons, Rows, Sample, Task, Terms, shuffle};
use crate::baseline::Baseline;
use crate::control::Control;
use crate::error::TrainError;
use crate::evaluation::score;
use crate::job::Setup;
use crate::recipe::ResolvedRecipe;
use crate::teachers::Lecturer;

/// Windows of a tokenized text.
pub struct LanguageModel {
    /// Of training.
    batches: Arc<Batches>,
    seed: u64,
    eos: Option<u32>,
    store: TokenStore,
    validation: TokenStore,
    context: usize,
    /// A fixed sample of the training split.
    train: EvaluationWindows,
    /// The held-out split, or a fixed sample of it.
    held_out: EvaluationWindows,
    /// Windows scored at a time.
    evaluated_at_once: usize,
}

impl LanguageModel {
    /// Cuts the text as the recipe says; evaluations look at `rows` windows at a time.
    pub fn new(
        data: &Prepared,
        recipe: &ResolvedRecipe,
        plan: &Plan,
        evaluated_at_once: usize,
    ) -> Result<LanguageModel, TrainError> {
        let (context, seed) = (recipe.model.context, recipe.run.seed);
        let eos = data.tokenizer.eos();
        let order = BatchPlan {
            seq_len: context,
            batch: recipe.batch.size.map_or(BatchSize::Full, BatchSize::Sequences),
            seed,
            shuffle: shuffle(plan),
        };
        let batches = Batches::new(&data.train, order, eos)?;
        // Before the weights, which take memory, too.
        let batches = match plan.predictable_share() {
            Some(share) => batches.marking(Predictable::find(&data.train, eos, share)),
            None => batches,
        };
        let held_out = held_out_windows(data, recipe, seed)?;
        let count = recipe.evaluate.train_windows;
        Ok(LanguageModel {
            batches: Arc::new(batches),
            seed,
            eos,
            store: data.train.clone(),
            validation: data.validation.clone(),
            context,
            train: EvaluationWindows::sample(&data.train, context, count, seed)?,
            held_out,
            evaluated_at_once,
        })
    }
}

/// The windows of the held-out split that runs with this seed evaluate.
pub fn held_out_windows(
    data: &Prepared,
    recipe: &ResolvedRecipe,
    seed: u64,
) -> Result<EvaluationWindows, TrainError> {
    let (split, context) = (&data.validation, recipe.model.context);
    Ok(match recipe.evaluate.windows {
        Some(count) => EvaluationWindows::sample(split, context, count, seed)?,
        None => EvaluationWindows::whole(split, context)?,
    })
}

impl From<heldout_data::Batch> for Batch {
    fn from(batch: heldout_data::Batch) -> Batch {
        let heldout_data::Batch { ids, targets, batch, seq_len, first_sequence, epoch } = batch;
        let (lengths, segments, marks) = (Vec::new(), Vec::new(), Vec::new());
        Batch { ids, targets, lengths, segments, marks, batch, seq_len, first_sequence, epoch }
    }
}

impl<'a> From<Rows<'a>> for Tokens<'a> {
    fn from(rows: Rows<'a>) -> Tokens<'a> {
        let Rows { ids, targets, batch, seq_len, .. } = rows;
        Tokens { ids, targets, batch, seq_len }
    }
}

/// Windows compared to see whether shuffling moves any.
const WINDOWS_COMPARED: usize = 256;

impl Task for LanguageModel {
    fn steps_per_epoch(&self) -> f64 {
        self.batches.steps_per_epoch()
    }

    fn epoch_at(&self, step: u64) -> f64 {
        self.batches.epoch_at(step)
    }

    fn step_tokens(&self) -> f64 {
        (self.batches.rows() * self.context) as f64
    }

    fn batch_at(&self, step: u64) -> Result<Batch, DataError> {
        let batch = Batch::from(self.batches.batch_at(step));
        let marks = self.batches.marks(batch.first_sequence, batch.batch).unwrap_or_default();
        Ok(Batch { marks, ..batch })
    }

    fn order(&self) -> Result<OrderMeasure, TrainError> {
        let plan = BatchPlan {
            seq_len: self.context,
            batch: BatchSize::Sequences(1),
            seed: self.seed,
            shuffle: Shuffle::No,
        };
        let stored = Batches::new(&self.store, plan, self.eos)?;
        let windows = (stored.windows_per_epoch() as usize).min(WINDOWS_COMPARED);
        let rows = self.batches.rows();
        let moved = (0..windows).filter(|window| {
            let (step, row) = (window / rows, window % rows);
            let trained = self.batches.batch_rows(step as u64, row..row + 1);
            trained.ids != stored.batch_at(*window as u64).ids
        });
        Ok(OrderMeasure { windows: windows as u64, moved: moved.count() as u64 })
    }

    fn predictable(&self) -> Option<PredictableMeasure> {
        self.batches.marked().map(|found| PredictableMeasure {
            share: found.share,
            order: found.order as u64,
            loss_marked: found.loss_marked,
            loss_others: found.loss_others,
        })
    }

    fn loss(
        &self,
        model: &Model,
        pass: &mut Pass,
        rows: Rows,
        terms: &Terms,
        lessons: &Lessons,
    ) -> LossReport {
        let vocabulary = model.config.vocabulary;
        let twins = terms.twins.map(|strength| Twins { strength, seq_len: rows.seq_len });
        let teachers: Vec<TeacherRows> = lessons
            .teachers
            .iter()
            .zip(lessons.said)
            .map(|((model, weights), hidden)| {
                let head = model.head();
                // A vocabulary may have been padded; its first tokens are ours.
                let head = &head.of(weights)[..vocabulary * head.cols];
                TeacherRows { hidden, head, cols: model.config.width }
            })
            .collect();
        let teaching = terms.teaching.map(|(share, temperature)| Teaching {
            share,
            temperature,
            teachers: &teachers,
        });
        let joint = Joint { twins, teaching };
        let marks = (!rows.marks.is_empty()).then_some(rows.marks);
        let objective = Objective { spec: terms.spec, joint, ahead: terms.ahead, marks };
        model.objective(pass, rows.into(), &terms.noise, &objective)
    }

    fn listen(&self, (model, _): Lecturer, pass: &mut Pass, rows: Rows, said: &mut Vec<f32>) {
        let none = NoiseRates::default();
        let x = model.hidden(pass, rows.ids, rows.batch, rows.seq_len, &none);
        said.clear();
        said.extend_from_slice(pass.value(x));
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
        let windows = match sample {
            Sample::Train => &self.train,
            Sample::HeldOut => &self.held_out,
            Sample::Whole => {
                whole = EvaluationWindows::whole(&self.validation, self.context)?;
                &whole
            }
        };
        let score = score(model, tape, weights, windows, self.evaluated_at_once);
        Ok(Judged { score, metrics: Vec::new() })
    }

    fn held_out(&self) -> (usize, &'static str) {
        (self.held_out.len(), "windows")
    }

    fn prompts(&self, count: usize) -> Vec<Vec<u32>> {
        let prompt_len = (self.context / 4).clamp(1, 16);
        let prompt = |number| self.held_out.batch(number..number + 1).ids[..prompt_len].to_vec();
        (0..count.min(self.held_out.len())).map(prompt).collect()
    }

    fn baseline(&self, setup: &Setup, control: &Control) -> Result<Baseline, TrainError> {
        Baseline::ngram(setup, control)
    }
}
