//! What the catalogue asks of a run, as plain data: typed slots, each value with its owner.
//!
//! Techniques write here and nowhere else; the trainer reads it and never asks who wrote. A slot
//! that can hold one value refuses a second owner; a slot that composes keeps a fixed order.

pub use crate::depth::{Frozen, Redrawn};
use crate::effective::Effective;
use crate::error::Conflict;
pub use crate::guide::TokenGuide;
pub use crate::labelled::{Augment, ClassWeights, Labelled};
use crate::on::{On, Part};
use heldout_base::schedule::Schedule;
use heldout_optim::ascent::Metric;
use heldout_optim::average::{Start, Which};
use heldout_optim::guard::GuardSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A value in a slot and the technique that put it there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owned<T> {
    /// Its name in the catalogue.
    pub owner: String,
    /// What it put there.
    pub value: T,
}

/// The whole plan, in the order of the training loop. The default is plain training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Model edit: the output projection is the input embedding.
    pub tie: Option<Owned<Tie>>,
    /// Model edit: heads that predict tokens further ahead, in training alone.
    pub ahead: Option<Owned<Ahead>>,
    /// The order in which windows are read; absent = as they stand in the data.
    pub order: Option<Owned<Order>>,
    /// What only labelled texts have.
    #[serde(default)]
    pub labelled: Labelled,
    /// Noise inside the forward pass.
    pub noise: Noise,
    /// Targets and penalties.
    pub loss: Loss,
    /// Passes over the batch in one step.
    pub probe: Passes,
    /// Gradient transforms before the update, in this order.
    pub gradient: Vec<Owned<GradientTransform>>,
    /// Shrinking of weights as part of the update.
    pub decay: Option<Owned<Decay>>,
    /// Projections of the weights after the update, in this order.
    pub projections: Vec<Owned<Projection>>,
    /// Averages of the weights, each evaluated and saved on its own.
    pub averages: Vec<Owned<Average>>,
    /// Parts of the model that are not trained.
    #[serde(default)]
    pub frozen: Option<Owned<Frozen>>,
    /// What of an imported model is drawn anew before the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redrawn: Option<Owned<Redrawn>>,
    /// What passes read in place of the weights.
    #[serde(default)]
    pub effective: Option<Owned<Effective>>,
    /// γ of the learning rate's factor γ^depth, counted from the top.
    #[serde(default)]
    pub layer_rates: Option<Owned<f64>>,
    /// Rules that end a run; the first that fires does.
    pub stop: Vec<Owned<StopRule>>,
    /// What to do about explosions; absent = stop at the first value that is not finite.
    pub recovery: Option<Owned<GuardSpec>>,
}

/// Which weights are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tie {
    /// The input embedding is the output projection.
    InputOutput,
}

/// Heads that predict the tokens after the next one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ahead {
    /// How many; the k-th predicts the token 1 + k places ahead.
    pub heads: usize,
    /// Weight of each one's loss.
    pub weight: Schedule,
}

/// How windows are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Documents and windows are drawn anew in every epoch.
    Redrawn,
}

/// Where noise can enter; in the order of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Site {
    /// Elements of the sum of token and position embeddings.
    Embedding,
    /// Whole tokens at the input.
    Tokens,
    /// Whole blocks; the rate is the deepest one's, linear in depth.
    Layers,
    /// Attention probabilities.
    Attention,
    /// Whole attention heads.
    Heads,
    /// Elements of the attention branch's output.
    AttentionOutput,
    /// Elements behind the feed-forward non-linearity.
    FeedForwardHidden,
    /// Elements of the feed-forward branch's output.
    FeedForwardOutput,
}

impl Site {
    /// The word used in plans and receipts.
    pub fn word(self) -> &'static str {
        match self {
            Site::Embedding => "embedding",
            Site::Tokens => "tokens",
            Site::Layers => "layers",
            Site::Attention => "attention",
            Site::Heads => "heads",
            Site::AttentionOutput => "attention-output",
            Site::FeedForwardHidden => "feed-forward-hidden",
            Site::FeedForwardOutput => "feed-forward-output",
        }
    }

    /// Whether each element of a row has a draw of its own (unless shared over time).
    pub fn is_elementwise(self) -> bool {
        use Site::*;
        matches!(self, Embedding | AttentionOutput | FeedForwardHidden | FeedForwardOutput)
    }
}

/// Who shares one draw of an element-wise site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// Nobody: each element has its own.
    #[default]
    Element,
    /// All positions of a sequence (variational dropout, Gal & Ghahramani 2016).
    Time,
}

/// What becomes of a token that is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenNoise {
    /// Its embedding is zero, and the others are scaled up.
    #[default]
    Zero,
    /// A random token of the vocabulary is read in its place.
    Replace,
}

/// Probability of being dropped, per site; and noise that drops nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// Sites in use.
    pub sites: BTreeMap<Site, Owned<Schedule>>,
    /// Concerns the element-wise sites.
    pub sharing: Sharing,
    /// Concerns the site of whole tokens.
    #[serde(default)]
    pub tokens: TokenNoise,
    /// Concerns it, too.
    #[serde(default)]
    pub guide: TokenGuide,
    /// α of uniform noise ±α/√(T·C) on the embeddings.
    #[serde(default)]
    pub neftune: Option<Owned<Schedule>>,
}

/// What is minimised besides the loss of the task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// Where targets put their mass.
    pub smoothing: Option<Owned<Smoothing>>,
    /// λ of λ·(log Z)².
    pub z_loss: Option<Owned<Schedule>>,
    /// β of −β·H(p).
    #[serde(default)]
    pub confidence: Option<Owned<Schedule>>,
    /// Teachers whose distribution is learned beside the targets.
    pub teaching: Option<Owned<Teaching>>,
    /// Penalties whose gradients are added before clipping.
    pub penalties: Vec<Owned<Penalty>>,
}

/// Mass moved from the right class to others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Smoothing {
    /// ε, the mass moved.
    pub amount: Schedule,
    /// Who gets it.
    pub to: SmoothingTo,
}

/// Who gets the mass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SmoothingTo {
    /// All V classes, the right one included.
    All,
    /// The V − 1 wrong classes.
    Wrong,
    /// The k likeliest wrong classes.
    Likeliest {
        /// How many.
        k: usize,
    },
}

/// Distillation: (1−α)·L + α·T²·KL(teacherᵀ ‖ modelᵀ).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Teaching {
    /// α, the teachers' share.
    pub share: Schedule,
    /// T, at which both distributions are compared.
    pub temperature: f64,
    /// Who teaches.
    pub by: Teachers,
}

/// Who teaches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Teachers {
    /// A running average of the model's own weights.
    Average {
        /// β of w̄ ← βw̄ + (1−β)w.
        decay: f64,
    },
    /// Trained models, by their folders; their probabilities are averaged.
    Models(Vec<String>),
}

/// A penalty on weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Penalty {
    /// What is summed.
    pub norm: PenaltyNorm,
    /// λ
    pub strength: Schedule,
    /// Over which tensors.
    pub on: On,
}

/// What a penalty sums over the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PenaltyNorm {
    /// λΣ|w|, by its subgradient λ·sign(w).
    L1,
    /// λΣw², gradient 2λw.
    L2,
}

/// How a step probes its loss; the default is one pass over the batch, at the weights. The two
/// compose: a climb takes the gradients of whatever the objective is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passes {
    /// The gradient is taken uphill of the weights.
    pub climb: Option<Owned<Climb>>,
    /// Every sequence is passed twice under different noise; the value is β of
    /// β·½(KL(p₁‖p₂) + KL(p₂‖p₁)).
    pub twins: Option<Owned<Schedule>>,
}

/// A gradient at w + ε, where ε leads uphill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Climb {
    /// ρ, the length of ε.
    pub radius: Schedule,
    /// In which metric.
    pub metric: Metric,
}

/// A change of the gradient before the update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GradientTransform {
    /// g ← g + N(0, η/(1+t)^γ).
    Noise {
        /// η
        eta: Schedule,
        /// γ
        gamma: f64,
    },
    /// Element by element into ±limit.
    ClipValue {
        /// The largest absolute value.
        limit: Schedule,
    },
    /// Each unit's gradient by its weights; output layers are left out.
    ClipAdaptive {
        /// The largest ‖g‖/‖w‖ of a unit.
        ratio: Schedule,
    },
    /// All gradients by their common norm.
    ClipNorm {
        /// The largest ‖g‖₂.
        limit: Schedule,
    },
}

impl GradientTransform {
    /// The order in which transforms act: noise before any clipping, then what rewrites elements,
    /// the global norm last, so that its limit holds for what is applied.
    fn rank(&self) -> u8 {
        match self {
            GradientTransform::Noise { .. } => 0,
            GradientTransform::ClipValue { .. } => 1,
            GradientTransform::ClipAdaptive { .. } => 2,
            GradientTransform::ClipNorm { .. } => 3,
        }
    }
}

/// Weight decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decay {
    /// λ
    pub rate: Schedule,
    /// Where it comes in.
    pub method: DecayMethod,
    /// Which tensors.
    pub on: On,
}

/// Where weight decay comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayMethod {
    /// w ← w − η·λ·w, apart from the gradient.
    Decoupled,
    /// g ← g + λ·w, through the optimizer's moments.
    Coupled,
}

/// A projection of the weights after the update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Projection {
    /// w ← sign(w)·max(|w| − η·λ, 0).
    SoftThreshold {
        /// λ
        strength: Schedule,
        /// Which tensors.
        on: On,
    },
    /// ‖w_row‖₂ ≤ c for each row of a matrix.
    MaxNorm {
        /// c
        limit: Schedule,
        /// Which tensors.
        on: On,
    },
}

/// A running average of the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Average {
    /// w̄ ← βw̄ + (1−β)w.
    Ema {
        /// β
        decay: Schedule,
        /// How the beginning counts.
        start: Start,
    },
    /// The mean of the weights after every so many steps of the run's tail.
    Equal {
        /// Share of the horizon after which the tail begins, 0 to below 1.
        start: f64,
        /// Steps between two sets of weights.
        every: u64,
    },
    /// The mean of the weights at some evaluations.
    Checkpoints {
        /// How many evaluations.
        count: usize,
        /// Which.
        which: Which,
    },
}

impl Average {
    /// Sets of weights that it holds beside the trained ones.
    pub fn vectors(&self) -> usize {
        match self {
            Average::Ema { .. } | Average::Equal { .. } => 1,
            Average::Checkpoints { count, .. } => 1 + count,
        }
    }
}

/// A rule that ends a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopRule {
    /// No improvement on held-out data.
    EarlyStopping(crate::patience::EarlyStopping),
}

impl Plan {
    /// Ties weights.
    pub fn own_tie(&mut self, owner: &str, tie: Tie) -> Result<(), Conflict> {
        own("the tie of input and output embedding", &mut self.tie, owner, tie)
    }

    /// Orders windows.
    pub fn own_order(&mut self, owner: &str, order: Order) -> Result<(), Conflict> {
        own("the order of windows", &mut self.order, owner, order)
    }

    /// Puts noise at a site.
    pub fn own_site(&mut self, owner: &str, site: Site, rate: Schedule) -> Result<(), Conflict> {
        if let Some(first) = self.noise.sites.get(&site) {
            return Err(conflict(format!("the noise site `{}`", site.word()), &first.owner, owner));
        }
        self.noise.sites.insert(site, owned(owner, rate));
        Ok(())
    }

    /// Adds uniform noise to the embeddings.
    pub fn own_neftune(&mut self, owner: &str, alpha: Schedule) -> Result<(), Conflict> {
        own("uniform noise on the embeddings", &mut self.noise.neftune, owner, alpha)
    }

    /// Moves mass to other classes.
    pub fn own_smoothing(&mut self, owner: &str, smoothing: Smoothing) -> Result<(), Conflict> {
        own("the targets' smoothing", &mut self.loss.smoothing, owner, smoothing)
    }

    /// Penalises log Z.
    pub fn own_z_loss(&mut self, owner: &str, strength: Schedule) -> Result<(), Conflict> {
        own("the penalty on log Z", &mut self.loss.z_loss, owner, strength)
    }

    /// Penalises confidence.
    pub fn own_confidence(&mut self, owner: &str, strength: Schedule) -> Result<(), Conflict> {
        own("the penalty on confidence", &mut self.loss.confidence, owner, strength)
    }

    /// Keeps parts of the model as they are.
    pub fn own_frozen(&mut self, owner: &str, frozen: Frozen) -> Result<(), Conflict> {
        own("the choice of what is trained", &mut self.frozen, owner, frozen)
    }

    /// Draws parts of an imported model anew, which must then be trained.
    pub fn own_redrawn(&mut self, owner: &str, redrawn: Redrawn) -> Result<(), Conflict> {
        let is_left = |frozen: &Frozen| match frozen {
            Frozen::Below { top } => *top < redrawn.top,
            // Gains and biases start at one and zero, which is no noise.
            Frozen::Parts(on) => on.0.contains(&Part::Matrix),
            Frozen::AllButAdapters => true,
        };
        if let Some(first) = self.frozen.as_ref().filter(|frozen| is_left(&frozen.value)) {
            let what = "what is trained (blocks drawn anew would stay random)".to_owned();
            return Err(conflict(what, &first.owner, owner));
        }
        own("what is drawn anew", &mut self.redrawn, owner, redrawn)
    }

    /// Lets the learning rate fall with depth.
    pub fn own_layer_rates(&mut self, owner: &str, gamma: f64) -> Result<(), Conflict> {
        own("the layers' learning rates", &mut self.layer_rates, owner, gamma)
    }

    /// Adds heads that predict tokens further ahead.
    pub fn own_ahead(&mut self, owner: &str, ahead: Ahead) -> Result<(), Conflict> {
        self.check_ahead(owner)?;
        own("the heads that look further ahead", &mut self.ahead, owner, ahead)
    }

    /// Learns from teachers.
    pub fn own_teaching(&mut self, owner: &str, teaching: Teaching) -> Result<(), Conflict> {
        own("the teachers", &mut self.loss.teaching, owner, teaching)
    }

    /// Passes every sequence twice.
    pub fn own_twins(&mut self, owner: &str, strength: Schedule) -> Result<(), Conflict> {
        own("the noisy passes of each sequence", &mut self.probe.twins, owner, strength)
    }

    /// Takes the gradient uphill of the weights.
    pub fn own_climb(&mut self, owner: &str, climb: Climb) -> Result<(), Conflict> {
        own("the weights at which the gradient is taken", &mut self.probe.climb, owner, climb)
    }

    /// Adds a penalty. Squared weights are refused beside coupled decay, which is the same.
    pub fn add_penalty(&mut self, owner: &str, penalty: Penalty) -> Result<(), Conflict> {
        if let Some(decay) = &self.decay
            && decay.value.method == DecayMethod::Coupled
            && penalty.norm == PenaltyNorm::L2
        {
            return Err(conflict(SQUARED.to_owned(), &decay.owner, owner));
        }
        add("a penalty on the weights", &mut self.loss.penalties, owner, penalty)
    }

    /// Adds a gradient transform at its place in the order.
    pub fn add_transform(
        &mut self,
        owner: &str,
        transform: GradientTransform,
    ) -> Result<(), Conflict> {
        add("a gradient transform", &mut self.gradient, owner, transform)?;
        self.gradient.sort_by_key(|transform| transform.value.rank());
        Ok(())
    }

    /// Decays weights.
    pub fn own_decay(&mut self, owner: &str, decay: Decay) -> Result<(), Conflict> {
        let squared = self.loss.penalties.iter().find(|p| p.value.norm == PenaltyNorm::L2);
        if let Some(squared) = squared
            && decay.method == DecayMethod::Coupled
        {
            return Err(conflict(SQUARED.to_owned(), &squared.owner, owner));
        }
        own("the decay of weights", &mut self.decay, owner, decay)
    }

    /// Adds a projection behind those already there.
    pub fn add_projection(&mut self, owner: &str, projection: Projection) -> Result<(), Conflict> {
        self.check_projection(owner, &projection)?;
        add("a projection", &mut self.projections, owner, projection)
    }

    /// Adds an average.
    pub fn add_average(&mut self, owner: &str, average: Average) -> Result<(), Conflict> {
        add("an average", &mut self.averages, owner, average)
    }

    /// Adds a rule that ends the run.
    pub fn add_stop(&mut self, owner: &str, rule: StopRule) -> Result<(), Conflict> {
        add("a stop rule", &mut self.stop, owner, rule)
    }

    /// Says what to do about explosions.
    pub fn own_recovery(&mut self, owner: &str, guard: GuardSpec) -> Result<(), Conflict> {
        own("the recovery from explosions", &mut self.recovery, owner, guard)
    }
}

const SQUARED: &str = "a gradient proportional to the weights (l2 adds 2λw, coupled decay λw)";

fn owned<T>(owner: &str, value: T) -> Owned<T> {
    Owned { owner: owner.to_owned(), value }
}

/// Fills a slot that holds one value.
pub(crate) fn own<T>(
    slot: &str,
    place: &mut Option<Owned<T>>,
    owner: &str,
    value: T,
) -> Result<(), Conflict> {
    if let Some(first) = place {
        return Err(conflict(slot.to_owned(), &first.owner, owner));
    }
    *place = Some(owned(owner, value));
    Ok(())
}

/// Adds to a slot that composes; each owner once.
pub(crate) fn add<T>(
    slot: &str,
    list: &mut Vec<Owned<T>>,
    owner: &str,
    value: T,
) -> Result<(), Conflict> {
    if list.iter().any(|earlier| earlier.owner == owner) {
        return Err(conflict(slot.to_owned(), owner, owner));
    }
    list.push(owned(owner, value));
    Ok(())
}

pub(crate) fn conflict(slot: String, first: &str, second: &str) -> Conflict {
    Conflict { slot, first: first.to_owned(), second: second.to_owned() }
}
