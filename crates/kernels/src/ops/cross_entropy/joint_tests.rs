//! The joint loss against its formula in f64, its gradients against differences.

use super::*;
use crate::ops::cross_entropy::{IGNORE, cross_entropy};
use crate::testing::{assert_slopes, devices, values, wide};

const COLS: usize = 5;
const TEACHERS: [usize; 2] = [3, 7];

struct Case {
    rows: usize,
    seq_len: usize,
    vocabulary: usize,
    spec: LossSpec,
    /// β; no twins where absent.
    twins: Option<f32>,
    /// α, T and how many teachers.
    teaching: Option<(f32, f32, usize)>,
}

fn log_softmax(logits: &[f64], temperature: f64) -> Vec<f64> {
    let log_z = logits.iter().map(|z| (z / temperature).exp()).sum::<f64>().ln();
    logits.iter().map(|z| z / temperature - log_z).collect()
}

fn logits(x: &[f64], head: &[f64], cols: usize) -> Vec<f64> {
    let dot = |w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum();
    head.chunks_exact(cols).map(dot).collect()
}

fn divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()
}

impl Case {
    fn targets(&self) -> Vec<u32> {
        let target = |i: usize| if i % 5 == 4 { IGNORE } else { (i * 7 % self.vocabulary) as u32 };
        (0..self.rows).map(target).collect()
    }

    fn copies(&self) -> usize {
        if self.twins.is_some() { 2 } else { 1 }
    }

    /// Hidden states and heads of the teachers.
    fn teachers(&self) -> Vec<(Vec<f32>, Vec<f32>, usize)> {
        let count = self.teaching.map_or(0, |(_, _, count)| count);
        let teacher = |(number, cols): (usize, &usize)| {
            let seed = 10 + 2 * number as u64;
            (values(self.rows * cols, seed), values(self.vocabulary * cols, seed + 1), *cols)
        };
        TEACHERS.iter().enumerate().take(count).map(teacher).collect()
    }

    /// The specification: nll and objective of every target, ignored ones 0.
    fn reference(&self, x: &[f64], head: &[f64]) -> Vec<(f64, f64)> {
        let teachers = self.teachers();
        let of = |row: usize, target: u32| -> (f64, f64) {
            if target == IGNORE {
                return (0.0, 0.0);
            }
            let target = target as usize;
            let first = row / self.seq_len * self.seq_len * self.copies() + row % self.seq_len;
            let rows = (0..self.copies()).map(|copy| first + copy * self.seq_len);
            let all: Vec<_> =
                rows.map(|row| logits(&x[row * COLS..][..COLS], head, COLS)).collect();
            let (mut nll, mut objective) = (0.0, 0.0);
            for z in &all {
                let p = log_softmax(z, 1.0);
                let log_z = z[0] - p[0];
                let mean = p.iter().sum::<f64>() / p.len() as f64;
                let epsilon = match self.spec.smoothing {
                    Smoothing::Uniform { epsilon } => f64::from(epsilon),
                    _ => 0.0,
                };
                let hard = -(1.0 - epsilon) * p[target] - epsilon * mean
                    + f64::from(self.spec.z_loss) * log_z * log_z;
                let own = match self.teaching {
                    None => hard,
                    Some((share, temperature, count)) => {
                        let (share, temperature) = (f64::from(share), f64::from(temperature));
                        let mut t = vec![0.0; self.vocabulary];
                        for (hidden, head, cols) in &teachers {
                            let hidden = wide(&hidden[row * cols..][..*cols]);
                            let z = logits(&hidden, &wide(head), *cols);
                            let p = log_softmax(&z, temperature);
                            t.iter_mut().zip(&p).for_each(|(t, p)| *t += p.exp() / count as f64);
                        }
                        let t: Vec<f64> = t.iter().map(|t| t.ln()).collect();
                        let kl = divergence(&t, &log_softmax(z, temperature));
                        (1.0 - share) * hard + share * temperature * temperature * kl
                    }
                };
                nll -= p[target] / self.copies() as f64;
                objective += own / self.copies() as f64;
            }
            if let (Some(strength), [one, two]) = (self.twins, &all[..]) {
                let (p, q) = (log_softmax(one, 1.0), log_softmax(two, 1.0));
                let both = divergence(&p, &q) + divergence(&q, &p);
                objective += 0.5 * f64::from(strength) * both;
            }
            (nll, objective)
        };
        self.targets().into_iter().enumerate().map(|(row, target)| of(row, target)).collect()
    }

    fn check(&self, device: &Device) {
        let rows = self.rows * self.copies();
        let (x, head) = (values(rows * COLS, 1), values(self.vocabulary * COLS, 2));
        let (targets, teachers) = (self.targets(), self.teachers());
        let teachers: Vec<TeacherRows> = teachers
            .iter()
            .map(|(hidden, head, cols)| TeacherRows { hidden, head, cols: *cols })
            .collect();
        let joint = Joint {
            twins: self.twins.map(|strength| Twins { strength, seq_len: self.seq_len }),
            teaching: self.teaching.map(|(share, temperature, _)| Teaching {
                share,
                temperature,
                teachers: &teachers,
            }),
        };
        let (mut dx, mut dhead) = (vec![f32::NAN; x.len()], vec![0.0; head.len()]);
        let mut nll = vec![f32::NAN; self.rows];
        let inputs = Inputs { x: &x, head: &head, bias: None, targets: &targets, cols: COLS };
        let (arena, off) = (&mut Arena::default(), &mut Profiler::default());
        let terms = (&self.spec, &joint);
        let plain = super::joint(device, arena, off, &mut nll, inputs, terms, None);
        let gradients =
            Some(Gradients { dx: &mut dx, dhead: &mut dhead, into: Accumulate::Add, dbias: None });
        let report = super::joint(device, arena, off, &mut nll, inputs, terms, gradients);
        assert_eq!(plain, report);
        let (x64, head64) = (wide(&x), wide(&head));
        let expected = self.reference(&x64, &head64);
        let what = format!(
            "{:?} {:?} {:?} {} {}",
            self.spec,
            self.twins,
            self.teaching,
            self.rows,
            device.describe()
        );
        let close = |got: f64, expected: f64| {
            let error = (got - expected).abs();
            assert!(error <= 3e-6 * expected.abs().max(1.0), "{what}: {got}, {expected}");
        };
        close(report.nll_sum, expected.iter().map(|row| row.0).sum());
        close(report.objective_sum, expected.iter().map(|row| row.1).sum());
        nll.iter().zip(&expected).for_each(|(&nll, row)| close(f64::from(nll), row.0));
        assert_eq!(report.targets, targets.iter().filter(|&&t| t != IGNORE).count() as u64);
        let objective = |x: &[f64], head: &[f64]| -> Vec<f64> {
            self.reference(x, head).iter().map(|row| row.1).collect()
        };
        let dy = vec![self.spec.scale; self.rows];
        assert_slopes(&what, &dx, &x, &dy, 12, |x| objective(x, &head64));
        assert_slopes(&what, &dhead, &head, &dy, 12, |head| objective(&x64, head));
    }
}

#[test]
fn agrees_with_the_formula() {
    let plain = LossSpec::plain(0.5);
    let smoothed = LossSpec {
        smoothing: Smoothing::Uniform { epsilon: 0.1 },
        z_loss: 0.05,
        confidence: 0.0,
        scale: 0.5,
    };
    for device in devices() {
        for (rows, seq_len, vocabulary) in [(1, 1, 2), (6, 3, 11), (24, 8, 70)] {
            for (twins, teaching) in [
                (Some(0.0), None),
                (Some(1.5), None),
                (None, Some((1.0, 1.0, 1))),
                (None, Some((0.4, 2.0, 1))),
                (None, Some((0.4, 2.0, 2))),
                (Some(0.7), Some((0.3, 0.5, 2))),
            ] {
                for spec in [plain, smoothed] {
                    Case { rows, seq_len, vocabulary, spec, twins, teaching }.check(&device);
                }
            }
        }
    }
}

#[test]
fn chunks_do_not_tear_pairs_apart() {
    // 300,000 classes make chunks of some ten rows, across the ends of sequences.
    let (rows, seq_len, vocabulary) = (36, 9, 300_000);
    let device = &devices()[0];
    let spec = LossSpec::plain(1.0);
    let one = values(rows * COLS, 1);
    // Both passes alike: the loss is the plain one, and nothing diverges.
    let x: Vec<f32> =
        one.chunks(seq_len * COLS).flat_map(|sequence| [sequence, sequence].concat()).collect();
    let head = values(vocabulary * COLS, 2);
    let targets: Vec<u32> = (0..rows as u32).map(|i| i * 4999).collect();
    let (arena, off) = (&mut Arena::default(), &mut Profiler::default());
    let (mut nll, mut expected) = (vec![0.0; rows], vec![0.0; rows]);
    let inputs = Inputs { x: &one, head: &head, bias: None, targets: &targets, cols: COLS };
    cross_entropy(device, arena, off, &mut expected, inputs, &spec, None);
    let joint = Joint { twins: Some(Twins { strength: 1.0, seq_len }), ..Joint::default() };
    let inputs = Inputs { x: &x, ..inputs };
    let report = super::joint(device, arena, off, &mut nll, inputs, (&spec, &joint), None);
    for (nll, expected) in nll.iter().zip(&expected) {
        assert!((nll - expected).abs() < 1e-5, "{nll} {expected}");
    }
    assert!((report.objective_sum - report.nll_sum).abs() < 1e-4);
}
