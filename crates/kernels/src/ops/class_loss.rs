//! The loss of one class per row, from logits `[copies·N, K]` of few classes: softmax
//! cross-entropy with everything that training puts around it.
//!
//! With the target distribution q of a row of class t, p its softmax, w a weight of the class and
//! γ the focus (Lin et al. 2017, arXiv:1708.02002), the plain objective is
//! L₀ = w·(1 − p_t)^γ·Σ q·(Z − z) + λ·Z² − β·H. A teacher's distribution makes it
//! L = (1 − α)·L₀ + α·T²·KL(tᵀ‖pᵀ) (Hinton et al. 2015), and two noisy passes of a row
//! ½(L₁ + L₂) + ρ·½(KL(p₁‖p₂) + KL(p₂‖p₁)) (R-Drop, Liang et al. 2021).
//!
//! Classes are few, so every row is computed in f64 as it is written here.

use super::cross_entropy::{IGNORE, LossReport, LossSpec, Smoothing};

/// What the loss of a class is made of besides the logits.
#[derive(Clone, Copy, Debug)]
pub struct ClassLoss<'a> {
    /// Target distribution, penalties, and the scale of the gradients.
    pub spec: LossSpec,
    /// w, one for each class; empty where all count alike.
    pub weights: &'a [f32],
    /// γ of the focal loss; 0 is none.
    pub focus: f32,
    /// ρ of R-Drop, where rows 2i and 2i + 1 of the logits are two passes of target i.
    pub twins: Option<f32>,
    /// What teachers say about every target.
    pub teaching: Option<ClassTeaching<'a>>,
}

/// A teacher's view of the targets.
#[derive(Clone, Copy, Debug)]
pub struct ClassTeaching<'a> {
    /// α, the teacher's share of the objective, in [0, 1].
    pub share: f32,
    /// T, at which both distributions are compared.
    pub temperature: f32,
    /// Its logits `[N, K]`.
    pub logits: &'a [f32],
}

impl ClassLoss<'_> {
    /// Cross-entropy and nothing else.
    pub const fn plain(scale: f32) -> ClassLoss<'static> {
        let spec = LossSpec::plain(scale);
        ClassLoss { spec, weights: &[], focus: 0.0, twins: None, teaching: None }
    }

    /// Passes of each target.
    pub fn copies(&self) -> usize {
        if self.twins.is_some() { 2 } else { 1 }
    }

    fn check(&self, classes: usize, targets: &[u32]) {
        for &target in targets {
            let known = target == IGNORE || (target as usize) < classes;
            assert!(known, "target class {target} is not below {classes}");
        }
        let weighed = self.weights.is_empty() || self.weights.len() == classes;
        assert!(weighed, "class loss: {} weights for {classes} classes", self.weights.len());
        assert!(self.focus >= 0.0, "class loss: γ = {}", self.focus);
        if let Smoothing::Likeliest { k, .. } = self.spec.smoothing {
            assert!(k >= 1 && k < classes, "likeliest: k = {k} of {classes} classes");
        }
        if let Some(teaching) = self.teaching {
            let expected = targets.len() * classes;
            assert_eq!(teaching.logits.len(), expected, "class loss: a teacher's logits");
            assert!(teaching.temperature > 0.0, "class loss: T = {}", teaching.temperature);
        }
    }
}

/// Losses of all targets; `nll` `[N]` receives the plain ones, the mean over a target's passes
/// (0 where ignored), and `gradient` `[copies·N, K]`, if wanted, d objective / d logits times the
/// scale.
///
/// # Panics
/// If sizes disagree, or a target is neither below K nor [`IGNORE`].
pub(crate) fn class_loss(
    logits: &[f32],
    classes: usize,
    targets: &[u32],
    loss: &ClassLoss,
    nll: &mut [f32],
    mut gradient: Option<&mut [f32]>,
) -> LossReport {
    let copies = loss.copies();
    assert_eq!(logits.len(), copies * targets.len() * classes, "class loss: a row per target");
    assert_eq!(nll.len(), targets.len(), "class loss: size of nll");
    loss.check(classes, targets);
    let mut report = LossReport::default();
    let width = copies * classes;
    for (row, (&target, nll)) in targets.iter().zip(nll).enumerate() {
        let range = row * width..(row + 1) * width;
        if target == IGNORE {
            *nll = 0.0;
            if let Some(gradient) = gradient.as_deref_mut() {
                gradient[range].fill(0.0);
            }
            continue;
        }
        let lesson = loss.teaching.map(|t| (t, &t.logits[row * classes..(row + 1) * classes]));
        let passes: Vec<Passed> = logits[range.clone()]
            .chunks_exact(classes)
            .map(|logits| Passed::new(logits, target as usize, loss, lesson))
            .collect();
        let share = 1.0 / copies as f64;
        let own: f64 = passes.iter().map(|pass| share * pass.nll).sum();
        let (apart, pulls) = apart(&passes, loss.twins);
        report.objective_sum += apart + passes.iter().map(|p| share * p.objective).sum::<f64>();
        report.nll_sum += own;
        report.targets += 1;
        *nll = own as f32;
        if let Some(gradient) = gradient.as_deref_mut() {
            let slopes = passes.iter().flat_map(|pass| &pass.slope).zip(&pulls);
            for (out, (slope, pull)) in gradient[range].iter_mut().zip(slopes) {
                *out = (f64::from(loss.spec.scale) * (share * slope + pull)) as f32;
            }
        }
    }
    report
}

/// One pass of one target.
struct Passed {
    log_p: Vec<f64>,
    nll: f64,
    objective: f64,
    /// d objective / d logits.
    slope: Vec<f64>,
}

impl Passed {
    fn new(
        logits: &[f32],
        target: usize,
        loss: &ClassLoss,
        lesson: Option<(ClassTeaching, &[f32])>,
    ) -> Passed {
        let spec = &loss.spec;
        let (log_p, log_z) = log_softmax(logits, 1.0);
        let p: Vec<f64> = log_p.iter().map(|l| l.exp()).collect();
        let q = wanted(&log_p, target, spec.smoothing);
        let entropy_cross: f64 = -q.iter().zip(&log_p).map(|(q, l)| q * l).sum::<f64>();
        let entropy: f64 = -p.iter().zip(&log_p).map(|(p, l)| p * l).sum::<f64>();
        let weight = loss.weights.get(target).map_or(1.0, |&w| f64::from(w));
        let (z_loss, confidence) = (f64::from(spec.z_loss), f64::from(spec.confidence));
        let gamma = f64::from(loss.focus);
        let missed = 1.0 - p[target];
        // dm/dz = −γ(1−p_t)^(γ−1)·p_t·(e_t − p); no focus has no slope, not 0·∞.
        let (focus, focus_slope) = match loss.focus {
            0.0 => (1.0, 0.0),
            _ => (missed.powf(gamma), gamma * missed.powf(gamma - 1.0) * p[target]),
        };
        let focus_slope = if focus_slope.is_finite() { focus_slope } else { 0.0 };
        let mut objective =
            weight * focus * entropy_cross + z_loss * log_z * log_z - confidence * entropy;
        let mut slope: Vec<f64> = (0..p.len())
            .map(|class| {
                let own = if class == target { 1.0 } else { 0.0 };
                weight
                    * (focus * (p[class] - q[class])
                        - focus_slope * (own - p[class]) * entropy_cross)
                    + 2.0 * z_loss * log_z * p[class]
                    + confidence * p[class] * (log_p[class] + entropy)
            })
            .collect();
        if let Some((teaching, lesson)) = lesson {
            let (share, t) = (f64::from(teaching.share), f64::from(teaching.temperature));
            let (own, said) = (log_softmax(logits, t).0, log_softmax(lesson, t).0);
            let apart: f64 = said.iter().zip(&own).map(|(s, o)| s.exp() * (s - o)).sum();
            objective = (1.0 - share) * objective + share * t * t * apart;
            for ((slope, own), said) in slope.iter_mut().zip(&own).zip(&said) {
                *slope = (1.0 - share) * *slope + share * t * (own.exp() - said.exp());
            }
        }
        Passed { nll: -log_p[target], objective, slope, log_p }
    }
}

/// What the disagreement of two passes adds to the objective and to each pass's slopes.
fn apart(passes: &[Passed], strength: Option<f32>) -> (f64, Vec<f64>) {
    let width = passes.iter().map(|pass| pass.log_p.len()).sum();
    let (Some(strength), [one, two]) = (strength, passes) else { return (0.0, vec![0.0; width]) };
    let half = 0.5 * f64::from(strength);
    let divergence = |a: &Passed, b: &Passed| -> f64 {
        a.log_p.iter().zip(&b.log_p).map(|(a, b)| a.exp() * (a - b)).sum()
    };
    let (forth, back) = (divergence(one, two), divergence(two, one));
    let pull = |a: &Passed, b: &Passed, own: f64| -> Vec<f64> {
        let each = a.log_p.iter().zip(&b.log_p);
        each.map(|(a, b)| half * (a.exp() * (a - b - own) + a.exp() - b.exp())).collect()
    };
    let mut pulls = pull(one, two, forth);
    pulls.extend(pull(two, one, back));
    (half * (forth + back), pulls)
}

/// log softmax(z / T), and log Σ exp(z / T).
fn log_softmax(logits: &[f32], temperature: f64) -> (Vec<f64>, f64) {
    let scaled = logits.iter().map(|&z| f64::from(z) / temperature);
    let most = scaled.clone().fold(f64::NEG_INFINITY, f64::max);
    let log_z = most + scaled.clone().map(|z| (z - most).exp()).sum::<f64>().ln();
    (scaled.map(|z| z - log_z).collect(), log_z)
}

/// The target distribution.
fn wanted(log_p: &[f64], target: usize, smoothing: Smoothing) -> Vec<f64> {
    let classes = log_p.len();
    let mut q = vec![0.0; classes];
    match smoothing {
        Smoothing::None => {}
        Smoothing::Uniform { epsilon } => q.fill(f64::from(epsilon) / classes as f64),
        Smoothing::Wrong { epsilon } => {
            q.fill(f64::from(epsilon) / (classes - 1) as f64);
            q[target] = 0.0;
        }
        Smoothing::Likeliest { epsilon, k } => {
            let mut wrong: Vec<usize> = (0..classes).filter(|&c| c != target).collect();
            // Stable: the lower class wins a tie.
            wrong.sort_by(|&a, &b| log_p[b].total_cmp(&log_p[a]));
            wrong[..k].iter().for_each(|&class| q[class] = f64::from(epsilon) / k as f64);
        }
    }
    q[target] += 1.0 - smoothing.epsilon();
    q
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::values;

    const CLASSES: usize = 5;
    const TARGETS: [u32; 4] = [3, 0, IGNORE, 2];

    fn objective(logits: &[f32], loss: &ClassLoss) -> f64 {
        let mut nll = [f32::NAN; TARGETS.len()];
        let report = class_loss(logits, CLASSES, &TARGETS, loss, &mut nll, None);
        assert_eq!(report.targets, 3);
        let sum: f64 = nll.iter().map(|&nll| f64::from(nll)).sum();
        assert!((sum - report.nll_sum).abs() < 1e-5);
        report.objective_sum
    }

    #[test]
    fn gradients_are_the_slopes_of_the_objective() {
        let weights = [0.5, 2.0, 1.0, 0.25, 3.0];
        let lesson = values(TARGETS.len() * CLASSES, 9);
        let teaching = ClassTeaching { share: 0.4, temperature: 2.0, logits: &lesson };
        let smoothings = [
            Smoothing::None,
            Smoothing::Uniform { epsilon: 0.1 },
            Smoothing::Wrong { epsilon: 0.2 },
            Smoothing::Likeliest { epsilon: 0.3, k: 2 },
        ];
        let base = ClassLoss::plain(0.5);
        for smoothing in smoothings {
            for (z_loss, confidence) in [(0.0, 0.0), (0.1, 0.3)] {
                let spec = LossSpec { smoothing, z_loss, confidence, scale: 0.5 };
                for (focus, twins) in [(0.0, None), (2.0, None), (1.0, Some(0.7)), (0.5, None)] {
                    let loss = ClassLoss { spec, focus, twins, ..base };
                    check(&loss);
                    check(&ClassLoss { weights: &weights, ..loss });
                    check(&ClassLoss { teaching: Some(teaching), ..loss });
                }
            }
        }
    }

    fn check(loss: &ClassLoss) {
        let logits = values(loss.copies() * TARGETS.len() * CLASSES, 3);
        let mut gradient = vec![f32::NAN; logits.len()];
        let mut nll = [0.0; TARGETS.len()];
        class_loss(&logits, CLASSES, &TARGETS, loss, &mut nll, Some(&mut gradient));
        for index in 0..logits.len() {
            // Exact in f32, so that the difference is that of the function.
            let step = 1.0 / 1024.0;
            let at = |sign: f32| {
                let mut moved = logits.clone();
                moved[index] += sign * step;
                (f64::from(moved[index]), objective(&moved, loss))
            };
            let ((above, high), (below, low)) = (at(1.0), at(-1.0));
            let slope = 0.5 * (high - low) / (above - below);
            let error = (slope - f64::from(gradient[index])).abs();
            assert!(error < 2e-6, "{loss:?} at {index}: {slope}, {}", gradient[index]);
        }
    }

    #[test]
    fn weights_and_focus_follow_their_formulas() {
        // Two classes with logits 0 and ln 3: p = (1/4, 3/4).
        let logits = [0.0, 3f32.ln()];
        let of = |target: u32, loss: ClassLoss| {
            class_loss(&logits, 2, &[target], &loss, &mut [0.0], None).objective_sum
        };
        let plain = ClassLoss::plain(1.0);
        assert!((of(0, plain) - 4f64.ln()).abs() < 1e-6);
        let weighted = ClassLoss { weights: &[3.0, 0.5], ..plain };
        assert!((of(0, weighted) - 3.0 * 4f64.ln()).abs() < 1e-6);
        let focal = ClassLoss { focus: 2.0, ..plain };
        assert!((of(1, focal) - (4.0 / 3f64).ln() / 16.0).abs() < 1e-6);
    }
}
