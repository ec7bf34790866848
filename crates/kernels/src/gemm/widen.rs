//! bf16 operands in layouts, or on processors, that have no path of their own: widened first.

use std::cell::RefCell;

use super::tile::Kernels;
use super::{After, Mat};
use crate::math::from_bf16;
use crate::values::{Storage, View};

thread_local! {
    /// The widened operands of the product under way.
    static WIDE: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Calls `body` with operands that the kernels can read.
pub(super) fn where_needed<R>(
    kernels: &Kernels,
    a: Mat,
    b: Mat,
    body: impl FnOnce(Mat, Mat) -> R,
) -> R {
    if reads(kernels, &a) && reads(kernels, &b.t()) {
        return body(a, b);
    }
    // Taken out, so that a product inside `body` could have its own.
    let [mut first, mut second] = WIDE.take();
    let result = body(wide(kernels, a, &mut first), wide(kernels, b.t(), &mut second).t());
    WIDE.set([first, second]);
    result
}

/// Whether rows of a (or columns of b) can be read as they are: f32 always; bf16 in pairs, if
/// pairs are aligned or lie across rows.
fn reads(kernels: &Kernels, a: &Mat) -> bool {
    let whole = a.cols.is_multiple_of(2) || a.after_rows == After::Zero;
    let in_pairs = a.row_stride.is_multiple_of(2) && whole;
    match a.storage() {
        Storage::Floats => true,
        Storage::Halves if kernels.packers.copy_halves.is_none() => false,
        Storage::Halves => a.row_stride == 1 || (a.col_stride == 1 && in_pairs),
    }
}

fn wide<'a>(kernels: &Kernels, a: Mat<'a>, memory: &'a mut Vec<f32>) -> Mat<'a> {
    match a.data {
        View::Halves(data) if !reads(kernels, &a) => {
            memory.clear();
            memory.extend(data.iter().map(|x| from_bf16(*x)));
            Mat { data: View::Floats(memory), ..a }
        }
        _ => a,
    }
}
