//! Receipts, and the measurements that they are made from.
//!
//! [`crate::probe::measure`] fills in what can be measured before the first step, through the same
//! code that training runs; the trainer adds what only the first steps show.

use crate::error::NotLive;
use crate::plan::Site;
use heldout_base::card::Card;
use heldout_optim::clip::Clipped;
use std::collections::BTreeMap;

/// Proof that a technique acts in this run.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// Its name in the catalogue.
    pub technique: String,
    /// One sentence for the user.
    pub statement: String,
    /// The figures behind it.
    pub measured: BTreeMap<String, f64>,
}

impl Receipt {
    pub(crate) fn new<'a>(
        card: &Card,
        statement: String,
        measured: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Self {
        let measured = measured.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { technique: card.name.to_owned(), statement, measured }
    }
}

/// Everything measured. Absent means not measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// Noise, by site. This and what follows up to `patience` comes from the probe.
    pub sites: BTreeMap<Site, SiteMeasure>,
    /// Noise over whole tokens that spares some of them.
    pub guide: Option<GuideMeasure>,
    /// By the trainer: the tokens that it does not spare. Needed beside `guide`.
    pub predictable: Option<PredictableMeasure>,
    /// The target distribution.
    pub smoothing: Option<SmoothingMeasure>,
    /// The penalty on log Z.
    pub z_loss: Option<ZLossMeasure>,
    /// Two noisy passes of each sequence.
    pub twins: Option<TwinsMeasure>,
    /// What a lesson adds to the loss.
    pub lesson: Option<LessonMeasure>,
    /// By the trainer: teachers that are models of their own.
    pub teachers: Vec<TeacherMeasure>,
    /// Heads that look further ahead.
    pub ahead: Option<AheadMeasure>,
    /// The climb to where the gradient is taken.
    pub climb: Option<ClimbMeasure>,
    /// Penalties and projections, by owner.
    pub acted: BTreeMap<String, ActedMeasure>,
    /// Weight decay.
    pub decay: Option<DecayMeasure>,
    /// Tied embeddings.
    pub tie: Option<TieMeasure>,
    /// Gradient transforms.
    pub clip: Option<ClipMeasure>,
    /// The averages, by owner.
    pub averages: BTreeMap<String, AverageMeasure>,
    /// Uniform noise on the embeddings.
    pub neftune: Option<NeftuneMeasure>,
    /// The penalty on confidence.
    pub confidence: Option<ConfidenceMeasure>,
    /// Noise on the gradient.
    pub gradient_noise: Option<GradientNoiseMeasure>,
    /// The bound on the norms of rows.
    pub max_norm: Option<MaxNormMeasure>,
    /// What is trained.
    pub trained: Option<TrainedMeasure>,
    /// Adapters.
    pub adapted: Option<AdaptedMeasure>,
    /// Weights read as they were at the start.
    pub mixed: Option<MixedMeasure>,
    /// By the trainer: what was drawn anew. Needed by `reinit`.
    pub redrawn: Option<RedrawnMeasure>,
    /// The layers' rates.
    pub layer_rates: Option<LayerRatesMeasure>,
    /// The explosion guard.
    pub guard: Option<GuardMeasure>,
    /// The first stop rule.
    pub patience: Option<PatienceMeasure>,
    /// By the trainer: what the first step's clipping did.
    pub first_clip: Option<Clipped>,
    /// By the trainer: ‖w̄ − w‖/‖w‖ of each average that holds something, at the end of the run.
    pub average_distances: BTreeMap<String, f64>,
    /// By the trainer, at the end of the run: share of rows at max-norm's limit.
    pub rows_at_limit: Option<f64>,
    /// By the trainer, at the end of a run that keeps them: ‖w − w₀‖/‖w₀‖ of the weights w₀ that it
    /// started from.
    pub distance_from_start: Option<f64>,
    /// By the trainer: the order of the first windows. Needed by `shuffle`.
    pub order: Option<OrderMeasure>,
    /// By the trainer: changes of training texts, by owner.
    pub augmented: BTreeMap<String, AugmentMeasure>,
    /// By the trainer: how much classes count.
    pub class_weights: Option<ClassWeightsMeasure>,
    /// The focus on hard examples.
    pub focus: Option<FocusMeasure>,
    /// By the trainer, at the end of the run: share of exact zeros where l1 acts.
    pub sparsity: Option<f64>,
}

/// Weights that were drawn anew before the first step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RedrawnMeasure {
    /// How many.
    pub parameters: u64,
    /// In how many tensors.
    pub tensors: u64,
    /// ‖w − w₀‖/‖w₀‖ from the imported ones.
    pub distance: f64,
}

/// Noise at one site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SiteMeasure {
    /// The rate asked for, at the step where the schedule is highest.
    pub rate: f64,
    /// Share dropped that this rate should give (for layers, the mean over depth).
    pub expected: f64,
    /// Share dropped on a probe tensor.
    pub dropped: f64,
    /// Draws behind `dropped`.
    pub draws: u64,
    /// Loss of the model on a probe batch without noise, nats.
    pub loss_clean: f64,
    /// With this site's noise alone.
    pub loss_noisy: f64,
}

/// Noise over whole tokens on a probe tensor of which some rows are marked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GuideMeasure {
    /// Share of the marked rows that was dropped.
    pub marked: f64,
    /// Share of the others.
    pub others: f64,
}

/// The training text's predictable tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PredictableMeasure {
    /// Their share of all tokens, as marked.
    pub share: f64,
    /// Order of the n-gram models that predicted.
    pub order: u64,
    /// Mean −ln p of the marked tokens, nats.
    pub loss_marked: f64,
    /// That of the others.
    pub loss_others: f64,
}

/// Where the loss put its mass, seen from its values on made-up logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SmoothingMeasure {
    /// ε asked for, at the step where the schedule is highest.
    pub amount: f64,
    /// Mass not on the right class.
    pub moved: f64,
    /// Mass on the k likeliest wrong classes (k = V − 1 unless the variant names one).
    pub on_likeliest: f64,
    /// How many likeliest classes were looked at.
    pub k: u64,
    /// V.
    pub vocabulary: u64,
}

/// The penalty on log Z.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZLossMeasure {
    /// λ at the step where the schedule is highest.
    pub strength: f64,
    /// λ·(log Z)² on made-up logits as the loss computed it, nats.
    pub found: f64,
    /// The same by the formula.
    pub expected: f64,
}

/// Two passes of a probe batch under the plan's noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TwinsMeasure {
    /// β at the step where the schedule is highest.
    pub strength: f64,
    /// ½(KL(p₁‖p₂) + KL(p₂‖p₁)), nats per token.
    pub divergence: f64,
    /// What it added to the objective, nats per token.
    pub added: f64,
}

/// A lesson on made-up logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LessonMeasure {
    /// α at the step where the schedule is highest.
    pub share: f64,
    /// T at that step.
    pub temperature: f64,
    /// (1−α)·CE + α·T²·KL as the loss computed it, nats.
    pub found: f64,
    /// The same by the formula.
    pub expected: f64,
}

/// A teacher on a probe batch.
#[derive(Clone, Debug, PartialEq)]
pub struct TeacherMeasure {
    /// Its folder.
    pub name: String,
    /// Its parameters.
    pub parameters: u64,
    /// Its loss, nats per token.
    pub loss: f64,
    /// That of the model to be trained, before its first step.
    pub loss_model: f64,
}

/// Heads that look further ahead, on a probe batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AheadMeasure {
    /// How many.
    pub heads: u64,
    /// Their parameters, which only training needs.
    pub parameters: u64,
    /// Weight of each, at the step where the schedule is highest.
    pub weight: f64,
    /// Their mean loss, nats per token of the batch.
    pub loss: f64,
    /// ‖g‖₂ of their parameters.
    pub gradient: f64,
}

/// A climb on a probe batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClimbMeasure {
    /// ρ asked for, at the step where the schedule is highest.
    pub radius: f64,
    /// ‖ε‖₂ in the climb's metric, as found between the two sets of weights.
    pub moved: f64,
    /// Loss of the probe batch at the weights, nats.
    pub loss_before: f64,
    /// The same batch with the same noise, uphill.
    pub loss_uphill: f64,
}

/// A penalty or projection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActedMeasure {
    /// Tensors acted on.
    pub tensors: u64,
    /// Parameters in them.
    pub parameters: u64,
    /// Parameters of the model.
    pub parameters_total: u64,
    /// λ·Σ|w| or λ·Σw² at the first weights, nats.
    pub penalty: f64,
    /// What one application changed a probe weight (projection) or gradient (penalty) of 1 by.
    pub change: f64,
}

/// Weight decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecayMeasure {
    /// Tensors whose probe weight an update changed.
    pub tensors: u64,
    /// Parameters in them.
    pub parameters: u64,
    /// Parameters of the model.
    pub parameters_total: u64,
    /// What one update of the run's optimizer without gradient, at the highest rate, left of
    /// decayed probe weights of 1; the farthest from 1.
    pub multiplier: f64,
    /// The same of exempt ones.
    pub multiplier_exempt: f64,
}

/// Tied embeddings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TieMeasure {
    /// Tensors of the model that are an output projection of their own.
    pub heads: u64,
    /// Parameters that an own projection would have had.
    pub parameters_saved: u64,
}

/// Clipping a made-up gradient far beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipMeasure {
    /// Its norm.
    pub norm_before: f64,
    /// What became of it.
    pub norm_after: f64,
}

/// Uniform noise on the embeddings, at the step where the schedule is highest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NeftuneMeasure {
    /// α.
    pub alpha: f64,
    /// α/√(T·C) of this model: no draw is larger.
    pub amplitude: f64,
    /// The largest draw on a probe tensor.
    pub largest: f64,
    /// Root of the mean square of the draws; amplitude/√3 by the formula.
    pub deviation: f64,
    /// Draws behind both.
    pub draws: u64,
    /// Loss of the model on a probe batch without noise, nats.
    pub loss_clean: f64,
    /// With this noise alone.
    pub loss_noisy: f64,
}

/// The penalty on confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConfidenceMeasure {
    /// β at the step where the schedule is highest.
    pub strength: f64,
    /// −β·H(p) on made-up logits as the loss computed it, nats.
    pub found: f64,
    /// The same by the formula.
    pub expected: f64,
}

/// Noise on a gradient of zeros, at the step where η's schedule is highest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientNoiseMeasure {
    /// σ by the formula.
    pub deviation: f64,
    /// Root of the mean square of what was added.
    pub found: f64,
    /// Draws behind `found`.
    pub draws: u64,
    /// Parameters that get noise in every step.
    pub parameters: u64,
}

/// The bound on the norms of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxNormMeasure {
    /// c at the first step.
    pub limit: f64,
    /// What became of a probe row of norm 2c.
    pub after: f64,
    /// Parameters in the rows that are bounded.
    pub parameters: u64,
    /// Parameters of the model.
    pub parameters_total: u64,
    /// Share of these rows that the first weights have beyond the bound.
    pub beyond: f64,
}

/// What is trained, seen from a gradient of ones after the run's transforms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainedMeasure {
    /// Parameters whose gradient was left.
    pub parameters: u64,
    /// Tensors that the optimizer has.
    pub tensors: u64,
    /// Parameters of the model.
    pub parameters_total: u64,
}

/// Adapters, on a probe batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptedMeasure {
    /// How many.
    pub adapters: u64,
    /// Parameters in their factors.
    pub parameters: u64,
    /// Parameters of the model without them.
    pub parameters_model: u64,
    /// ‖g‖₂ of the factors.
    pub gradient: f64,
    /// Loss with the first weights, nats.
    pub loss_before: f64,
    /// The same after a small step of the factors against their gradient.
    pub loss_after: f64,
}

/// Mixout, on weights that were moved a little from where they start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixedMeasure {
    /// p, at the step where the schedule is highest.
    pub rate: f64,
    /// Parameters that it acts on.
    pub parameters: u64,
    /// Share of them that were read as at the start.
    pub replaced: f64,
    /// How many times as far from the start the others were read; 1/(1−p) by the formula.
    pub stretch: f64,
    /// Loss of a probe batch with the moved weights, nats.
    pub loss_moved: f64,
    /// With what mixout made of them.
    pub loss_mixed: f64,
}

/// The layers' rates, seen from one update of the run's optimizer on probe weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerRatesMeasure {
    /// The least share of a full step that a tensor made.
    pub lowest: f64,
    /// γ to the depth of that tensor.
    pub expected: f64,
    /// The largest share.
    pub highest: f64,
}

/// An average of probe weights that jumped from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AverageMeasure {
    /// β at the step where the schedule is highest, of an exponential average.
    pub decay: Option<f64>,
    /// Sets of weights that the run will take in, where that follows from its steps.
    pub samples: Option<u64>,
    /// Where the average stood after the second update, 0 to 1, having seen 0 and 1.
    pub after_jump: f64,
}

/// A copy of the guard, tried out.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardMeasure {
    /// What it did about a loss that is not a number.
    pub on_nan: String,
    /// What it did about a gradient 10¹² times the usual.
    pub on_spike: String,
    /// The z-score of that gradient's log.
    pub z: f64,
    /// Alarms over an even series of `even_length`.
    pub false_alarms: u64,
    /// Observations in that series.
    pub even_length: u64,
}

/// A copy of the stop rule, tried out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PatienceMeasure {
    /// How far beyond the best a flat series got before it was stopped, in the patience's unit.
    pub waited: f64,
}

/// Windows in the order of training against their order in the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OrderMeasure {
    /// Windows compared, from the start of the first epoch.
    pub windows: u64,
    /// Those that are not where they would be without shuffling.
    pub moved: u64,
}

/// Changes of the first training texts in an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct AugmentMeasure {
    /// Texts looked at.
    pub texts: u64,
    /// Those that are not as they were.
    pub changed: u64,
    /// How many by each edit.
    pub edits: Vec<(String, u64)>,
    /// One of them, shortened.
    pub before: String,
    /// What became of it, shortened.
    pub after: String,
}

/// How much classes count.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassWeightsMeasure {
    /// By how much a lone example of each class counts in the loss: its label, the factor asked
    /// for, and the factor found.
    pub classes: Vec<(String, f64, f64)>,
}

/// The focal loss of an example whose class has a known probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FocusMeasure {
    /// γ at the step where the schedule is highest.
    pub gamma: f64,
    /// That probability, of the likeliest of two classes.
    pub sure: f64,
    /// Share of the plain loss that is left, as the loss computed it.
    pub found: f64,
    /// (1 − p)^γ.
    pub expected: f64,
}

/// The measurement, or that it is missing.
pub(crate) fn required<'a, T>(card: &Card, measure: Option<&'a T>) -> Result<&'a T, NotLive> {
    measure.ok_or_else(|| not_live(card, "nothing was measured".to_owned()))
}

pub(crate) fn not_live(card: &Card, finding: String) -> NotLive {
    NotLive { technique: card.name.to_owned(), finding }
}
