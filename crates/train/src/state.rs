//! Everything that determines how a run goes on: what a checkpoint holds.

use heldout_base::schedule::PlateauState;
use heldout_optim::Optimizer;
use heldout_optim::average::{Averaged, Counts};
use heldout_optim::guard::{ExplosionGuard, GuardSpec};
use heldout_record::{StopReason, TimingRecord};
use heldout_regularize::Plan;
use heldout_regularize::patience::PatienceState;
use serde::{Deserialize, Serialize};

use crate::horizon::Forecast;
use crate::job::Setup;

/// The large vectors and the small numbers of a run.
pub struct State {
    /// The weights that are trained: one flat vector in the model's layout.
    pub parameters: Vec<f32>,
    pub optimizer: Box<dyn Optimizer>,
    /// One for each average of the plan.
    pub averages: Vec<Averaged>,
    /// The average of the weights that teaches, where one does.
    pub teacher: Option<Averaged>,
    /// The exported weights that training started from, where the plan looks back at them; else
    /// empty.
    pub start: Vec<f32>,
    pub progress: Progress,
}

/// The small numbers. The position in the data, in every schedule and in every random stream is the
/// step alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps taken; a step whose update was skipped counts.
    pub step: u64,
    /// Target tokens seen.
    pub tokens: u64,
    /// Training time so far.
    pub seconds: f64,
    pub forecast: Forecast,
    /// What recoveries have cut the learning rate to, as a share.
    pub rate_factor: f64,
    pub plateau: PlateauState,
    pub guard: ExplosionGuard,
    /// One for each stop rule of the plan.
    pub patience: Vec<PatienceState>,
    pub averages: Vec<Counts>,
    /// Of the average that teaches.
    #[serde(default)]
    pub teacher: Option<Counts>,
    pub best: Option<Best>,
    /// Which weights were better at the last evaluation: these are the checkpoint's model.
    pub favored: Weights,
    /// The step of the last evaluation.
    pub evaluated: Option<u64>,
    pub evaluated_at_seconds: f64,
    pub saved_at_seconds: f64,
    /// What the time went to so far.
    #[serde(default)]
    pub timing: TimingRecord,
    /// A stop rule has fired: the run is over, and a resume only writes the result again.
    pub ended: Option<Ending>,
}

/// Why a run is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    pub reason: StopReason,
    /// In one sentence.
    pub detail: String,
}

/// The best held-out loss so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub step: u64,
    /// Nats per token.
    pub loss_valid: f64,
    pub loss_valid_se: f64,
    pub weights: Weights,
    /// What was watched, where it is not the loss; lower is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
}

/// One of a run's sets of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// Those that are trained.
    Raw,
    /// The plan's average of this number.
    Average(usize),
}

impl Weights {
    /// The word in evaluation records: that of the technique that keeps the average.
    pub fn word(self, plan: &Plan) -> &str {
        match self {
            Weights::Raw => "raw",
            Weights::Average(index) => &plan.averages[index].owner,
        }
    }
}

impl State {
    /// One set of weights.
    pub fn weights(&self, which: Weights) -> &[f32] {
        match which {
            Weights::Raw => &self.parameters,
            Weights::Average(index) => self.averages[index].weights(),
        }
    }

    /// All sets, the raw one first.
    pub fn sets(&self) -> Vec<Weights> {
        let averages = (0..self.averages.len()).map(Weights::Average);
        std::iter::once(Weights::Raw).chain(averages).collect()
    }

    /// The averages that have taken in some weights: others are not worth a look yet.
    pub fn filled_averages(&self) -> Vec<Weights> {
        let filled = self.averages.iter().enumerate().filter(|(_, a)| a.counts().updates > 0);
        filled.map(|(index, _)| Weights::Average(index)).collect()
    }
}

impl State {
    /// The state before the first step: random or imported weights, everything else at rest.
    pub fn fresh(setup: &Setup, parameters: Vec<f32>) -> State {
        let plan = setup.plan.plan();
        let averages: Vec<Averaged> =
            plan.averages.iter().map(|_| Averaged::new(&parameters)).collect();
        // It is asked from the first step on: it begins as what the weights are.
        let teacher = plan.own_teacher().map(|_| Averaged::new(&parameters));
        let guard = plan.recovery.as_ref().map_or_else(GuardSpec::non_finite_only, |g| g.value);
        let progress = Progress {
            step: 0,
            tokens: 0,
            seconds: 0.0,
            forecast: Forecast::new(&setup.horizon),
            rate_factor: 1.0,
            plateau: PlateauState::new(),
            guard: ExplosionGuard::new(guard),
            patience: vec![PatienceState::default(); plan.stop.len()],
            averages: averages.iter().map(|a| a.counts().clone()).collect(),
            teacher: teacher.as_ref().map(|teacher| teacher.counts().clone()),
            best: None,
            favored: Weights::Raw,
            evaluated: None,
            evaluated_at_seconds: 0.0,
            saved_at_seconds: 0.0,
            timing: TimingRecord::default(),
            ended: None,
        };
        let optimizer = heldout_optim::build(&setup.optimizer, &setup.plan.segments);
        let kept = if plan.keeps_start() { setup.model.exported_len() } else { 0 };
        let start = parameters[..kept].to_vec();
        State { parameters, optimizer, averages, teacher, start, progress }
    }
}
