//! Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): momentum whose update is replaced
//! by the nearest semi-orthogonal matrix, found by Newton–Schulz iterations, for the matrices of
//! the hidden layers; AdamW for vectors, embeddings and the head.
//!
//! b ← μb + (1−μ)g · u = (1−μ)g + μb with Nesterov, else b · X = u/‖u‖_F ·
//! `steps` times: A = XXᵀ, X ← aX + (bA + cA²)X · w ← w − η·s·X.
//! The scale s is √max(1, rows/columns) (`original`) or 0.2·√max(rows, columns)
//! (`match-rms-adamw`, Liu et al. 2025, arXiv:2502.16982), as in `torch.optim.Muon`. Weight decay
//! follows the rate of its part: η for matrices (without s), AdamW's for the rest.

use crate::adam::{Adam, AdamKnobs};
use crate::card::{EPSILON, beta1, beta2, number, rate, searched, word};
use crate::optimizer::restore_into;
use crate::segment::assert_segments;
use crate::sgd::Nesterov;
use crate::walk::{CHUNK, each_chunk};
use crate::{OptimError, Optimizer, Segment, Update};
use heldout_base::card::{Card, Kind, Knob, Search, Stage};
use heldout_kernels::gemm::{Accumulate, Epilogue, Mat, matmul};
use heldout_kernels::{Device, Role, reduce, simd};
use serde::{Deserialize, Serialize};

/// Coefficients of the quintic iteration, chosen for the steepest slope at zero.
const A: f32 = 3.4445;
const B: f32 = -4.7750;
const C: f32 = 2.0315;
/// Least norm divided by.
const NORM_FLOOR: f64 = 1e-7;

/// How the orthogonal update is scaled to a matrix's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// √max(1, rows/columns).
    Original,
    /// 0.2·√max(rows, columns): steps as large as AdamW's, so that its rate can be kept.
    MatchRmsAdamw,
}

impl Scale {
    fn factor(self, rows: usize, columns: usize) -> f64 {
        let (rows, columns) = (rows as f64, columns as f64);
        match self {
            Scale::Original => (rows / columns).max(1.0).sqrt(),
            Scale::MatchRmsAdamw => 0.2 * rows.max(columns).sqrt(),
        }
    }
}

/// The knobs of Muon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MuonKnobs {
    /// μ, the share of the momentum kept per update.
    pub momentum: f64,
    /// Whether the gradient is mixed in once more.
    pub nesterov: Nesterov,
    /// Newton–Schulz iterations.
    pub steps: u32,
    /// How steps follow a matrix's shape.
    pub scale: Scale,
    /// What AdamW's rate is as a multiple of Muon's.
    pub vector_rate: f64,
    /// AdamW's own knobs.
    pub adamw: AdamKnobs,
}

impl Default for MuonKnobs {
    fn default() -> Self {
        Self {
            momentum: 0.95,
            nesterov: Nesterov::Yes,
            steps: 5,
            scale: Scale::Original,
            vector_rate: 0.15,
            adamw: AdamKnobs { beta1: 0.9, beta2: 0.95, epsilon: 1e-8 },
        }
    }
}

/// Muon's state (momentum of the matrices, one behind the other), AdamW's, and working memory.
pub struct Muon {
    knobs: MuonKnobs,
    momentum: Vec<f32>,
    adamw: Adam,
    scratch: Scratch,
}

/// Working memory for the largest matrix, shaped by the first update.
#[derive(Default)]
struct Scratch {
    /// `[rows, columns]`
    x: Vec<f32>,
    /// `[rows, columns]`
    product: Vec<f32>,
    /// `[n, n]` with n the lesser of rows and columns.
    gram: Vec<f32>,
    /// `[n, n]`
    polynomial: Vec<f32>,
}

fn is_hidden_matrix(segment: &Segment) -> bool {
    segment.role == Role::Matrix && segment.shape.len() == 2
}

fn is_for_adamw(segment: &Segment) -> bool {
    !is_hidden_matrix(segment)
}

impl Muon {
    pub(crate) fn new(knobs: MuonKnobs, segments: &[Segment]) -> Self {
        let matrices = || segments.iter().filter(|segment| is_hidden_matrix(segment));
        let elements = matrices().map(Segment::len).max().unwrap_or(0);
        let side = |segment: &Segment| {
            let (rows, columns) = segment.rows_and_columns();
            rows.min(columns)
        };
        let side = matrices().map(side).max().unwrap_or(0);
        Self {
            knobs,
            momentum: vec![0.0; matrices().map(Segment::len).sum()],
            adamw: Adam::over("muon", knobs.adamw, segments, is_for_adamw),
            scratch: Scratch {
                x: vec![0.0; elements],
                product: vec![0.0; elements],
                gram: vec![0.0; side * side],
                polynomial: vec![0.0; side * side],
            },
        }
    }

    /// Momentum, orthogonalisation and step of one matrix.
    fn update_matrix(
        &mut self,
        device: &Device,
        [w, g]: [&mut [f32]; 2],
        momentum_from: usize,
        segment: &Segment,
        update: &Update,
    ) {
        let (rows, columns) = segment.rows_and_columns();
        let decay = f64::from(segment.decay);
        let coupled = (update.coupled_decay * decay) as f32;
        let momentum = &mut self.momentum[momentum_from..momentum_from + w.len()];
        let direction = &mut self.scratch.x[..w.len()];
        accumulate(device, self.knobs, [w, g], [momentum, direction], update, coupled);
        orthogonalize(device, &mut self.scratch, rows, columns, self.knobs.steps);

        let rate = update.rate_on(segment);
        let kept = (1.0 - rate * update.decoupled_decay * decay) as f32;
        let rate = (rate * self.knobs.scale.factor(rows, columns)) as f32;
        each_chunk(device, CHUNK, [&self.scratch.x[..w.len()]], [w], &|[x], [w]| {
            simd::dispatch(
                device.isa(),
                #[inline(always)]
                || w.iter_mut().zip(x).for_each(|(w, x)| *w = *w * kept - rate * x),
            );
        });
    }
}

impl Optimizer for Muon {
    fn name(&self) -> &'static str {
        CARD.name
    }

    fn update(
        &mut self,
        device: &Device,
        parameters: &mut [f32],
        gradients: &mut [f32],
        segments: &[Segment],
        update: &Update,
    ) {
        assert_segments(segments, parameters.len());
        let mut momentum_from = 0;
        for segment in segments.iter().filter(|segment| is_hidden_matrix(segment)) {
            let range = segment.range.clone();
            let vectors = [&mut parameters[range.clone()], &mut gradients[range]];
            self.update_matrix(device, vectors, momentum_from, segment, update);
            momentum_from += segment.len();
        }
        let others = Update { rate: update.rate * self.knobs.vector_rate, ..*update };
        self.adamw.update(device, parameters, gradients, segments, &others);
    }

    fn state(&self) -> Vec<(String, &[f32])> {
        let mut state = vec![("momentum".to_owned(), self.momentum.as_slice())];
        state.extend(self.adamw.state());
        state
    }

    fn restore(
        &mut self,
        state: &mut dyn FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), OptimError> {
        restore_into(&mut self.momentum, CARD.name, "momentum", state)?;
        self.adamw.restore(state)
    }
}

/// Takes the gradient into the momentum, writes the direction of the step and clears the gradient.
fn accumulate(
    device: &Device,
    knobs: MuonKnobs,
    [w, g]: [&mut [f32]; 2],
    [momentum, direction]: [&mut [f32]; 2],
    update: &Update,
    coupled: f32,
) {
    let scale = update.gradient_scale;
    let taken = (1.0 - knobs.momentum) as f32;
    // The share of the way from the gradient to the momentum.
    let toward = match knobs.nesterov {
        Nesterov::Yes => knobs.momentum as f32,
        Nesterov::No => 1.0,
    };
    each_chunk(device, CHUNK, [w], [g, momentum, direction], &|[w], [g, momentum, direction]| {
        simd::dispatch(
            device.isa(),
            #[inline(always)]
            || {
                for (((w, g), m), d) in w.iter().zip(g).zip(momentum).zip(direction) {
                    let gradient = *g * scale + coupled * *w;
                    *m += (gradient - *m) * taken;
                    // From the nearer end, as torch's lerp rounds.
                    *d = *m - (*m - gradient) * (1.0 - toward);
                }
            },
        );
    });
}

/// Replaces `scratch.x` (`[rows, columns]`) by a matrix with its singular vectors and singular
/// values near 1. A tall matrix is treated as its transpose, by strides alone.
fn orthogonalize(device: &Device, scratch: &mut Scratch, rows: usize, columns: usize, steps: u32) {
    let (len, n) = (rows * columns, rows.min(columns));
    let x = &mut scratch.x[..len];
    let product = &mut scratch.product[..len];
    let gram = &mut scratch.gram[..n * n];
    let polynomial = &mut scratch.polynomial[..n * n];

    let norm = reduce::sum_of_squares(device, x).sqrt().max(NORM_FLOOR);
    reduce::scale(device, x, (1.0 / norm) as f32);
    for _ in 0..steps {
        let wide = Mat::new(x, rows, columns);
        let (left, right) = if rows <= columns { (wide, wide.t()) } else { (wide.t(), wide) };
        matmul(device, gram, n, left, right, Accumulate::Overwrite, Epilogue::None);
        let square = Mat::new(gram, n, n);
        matmul(device, polynomial, n, square, square, Accumulate::Overwrite, Epilogue::None);
        combine(device, polynomial, C, gram, B);
        // The polynomial is symmetric, so it may stand on either side.
        let p = Mat::new(polynomial, n, n);
        let (left, right) = if rows <= columns { (p, wide) } else { (wide, p) };
        matmul(device, product, columns, left, right, Accumulate::Overwrite, Epilogue::None);
        combine(device, x, A, product, 1.0);
    }
}

/// y ← α·y + β·x.
fn combine(device: &Device, y: &mut [f32], alpha: f32, x: &[f32], beta: f32) {
    each_chunk(device, CHUNK, [x], [y], &|[x], [y]| {
        simd::dispatch(
            device.isa(),
            #[inline(always)]
            || y.iter_mut().zip(x).for_each(|(y, x)| *y = alpha * *y + beta * x),
        );
    });
}

/// What it says about itself.
pub const CARD: Card = Card {
    name: "muon",
    kind: Kind::Optimizer,
    stage: Stage::Optimizer,
    purpose: "Orthogonalises the momentum of hidden matrices; AdamW for everything else.",
    paper: "kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv:2502.16982",
    when_to_use: "Transformers from scratch: often fewer steps than AdamW to the same loss.",
    when_to_avoid: "Fine-tuning of models trained with AdamW; very small matrices.",
    cost: "One vector of state for matrices, two for the rest; some 15 products a matrix and step.",
    knobs: KNOBS,
};

const KNOBS: &[Knob] = &[
    rate(0.02, 1e-3, 0.1),
    searched(
        number("momentum", "share kept", "Decay of the running mean.", 0.95, (0.0, 0.9999)),
        Search::Uniform(0.85, 0.98),
    ),
    word("nesterov", "Look one step ahead.", "yes", &["yes", "no"]),
    number("steps", "iterations", "Newton–Schulz iterations.", 5.0, (1.0, 20.0)),
    word("scale", "How steps follow a matrix's shape.", "original", SCALES),
    searched(
        number("vector-rate", "× rate", "AdamW's rate against Muon's.", 0.15, (0.0, 1e3)),
        Search::Log(0.01, 1.0),
    ),
    beta1(0.9),
    beta2(0.95),
    EPSILON,
];

const SCALES: &[&str] = &["original", "match-rms-adamw"];
