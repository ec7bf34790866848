//! Residual connection with dropout and scale: y = x + s·dropout(branch), written over `branch`.

use crate::device::Device;
use crate::ops::dropout::Site;
use crate::parallel;
use crate::pool::Disjoint;
use crate::simd::dispatch;
use crate::values::Element;

/// branch ← x + scale·dropout(branch); all `[N, cols]`. Nothing else need be kept for backward.
pub(crate) fn forward(
    device: &Device,
    branch: &mut [f32],
    x: &[f32],
    cols: usize,
    site: Option<Site>,
    scale: f32,
) {
    assert_eq!(branch.len(), x.len(), "residual: x and its branch differ in size");
    let isa = device.isa();
    let grain = parallel::grain_of(cols);
    device.pool().for_each_chunk(branch, grain * cols, &|index, part| {
        let x = &x[parallel::run_of(index, grain * cols, x.len())];
        dispatch(
            isa,
            #[inline(always)]
            || match site {
                None => {
                    for (y, x) in part.iter_mut().zip(x) {
                        *y = x + scale * *y;
                    }
                }
                Some(site) => {
                    let rows = part.chunks_exact_mut(cols).zip(x.chunks_exact(cols));
                    for (row, (y, x)) in rows.enumerate() {
                        let factors = site.row(index * grain + row);
                        for (column, (y, x)) in y.iter_mut().zip(x).enumerate() {
                            *y = x + scale * (*y * factors.at(column));
                        }
                    }
                }
            },
        );
    });
}

/// dbranch ← scale·dropout(dy); the gradient of x is dy itself.
pub(crate) fn backward_branch<T: Element>(
    device: &Device,
    dbranch: &mut [T],
    dy: &[f32],
    cols: usize,
    site: Option<Site>,
    scale: f32,
) {
    assert_eq!(dbranch.len(), dy.len(), "residual: gradients differ in size");
    let isa = device.isa();
    let grain = parallel::grain_of(cols);
    device.pool().for_each_chunk(dbranch, grain * cols, &|index, part| {
        let dy = &dy[parallel::run_of(index, grain * cols, dy.len())];
        dispatch(
            isa,
            #[inline(always)]
            || match site {
                None => {
                    for (db, dy) in part.iter_mut().zip(dy) {
                        *db = T::of(scale * dy);
                    }
                }
                Some(site) => {
                    let rows = part.chunks_exact_mut(cols).zip(dy.chunks_exact(cols));
                    for (row, (db, dy)) in rows.enumerate() {
                        let factors = site.row(index * grain + row);
                        for (column, (db, dy)) in db.iter_mut().zip(dy).enumerate() {
                            *db = T::of(scale * (dy * factors.at(column)));
                        }
                    }
                }
            },
        );
    });
}

/// sum ← sum + addend.
pub(crate) fn add<S: Element, T: Element>(device: &Device, sum: &mut [S], addend: &[T]) {
    assert_eq!(sum.len(), addend.len(), "gradients of one variable differ in size");
    let isa = device.isa();
    const GRAIN: usize = 16_384;
    let len = sum.len();
    let parts = Disjoint::new(sum);
    parallel::ranges(device, len, GRAIN, |range| {
        #[allow(unsafe_code)]
        // SAFETY: the ranges of `ranges` are disjoint.
        let part = unsafe { parts.range(range.clone()) };
        dispatch(
            isa,
            #[inline(always)]
            || {
                for (sum, addend) in part.iter_mut().zip(&addend[range]) {
                    *sum = S::of(sum.get() + addend.get());
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::dropout::Sharing;
    use crate::testing::{assert_close, assert_slopes, devices, sites, values, wide};

    #[test]
    fn agrees_with_the_reference() {
        for device in devices() {
            for (rows, cols) in [(1, 1), (6, 5), (40, 700)] {
                for sharing in [Sharing::Element, Sharing::Time, Sharing::Row] {
                    for site in sites(sharing, 3) {
                        check(&device, rows, cols, site);
                    }
                }
            }
        }
    }

    fn check(device: &Device, rows: usize, cols: usize, site: Option<Site>) {
        let scale = 0.7f32;
        let (x, branch, dy) =
            (values(rows * cols, 1), values(rows * cols, 2), values(rows * cols, 3));
        let x64 = wide(&x);
        // The specification.
        let spec = |branch: &[f64]| -> Vec<f64> {
            let factor = |i: usize| site.map_or(1.0, |s| s.row(i / cols).at(i % cols));
            let value = |i: usize| x64[i] + f64::from(scale) * f64::from(factor(i)) * branch[i];
            (0..branch.len()).map(value).collect()
        };
        let mut y = branch.clone();
        forward(device, &mut y, &x, cols, site, scale);
        let what = format!("residual {rows}×{cols} {}", device.describe());
        assert_close(&what, &y, &spec(&wide(&branch)), 1e-6);
        let mut dbranch = vec![0.0; dy.len()];
        backward_branch(device, &mut dbranch, &dy, cols, site, scale);
        assert_slopes(&what, &dbranch, &branch, &dy, 20, spec);
        let mut sum = x.clone();
        add(device, &mut sum, &dy);
        assert!(sum.iter().zip(x.iter().zip(&dy)).all(|(sum, (x, dy))| *sum == x + dy));
    }
}
