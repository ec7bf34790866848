//! Weights that a pass reads in place of the trained ones, and the weights that follow from others:
//! adapters and mixout. Both look back at what training started from.

use heldout_base::rng::streams;
use heldout_base::schedule::Schedule;
use heldout_kernels::random::Mask;
use heldout_kernels::{Device, Layout};
use heldout_model::extra::{self, Adapted, Adapters, Extra};
use heldout_optim::{Segment, low_rank, mixout};
use serde::{Deserialize, Serialize};

use crate::at::{At, Bound};
use crate::error::Conflict;
use crate::on::On;
use crate::plan::{Plan, Projection, conflict, own};

/// What passes read in place of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effective {
    /// W₀ + (α/r)·B·A.
    LowRank(LowRank),
    /// Some of the weights as they were at the start.
    Mixed(Mixed),
}

/// Adapters and how they act.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LowRank {
    /// Their rank r and place.
    pub adapters: Adapters,
    /// α.
    pub alpha: f64,
    /// Share of their inputs that a step leaves out.
    pub dropout: f64,
}

/// Mixout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mixed {
    /// p.
    pub rate: Schedule,
    /// Which tensors.
    pub on: On,
}

impl Effective {
    /// In words.
    pub(crate) fn describe(&self) -> String {
        match self {
            Effective::LowRank(LowRank { adapters, alpha, dropout }) => {
                let on = match adapters.on {
                    Adapted::Attention => "attention",
                    Adapted::FeedForward => "the feed-forward layers",
                    Adapted::All => "attention and the feed-forward layers",
                };
                let noise = match *dropout {
                    0.0 => String::new(),
                    p => format!(", its inputs dropped with p = {p}"),
                };
                let rank = adapters.rank;
                format!("W = W₀ + ({alpha}/{rank})·B·A of rank {rank} in {on}{noise}")
            }
            Effective::Mixed(Mixed { rate, on }) => {
                let (rate, on) = (rate.describe(), on.describe());
                format!("weights read as at the start with p = {rate}, on {on}")
            }
        }
    }
}

const WHAT: &str = "the weights that a pass reads";
const ROWS: &str = "the rows of the weights (a bound on the factors' rows is none on theirs)";
const HEADS: &str = "what is trained (adapters leave everything else as it is, also new heads)";

impl Plan {
    /// Reads other weights than the trained ones.
    pub fn own_effective(&mut self, owner: &str, effective: Effective) -> Result<(), Conflict> {
        if matches!(effective, Effective::LowRank(_)) {
            if let Some(ahead) = &self.ahead {
                return Err(conflict(HEADS.to_owned(), &ahead.owner, owner));
            }
            let is_bound = |p: &Projection| matches!(p, Projection::MaxNorm { .. });
            if let Some(bound) = self.projections.iter().find(|p| is_bound(&p.value)) {
                return Err(conflict(ROWS.to_owned(), &bound.owner, owner));
            }
        }
        own(WHAT, &mut self.effective, owner, effective)
    }

    /// Refuses a projection that adapters make meaningless.
    pub(crate) fn check_projection(
        &self,
        owner: &str,
        projection: &Projection,
    ) -> Result<(), Conflict> {
        match (projection, self.adapters()) {
            (Projection::MaxNorm { .. }, Some(first)) => {
                Err(conflict(ROWS.to_owned(), first, owner))
            }
            _ => Ok(()),
        }
    }

    /// Refuses heads that adapters would leave untrained.
    pub(crate) fn check_ahead(&self, owner: &str) -> Result<(), Conflict> {
        let first = self.adapters();
        first.map_or(Ok(()), |first| Err(conflict(HEADS.to_owned(), first, owner)))
    }

    /// Who adapts.
    fn adapters(&self) -> Option<&str> {
        let owned = self.effective.as_ref()?;
        matches!(owned.value, Effective::LowRank(_)).then_some(&owned.owner)
    }

    /// What the model is built with for training alone.
    pub fn extra(&self) -> Extra {
        let adapters = match self.effective.as_ref().map(|owned| &owned.value) {
            Some(Effective::LowRank(low_rank)) => Some(low_rank.adapters),
            _ => None,
        };
        Extra { heads_ahead: self.heads_ahead(), adapters }
    }

    /// Whether a run keeps the weights that it started from.
    pub fn keeps_start(&self) -> bool {
        self.effective.is_some()
    }

    /// Whether some pass may read weights that are nowhere kept.
    pub fn disturbs(&self) -> bool {
        self.effective.as_ref().is_some_and(|owned| match &owned.value {
            Effective::LowRank(low_rank) => low_rank.dropout > 0.0,
            Effective::Mixed(_) => true,
        })
    }
}

/// An [`Effective`] with the tensors that it acts on.
#[derive(Clone, Debug)]
pub(crate) enum Acting {
    LowRank { adapters: Vec<low_rank::Adapter>, scale: f32, dropout: f32, exported: usize },
    Mixed { rate: Schedule, segments: Vec<Segment> },
}

impl Acting {
    /// Of a plan, on a layout of which `trained` is trained.
    pub fn new(plan: &Plan, layout: &Layout, trained: &[Segment]) -> Option<Acting> {
        Some(match &plan.effective.as_ref()?.value {
            Effective::LowRank(LowRank { adapters, alpha, dropout }) => {
                let adapter = |found: extra::Adapter| low_rank::Adapter {
                    weight: found.weight.range(),
                    inputs: found.weight.shape[1],
                    down: found.down.range(),
                    up: found.up.range(),
                };
                let found: Vec<_> = extra::adapters(layout).into_iter().map(adapter).collect();
                Acting::LowRank {
                    exported: found.first().map_or(layout.len, |first| first.down.start),
                    adapters: found,
                    scale: (alpha / adapters.rank as f64) as f32,
                    dropout: *dropout as f32,
                }
            }
            Effective::Mixed(Mixed { rate, on }) => {
                let is_mixed = |s: &&Segment| {
                    let parameter = layout.get(&s.name);
                    !extra::is_extra(&s.name) && parameter.is_some_and(|p| on.covers(p, layout))
                };
                let segments = trained.iter().filter(is_mixed).cloned().collect();
                Acting::Mixed { rate: rate.clone(), segments }
            }
        })
    }

    /// The adapters, if these are what acts.
    pub fn adapters(&self) -> &[low_rank::Adapter] {
        match self {
            Acting::LowRank { adapters, .. } => adapters,
            Acting::Mixed { .. } => &[],
        }
    }

    /// The tensors that are mixed.
    pub fn mixed(&self) -> &[Segment] {
        match self {
            Acting::LowRank { .. } => &[],
            Acting::Mixed { segments, .. } => segments,
        }
    }
}

impl Bound {
    /// Dropout on adapters' inputs, or mixout's draw.
    fn draw(&self, stream: heldout_base::rng::Stream, rate: f32, at: At) -> Option<Mask> {
        (rate > 0.0).then(|| Mask::new(self.seed, stream.0, at.step, rate))
    }

    /// Lets adapted weights follow their factors; other plans leave `weights` as they are. `start`
    /// is what training started from, without what is of training alone.
    pub fn merge(&self, device: &Device, start: &[f32], weights: &mut [f32]) {
        if let Some(Acting::LowRank { adapters, scale, .. }) = &self.acting {
            low_rank::merge(device, start, weights, adapters, *scale, None);
        }
    }

    /// Whether the passes of this step read something else than the weights.
    pub fn disturbs_at(&self, at: At) -> bool {
        match &self.acting {
            None => false,
            Some(Acting::LowRank { dropout, .. }) => *dropout > 0.0,
            Some(Acting::Mixed { rate, .. }) => at.value(rate) > 0.0,
        }
    }

    /// Makes a copy of the weights what this step's passes read.
    pub fn disturb(&self, device: &Device, start: &[f32], weights: &mut [f32], at: At) {
        match &self.acting {
            None => {}
            Some(Acting::LowRank { adapters, scale, dropout, .. }) => {
                let inputs = self.draw(streams::ADAPTER_INPUTS, *dropout, at);
                low_rank::merge(device, start, weights, adapters, *scale, inputs);
            }
            Some(Acting::Mixed { rate, segments }) => {
                if let Some(mask) = self.draw(streams::MIXOUT, at.value(rate) as f32, at) {
                    mixout::mix(device, start, weights, segments, mask);
                }
            }
        }
    }

    /// Makes the gradients of what was read those of what is trained; `weights` are as they were
    /// before [`Bound::disturb`].
    pub fn pull_back(&self, device: &Device, weights: &[f32], gradients: &mut [f32], at: At) {
        match &self.acting {
            None => {}
            Some(Acting::LowRank { adapters, scale, dropout, exported }) => {
                let inputs = self.draw(streams::ADAPTER_INPUTS, *dropout, at);
                let exported = *exported;
                low_rank::pull_back(device, weights, gradients, exported, adapters, *scale, inputs);
            }
            Some(Acting::Mixed { rate, segments }) => {
                if let Some(mask) = self.draw(streams::MIXOUT, at.value(rate) as f32, at) {
                    mixout::pull_back(device, gradients, segments, mask);
                }
            }
        }
    }
}
