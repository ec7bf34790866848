//! The passes over a batch that make one step's gradient, as the plan's probe slot asks for them.

use heldout_kernels::{NoiseKey, PassKind};
use heldout_optim::ascent;
use heldout_regularize::at::At;

use crate::job::Setup;
use crate::meter::Part;
use crate::run::{BatchLoss, Run};
use crate::task::{Batch, Lessons, Terms};
use crate::teachers::{Lectern, Lecturer};

/// What passes beyond the plain one need; empty where there are none.
#[derive(Default)]
pub struct Passes {
    /// The weights uphill, where the gradient is taken; the weights themselves are never touched.
    climbed: Vec<f32>,
    /// The weights as a pass reads them, where the plan disturbs them.
    read: Vec<f32>,
    /// Where teachers are listened to.
    lectern: Option<Lectern>,
}

impl Passes {
    /// Buffers for what the plan asks of the model.
    pub fn new(setup: &Setup) -> Passes {
        let plan = setup.plan.plan();
        let climbed = if plan.probe.climb.is_some() { setup.model.layout().len } else { 0 };
        let read = if plan.disturbs() { setup.model.layout().len } else { 0 };
        let taught = plan.loss.teaching.is_some();
        Passes {
            climbed: vec![0.0; climbed],
            read: vec![0.0; read],
            lectern: taught.then(|| Lectern::new(setup.device.clone())),
        }
    }
}

/// The weights at which a gradient is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Point {
    Weights,
    Uphill,
}

impl Run<'_> {
    /// Makes `gradients` the batch's gradient, at the weights or uphill of them. Both passes of a
    /// climb see the same batch under the same noise; the loss is the one at the weights.
    pub fn forward_backward(&mut self, batch: &Batch, at: At) -> BatchLoss {
        let loss = self.batch_gradient(batch, at, Point::Weights);
        if let Some((radius, metric)) = self.setup.plan.plan().climb_at(at) {
            let Run { setup, state, passes, gradients, .. } = self;
            let climbed = &mut passes.climbed;
            ascent::climb(&setup.device, &state.parameters, gradients, climbed, radius, metric);
            setup.plan.merge(&setup.device, &state.start, climbed);
            self.batch_gradient(batch, at, Point::Uphill);
        }
        let penalty = self.timed(Part::PenaltyValue, |Run { setup, state, .. }| {
            setup.plan.penalty_value(&setup.device, &state.parameters, at)
        });
        BatchLoss { objective: loss.objective + penalty, ..loss }
    }

    /// The batch's gradient, into `gradients`, some sequences at a time. Every piece is scaled by
    /// the whole batch's targets and draws its noise by its place in the run, so the sum does not
    /// depend on how the batch is cut.
    fn batch_gradient(&mut self, batch: &Batch, at: At, point: Point) -> BatchLoss {
        let Run { setup, state, passes, tape, gradients, .. } = self;
        let Passes { climbed, read, lectern } = passes;
        let weights = match point {
            Point::Weights => &state.parameters,
            Point::Uphill => climbed,
        };
        let parameters = if setup.plan.disturbs_at(at) {
            read.copy_from_slice(weights);
            setup.plan.disturb(&setup.device, &state.start, read, at);
            read
        } else {
            weights
        };
        let plan = setup.plan.plan();
        let targets = batch.target_count();
        let terms = Terms {
            noise: plan.noise_at(at),
            spec: plan.loss_at(at, (1.0 / targets.max(1) as f64) as f32),
            twins: plan.twins_at(at),
            ahead: plan.ahead_at(at),
            teaching: plan.teaching_at(at),
            focus: plan.focus_at(at),
        };
        let copies = terms.copies();
        let own = state.teacher.as_ref().map(|teacher| (&setup.model, teacher.weights()));
        let models = setup.teachers.iter().map(|t| (&t.model, &t.weights[..]));
        let teachers: Vec<Lecturer> = own.into_iter().chain(models).collect();
        // As many rows at a time as without twins, so that memory does for both.
        let micro = (setup.recipe.batch.micro / copies).max(1);
        let (mut objective, mut nll) = (0.0, 0.0);
        for first in (0..batch.batch).step_by(micro) {
            let rows = batch.rows(first..(first + micro).min(batch.batch));
            let said = match (terms.teaching, lectern.as_mut()) {
                (Some(_), Some(lectern)) => lectern.listen(&*setup.task, &teachers, rows),
                _ => &[],
            };
            let lessons = Lessons { teachers: &teachers, said };
            let key = NoiseKey {
                seed: setup.recipe.run.seed,
                step: at.step,
                first_sequence: copies as u64 * (batch.first_sequence + first as u64),
            };
            let gradients = &mut *gradients;
            let kind = match first {
                0 => PassKind::TrainFirst { gradients, noise: key },
                _ => PassKind::Train { gradients, noise: key },
            };
            let mut pass = tape.pass(parameters, kind);
            let report = setup.task.loss(&setup.model, &mut pass, rows, &terms, &lessons);
            pass.backward();
            objective += report.objective_sum;
            nll += report.nll_sum;
        }
        setup.plan.pull_back(&setup.device, weights, gradients, at);
        let count = targets.max(1) as f64;
        BatchLoss { objective: objective / count, nll: nll / count, targets }
    }
}
