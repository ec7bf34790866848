//! Proof at the start that every technique acts; at the end, what only the run could show.

use heldout_kernels::Tape;
use heldout_model::Tokens;
use heldout_optim::clip::Clipped;
use heldout_record::{Event, Receipt};
use heldout_regularize::At;
use heldout_regularize::live::RedrawnMeasure;
use heldout_regularize::{Live, Probe, measure};

use crate::error::TrainError;
use crate::run::Run;
use crate::teachers;

/// What was measured, and what has been shown of it.
#[derive(Default)]
pub struct Receipts {
    live: Option<Live>,
    first_clip: Option<Clipped>,
    redrawn: Option<RedrawnMeasure>,
    shown: Vec<Receipt>,
}

impl Receipts {
    /// Keeps what was drawn anew of an imported model.
    pub fn note_redrawn(&mut self, redrawn: Option<RedrawnMeasure>) {
        self.redrawn = redrawn;
    }

    /// Keeps what clipping did to the first gradient.
    pub fn note_first_clip(&mut self, step: u64, clipped: &Clipped) {
        if step == 1 {
            self.first_clip = Some(*clipped);
        }
    }
}

impl Run<'_> {
    /// Measures every technique of the plan before the first step. One that does nothing is an
    /// error.
    pub fn write_receipts(&mut self) -> Result<(), TrainError> {
        let setup = &self.setup;
        let batch = setup.task.batch_at(0)?;
        let targets = setup.task.token_targets(&batch);
        let rows = setup.recipe.batch.micro.min(batch.batch);
        let end = rows * batch.seq_len;
        let tokens = Tokens {
            ids: &batch.ids[..end],
            targets: &targets[..end],
            batch: rows,
            seq_len: batch.seq_len,
        };
        let mut live = measure(&mut Probe {
            plan: setup.plan.plan(),
            model: &setup.model,
            device: &setup.device,
            parameters: &self.state.parameters,
            gradients: &mut self.gradients,
            batch: tokens,
            marks: (!batch.marks.is_empty()).then(|| &batch.marks[..end]),
            seed: setup.recipe.run.seed,
            horizon: self.state.progress.forecast.steps,
            rate: setup.recipe.schedule.rate.peak,
            optimizer: &setup.optimizer,
        });
        live.order = Some(setup.task.order()?);
        live.predictable = setup.task.predictable();
        live.redrawn = self.receipts.redrawn;
        live.augmented = setup.task.augmented(setup);
        live.class_weights = setup.task.class_weights(&mut Tape::new(setup.device.clone()));
        let model = (&setup.model, &self.state.parameters[..]);
        live.teachers = teachers::measure(&setup.teachers, model, tokens, &setup.device);
        self.receipts.live = Some(live);
        self.show_receipts()
    }

    /// Shows the receipts that the run has changed: what clipping did, how sparse weights became
    /// or how many at their limit, how far averages lie from the weights.
    pub fn write_last_receipts(&mut self) -> Result<(), TrainError> {
        let Some(live) = &mut self.receipts.live else { return Ok(()) };
        let (state, setup) = (&self.state, &self.setup);
        live.first_clip = self.receipts.first_clip;
        live.sparsity = setup.plan.sparsity(&setup.device, &state.parameters);
        if setup.plan.plan().keeps_start() {
            live.distance_from_start = Some(distance(&state.start, &state.parameters));
        }
        let progress = &state.progress;
        let at = At { step: progress.step, horizon: progress.forecast.steps };
        live.rows_at_limit = setup.plan.rows_at_limit(&setup.device, &state.parameters, at);
        let planned = setup.plan.plan().averages.iter().zip(&state.averages);
        let filled = planned.filter(|(_, average)| average.counts().updates > 0);
        live.average_distances = filled
            .map(|(planned, average)| {
                (planned.owner.clone(), average.relative_distance(&state.parameters))
            })
            .collect();
        self.show_receipts()
    }

    fn show_receipts(&mut self) -> Result<(), TrainError> {
        let Some(live) = &self.receipts.live else { return Ok(()) };
        let mut fresh = Vec::new();
        for technique in &self.setup.techniques {
            let receipt = technique.receipt(live)?;
            let receipt = Receipt {
                technique: receipt.technique,
                statement: receipt.statement,
                measured: receipt.measured,
            };
            if !self.receipts.shown.contains(&receipt) {
                fresh.push(receipt);
            }
        }
        for receipt in fresh {
            self.recorder.event(Event::Receipt(receipt.clone()))?;
            self.receipts.shown.push(receipt);
        }
        Ok(())
    }
}

/// ‖w − w₀‖/‖w₀‖ of weights w that start as w₀; what lies behind is not looked at.
fn distance(start: &[f32], weights: &[f32]) -> f64 {
    let pairs = || start.iter().zip(weights);
    let moved: f64 = pairs().map(|(w0, w)| f64::from(w - w0).powi(2)).sum();
    let size: f64 = pairs().map(|(w0, _)| f64::from(*w0).powi(2)).sum();
    if size > 0.0 { (moved / size).sqrt() } else { 0.0 }
}
