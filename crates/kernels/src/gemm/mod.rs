//! Matrix products c[M,N] (+)= a[M,K]·b[K,N] with any strides, and what follows them.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocked;
mod buffer;
mod dot;
mod finish;
mod pack;
mod portable;
mod round;
mod tile;
mod widen;

use self::blocked::Product;
use self::finish::Finish;
pub(crate) use self::round::{round_in_place, round_into};
use self::tile::kernels;
use crate::device::{Device, Precision};
use crate::math::Activation;
use crate::values::{Storage, View, ViewMut};

/// A matrix inside a slice; element (i, j) is `data[i·row_stride + j·col_stride]`.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    /// The slice; its first value is element (0, 0).
    pub data: View<'a>,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance between rows, in values.
    pub row_stride: usize,
    /// Distance between columns, in values.
    pub col_stride: usize,
    /// What follows each row in memory.
    pub after_rows: After,
}

/// What follows a row of a matrix in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Anything, or nothing.
    Unknown,
    /// A zero: a row of an odd number of bf16 can be read in pairs.
    Zero,
}

impl<'a> Mat<'a> {
    /// A row-major matrix without gaps.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Mat<'a> {
        Mat::with_stride(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows start `row_stride` values apart (a head inside q·k·v).
    pub fn with_stride(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Mat<'a> {
        Mat {
            data: View::Floats(data),
            rows,
            cols,
            row_stride,
            col_stride: 1,
            after_rows: After::Unknown,
        }
        .checked()
    }

    /// A row-major matrix without gaps of any elements.
    pub fn of(data: View<'a>, rows: usize, cols: usize) -> Mat<'a> {
        Mat { data, rows, cols, row_stride: cols, col_stride: 1, after_rows: After::Unknown }
            .checked()
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Mat<'a> {
        Mat {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            after_rows: After::Unknown,
        }
    }

    /// The address of an element, of whatever type.
    fn at(&self, row: usize, col: usize) -> *const f32 {
        let offset = row * self.row_stride + col * self.col_stride;
        match self.data {
            View::Floats(data) => data.as_ptr().wrapping_add(offset),
            View::Halves(data) => data.as_ptr().wrapping_add(offset).cast(),
        }
    }

    fn storage(&self) -> Storage {
        match self.data {
            View::Floats(_) => Storage::Floats,
            View::Halves(_) => Storage::Halves,
        }
    }

    /// Asserts that every element lies inside the slice.
    fn checked(self) -> Mat<'a> {
        if self.rows > 0 && self.cols > 0 {
            let last = (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride;
            let (rows, cols, len) = (self.rows, self.cols, self.data.len());
            assert!(last < len, "{rows}×{cols} matrix reaches to {last} in {len} values");
        }
        self
    }
}

/// What happens to the old contents of c.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    /// c = a·b; c is not read.
    Overwrite,
    /// c = c + a·b.
    Add,
}

/// What follows the product, while its result is still in cache.
pub enum Epilogue<'a> {
    /// Nothing.
    None,
    /// c += bias, one value a column (N values).
    Bias(&'a [f32]),
    /// c = activation(c + bias).
    BiasActivation {
        /// One value a column (N values), if any.
        bias: Option<&'a [f32]>,
        /// The function.
        activation: Activation,
        /// Where the values before the activation go, laid out like c with rows `ldc` apart, to be
        /// read again much later.
        pre: Option<ViewMut<'a>>,
    },
}

/// c[M,N] (rows `ldc` values apart) = a[M,K]·b[K,N] (+ c), then the epilogue.
///
/// Inputs are used as f32 or rounded to bf16 as the device's precision says; sums are f32. The
/// sum over K has one fixed order, so the bits do not depend on the number of threads.
pub fn matmul(
    device: &Device,
    c: &mut [f32],
    ldc: usize,
    a: Mat,
    b: Mat,
    accumulate: Accumulate,
    epilogue: Epilogue,
) {
    matmul_into(device, ViewMut::Floats(c), ldc, a, b, accumulate, epilogue);
}

/// [`matmul`] into c of either type. bf16 is rounded once, after the epilogue.
///
/// # Panics
/// If bf16 is to be added to.
pub fn matmul_into(
    device: &Device,
    c: ViewMut,
    ldc: usize,
    a: Mat,
    b: Mat,
    accumulate: Accumulate,
    epilogue: Epilogue,
) {
    let (rows, cols) = (a.rows, b.cols);
    assert_eq!(a.cols, b.rows, "inner sizes of a product differ");
    let (len, c, narrow) = match c {
        ViewMut::Floats(c) => (c.len(), c.as_mut_ptr(), None),
        ViewMut::Halves(c) => {
            assert_eq!(accumulate, Accumulate::Overwrite, "bf16 is not added to");
            (c.len(), std::ptr::null_mut(), Some(c.as_mut_ptr()))
        }
    };
    if rows == 0 || cols == 0 {
        return;
    }
    assert!(ldc >= cols && len >= (rows - 1) * ldc + cols, "c is too small");
    let isa = device.isa();
    let finish = Finish::new(isa, epilogue, (rows, cols), ldc);
    let kernels = kernels(isa, device.precision());
    widen::where_needed(kernels, a.checked(), b.checked(), |a, b| {
        let product = Product { isa, kernels, a, b, c, narrow, ldc, accumulate, finish };
        if narrow.is_none() && dot::fits(&a, &b, device.precision()) {
            dot::run(device, product)
        } else {
            product.run(device)
        }
    });
}

/// Whether products read bf16 as it lies; elsewhere it would have to be widened first.
pub(crate) fn reads_bf16(device: &Device) -> bool {
    kernels(device.isa(), device.precision()).pair == 2
}

/// Most rows for which [`matmul_rounded`] is there; more are faster through [`matmul`].
pub const ROUNDED_ROWS: usize = dot::ROWS_BF16;

/// c[M,N] = a[M,K]·Wᵀ, then the epilogue, where W[N,K] is kept in bfloat16 (upper halves of f32)
/// and a is rounded to it: the bits of [`matmul`] with the f32 of which W was rounded, on a device
/// in bf16, at half the traffic. Rows of c and W have no gaps; M is at most [`ROUNDED_ROWS`].
pub fn matmul_rounded(device: &Device, c: &mut [f32], a: Mat, weight: &[u16], epilogue: Epilogue) {
    let (rows, depth) = (a.rows, a.cols);
    assert!(rows <= ROUNDED_ROWS, "{rows} rows, at most {ROUNDED_ROWS}");
    assert_eq!(device.precision(), Precision::Bf16, "rounded weights are for devices in bf16");
    let cols = c.len() / rows.max(1);
    assert_eq!((c.len(), weight.len()), (rows * cols, cols * depth), "sizes of c and the weight");
    if rows == 0 || cols == 0 {
        return;
    }
    let isa = device.isa();
    let finish = Finish::new(isa, epilogue, (rows, cols), cols);
    let weights = dot::Weights { start: weight.as_ptr(), stride: depth, cols };
    let (c, accumulate) = (c.as_mut_ptr(), Accumulate::Overwrite);
    dot::share(device, &a.checked(), weights, dot::Out { isa, c, ldc: cols, accumulate, finish });
}
