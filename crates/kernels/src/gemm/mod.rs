//! Matrix products c[M,N] (+)= a[M,K]·b[K,N] with any strides, and what follows them.

use crate::device::{Device, Isa, Precision};
use crate::math::Activation;
use crate::pool::Disjoint;

/// A matrix of f32 inside a slice; element (i, j) is `data[i·row_stride + j·col_stride]`.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    /// The slice; its first value is element (0, 0).
    pub data: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance between rows, in values.
    pub row_stride: usize,
    /// Distance between columns, in values.
    pub col_stride: usize,
}

impl<'a> Mat<'a> {
    /// A row-major matrix without gaps.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Mat<'a> {
        Mat::with_stride(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows start `row_stride` values apart (a head inside q·k·v).
    pub fn with_stride(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Mat<'a> {
        Mat { data, rows, cols, row_stride, col_stride: 1 }.checked()
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Mat<'a> {
        Mat {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
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
        /// Where the values before the activation go, laid out like c with rows `ldc` apart.
        pre: Option<&'a mut [f32]>,
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
    let (rows, cols) = (a.rows, b.cols);
    assert_eq!(a.cols, b.rows, "inner sizes of a product differ");
    if rows == 0 || cols == 0 {
        return;
    }
    assert!(ldc >= cols && c.len() >= (rows - 1) * ldc + cols, "c is too small");
    let (a, b) = (a.checked(), b.checked());
    let (bias, activation, pre) = match epilogue {
        Epilogue::None => (None, Activation::None, None),
        Epilogue::Bias(bias) => (Some(bias), Activation::None, None),
        Epilogue::BiasActivation { bias, activation, pre } => (bias, activation, pre),
    };
    let round = device.precision() == Precision::Bf16;
    let pre = pre.map(Disjoint::new);
    let c = Disjoint::new(c);
    device.pool().run(rows, &|i| {
        let range = i * ldc..i * ldc + cols;
        #[allow(unsafe_code)]
        // SAFETY: each row is one task's.
        let (row, mut pre) =
            unsafe { (c.range(range.clone()), pre.as_ref().map(|pre| pre.range(range.clone()))) };
        row_product(row, a, b, i, accumulate, round);
        for (j, value) in row.iter_mut().enumerate() {
            *value += bias.map_or(0.0, |bias| bias[j]);
            if let Some(pre) = &mut pre {
                pre[j] = *value;
            }
            *value = activation.value(*value);
        }
    });
}

fn row_product(row: &mut [f32], a: Mat, b: Mat, i: usize, accumulate: Accumulate, round: bool) {
    let rounded = |x: f32| if round { half::bf16::from_f32(x).to_f32() } else { x };
    if accumulate == Accumulate::Overwrite {
        row.fill(0.0);
    }
    for k in 0..a.cols {
        let x = rounded(a.data[i * a.row_stride + k * a.col_stride]);
        for (j, value) in row.iter_mut().enumerate() {
            *value += x * rounded(b.data[k * b.row_stride + j * b.col_stride]);
        }
    }
}

/// Working memory of [`small_matmul`]; keep one per thread and reuse it.
#[derive(Default)]
pub struct Scratch {
    packed: Vec<f32>,
}

/// c[M,N] (rows `ldc` apart) = alpha·a[M,K]·b[K,N] (+ c) for tiles of a few dozen rows and
/// columns, on the calling thread, in f32.
///
/// Fastest when `b`'s columns are adjacent (`col_stride` 1); a transposed `b` is first copied.
#[allow(clippy::too_many_arguments)]
pub fn small_matmul(
    isa: Isa,
    c: &mut [f32],
    ldc: usize,
    alpha: f32,
    a: Mat,
    b: Mat,
    accumulate: Accumulate,
    scratch: &mut Scratch,
) {
    let _ = (isa, &mut scratch.packed);
    for i in 0..a.rows {
        let row = &mut c[i * ldc..i * ldc + b.cols];
        for (j, value) in row.iter_mut().enumerate() {
            let mut sum = 0.0;
            for k in 0..a.cols {
                sum += a.data[i * a.row_stride + k * a.col_stride]
                    * b.data[k * b.row_stride + j * b.col_stride];
            }
            let old = if accumulate == Accumulate::Add { *value } else { 0.0 };
            *value = old + alpha * sum;
        }
    }
}
