//! SwiGLU (Shazeer 2020): y = dropout(silu(gate)·up), from rows that hold gate then up.

use crate::device::Device;
use crate::math::sigmoid;
use crate::ops::dropout::Site;
use crate::parallel;
use crate::pool::Disjoint;
use crate::simd::dispatch;
use crate::values::Element;

/// y `[N, F]` from `gate_up` `[N, 2F]`.
pub(crate) fn forward<T: Element>(
    device: &Device,
    y: &mut [T],
    gate_up: &[T],
    hidden: usize,
    site: Option<Site>,
) {
    assert_eq!(gate_up.len(), 2 * y.len(), "swiglu: input is twice as wide as its output");
    let isa = device.isa();
    let grain = parallel::grain_of(hidden);
    device.pool().for_each_chunk(y, grain * hidden, &|index, part| {
        dispatch(
            isa,
            #[inline(always)]
            || {
                for (row, y) in part.chunks_exact_mut(hidden).enumerate() {
                    let row = index * grain + row;
                    let (gate, up) = split(&gate_up[row * 2 * hidden..(row + 1) * 2 * hidden]);
                    for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                        let gate = gate.get();
                        *y = T::of(gate * sigmoid(gate) * up.get());
                    }
                    if let Some(site) = site {
                        site.row(row).scale(y);
                    }
                }
            },
        );
    });
}

/// dgate_up `[N, 2F]` ← from dy `[N, F]`, which is overwritten.
pub(crate) fn backward<T: Element>(
    device: &Device,
    dgate_up: &mut [T],
    dy: &mut [T],
    gate_up: &[T],
    hidden: usize,
    site: Option<Site>,
) {
    assert!(dgate_up.len() == gate_up.len() && gate_up.len() == 2 * dy.len(), "swiglu: sizes");
    let isa = device.isa();
    let rows = dy.len() / hidden;
    let (dgate_up, dy) = (Disjoint::new(dgate_up), Disjoint::new(dy));
    parallel::ranges(device, rows, parallel::grain_of(2 * hidden), |rows| {
        #[allow(unsafe_code)]
        // SAFETY: the ranges of `ranges` are disjoint.
        let (dgate_up, dy) = unsafe {
            (
                dgate_up.range(rows.start * 2 * hidden..rows.end * 2 * hidden),
                dy.range(rows.start * hidden..rows.end * hidden),
            )
        };
        dispatch(
            isa,
            #[inline(always)]
            || {
                let each = dgate_up.chunks_exact_mut(2 * hidden).zip(dy.chunks_exact_mut(hidden));
                for (row, (d, dy)) in rows.zip(each) {
                    if let Some(site) = site {
                        site.row(row).scale(dy);
                    }
                    let (dgate, dup) = d.split_at_mut(hidden);
                    let (gate, up) = split(&gate_up[row * 2 * hidden..(row + 1) * 2 * hidden]);
                    backward_row(dgate, dup, dy, gate, up);
                }
            },
        );
    });
}

/// Values that are worked on together: read whole before anything is written, or the compiler
/// would have to prove that five slices do not overlap and gives up.
const PIECE: usize = 16;

#[inline(always)]
fn backward_row<T: Element>(dgate: &mut [T], dup: &mut [T], dy: &[T], gate: &[T], up: &[T]) {
    let (dgates, dgate_rest) = dgate.as_chunks_mut::<PIECE>();
    let (dups, dup_rest) = dup.as_chunks_mut::<PIECE>();
    let (dys, dy_rest) = dy.as_chunks::<PIECE>();
    let (gates, gate_rest) = gate.as_chunks::<PIECE>();
    let (ups, up_rest) = up.as_chunks::<PIECE>();
    for (((dgate, dup), dy), (gate, up)) in
        dgates.iter_mut().zip(dups).zip(dys).zip(gates.iter().zip(ups))
    {
        let (mut first, mut second) = ([0.0; PIECE], [0.0; PIECE]);
        for i in 0..PIECE {
            (first[i], second[i]) = slopes(dy[i].get(), gate[i].get(), up[i].get());
        }
        *dgate = first.map(T::of);
        *dup = second.map(T::of);
    }
    let rest = dgate_rest.iter_mut().zip(dup_rest).zip(dy_rest);
    for (((dgate, dup), dy), (gate, up)) in rest.zip(gate_rest.iter().zip(up_rest)) {
        let (first, second) = slopes(dy.get(), gate.get(), up.get());
        (*dgate, *dup) = (T::of(first), T::of(second));
    }
}

/// The gradients of gate and up.
#[inline(always)]
fn slopes(dy: f32, gate: f32, up: f32) -> (f32, f32) {
    let share = sigmoid(gate);
    let silu = gate * share;
    (dy * up * (share + silu * (1.0 - share)), dy * silu)
}

#[inline(always)]
fn split<T>(row: &[T]) -> (&[T], &[T]) {
    row.split_at(row.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::dropout::Sharing;
    use crate::testing::{assert_close, assert_slopes, devices, sites, values, wide};

    /// The specification.
    fn reference(x: &[f64], hidden: usize, site: Option<Site>) -> Vec<f64> {
        let mut y = Vec::new();
        for (row, x) in x.chunks_exact(2 * hidden).enumerate() {
            for column in 0..hidden {
                let factor = site.map_or(1.0, |site| site.row(row).at(column));
                let silu = x[column] / (1.0 + (-x[column]).exp());
                y.push(silu * x[hidden + column] * f64::from(factor));
            }
        }
        y
    }

    #[test]
    fn agrees_with_the_reference() {
        for device in devices() {
            for (rows, hidden) in [(1, 1), (6, 3), (34, 40), (10, 1000)] {
                for site in sites(Sharing::Element, rows / 2 + 1) {
                    let x = values(rows * 2 * hidden, 1);
                    let mut y = vec![0.0; rows * hidden];
                    forward(&device, &mut y, &x, hidden, site);
                    let what = format!("swiglu {rows}×{hidden} {}", device.describe());
                    let spec = |x: &[f64]| reference(x, hidden, site);
                    assert_close(&what, &y, &spec(&wide(&x)), 2e-6);
                    let upstream = values(y.len(), 2);
                    let (mut dy, mut dx) = (upstream.clone(), vec![0.0; x.len()]);
                    backward(&device, &mut dx, &mut dy, &x, hidden, site);
                    assert_slopes(&what, &dx, &x, &upstream, 20, spec);
                }
            }
        }
    }
}
