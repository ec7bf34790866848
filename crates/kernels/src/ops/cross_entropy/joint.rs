//! Losses of a row that take more than its own logits: a teacher's distribution (distillation,
//! Hinton et al. 2015) and a second noisy pass of the same row (R-Drop, Liang et al. 2021).
//!
//! With the plain objective CE of a row, a teacher's probabilities t at temperature T and the
//! row's own p, every pass has the loss L = (1−α)·CE + α·T²·KL(tᵀ‖pᵀ). Of two passes with logits
//! z₁ and z₂ the objective is ½(L₁ + L₂) + β·½(KL(p₁‖p₂) + KL(p₂‖p₁)).
//!
//! Both passes of a row, and the teacher's logits for it, are in the same chunk: full logits are
//! never kept, neither the student's nor a teacher's.

use std::ops::Range;

use super::{
    Gradients, Inputs, LossReport, LossSpec, Smoothing, Wanted, bias, blocked_sum, check,
    chunk_rows, collect, project, row_gradient, row_loss,
};
use crate::arena::{Arena, Buffer};
use crate::device::{Device, Isa};
use crate::gemm::{Accumulate, Mat};
use crate::math::{exp, ln};
use crate::ops::lanes;
use crate::parallel;
use crate::pool::Disjoint;
use crate::profile::{Profiler, Work};
use crate::simd::dispatch;
use crate::values::Storage;

/// What enters the loss of a row besides its own logits; the default is nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Joint<'a> {
    /// Every sequence was passed twice.
    pub twins: Option<Twins>,
    /// Teachers that saw the same tokens.
    pub teaching: Option<Teaching<'a>>,
}

/// Two passes of every sequence, side by side: sequences 2s and 2s + 1 of x are the s-th of the
/// targets under different noise.
#[derive(Clone, Copy, Debug)]
pub struct Twins {
    /// β of β·½(KL(p₁‖p₂) + KL(p₂‖p₁)).
    pub strength: f32,
    /// Positions per sequence, T.
    pub seq_len: usize,
}

/// What teachers say about every row.
#[derive(Clone, Copy, Debug)]
pub struct Teaching<'a> {
    /// α, the teachers' share of the objective, in [0, 1].
    pub share: f32,
    /// T, at which both distributions are compared.
    pub temperature: f32,
    /// At least one; of several the probabilities are averaged.
    pub teachers: &'a [TeacherRows<'a>],
}

/// A teacher's final hidden states `[N, cols]`, one row a target, and its head `[V, cols]`.
#[derive(Clone, Copy, Debug)]
pub struct TeacherRows<'a> {
    /// What its head turns into logits.
    pub hidden: &'a [f32],
    /// Its output projection.
    pub head: &'a [f32],
    /// Its width.
    pub cols: usize,
}

impl Joint<'_> {
    /// Whether a row's own logits are all that its loss needs.
    pub fn is_plain(&self) -> bool {
        self.twins.is_none() && self.teaching.is_none()
    }

    /// Passes of each sequence.
    pub fn copies(&self) -> usize {
        if self.twins.is_some() { 2 } else { 1 }
    }

    /// The rows of x that belong to target `row`.
    fn rows_of(&self, row: usize) -> [usize; 2] {
        match self.twins {
            None => [row; 2],
            Some(Twins { seq_len, .. }) => {
                let first = row + row / seq_len * seq_len;
                [first, first + seq_len]
            }
        }
    }

    fn assert_fits(&self, inputs: &Inputs, vocabulary: usize) {
        let rows = inputs.targets.len();
        let expected = rows * self.copies() * inputs.cols;
        assert_eq!(inputs.x.len(), expected, "joint loss: {} rows a target", self.copies());
        if let Some(Twins { seq_len, .. }) = self.twins {
            assert!(seq_len > 0 && rows.is_multiple_of(seq_len), "joint loss: whole sequences");
        }
        let Some(teaching) = self.teaching else { return };
        assert!(!teaching.teachers.is_empty(), "joint loss: teaching without a teacher");
        assert!((0.0..=1.0).contains(&teaching.share), "joint loss: α = {}", teaching.share);
        assert!(teaching.temperature > 0.0, "joint loss: T = {}", teaching.temperature);
        for teacher in teaching.teachers {
            assert_eq!(teacher.head.len(), vocabulary * teacher.cols, "a teacher's head");
            assert_eq!(teacher.hidden.len(), rows * teacher.cols, "a teacher's hidden states");
        }
    }
}

/// As [`super::cross_entropy()`], for x `[copies·N, C]` and targets `[N]`. `nll` `[N]` is the mean
/// over the passes of a row.
///
/// # Panics
/// If sizes disagree, or a target is neither below V nor [`super::IGNORE`].
pub(crate) fn joint(
    device: &Device,
    arena: &mut Arena,
    profiler: &mut Profiler,
    nll: &mut [f32],
    inputs: Inputs,
    (spec, joint): (&LossSpec, &Joint),
    mut gradients: Option<Gradients>,
) -> LossReport {
    let (rows, vocabulary, cols) = (inputs.targets.len(), inputs.vocabulary(), inputs.cols);
    joint.assert_fits(&inputs, vocabulary);
    assert_eq!(nll.len(), rows, "joint loss: size of nll");
    check(inputs.targets, vocabulary, spec);
    let (copies, taught) = (joint.copies(), usize::from(joint.teaching.is_some()));
    let chunk = chunk_rows(rows, vocabulary * (copies + taught));
    let mut logits = arena.take(chunk * copies * vocabulary);
    let mut lessons = arena.take(chunk * taught * vocabulary);
    let pairs = if copies > 1 { chunk * copies * cols } else { 0 };
    let (mut gathered, mut returned) = (arena.take(pairs), arena.take(pairs));
    let mut sums = arena.take(2 * rows);
    let (head, size) = (Mat::new(inputs.head, vocabulary, cols), Some([vocabulary, cols]));
    for start in (0..rows).step_by(chunk) {
        let part = start..(start + chunk).min(rows);
        let count = part.len() * copies;
        let logits = &mut logits[..count * vocabulary];
        let lessons = &mut lessons[..part.len() * taught * vocabulary];
        let gathered = &mut gathered[..pairs.min(count * cols)];
        if let Some(teaching) = &joint.teaching {
            let since = profiler.now();
            teach(device, arena, lessons, teaching, part.clone(), vocabulary);
            profiler.span("teachers' logits", None, since, teaching.work(part.len(), vocabulary));
        }
        gather(gathered, inputs.x, joint, part.clone(), cols);
        let x = if copies > 1 { gathered } else { &inputs.x[start * cols..part.end * cols] };
        let x = Mat::new(x, count, cols);
        let product = Work::products(2.0 * count as f64 * inputs.head.len() as f64);
        let since = profiler.now();
        bias::project(device, logits, vocabulary, x, head, inputs.bias);
        profiler.span("logits", size, since, product);
        let moved = Work::moved((logits.len() + lessons.len()) * 2);
        let since = profiler.now();
        let outcome = &mut sums[2 * part.start..2 * part.end];
        let gradient = gradients.as_ref().map(|_| Wanted::Gradient(Storage::Floats));
        let wanted = gradient.unwrap_or(Wanted::Loss);
        let unit = Unit { isa: device.isa(), spec, joint, wanted };
        losses(device, arena, logits, lessons, outcome, &inputs.targets[part.clone()], unit);
        profiler.span("softmax and joint loss", None, since, moved);
        if let Some(Gradients { dx, dhead, into, dbias }) = &mut gradients {
            let dlogits = Mat::new(logits, count, vocabulary);
            let since = profiler.now();
            project(device, dhead, cols, dlogits.t(), x, *into);
            bias::backward(device, dbias.as_deref_mut(), dlogits);
            *into = Accumulate::Add;
            profiler.span("logits backward weight", size, since, product);
            let since = profiler.now();
            let out = match copies {
                1 => &mut dx[part.start * cols..part.end * cols],
                _ => &mut returned[..count * cols],
            };
            project(device, out, cols, dlogits, head, Accumulate::Overwrite);
            scatter(dx, &returned, joint, part, cols);
            profiler.span("logits backward input", size, since, product);
        }
    }
    let report = collect(nll, &sums, inputs.targets);
    for buffer in [logits, lessons, gathered, returned, sums] {
        arena.give(buffer);
    }
    report
}

/// `out` `[2n, C]` ← the first passes of the rows, then the second ones.
fn gather(out: &mut [f32], x: &[f32], joint: &Joint, rows: Range<usize>, cols: usize) {
    if out.is_empty() {
        return;
    }
    let count = rows.len();
    for (index, row) in rows.enumerate() {
        for (copy, from) in joint.rows_of(row).into_iter().enumerate() {
            let to = (copy * count + index) * cols;
            out[to..to + cols].copy_from_slice(&x[from * cols..][..cols]);
        }
    }
}

/// The way back of [`gather`].
fn scatter(x: &mut [f32], from: &[f32], joint: &Joint, rows: Range<usize>, cols: usize) {
    if from.is_empty() {
        return;
    }
    let count = rows.len();
    for (index, row) in rows.enumerate() {
        for (copy, to) in joint.rows_of(row).into_iter().enumerate() {
            let from = &from[(copy * count + index) * cols..][..cols];
            x[to * cols..][..cols].copy_from_slice(from);
        }
    }
}

impl Teaching<'_> {
    fn work(&self, rows: usize, vocabulary: usize) -> Work {
        let widths: usize = self.teachers.iter().map(|teacher| teacher.cols).sum();
        Work::products(2.0 * (rows * vocabulary) as f64 * widths as f64)
    }
}

/// `lessons` `[n, V]` ← the logarithms of the teachers' mean probabilities at temperature T.
fn teach(
    device: &Device,
    arena: &mut Arena,
    lessons: &mut [f32],
    teaching: &Teaching,
    rows: Range<usize>,
    vocabulary: usize,
) {
    let scores = |out: &mut [f32], teacher: &TeacherRows| {
        let x = &teacher.hidden[rows.start * teacher.cols..];
        let x = Mat::new(x, rows.len(), teacher.cols);
        let head = Mat::new(teacher.head, vocabulary, teacher.cols);
        project(device, out, vocabulary, x, head.t(), Accumulate::Overwrite);
        each_row(device, out, vocabulary, |row| {
            log_softmax(device.isa(), row, teaching.temperature);
        });
    };
    if let [only] = teaching.teachers {
        scores(lessons, only);
        return;
    }
    lessons.fill(0.0);
    let mut own = arena.take(lessons.len());
    let share = 1.0 / teaching.teachers.len() as f32;
    for teacher in teaching.teachers {
        scores(&mut own, teacher);
        let sum = Disjoint::new(lessons);
        parallel::ranges(device, own.len(), 16_384, |range| {
            #[allow(unsafe_code)]
            // SAFETY: the ranges do not overlap.
            let sum = unsafe { sum.range(range.clone()) };
            add_probabilities(device.isa(), sum, &own[range], share);
        });
    }
    arena.give(own);
    // Where every teacher says (nearly) never, a tiny number keeps the logarithm finite.
    each_row(device, lessons, vocabulary, |row| {
        dispatch(
            device.isa(),
            #[inline(always)]
            || row.iter_mut().for_each(|p| *p = ln(p.max(f32::MIN_POSITIVE))),
        );
    });
}

/// sum ← sum + share·exp(own).
fn add_probabilities(isa: Isa, sum: &mut [f32], own: &[f32], share: f32) {
    dispatch(
        isa,
        #[inline(always)]
        || sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += share * exp(*own)),
    );
}

fn each_row(device: &Device, values: &mut [f32], cols: usize, body: impl Fn(&mut [f32]) + Sync) {
    let rows = values.len() / cols;
    let all = Disjoint::new(values);
    parallel::ranges(device, rows, parallel::grain_of(cols), |range| {
        for row in range {
            #[allow(unsafe_code)]
            // SAFETY: every row is in one range alone.
            body(unsafe { all.range(row * cols..(row + 1) * cols) });
        }
    });
}

/// max z and log Σ exp((z − max z)/T).
fn log_mass(isa: Isa, logits: &[f32], temperature: f32) -> (f32, f32) {
    let inverse = 1.0 / temperature;
    let (most, mass) = dispatch(
        isa,
        #[inline(always)]
        || {
            let most = lanes::max(logits);
            let mass = blocked_sum(
                logits,
                #[inline(always)]
                |z| exp((z - most) * inverse),
            );
            (most, mass)
        },
    );
    (most, mass.ln() as f32)
}

/// z ← log softmax(z/T).
fn log_softmax(isa: Isa, logits: &mut [f32], temperature: f32) {
    let (most, log_mass) = log_mass(isa, logits, temperature);
    let inverse = 1.0 / temperature;
    dispatch(
        isa,
        #[inline(always)]
        || logits.iter_mut().for_each(|z| *z = (*z - most) * inverse - log_mass),
    );
}

/// `outcome` `[n, 2]` ← nll and objective of each target; logits become gradients if wanted.
fn losses(
    device: &Device,
    arena: &mut Arena,
    logits: &mut [f32],
    lessons: &[f32],
    outcome: &mut [f32],
    targets: &[u32],
    unit: Unit,
) {
    let (count, copies) = (targets.len(), unit.joint.copies());
    let vocabulary = logits.len() / (count * copies);
    let likeliest = match unit.spec.smoothing {
        Smoothing::Likeliest { k, .. } => k,
        _ => 0,
    };
    let (logits, outcome) = (Disjoint::new(logits), Disjoint::new(outcome));
    let grain = parallel::grain_of(vocabulary * copies);
    let items = count.div_ceil(grain);
    let share = copies * (vocabulary + likeliest);
    let mut scratch: Buffer = arena.take(parallel::workers(device, items) * share);
    parallel::with_scratch(device, items, &mut scratch, |item, scratch| {
        for index in parallel::run_of(item, grain, count) {
            let row_of = |copy: usize| (copy * count + index) * vocabulary;
            #[allow(unsafe_code)]
            // SAFETY: the rows of one target belong to one item.
            let (mut rows, outcome) = unsafe {
                let row = |copy| logits.range(row_of(copy)..row_of(copy) + vocabulary);
                let rows = if copies == 2 { [row(0), row(1)] } else { [row(0), &mut []] };
                (rows, outcome.range(2 * index..2 * index + 2))
            };
            let rows = &mut rows[..copies];
            if targets[index] == super::IGNORE {
                outcome.fill(0.0);
                rows.iter_mut().for_each(|row| row.fill(0.0));
                continue;
            }
            let lesson = lessons.get(index * vocabulary..(index + 1) * vocabulary);
            let target = targets[index] as usize;
            let (nll, objective) = unit.losses(rows, target, lesson, scratch);
            outcome.copy_from_slice(&[nll, objective]);
        }
    });
    arena.give(scratch);
}

/// What the loss of every target is made of.
#[derive(Clone, Copy)]
struct Unit<'a> {
    isa: Isa,
    spec: &'a LossSpec,
    joint: &'a Joint<'a>,
    wanted: Wanted,
}

impl Unit<'_> {
    /// nll and objective of a target with the logits of its one or two passes, which become
    /// gradients if wanted. `scratch` holds as many numbers as logits, then the chosen classes.
    fn losses(
        &self,
        rows: &mut [&mut [f32]],
        target: usize,
        lesson: Option<&[f32]>,
        scratch: &mut [f32],
    ) -> (f32, f32) {
        let (copies, vocabulary) = (rows.len(), rows[0].len());
        let weight = 1.0 / copies as f32;
        let teaching = self.joint.teaching;
        let hard = weight * teaching.map_or(1.0, |teaching| 1.0 - teaching.share);
        let (extra, chosen) = scratch.split_at_mut(copies * vocabulary);
        let k = chosen.len() / copies;
        let mut plain = [None, None];
        let (mut nll, mut objective) = (0.0, 0.0);
        for (copy, logits) in rows.iter().enumerate() {
            let chosen = &mut chosen[copy * k..(copy + 1) * k];
            let loss = row_loss(self.isa, logits, target, self.spec, chosen);
            nll += weight * loss.nll;
            objective += hard * loss.objective;
            let extra = &mut extra[copy * vocabulary..(copy + 1) * vocabulary];
            match (teaching, lesson) {
                (Some(teaching), Some(lesson)) => {
                    objective += weight * self.learn(extra, logits, lesson, &teaching, weight);
                }
                _ => extra.fill(0.0),
            }
            plain[copy] = Some(loss);
        }
        if let (Some(twins), [first, second], [Some(before), Some(after)]) =
            (self.joint.twins, &*rows, &plain)
        {
            let (one, two) = extra.split_at_mut(vocabulary);
            let strength = 0.5 * twins.strength;
            objective += strength
                * self.agree([first, second], [before.log_z, after.log_z], [one, two], strength);
        }
        if self.wanted != Wanted::Loss {
            let spec = LossSpec { scale: self.spec.scale * hard, ..*self.spec };
            for (copy, (logits, loss)) in rows.iter_mut().zip(plain.iter().flatten()).enumerate() {
                let chosen = &chosen[copy * k..(copy + 1) * k];
                row_gradient(self.isa, logits, target, &spec, loss, chosen);
                let extra = &extra[copy * vocabulary..(copy + 1) * vocabulary];
                logits.iter_mut().zip(extra).for_each(|(g, extra)| *g += extra);
            }
        }
        (nll, objective)
    }

    /// α·T²·KL(t‖p) at temperature T; `extra` ← its gradient α·T·(p − t), by `weight` and scale.
    fn learn(
        &self,
        extra: &mut [f32],
        logits: &[f32],
        lesson: &[f32],
        teaching: &Teaching,
        weight: f32,
    ) -> f32 {
        let Teaching { share, temperature, .. } = *teaching;
        let (most, log_mass) = log_mass(self.isa, logits, temperature);
        let inverse = 1.0 / temperature;
        let factor = self.spec.scale * weight * share * temperature;
        let divergence = dispatch(
            self.isa,
            #[inline(always)]
            || {
                let mut total = 0.0;
                for (block, (z, t)) in
                    extra.chunks_mut(4096).zip(logits.chunks(4096).zip(lesson.chunks(4096)))
                {
                    for (extra, z) in block.iter_mut().zip(z) {
                        *extra = (z - most) * inverse - log_mass;
                    }
                    total += f64::from(lanes::sum2(
                        t,
                        block,
                        #[inline(always)]
                        |t, p| exp(t) * (t - p),
                    ));
                    for (extra, t) in block.iter_mut().zip(t) {
                        *extra = factor * (exp(*extra) - exp(*t));
                    }
                }
                total
            },
        );
        share * temperature * temperature * divergence as f32
    }

    /// KL(p₁‖p₂) + KL(p₂‖p₁); adds `strength` and scale times its gradients to `extra`:
    /// with a = log p₁ − log p₂ that of z₁ is p₁·(a − KL(p₁‖p₂)) + p₁ − p₂.
    fn agree(
        &self,
        logits: [&[f32]; 2],
        log_z: [f32; 2],
        extra: [&mut [f32]; 2],
        strength: f32,
    ) -> f32 {
        let [z, y] = logits;
        let shift = log_z[0] - log_z[1];
        let factor = self.spec.scale * strength;
        let [one, two] = extra;
        let sums = dispatch(
            self.isa,
            #[inline(always)]
            || {
                let (mut forward, mut backward) = (0.0, 0.0);
                for (z, y) in z.chunks(4096).zip(y.chunks(4096)) {
                    forward += f64::from(lanes::sum2(
                        z,
                        y,
                        #[inline(always)]
                        |z, y| exp(z - log_z[0]) * (z - y - shift),
                    ));
                    backward += f64::from(lanes::sum2(
                        z,
                        y,
                        #[inline(always)]
                        |z, y| exp(y - log_z[1]) * (y - z + shift),
                    ));
                }
                let (to, fro) = (forward as f32, backward as f32);
                for (((one, two), z), y) in one.iter_mut().zip(two.iter_mut()).zip(z).zip(y) {
                    let (p, q, a) = (exp(z - log_z[0]), exp(y - log_z[1]), z - y - shift);
                    *one += factor * (p * (a - to) + p - q);
                    *two += factor * (q * (-a - fro) + q - p);
                }
                forward + backward
            },
        );
        sums as f32
    }
}

#[cfg(test)]
#[path = "joint_tests.rs"]
mod tests;
