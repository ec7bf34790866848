//! Some rows of a tensor, in any order: y\[i\] = x\[rows\[i\]\]; the gradient goes back where each
//! row came from.

use crate::values::{Element, View, with_elements};

/// y `[R, C]` from x `[N, C]`.
pub(crate) fn forward(y: &mut [f32], x: View<'_>, rows: &[u32], cols: usize) {
    with_elements!(x, x => {
        for (y, &row) in y.chunks_exact_mut(cols).zip(rows) {
            let x = &x[row as usize * cols..][..cols];
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x.get());
        }
    });
}

/// dx `[N, C]` ← the sum of dy over the places that took the row, in their order; 0 elsewhere.
pub(crate) fn backward<T: Element>(dx: &mut [f32], dy: &[T], rows: &[u32], cols: usize) {
    dx.fill(0.0);
    for (dy, &row) in dy.chunks_exact(cols).zip(rows) {
        let dx = &mut dx[row as usize * cols..][..cols];
        dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_slopes, values, wide};

    #[test]
    fn agrees_with_the_reference() {
        for (count, cols, rows) in [(1, 1, vec![0]), (5, 3, vec![4, 0, 4, 2]), (9, 20, vec![8])] {
            let (x, upstream) = (values(count * cols, 1), values(rows.len() * cols, 2));
            let reference = |x: &[f64]| -> Vec<f64> {
                let row = |&r: &u32| x[r as usize * cols..][..cols].to_vec();
                rows.iter().flat_map(row).collect()
            };
            let mut y = vec![f32::NAN; upstream.len()];
            forward(&mut y, View::Floats(&x), &rows, cols);
            assert_eq!(wide(&y), reference(&wide(&x)));
            let mut dx = vec![f32::NAN; x.len()];
            backward(&mut dx, &upstream, &rows, cols);
            assert_slopes(&format!("rows {rows:?}"), &dx, &x, &upstream, 20, reference);
        }
    }

    #[test]
    fn halves_become_floats() {
        let halves = [u16::of(1.5), u16::of(-2.0)];
        let mut y = [0.0; 1];
        forward(&mut y, View::Halves(&halves), &[1], 1);
        assert_eq!(y, [-2.0]);
    }
}
