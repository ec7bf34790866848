//! The plan at one step: every schedule read off, in the words of kernels, model and optim.

use crate::effective::Acting;
use crate::plan::{
    DecayMethod, GradientTransform, Owned, PenaltyNorm, Plan, Projection, Sharing, Site,
    SmoothingTo, Teachers, TokenGuide, TokenNoise,
};
use heldout_base::schedule::Schedule;
use heldout_kernels::{Device, Layout, LossSpec, Parameter, Role, Smoothing};
use heldout_model::{NoiseRates, Tied};
use heldout_optim::ascent::Metric;
use heldout_optim::clip::{self, Clipped};
use heldout_optim::{Segment, Update, max_norm, noise, penalty, sparse};
use std::ops::Range;

/// A moment of the run: `step` counts updates from 0, of `horizon` in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Updates made so far.
    pub step: u64,
    /// Updates in all.
    pub horizon: u64,
}

impl At {
    /// A schedule's value at this moment.
    pub fn value(&self, schedule: &Schedule) -> f64 {
        schedule.value(self.step, self.horizon)
    }
}

impl Plan {
    /// Whether the model is built with tied embeddings because this plan asks for it.
    pub fn tied(&self) -> Tied {
        if self.tie.is_some() { Tied::Yes } else { Tied::No }
    }

    /// The rates of all noise sites.
    pub fn noise_at(&self, at: At) -> NoiseRates {
        let rate = |site| {
            self.noise.sites.get(&site).map_or(0.0, |schedule| at.value(&schedule.value) as f32)
        };
        // Who cannot be drawn leaves their part to the others.
        let tokens = (f64::from(rate(Site::Tokens)) / self.noise.guide.share()) as f32;
        let replaces = self.noise.tokens == TokenNoise::Replace;
        NoiseRates {
            embedding: rate(Site::Embedding),
            attention: rate(Site::Attention),
            attention_output: rate(Site::AttentionOutput),
            feed_forward_hidden: rate(Site::FeedForwardHidden),
            feed_forward_output: rate(Site::FeedForwardOutput),
            heads: rate(Site::Heads),
            tokens: if replaces { 0.0 } else { tokens },
            replace: if replaces { tokens } else { 0.0 },
            neftune: self.noise.neftune.as_ref().map_or(0.0, |a| at.value(&a.value) as f32),
            layer_drop: rate(Site::Layers),
            sharing: match self.noise.sharing {
                Sharing::Element => heldout_kernels::Sharing::Element,
                Sharing::Time => heldout_kernels::Sharing::Time,
            },
        }
    }

    /// The share of the training text's tokens that alone can be dropped; `None` for all.
    pub fn predictable_share(&self) -> Option<f64> {
        match self.noise.guide {
            TokenGuide::Predictable { share } => Some(share),
            TokenGuide::Uniform => None,
        }
    }

    /// The objective; `scale` is 1 / target tokens of the whole batch.
    pub fn loss_at(&self, at: At, scale: f32) -> LossSpec {
        let value = |slot: &Option<Owned<Schedule>>| {
            slot.as_ref().map_or(0.0, |owned| at.value(&owned.value) as f32)
        };
        let (z_loss, confidence) = (value(&self.loss.z_loss), value(&self.loss.confidence));
        LossSpec { smoothing: self.smoothing_at(at), z_loss, confidence, scale }
    }

    fn smoothing_at(&self, at: At) -> Smoothing {
        let Some(smoothing) = &self.loss.smoothing else { return Smoothing::None };
        let epsilon = at.value(&smoothing.value.amount) as f32;
        match smoothing.value.to {
            _ if epsilon == 0.0 => Smoothing::None,
            SmoothingTo::All => Smoothing::Uniform { epsilon },
            SmoothingTo::Wrong => Smoothing::Wrong { epsilon },
            SmoothingTo::Likeliest { k } => Smoothing::Likeliest { epsilon, k },
        }
    }

    /// β of two noisy passes of each sequence; `None` for one pass.
    pub fn twins_at(&self, at: At) -> Option<f32> {
        let strength = at.value(&self.probe.twins.as_ref()?.value) as f32;
        (strength > 0.0).then_some(strength)
    }

    /// α and T of the teachers; `None` where they have no share.
    pub fn teaching_at(&self, at: At) -> Option<(f32, f32)> {
        let teaching = &self.loss.teaching.as_ref()?.value;
        let share = at.value(&teaching.share) as f32;
        (share > 0.0).then_some((share, teaching.temperature as f32))
    }

    /// Weight of each head that looks further ahead.
    pub fn ahead_at(&self, at: At) -> f32 {
        self.ahead.as_ref().map_or(0.0, |ahead| at.value(&ahead.value.weight) as f32)
    }

    /// Heads that look further ahead, which the model is built with.
    pub fn heads_ahead(&self) -> usize {
        self.ahead.as_ref().map_or(0, |ahead| ahead.value.heads)
    }

    /// The folders of teachers that are models of their own.
    pub fn teachers(&self) -> &[String] {
        match self.loss.teaching.as_ref().map(|teaching| &teaching.value.by) {
            Some(Teachers::Models(folders)) => folders,
            _ => &[],
        }
    }

    /// β of the average of the weights that teaches, where one does.
    pub fn own_teacher(&self) -> Option<f64> {
        match self.loss.teaching.as_ref()?.value.by {
            Teachers::Average { decay } => Some(decay),
            Teachers::Models(_) => None,
        }
    }

    /// The climb before the gradient that counts: its length ρ and metric; `None` where the
    /// gradient is taken at the weights themselves.
    pub fn climb_at(&self, at: At) -> Option<(f64, Metric)> {
        let climb = &self.probe.climb.as_ref()?.value;
        let radius = at.value(&climb.radius);
        (radius > 0.0).then_some((radius, climb.metric))
    }

    /// λ of decoupled and of coupled weight decay.
    pub fn decay_at(&self, at: At) -> (f64, f64) {
        match self.decay.as_ref().map(|decay| (&decay.value, at.value(&decay.value.rate))) {
            None => (0.0, 0.0),
            Some((decay, rate)) if decay.method == DecayMethod::Decoupled => (rate, 0.0),
            Some((_, rate)) => (0.0, rate),
        }
    }
}

/// A plan bound to the tensors of a model: what the trainer calls in every step. Nothing here
/// allocates after it is made.
#[derive(Clone, Debug)]
pub struct Bound {
    plan: Plan,
    /// Every tensor that is trained, with its decay and rate: the optimizer's list.
    pub segments: Vec<Segment>,
    /// Of the noise on gradients; the run's.
    pub seed: u64,
    /// What is not trained.
    frozen: Vec<Range<usize>>,
    /// The tensors of each penalty and of each projection.
    penalized: Vec<Vec<Segment>>,
    projected: Vec<Vec<Segment>>,
    /// What adaptive clipping looks at: all but the output layer.
    clipped: Vec<Segment>,
    /// What passes read in place of the weights.
    pub(crate) acting: Option<Acting>,
}

impl Bound {
    /// Finds the tensors that each part of the plan acts on.
    pub fn new(plan: &Plan, layout: &Layout) -> Self {
        let is_trained = |p: &&Parameter| plan.trains(p, layout);
        let find = |segment: &Segment| {
            layout.get(&segment.name).expect("segments are made from the layout")
        };
        let trained = |segments: Vec<Segment>| -> Vec<Segment> {
            let trained = segments.into_iter().filter(|s| is_trained(&find(s)));
            let rated = |s: Segment| Segment { rate: plan.layer_rate(find(&s), layout), ..s };
            trained.map(rated).collect()
        };
        let select = |penalty: &crate::on::On| trained(penalty.select(layout));
        let decayed = |parameter: &_| match &plan.decay {
            Some(decay) if decay.value.on.covers(parameter, layout) => 1.0,
            _ => 0.0,
        };
        let tied = crate::on::is_tied(layout);
        let is_output = |role: Role| role == Role::Head || (tied && role == Role::Embedding);
        let segments = trained(heldout_optim::segment::segments(layout, decayed));
        let frozen = layout.parameters.iter().filter(|p| !is_trained(p));
        Self {
            plan: plan.clone(),
            penalized: plan.loss.penalties.iter().map(|p| select(&p.value.on)).collect(),
            projected: plan
                .projections
                .iter()
                .map(|projection| match &projection.value {
                    Projection::SoftThreshold { on, .. } | Projection::MaxNorm { on, .. } => {
                        select(on)
                    }
                })
                .collect(),
            clipped: segments.iter().filter(|s| !is_output(s.role)).cloned().collect(),
            acting: Acting::new(plan, layout, &segments),
            segments,
            seed: 0,
            frozen: frozen.map(Parameter::range).collect(),
        }
    }

    /// The plan that was bound.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Adds the gradients of the penalties: after the batch's gradient is complete, before
    /// anything is clipped.
    pub fn penalize(&self, device: &Device, parameters: &[f32], gradients: &mut [f32], at: At) {
        for (penalty, segments) in self.plan.loss.penalties.iter().zip(&self.penalized) {
            let strength = at.value(&penalty.value.strength);
            let add = match penalty.value.norm {
                PenaltyNorm::L1 => penalty::add_l1_gradient,
                PenaltyNorm::L2 => penalty::add_l2_gradient,
            };
            add(device, parameters, gradients, segments, strength);
        }
    }

    /// The penalties' share of the objective, in nats.
    pub fn penalty_value(&self, device: &Device, parameters: &[f32], at: At) -> f64 {
        let penalties = self.plan.loss.penalties.iter().zip(&self.penalized);
        penalties
            .map(|(penalty, segments)| {
                let size = match penalty.value.norm {
                    PenaltyNorm::L1 => penalty::l1_norm(device, parameters, segments),
                    PenaltyNorm::L2 => penalty::l2_norm_squared(device, parameters, segments),
                };
                at.value(&penalty.value.strength) * size
            })
            .sum()
    }

    /// Runs the gradient transforms, on what is trained: other gradients become zero.
    /// `norm_before` is that of the gradient as it came in, and `scale` goes into the update.
    pub fn transform(
        &self,
        device: &Device,
        parameters: &[f32],
        gradients: &mut [f32],
        at: At,
    ) -> Clipped {
        self.frozen.iter().for_each(|range| gradients[range.clone()].fill(0.0));
        let norm = clip::global_norm(device, gradients);
        let mut clipped = Clipped { norm_before: norm, norm_after: norm, scale: 1.0, share: 0.0 };
        for transform in &self.plan.gradient {
            let next = match &transform.value {
                GradientTransform::Noise { eta, gamma } => {
                    let deviation = noise::deviation(at.value(eta), *gamma, at.step);
                    let (segments, seed) = (&self.segments, self.seed);
                    noise::add_noise(device, gradients, segments, deviation, seed, at.step);
                    let norm_after = clip::global_norm(device, gradients);
                    Clipped { norm_before: norm, norm_after, scale: 1.0, share: 0.0 }
                }
                GradientTransform::ClipValue { limit } => {
                    clip::by_value(device, gradients, at.value(limit))
                }
                GradientTransform::ClipAdaptive { ratio } => {
                    clip::adaptive(device, parameters, gradients, &self.clipped, at.value(ratio))
                }
                GradientTransform::ClipNorm { limit } => {
                    clip::by_norm(clipped.norm_after, at.value(limit))
                }
            };
            clipped = Clipped { norm_before: norm, ..next };
        }
        clipped
    }

    /// The numbers of the update that follows.
    pub fn update(&self, at: At, rate: f64, clipped: &Clipped) -> Update {
        let (decoupled_decay, coupled_decay) = self.plan.decay_at(at);
        Update { rate, gradient_scale: clipped.scale, decoupled_decay, coupled_decay }
    }

    /// Projects the weights after the update made at `rate`.
    pub fn project(&self, device: &Device, parameters: &mut [f32], at: At, rate: f64) {
        for (projection, segments) in self.plan.projections.iter().zip(&self.projected) {
            match &projection.value {
                Projection::SoftThreshold { strength, .. } => {
                    let threshold = rate * at.value(strength);
                    sparse::soft_threshold(device, parameters, segments, threshold);
                }
                Projection::MaxNorm { limit, .. } => {
                    max_norm::max_norm(device, parameters, segments, at.value(limit));
                }
            }
        }
    }

    /// Parameters under penalties, counted once for each.
    pub fn penalized_len(&self) -> usize {
        self.penalized.iter().flatten().map(Segment::len).sum()
    }

    /// Parameters under projections, counted once for each.
    pub fn projected_len(&self) -> usize {
        self.projected.iter().flatten().map(Segment::len).sum()
    }

    /// Numbers that [`Bound::transform`] reads or writes when there are `len` gradients, if
    /// adaptive clipping finds nothing to clip.
    pub fn transform_traffic(&self, len: usize) -> usize {
        let clipped: usize = self.clipped.iter().map(Segment::len).sum();
        let each = self.plan.gradient.iter().map(|transform| match &transform.value {
            // Every gradient in and out, and their norm.
            GradientTransform::Noise { .. } => 3 * len,
            // The norm before and after, and between them every gradient in and out.
            GradientTransform::ClipValue { .. } => 4 * len,
            // The norm before and after, and between them weights and gradients in.
            GradientTransform::ClipAdaptive { .. } => 2 * len + 2 * clipped,
            GradientTransform::ClipNorm { .. } => 0,
        });
        len + each.sum::<usize>()
    }

    /// Share of exactly zero weights among those that an l1 acts on; `None` without one.
    pub fn sparsity(&self, device: &Device, parameters: &[f32]) -> Option<f64> {
        let penalties = self.plan.loss.penalties.iter().zip(&self.penalized);
        let penalized = penalties
            .filter(|(penalty, _)| penalty.value.norm == PenaltyNorm::L1)
            .map(|(_, segments)| segments);
        let projections = self.plan.projections.iter().zip(&self.projected);
        let thresholded = projections
            .filter(|(projection, _)| matches!(projection.value, Projection::SoftThreshold { .. }))
            .map(|(_, segments)| segments);
        let segments = thresholded.chain(penalized).next()?;
        Some(sparse::sparsity(device, parameters, segments))
    }

    /// Share of rows whose norm is at max-norm's limit; `None` without one.
    pub fn rows_at_limit(&self, device: &Device, parameters: &[f32], at: At) -> Option<f64> {
        self.plan.projections.iter().zip(&self.projected).find_map(|(projection, segments)| {
            let Projection::MaxNorm { limit, .. } = &projection.value else { return None };
            Some(max_norm::share_at_limit(device, parameters, segments, at.value(limit)))
        })
    }

    /// Parameters that are trained.
    pub fn trained_len(&self) -> usize {
        self.segments.iter().map(Segment::len).sum()
    }

    /// The tensors that `owner`'s penalty or projection acts on.
    pub(crate) fn acted_on(&self, owner: &str) -> &[Segment] {
        let penalties = self.plan.loss.penalties.iter().map(|p| &p.owner).zip(&self.penalized);
        let projections = self.plan.projections.iter().map(|p| &p.owner).zip(&self.projected);
        let found = penalties.chain(projections).find(|(name, _)| *name == owner);
        found.map_or(&[], |(_, segments)| segments)
    }
}
