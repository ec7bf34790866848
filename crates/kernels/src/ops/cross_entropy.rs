//! Output projection, softmax and cross-entropy in one go, over chunks of rows.
//!
//! Logits z = x·Wᵀ of a bounded number of rows at a time become losses and, in place, their own
//! gradients, from which dW and dx follow before the next chunk: full logits are never kept.
//! With Z = log Σ exp z the loss of a row is Σ q·(Z − z) + λ·Z² − β·H for a target distribution q
//! and the entropy H = Z − Σ p·z of p = exp(z − Z).

mod bias;
pub(crate) mod joint;

use crate::arena::{Arena, Buffer};
use crate::device::{Device, Isa};
use crate::gemm::{self, Accumulate, After, Epilogue, Mat};
use crate::math::fused::{Exponential, Fused, Separate};
use crate::ops::lanes;
use crate::parallel;
use crate::pool::Disjoint;
use crate::profile::{Profiler, Work};
use crate::simd::dispatch;
use crate::values::{Storage, View, as_halves};

/// The target id of positions that do not count.
pub const IGNORE: u32 = u32::MAX;

/// Most bytes of logits that exist at once. Every chunk reads the head twice and its gradient
/// once more, so with 50,000 classes half the size makes the step slower (LOG.md).
const CHUNK_BYTES: usize = 128 << 20;
/// Values in a line of the cache.
const LINE: usize = 16;

/// The target distribution q of a token t.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Smoothing {
    /// All on t.
    None,
    /// (1−ε) on t plus ε/V on every class (PyTorch's `label_smoothing`; Szegedy et al. 2016).
    Uniform {
        /// Mass moved, in [0, 1].
        epsilon: f32,
    },
    /// (1−ε) on t, ε/(V−1) on every other class.
    Wrong {
        /// Mass moved, in [0, 1].
        epsilon: f32,
    },
    /// (1−ε) on t, ε/k on each of the k wrong classes with the largest logits (the lower id on
    /// ties); their choice is not differentiated.
    Likeliest {
        /// Mass moved, in [0, 1].
        epsilon: f32,
        /// Classes that share it, 1 ≤ k < V.
        k: usize,
    },
}

impl Smoothing {
    /// The mass that is moved away from the target.
    pub fn epsilon(&self) -> f64 {
        match *self {
            Smoothing::None => 0.0,
            Smoothing::Uniform { epsilon }
            | Smoothing::Wrong { epsilon }
            | Smoothing::Likeliest { epsilon, .. } => f64::from(epsilon),
        }
    }
}

/// What the objective is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossSpec {
    /// Target distribution.
    pub smoothing: Smoothing,
    /// λ of the λ·(log Z)² penalty; 0 is none.
    pub z_loss: f32,
    /// β of the confidence penalty −β·H(p) (Pereyra et al. 2017, arXiv:1701.06548); 0 is none.
    pub confidence: f32,
    /// Multiplier of the gradients: 1 / target tokens of the whole batch makes accumulation
    /// over micro-batches the mean. Reported losses are sums and are not multiplied.
    pub scale: f32,
}

impl LossSpec {
    /// The negative log-likelihood and nothing else.
    pub const fn plain(scale: f32) -> LossSpec {
        LossSpec { smoothing: Smoothing::None, z_loss: 0.0, confidence: 0.0, scale }
    }
}

/// Sums over the targets of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossReport {
    /// Smoothed loss with penalties, nats, summed over targets.
    pub objective_sum: f64,
    /// Plain negative log-likelihood, nats, summed over targets.
    pub nll_sum: f64,
    /// Targets that count.
    pub targets: u64,
}

/// The inputs: x `[N, C]`, head `[V, C]`, bias `[V]`, targets `[N]`.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub x: &'a [f32],
    pub head: &'a [f32],
    pub bias: Option<&'a [f32]>,
    pub targets: &'a [u32],
    pub cols: usize,
}

impl Inputs<'_> {
    fn vocabulary(&self) -> usize {
        self.head.len() / self.cols
    }
}

/// Where gradients go: `dx` `[N, C]` is overwritten, `dhead` `[V, C]` written or added to,
/// `dbias` `[V]` added to.
pub(crate) struct Gradients<'a> {
    pub dx: &'a mut [f32],
    pub dhead: &'a mut [f32],
    pub into: Accumulate,
    pub dbias: Option<&'a mut [f32]>,
}

/// Losses of all rows; `nll` `[N]` receives the plain ones (0 where ignored).
///
/// # Panics
/// If a target is neither below V nor [`IGNORE`], or the sizes disagree.
pub(crate) fn cross_entropy(
    device: &Device,
    arena: &mut Arena,
    profiler: &mut Profiler,
    nll: &mut [f32],
    inputs: Inputs,
    spec: &LossSpec,
    mut gradients: Option<Gradients>,
) -> LossReport {
    let (rows, vocabulary) = (inputs.targets.len(), inputs.vocabulary());
    assert_eq!(inputs.x.len(), rows * inputs.cols, "cross_entropy: x has a row per target");
    assert_eq!(nll.len(), rows, "cross_entropy: size of nll");
    check(inputs.targets, vocabulary, spec);
    let (chunk, stride) = (chunk_rows(rows, vocabulary), row_stride(vocabulary));
    let mut logits = arena.take(chunk * stride);
    let mut sums = arena.take(2 * rows);
    let size = Some([vocabulary, inputs.cols]);
    for start in (0..rows).step_by(chunk) {
        let end = (start + chunk).min(rows);
        let logits = &mut logits[..(end - start) * stride];
        let product = Work::products(2.0 * (end - start) as f64 * inputs.head.len() as f64);
        let x = Mat::new(&inputs.x[start * inputs.cols..], end - start, inputs.cols);
        let head = Mat::new(inputs.head, vocabulary, inputs.cols);
        let since = profiler.now();
        bias::project(device, logits, stride, x, head, inputs.bias);
        profiler.span("logits", size, since, product);
        let outcome = &mut sums[2 * start..2 * end];
        let wanted = match gradients {
            None => Wanted::Loss,
            Some(_) if gemm::reads_bf16(device) => Wanted::Gradient(Storage::Halves),
            Some(_) => Wanted::Gradient(Storage::Floats),
        };
        // Two passes over each row's logits, of which a cache holds the second; a gradient takes
        // their place.
        let count = (end - start) * vocabulary;
        let moved = Work::moved(count * if wanted == Wanted::Loss { 1 } else { 2 });
        let since = profiler.now();
        let rows = Logits { values: logits, stride, vocabulary };
        losses(device, arena, rows, outcome, &inputs.targets[start..end], spec, wanted);
        profiler.span("softmax and loss", None, since, moved);
        if let Some(Gradients { dx, dhead, into, dbias }) = &mut gradients {
            let dlogits = gradient_of(logits, wanted, end - start, vocabulary, stride);
            let dx = &mut dx[start * inputs.cols..end * inputs.cols];
            let since = profiler.now();
            project(device, dx, inputs.cols, dlogits, head, Accumulate::Overwrite);
            profiler.span("logits backward input", size, since, product);
            let since = profiler.now();
            project(device, dhead, inputs.cols, dlogits.t(), x, *into);
            bias::backward(device, dbias.as_deref_mut(), dlogits);
            *into = Accumulate::Add;
            profiler.span("logits backward weight", size, since, product);
        }
    }
    let report = collect(nll, &sums, inputs.targets);
    arena.give(logits);
    arena.give(sums);
    report
}

fn project(device: &Device, c: &mut [f32], ldc: usize, a: Mat, b: Mat, into: Accumulate) {
    gemm::matmul(device, c, ldc, a, b, into, Epilogue::None);
}

fn check(targets: &[u32], vocabulary: usize, spec: &LossSpec) {
    for &target in targets {
        assert!(
            target == IGNORE || (target as usize) < vocabulary,
            "target id {target} is not below {vocabulary}"
        );
    }
    let epsilon = match spec.smoothing {
        Smoothing::None => 0.0,
        Smoothing::Uniform { epsilon } | Smoothing::Wrong { epsilon } => epsilon,
        Smoothing::Likeliest { epsilon, k } => {
            assert!(k >= 1 && k < vocabulary, "likeliest: k = {k} of {vocabulary} classes");
            epsilon
        }
    };
    assert!((0.0..=1.0).contains(&epsilon), "smoothing ε = {epsilon} is not in [0, 1]");
    let needed = if matches!(spec.smoothing, Smoothing::Wrong { .. }) { 2 } else { 1 };
    assert!(vocabulary >= needed, "smoothing over wrong classes needs at least two");
}

/// Distance of the rows of logits: aligned, and an odd number of lines, so that rows spread over
/// the cache's sets whatever the vocabulary.
fn row_stride(vocabulary: usize) -> usize {
    (vocabulary.div_ceil(LINE) | 1) * LINE
}

/// What `losses` has left in the place of logits. As bf16 a row takes the first half of its place.
fn gradient_of(
    logits: &[f32],
    wanted: Wanted,
    rows: usize,
    vocabulary: usize,
    stride: usize,
) -> Mat<'_> {
    let (data, row_stride) = match wanted {
        Wanted::Gradient(Storage::Halves) => (View::Halves(as_halves(logits)), 2 * stride),
        _ => (View::Floats(logits), stride),
    };
    let after_rows = After::Zero;
    Mat { data, rows, cols: vocabulary, row_stride, col_stride: 1, after_rows }
}

/// Values that the logits of a chunk take.
pub fn logits_values(rows: usize, vocabulary: usize) -> usize {
    chunk_rows(rows, vocabulary) * row_stride(vocabulary)
}

/// Rows of logits that the loss holds at a time: equal chunks of at most 128 MiB.
fn chunk_rows(rows: usize, vocabulary: usize) -> usize {
    let most = (CHUNK_BYTES / (row_stride(vocabulary) * size_of::<f32>())).max(1);
    rows.div_ceil(rows.div_ceil(most).max(1)).max(1)
}

/// Sums in f64, in the order of the rows.
fn collect(nll: &mut [f32], sums: &[f32], targets: &[u32]) -> LossReport {
    let mut report = LossReport::default();
    for ((nll, sums), &target) in nll.iter_mut().zip(sums.chunks_exact(2)).zip(targets) {
        *nll = sums[0];
        if target != IGNORE {
            report.nll_sum += f64::from(sums[0]);
            report.objective_sum += f64::from(sums[1]);
            report.targets += 1;
        }
    }
    report
}

/// Whether logits shall become their gradients, and as what: products in bf16 would round them
/// anyway, and then read half as much.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Loss,
    Gradient(Storage),
}

/// Rows of logits, `stride` values apart.
struct Logits<'a> {
    values: &'a mut [f32],
    stride: usize,
    vocabulary: usize,
}

/// `outcome` `[rows, 2]` ← nll and objective of each row; logits become gradients if wanted.
fn losses(
    device: &Device,
    arena: &mut Arena,
    logits: Logits,
    outcome: &mut [f32],
    targets: &[u32],
    spec: &LossSpec,
    wanted: Wanted,
) {
    let Logits { values, stride, vocabulary } = logits;
    let likeliest = match spec.smoothing {
        Smoothing::Likeliest { k, .. } => k,
        _ => 0,
    };
    let (logits, outcome) = (Disjoint::new(values), Disjoint::new(outcome));
    let grain = parallel::grain_of(vocabulary);
    let items = targets.len().div_ceil(grain);
    let mut scratch: Buffer = arena.take(parallel::workers(device, items) * likeliest);
    parallel::with_scratch(device, items, &mut scratch, |item, scratch| {
        for row in parallel::run_of(item, grain, targets.len()) {
            #[allow(unsafe_code)]
            // SAFETY: one row belongs to one item.
            let (place, outcome) = unsafe {
                (
                    logits.range(row * stride..(row + 1) * stride),
                    outcome.range(2 * row..2 * row + 2),
                )
            };
            place[vocabulary..].fill(0.0);
            if targets[row] == IGNORE {
                outcome.fill(0.0);
                place.fill(0.0);
                continue;
            }
            let (logits, target) = (&mut place[..vocabulary], targets[row] as usize);
            let isa = device.isa();
            let loss = row_loss(isa, logits, target, spec, scratch);
            outcome.copy_from_slice(&[loss.nll, loss.objective]);
            if let Wanted::Gradient(storage) = wanted {
                row_gradient(isa, logits, target, spec, &loss, scratch);
                if storage == Storage::Halves {
                    gemm::round_in_place(device.isa(), place);
                }
            }
        }
    });
    arena.give(scratch);
}

/// The loss of one row and what its gradient needs.
struct RowLoss {
    nll: f32,
    objective: f32,
    log_z: f32,
    /// H(p), where the confidence penalty asks for it.
    entropy: f32,
}

/// For `Likeliest` leaves the ids of the chosen classes, as f32 bits, in `chosen`.
fn row_loss(
    isa: Isa,
    logits: &[f32],
    target: usize,
    spec: &LossSpec,
    chosen: &mut [f32],
) -> RowLoss {
    match isa.has_fused() {
        true => row_loss_with::<Fused>(isa, logits, target, spec, chosen),
        false => row_loss_with::<Separate>(isa, logits, target, spec, chosen),
    }
}

fn row_loss_with<E: Exponential>(
    isa: Isa,
    logits: &[f32],
    target: usize,
    spec: &LossSpec,
    chosen: &mut [f32],
) -> RowLoss {
    let most = dispatch(
        isa,
        #[inline(always)]
        || lanes::max(logits),
    );
    let (mass, total) = dispatch(
        isa,
        #[inline(always)]
        || {
            let mass = blocked_sum(
                logits,
                #[inline(always)]
                |z| E::of_negative(z - most),
            );
            let total = match spec.smoothing {
                Smoothing::Uniform { .. } | Smoothing::Wrong { .. } => blocked_sum(
                    logits,
                    #[inline(always)]
                    |z| z - most,
                ),
                _ => 0.0,
            };
            (mass, total)
        },
    );
    // Everything is measured from the largest logit, so that nothing cancels.
    let log_mass = mass.ln();
    let classes = logits.len() as f64;
    let own = f64::from(logits[target] - most);
    let nll = log_mass - own;
    let smoothed = match spec.smoothing {
        Smoothing::None => nll,
        Smoothing::Uniform { epsilon } => {
            log_mass - (1.0 - f64::from(epsilon)) * own - f64::from(epsilon) * total / classes
        }
        Smoothing::Wrong { epsilon } => {
            let wrong = (total - own) / (classes - 1.0);
            log_mass - (1.0 - f64::from(epsilon)) * own - f64::from(epsilon) * wrong
        }
        Smoothing::Likeliest { epsilon, k } => {
            choose(&mut chosen[..k], logits, target);
            let wrong =
                chosen[..k].iter().map(|id| f64::from(logits[id.to_bits() as usize] - most));
            let wrong = wrong.sum::<f64>() / k as f64;
            log_mass - (1.0 - f64::from(epsilon)) * own - f64::from(epsilon) * wrong
        }
    };
    let log_z = f64::from(most) + log_mass;
    let entropy = match spec.confidence {
        0.0 => 0.0,
        _ => log_mass - weighted::<E>(isa, logits, most) / mass,
    };
    let penalties = f64::from(spec.z_loss) * log_z * log_z - f64::from(spec.confidence) * entropy;
    RowLoss {
        nll: nll as f32,
        objective: (smoothed + penalties) as f32,
        log_z: log_z as f32,
        entropy: entropy as f32,
    }
}

/// Σ exp(z − most)·(z − most).
fn weighted<E: Exponential>(isa: Isa, logits: &[f32], most: f32) -> f64 {
    dispatch(
        isa,
        #[inline(always)]
        || {
            blocked_sum(
                logits,
                #[inline(always)]
                |z| E::of_negative(z - most) * (z - most),
            )
        },
    )
}

/// Σ f(z) in f32 lanes over blocks of 4096 and in f64 over the blocks.
#[inline(always)]
fn blocked_sum(logits: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0;
    for block in logits.chunks(4096) {
        total += f64::from(lanes::sum(block, &f));
    }
    total
}

/// The ids of the k largest logits but the target's, as f32 bits; ties go to the lower id.
fn choose(chosen: &mut [f32], logits: &[f32], target: usize) {
    let k = chosen.len();
    let mut count = 0;
    for (id, &logit) in logits.iter().enumerate() {
        let beats = |other: f32| logit > logits[other.to_bits() as usize];
        if id == target || (count == k && !beats(chosen[k - 1])) {
            continue;
        }
        let mut place = if count < k { count } else { k - 1 };
        while place > 0 && beats(chosen[place - 1]) {
            chosen[place] = chosen[place - 1];
            place -= 1;
        }
        chosen[place] = f32::from_bits(id as u32);
        count = (count + 1).min(k);
    }
}

/// logits ← scale·(p·(1 + 2·λ·log Z + β·(log p + H)) − q).
fn row_gradient(
    isa: Isa,
    logits: &mut [f32],
    target: usize,
    spec: &LossSpec,
    loss: &RowLoss,
    chosen: &[f32],
) {
    match isa.has_fused() {
        true => row_gradient_with::<Fused>(isa, logits, target, spec, loss, chosen),
        false => row_gradient_with::<Separate>(isa, logits, target, spec, loss, chosen),
    }
}

fn row_gradient_with<E: Exponential>(
    isa: Isa,
    logits: &mut [f32],
    target: usize,
    spec: &LossSpec,
    loss: &RowLoss,
    chosen: &[f32],
) {
    let classes = logits.len() as f32;
    // Mass of every class, extra mass of the target, mass of each chosen class.
    let (every, own, each) = match spec.smoothing {
        Smoothing::None => (0.0, 1.0, 0.0),
        Smoothing::Uniform { epsilon } => (epsilon / classes, 1.0 - epsilon, 0.0),
        Smoothing::Wrong { epsilon } => {
            let share = epsilon / (classes - 1.0);
            (share, 1.0 - epsilon - share, 0.0)
        }
        Smoothing::Likeliest { epsilon, k } => (0.0, 1.0 - epsilon, epsilon / k as f32),
    };
    let log_z = loss.log_z;
    let gain = spec.scale * (1.0 + 2.0 * spec.z_loss * log_z);
    let every = spec.scale * every;
    let (confidence, entropy) = (spec.scale * spec.confidence, loss.entropy);
    dispatch(
        isa,
        #[inline(always)]
        || {
            if confidence == 0.0 {
                for z in logits.iter_mut() {
                    *z = gain * E::of_negative(*z - log_z) - every;
                }
            } else {
                for z in logits.iter_mut() {
                    let log_p = *z - log_z;
                    *z = (gain + confidence * (log_p + entropy)) * E::of_negative(log_p) - every;
                }
            }
        },
    );
    logits[target] -= spec.scale * own;
    if each > 0.0 {
        for id in chosen {
            logits[id.to_bits() as usize] -= spec.scale * each;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_slopes, devices, values, wide};

    /// The specification: nll and objective of every row, ignored ones 0.
    fn reference(
        x: &[f64],
        head: &[f64],
        targets: &[u32],
        cols: usize,
        spec: &LossSpec,
    ) -> Vec<(f64, f64)> {
        let row = |(x, &target): (&[f64], &u32)| {
            if target == IGNORE {
                return (0.0, 0.0);
            }
            let dot = |w: &[f64]| -> f64 { x.iter().zip(w).map(|(x, w)| x * w).sum() };
            let z: Vec<f64> = head.chunks_exact(cols).map(dot).collect();
            let log_z = z.iter().map(|z| z.exp()).sum::<f64>().ln();
            let (own, classes) = (target as usize, z.len() as f64);
            let nll = |class: usize| log_z - z[class];
            let all: f64 = (0..z.len()).map(nll).sum();
            let (epsilon, others) = match spec.smoothing {
                Smoothing::None => (0.0, 0.0),
                Smoothing::Uniform { epsilon } => (epsilon, all / classes),
                Smoothing::Wrong { epsilon } => (epsilon, (all - nll(own)) / (classes - 1.0)),
                Smoothing::Likeliest { epsilon, k } => {
                    let mut ids: Vec<usize> = (0..z.len()).filter(|&id| id != own).collect();
                    ids.sort_by(|&a, &b| z[b].total_cmp(&z[a]));
                    (epsilon, ids[..k].iter().map(|&id| nll(id)).sum::<f64>() / k as f64)
                }
            };
            let epsilon = f64::from(epsilon);
            let smoothed = (1.0 - epsilon) * nll(own) + epsilon * others;
            let entropy: f64 = (0..z.len()).map(|class| nll(class) * (-nll(class)).exp()).sum();
            let penalty = f64::from(spec.z_loss) * log_z * log_z;
            (nll(own), smoothed + penalty - f64::from(spec.confidence) * entropy)
        };
        x.chunks_exact(cols).zip(targets).map(row).collect()
    }

    #[test]
    fn agrees_with_the_reference() {
        for device in devices() {
            for (rows, cols, vocabulary) in [(1, 3, 2), (7, 5, 11), (40, 9, 300)] {
                for smoothing in [
                    Smoothing::None,
                    Smoothing::Uniform { epsilon: 0.1 },
                    Smoothing::Wrong { epsilon: 0.2 },
                    Smoothing::Likeliest { epsilon: 0.3, k: (vocabulary / 3).max(1) },
                ] {
                    for (z_loss, confidence) in [(0.0, 0.0), (0.1, 0.0), (0.0, 0.3), (0.1, 2.0)] {
                        let spec = LossSpec { smoothing, z_loss, confidence, scale: 0.5 };
                        check(&device, rows, cols, vocabulary, &spec);
                    }
                }
            }
        }
    }

    fn check(device: &Device, rows: usize, cols: usize, vocabulary: usize, spec: &LossSpec) {
        let (x, head) = (values(rows * cols, 1), values(vocabulary * cols, 2));
        let target = |i: usize| if i % 5 == 4 { IGNORE } else { (i * 7 % vocabulary) as u32 };
        let targets: Vec<u32> = (0..rows).map(target).collect();
        let inputs = Inputs { x: &x, head: &head, bias: None, targets: &targets, cols };
        let (mut dx, mut dhead, mut nll) =
            (vec![f32::NAN; x.len()], vec![0.0; head.len()], vec![f32::NAN; rows]);
        let arena = &mut Arena::default();
        let off = &mut Profiler::default();
        let plain = cross_entropy(device, arena, off, &mut nll, inputs, spec, None);
        let gradients =
            Some(Gradients { dx: &mut dx, dhead: &mut dhead, into: Accumulate::Add, dbias: None });
        let report = cross_entropy(device, arena, off, &mut nll, inputs, spec, gradients);
        assert_eq!(plain, report);
        let (x64, head64) = (wide(&x), wide(&head));
        let expected = reference(&x64, &head64, &targets, cols, spec);
        let what = format!("{spec:?} {rows}×{cols}×{vocabulary} {}", device.describe());
        let close = |got: f64, expected: f64| {
            let error = (got - expected).abs();
            assert!(error <= 3e-6 * expected.abs().max(1.0), "{what}: {got}, {expected}");
        };
        close(report.nll_sum, expected.iter().map(|row| row.0).sum());
        close(report.objective_sum, expected.iter().map(|row| row.1).sum());
        nll.iter().zip(&expected).for_each(|(&nll, row)| close(f64::from(nll), row.0));
        let counted = targets.iter().filter(|&&t| t != IGNORE).count();
        assert_eq!(report.targets, counted as u64);
        let objective = |x: &[f64], head: &[f64]| -> Vec<f64> {
            reference(x, head, &targets, cols, spec).iter().map(|row| row.1).collect()
        };
        let dy = vec![spec.scale; rows];
        assert_slopes(&what, &dx, &x, &dy, 20, |x| objective(x, &head64));
        assert_slopes(&what, &dhead, &head, &dy, 20, |head| objective(&x64, head));
    }

    #[test]
    fn chunks_are_equal_and_bounded() {
        for (rows, vocabulary) in [(512, 50257), (1, 1 << 28), (2048, 65), (0, 7)] {
            let chunk = chunk_rows(rows, vocabulary);
            assert!(
                chunk >= 1 && (chunk == 1 || chunk * row_stride(vocabulary) * 4 <= CHUNK_BYTES)
            );
            assert!(rows.div_ceil(chunk) * chunk < rows + rows.div_ceil(chunk).max(1));
        }
    }

    #[test]
    fn chunking_changes_nothing_but_rounding() {
        // 600,000 classes make chunks of 30 rows.
        let (rows, cols, vocabulary) = (60, 2, 600_000);
        let device = &devices()[0];
        let spec = LossSpec::plain(1.0);
        let (x, head) = (values(rows * cols, 1), values(vocabulary * cols, 2));
        let targets: Vec<u32> = (0..rows as u32).map(|i| i * 4999).collect();
        let mut nll = vec![0.0; rows];
        let inputs = Inputs { x: &x, head: &head, bias: None, targets: &targets, cols };
        let arena = &mut Arena::default();
        let off = &mut Profiler::default();
        cross_entropy(device, arena, off, &mut nll, inputs, &spec, None);
        for row in [0, 29, 30, 59] {
            let own = &x[row * cols..(row + 1) * cols];
            let inputs = Inputs { x: own, targets: &targets[row..=row], ..inputs };
            let mut alone = [0.0];
            cross_entropy(device, arena, off, &mut alone, inputs, &spec, None);
            assert!((alone[0] - nll[row]).abs() < 1e-5);
        }
    }

    #[test]
    #[should_panic(expected = "target id 11 is not below 11")]
    fn an_unknown_target_is_refused() {
        let spec = LossSpec::plain(1.0);
        let inputs = Inputs { x: &[0.0; 2], head: &[0.0; 22], bias: None, targets: &[11], cols: 2 };
        let (arena, off) = (&mut Arena::default(), &mut Profiler::default());
        cross_entropy(&devices()[0], arena, off, &mut [0.0], inputs, &spec, None);
    }
}
