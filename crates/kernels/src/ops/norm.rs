//! Normalisation of rows: LayerNorm (Ba et al. 2016) and RMSNorm (Zhang & Sennrich 2019).
//!
//! Layer: y = (x − mean)·rstd·gain + bias with rstd = 1/√(variance + ε), variance over C (not
//! C − 1). Rms: the same with mean = 0, so the variance is the mean square.

use crate::arena::Arena;
use crate::device::Device;
use crate::gemm::Accumulate;
use crate::ops::{columns, lanes};
use crate::parallel;
use crate::pool::Disjoint;
use crate::simd::dispatch;
use crate::values::Element;

/// Which normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Mean and variance.
    Layer,
    /// Mean square only.
    Rms,
}

/// The vectors of a normalisation and its ε.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub kind: Norm,
    /// `[C]`
    pub gain: &'a [f32],
    /// `[C]`
    pub bias: Option<&'a [f32]>,
    pub epsilon: f32,
}

/// y ← norm(x), both `[N, C]`; `statistics` receives `[N, 2]`: mean and rstd of each row.
pub(crate) fn forward<T: Element>(
    device: &Device,
    y: &mut [T],
    statistics: &mut [f32],
    x: &[f32],
    terms: Terms,
) {
    let cols = terms.gain.len();
    let rows = x.len() / cols;
    assert_eq!(x.len(), rows * cols, "norm: x is not a whole number of rows of the gain");
    assert!(y.len() == x.len() && statistics.len() == 2 * rows, "norm: output sizes");
    let isa = device.isa();
    let (y, statistics) = (Disjoint::new(y), Disjoint::new(statistics));
    parallel::ranges(device, rows, parallel::grain_of(cols), |rows| {
        #[allow(unsafe_code)]
        // SAFETY: the ranges of `ranges` are disjoint.
        let (y, statistics) = unsafe {
            (
                y.range(rows.start * cols..rows.end * cols),
                statistics.range(rows.start * 2..rows.end * 2),
            )
        };
        let x = &x[rows.start * cols..rows.end * cols];
        dispatch(
            isa,
            #[inline(always)]
            || {
                let each = y.chunks_exact_mut(cols).zip(x.chunks_exact(cols));
                for ((y, x), statistics) in each.zip(statistics.chunks_exact_mut(2)) {
                    forward_row(y, statistics, x, terms);
                }
            },
        );
    });
}

#[inline(always)]
fn forward_row<T: Element>(y: &mut [T], statistics: &mut [f32], x: &[f32], terms: Terms) {
    let cols = x.len() as f32;
    let mean = match terms.kind {
        Norm::Layer => {
            lanes::sum(
                x,
                #[inline(always)]
                |x| x,
            ) / cols
        }
        Norm::Rms => 0.0,
    };
    let square = lanes::sum(
        x,
        #[inline(always)]
        |x| (x - mean) * (x - mean),
    ) / cols;
    let rstd = 1.0 / (square + terms.epsilon).sqrt();
    statistics[0] = mean;
    statistics[1] = rstd;
    match terms.bias {
        Some(bias) => {
            for (((y, x), gain), bias) in y.iter_mut().zip(x).zip(terms.gain).zip(bias) {
                *y = T::of((x - mean) * rstd * gain + bias);
            }
        }
        None => {
            for ((y, x), gain) in y.iter_mut().zip(x).zip(terms.gain) {
                *y = T::of((x - mean) * rstd * gain);
            }
        }
    }
}

/// The gradients that [`backward`] writes or adds to.
pub(crate) struct Gradients<'a> {
    /// `[N, C]`, overwritten or added to.
    pub dx: &'a mut [f32],
    pub into: Accumulate,
    /// `[C]`, added to.
    pub dgain: &'a mut [f32],
    /// `[C]`, added to.
    pub dbias: Option<&'a mut [f32]>,
}

/// With x̂ = (x − mean)·rstd and a = dy·gain: dx = rstd·(a − mean(a) − x̂·mean(a·x̂)), the middle
/// term for Layer only; dgain = Σ dy·x̂, dbias = Σ dy.
pub(crate) fn backward(
    device: &Device,
    arena: &mut Arena,
    gradients: Gradients,
    dy: &[f32],
    x: &[f32],
    statistics: &[f32],
    terms: Terms,
) {
    let cols = terms.gain.len();
    let rows = x.len() / cols;
    let Gradients { dx, into, dgain, dbias } = gradients;
    assert!(dx.len() == x.len() && dy.len() == x.len(), "norm: gradient sizes");
    let isa = device.isa();
    let dx = Disjoint::new(dx);
    let partials = columns::partial_sums(device, arena, rows, 2 * cols, |rows, partial| {
        #[allow(unsafe_code)]
        // SAFETY: the chunks of `partial_sums` are disjoint.
        let dx = unsafe { dx.range(rows.start * cols..rows.end * cols) };
        let (dgain, dbias) = partial.split_at_mut(cols);
        dispatch(
            isa,
            #[inline(always)]
            || {
                for (row, dx) in rows.zip(dx.chunks_exact_mut(cols)) {
                    let span = row * cols..(row + 1) * cols;
                    let statistics = (statistics[2 * row], statistics[2 * row + 1]);
                    let (dy, x) = (&dy[span.clone()], &x[span]);
                    backward_row(dx, into, (dgain, dbias), (dy, x), statistics, terms);
                }
            },
        );
    });
    columns::combine(device, dgain, &partials, 2 * cols, 0);
    if let Some(dbias) = dbias {
        columns::combine(device, dbias, &partials, 2 * cols, cols);
    }
    arena.give(partials);
}

/// Elements of a row that are summed side by side.
const LANES: usize = 32;

/// Σ a and Σ a·x̂ in lanes, and the gradients of gain and bias, over one stretch of a row.
#[inline(always)]
fn sums_of(
    (along_one, along_x): (&mut [f32; LANES], &mut [f32; LANES]),
    (dgain, dbias): (&mut [f32], &mut [f32]),
    (dy, x, gain): (&[f32], &[f32], &[f32]),
    (mean, rstd): (f32, f32),
) {
    let sums = along_one.iter_mut().zip(along_x).zip(dgain.iter_mut().zip(dbias));
    for (((one, along), (dgain, dbias)), ((dy, x), gain)) in sums.zip(dy.iter().zip(x).zip(gain)) {
        let normal = (x - mean) * rstd;
        *dgain += dy * normal;
        *dbias += dy;
        *one += dy * gain;
        *along += dy * gain * normal;
    }
}

#[inline(always)]
fn total(lanes: &[f32; LANES]) -> f32 {
    lanes::sum(
        lanes,
        #[inline(always)]
        |lane| lane,
    )
}

#[inline(always)]
fn backward_row(
    dx: &mut [f32],
    into: Accumulate,
    (dgain, dbias): (&mut [f32], &mut [f32]),
    (dy, x): (&[f32], &[f32]),
    statistics: (f32, f32),
    terms: Terms,
) {
    let (mut one, mut along) = ([0.0f32; LANES], [0.0f32; LANES]);
    let (dy_blocks, dy_tail) = dy.as_chunks::<LANES>();
    let (x_blocks, x_tail) = x.as_chunks::<LANES>();
    let (gain_blocks, gain_tail) = terms.gain.as_chunks::<LANES>();
    let (dgain_blocks, dgain_tail) = dgain.as_chunks_mut::<LANES>();
    let (dbias_blocks, dbias_tail) = dbias.as_chunks_mut::<LANES>();
    let inputs = dy_blocks.iter().zip(x_blocks).zip(gain_blocks);
    for (((dy, x), gain), (dgain, dbias)) in inputs.zip(dgain_blocks.iter_mut().zip(dbias_blocks)) {
        sums_of((&mut one, &mut along), (dgain, dbias), (dy, x, gain), statistics);
    }
    let tails = (dy_tail, x_tail, gain_tail);
    sums_of((&mut one, &mut along), (dgain_tail, dbias_tail), tails, statistics);
    let (mean, rstd) = statistics;
    let cols = x.len() as f32;
    let one = if terms.kind == Norm::Layer { total(&one) / cols } else { 0.0 };
    let along = total(&along) / cols;
    // dx = rstd·dy·gain − (x·slope + offset)
    let slope = rstd * rstd * along;
    let offset = rstd * one - mean * slope;
    let each = dx.iter_mut().zip(dy).zip(x).zip(terms.gain);
    match into {
        Accumulate::Overwrite => {
            for (((dx, dy), x), gain) in each {
                *dx = rstd * (dy * gain) - (x * slope + offset);
            }
        }
        Accumulate::Add => {
            for (((dx, dy), x), gain) in each {
                *dx += rstd * (dy * gain) - (x * slope + offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{INTO, assert_close, assert_slopes, devices, values, wide};

    /// The specification.
    fn reference(x: &[f64], gain: &[f64], bias: &[f64], kind: Norm, epsilon: f64) -> Vec<f64> {
        let count = gain.len() as f64;
        let row = |x: &[f64]| {
            let mean = if kind == Norm::Layer { x.iter().sum::<f64>() / count } else { 0.0 };
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            let rstd = 1.0 / (variance + epsilon).sqrt();
            let terms = x.iter().zip(gain).zip(bias);
            terms.map(|((x, g), b)| (x - mean) * rstd * g + b).collect::<Vec<_>>()
        };
        x.chunks_exact(gain.len()).flat_map(row).collect()
    }

    #[test]
    fn agrees_with_the_reference() {
        for device in devices() {
            for (rows, cols) in [(1, 1), (3, 5), (19, 33), (70, 64), (2, 300)] {
                for (kind, into) in [Norm::Layer, Norm::Rms].into_iter().zip(INTO) {
                    check(&device, rows, cols, kind, into);
                }
            }
        }
    }

    fn check(device: &Device, rows: usize, cols: usize, kind: Norm, into: Accumulate) {
        let (x, gain, bias) = (values(rows * cols, 1), values(cols, 2), values(cols, 3));
        let epsilon = 1e-3;
        let terms = Terms { kind, gain: &gain, bias: Some(&bias), epsilon };
        let (mut y, mut statistics) = (vec![0.0; x.len()], vec![0.0; 2 * rows]);
        forward(device, &mut y, &mut statistics, &x, terms);
        let (wide_gain, wide_bias, wide_x) = (wide(&gain), wide(&bias), wide(&x));
        let spec = |x: &[f64], gain: &[f64], bias: &[f64]| {
            reference(x, gain, bias, kind, f64::from(epsilon))
        };
        let what = format!("{kind:?} {rows}×{cols} {}", device.describe());
        assert_close(&what, &y, &spec(&wide_x, &wide_gain, &wide_bias), 2e-6);
        let dy = values(x.len(), 4);
        let old = if into == Accumulate::Add { 1.0 } else { 0.0 };
        let (mut dx, mut dgain, mut dbias) = (vec![old; x.len()], vec![0.0; cols], vec![0.0; cols]);
        let gradients = Gradients { dx: &mut dx, into, dgain: &mut dgain, dbias: Some(&mut dbias) };
        backward(device, &mut Arena::default(), gradients, &dy, &x, &statistics, terms);
        dx.iter_mut().for_each(|dx| *dx -= old);
        assert_slopes(&what, &dx, &x, &dy, 40, |x| spec(x, &wide_gain, &wide_bias));
        assert_slopes(&what, &dgain, &gain, &dy, 20, |gain| spec(&wide_x, gain, &wide_bias));
        assert_slopes(&what, &dbias, &bias, &dy, 20, |bias| spec(&wide_x, &wide_gain, bias));
    }
}
