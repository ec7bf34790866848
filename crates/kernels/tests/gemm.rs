//! Products against a triple loop in f64: shapes × layouts × instruction sets × precisions ×
//! threads, and the same bits for any number of threads.

use heldout_kernels::gemm::{
    Accumulate, After, Epilogue, Mat, ROUNDED_ROWS, matmul, matmul_into, matmul_rounded,
};
use heldout_kernels::math::{from_bf16, to_bf16};
use heldout_kernels::{Activation, Device, Isa, Precision, RoundedWeights, View, ViewMut, Weight};

/// Numbers in [−1, 1) that look random.
fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn isas() -> Vec<Isa> {
    let best = Device::detect_isa();
    [Isa::Portable, Isa::Avx2, Isa::Avx512].into_iter().filter(|&isa| isa <= best).collect()
}

/// How a matrix lies in memory.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Rows,
    /// Rows with a gap behind each.
    Gaps,
    Columns,
    /// No stride is 1.
    Both,
}

/// Memory for a matrix, and the view on it.
fn layout(layout: Layout, rows: usize, cols: usize) -> (usize, usize, usize) {
    match layout {
        Layout::Rows => (cols, 1, rows * cols),
        Layout::Gaps => (cols + 5, 1, rows * (cols + 5)),
        Layout::Columns => (1, rows + 3, (rows + 3) * cols),
        Layout::Both => (2 * cols, 2, 2 * rows * cols),
    }
}

struct Case {
    size: (usize, usize, usize),
    a: Layout,
    b: Layout,
    accumulate: Accumulate,
}

fn element(of: &Mat, row: usize, col: usize) -> f32 {
    let at = row * of.row_stride + col * of.col_stride;
    match of.data {
        View::Floats(data) => data[at],
        View::Halves(data) => from_bf16(data[at]),
    }
}

fn bf16(x: f32) -> f32 {
    half::bf16::from_f32(x).to_f32()
}

/// The specification: sums in f64; with it the sum of magnitudes, for the error bound.
fn reference(case: &Case, a: &Mat, b: &Mat, old: &[f32], precision: Precision) -> Vec<(f64, f64)> {
    let (m, n, k) = case.size;
    let round = |x: f32| f64::from(if precision == Precision::Bf16 { bf16(x) } else { x });
    let mut c = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let start = if case.accumulate == Accumulate::Add { old[i * (n + 2) + j] } else { 0.0 };
            let mut sums = (f64::from(start), f64::from(start.abs()));
            for p in 0..k {
                let x = round(element(a, i, p));
                let y = round(element(b, p, j));
                sums.0 += x * y;
                sums.1 += (x * y).abs();
            }
            c.push(sums);
        }
    }
    c
}

fn check(case: &Case) {
    let (m, n, k) = case.size;
    let ldc = n + 2;
    let (a_row, a_col, a_len) = layout(case.a, m, k);
    let (b_row, b_col, b_len) = layout(case.b, k, n);
    let (a, b, old) = (values(a_len, 1), values(b_len, 2), values(m * ldc, 3));
    let a = Mat {
        data: View::Floats(&a),
        rows: m,
        cols: k,
        row_stride: a_row,
        col_stride: a_col,
        after_rows: After::Unknown,
    };
    let b = Mat {
        data: View::Floats(&b),
        rows: k,
        cols: n,
        row_stride: b_row,
        col_stride: b_col,
        after_rows: After::Unknown,
    };
    for precision in [Precision::F32, Precision::Bf16] {
        let expected = reference(case, &a, &b, &old, precision);
        for isa in isas() {
            let mut first: Option<Vec<f32>> = None;
            for threads in [1, 2, 3] {
                let device = Device::cpu_with_isa(threads, precision, isa).unwrap();
                let mut c = old.clone();
                matmul(&device, &mut c, ldc, a, b, case.accumulate, Epilogue::None);
                let name =
                    || format!("{m}×{n}×{k} {:?} {:?} {isa:?} {precision:?}", case.a, case.b);
                for (at, (expected, magnitude)) in expected.iter().enumerate() {
                    let (i, j) = (at / n, at % n);
                    let found = f64::from(c[i * ldc + j]);
                    let bound = 2e-7 * (magnitude + 1.0) * (1.0 + (k as f64).sqrt() / 8.0);
                    let error = (found - expected).abs();
                    assert!(error <= bound, "{}: ({i}, {j}) {found} for {expected}", name());
                }
                for i in 0..m {
                    assert_eq!(c[i * ldc + n..][..2], old[i * ldc + n..][..2], "{}", name());
                }
                let first = first.get_or_insert_with(|| c.clone());
                assert!(
                    first.iter().zip(&c).all(|(x, y)| x.to_bits() == y.to_bits()),
                    "{}",
                    name()
                );
            }
        }
    }
}

/// bf16 operands and results against f32 ones that hold the same values.
fn check_halves(size: (usize, usize, usize), layouts: (Layout, Layout)) {
    let (m, n, k) = size;
    let (a_row, a_col, a_len) = layout(layouts.0, m, k);
    let (b_row, b_col, b_len) = layout(layouts.1, k, n);
    let narrow = |len, seed| values(len, seed).into_iter().map(to_bf16).collect::<Vec<u16>>();
    let wide = |halves: &[u16]| halves.iter().map(|x| from_bf16(*x)).collect::<Vec<f32>>();
    let (a_halves, b_halves) = (narrow(a_len, 1), narrow(b_len, 2));
    let (a_wide, b_wide) = (wide(&a_halves), wide(&b_halves));
    let a = |data| Mat {
        data,
        rows: m,
        cols: k,
        row_stride: a_row,
        col_stride: a_col,
        after_rows: After::Unknown,
    };
    let b = |data| Mat {
        data,
        rows: k,
        cols: n,
        row_stride: b_row,
        col_stride: b_col,
        after_rows: After::Unknown,
    };
    let precisions = [Precision::F32, Precision::Bf16];
    for (precision, isa) in
        precisions.into_iter().flat_map(|p| isas().into_iter().map(move |i| (p, i)))
    {
        let device = Device::cpu_with_isa(2, precision, isa).unwrap();
        let name = format!("{size:?} {layouts:?} {isa:?} {precision:?}");
        let (into, none) = (Accumulate::Overwrite, || Epilogue::None);
        let mut expected = vec![0.0; m * n];
        matmul(
            &device,
            &mut expected,
            n,
            a(View::Floats(&a_wide)),
            b(View::Floats(&b_wide)),
            into,
            none(),
        );
        for (a_data, b_data) in [
            (View::Halves(&a_halves), View::Halves(&b_halves)),
            (View::Halves(&a_halves), View::Floats(&b_wide)),
            (View::Floats(&a_wide), View::Halves(&b_halves)),
        ] {
            let mut c = vec![0.0; m * n];
            matmul(&device, &mut c, n, a(a_data), b(b_data), into, none());
            for (c, expected) in c.iter().zip(&expected) {
                assert!((c - expected).abs() <= 1e-6 * (k as f32 + 1.0), "{name}: {c} {expected}");
            }
            let mut rounded = vec![0u16; m * n];
            let out = ViewMut::Halves(&mut rounded);
            matmul_into(&device, out, n, a(a_data), b(b_data), into, none());
            for (rounded, expected) in rounded.iter().zip(&expected) {
                let error = (from_bf16(*rounded) - expected).abs();
                assert!(error <= expected.abs() / 256.0 + 1e-6 * (k as f32 + 1.0), "{name}");
            }
        }
    }
}

#[test]
fn halves_are_the_values_they_hold() {
    let layouts = [Layout::Rows, Layout::Gaps, Layout::Columns, Layout::Both];
    for size in [(1, 1, 1), (13, 31, 64), (15, 33, 47), (64, 70, 34), (40, 20, 900)] {
        for a in layouts {
            for b in layouts {
                check_halves(size, (a, b));
            }
        }
    }
}

#[test]
fn agrees_with_the_triple_loop() {
    let layouts = [Layout::Rows, Layout::Gaps, Layout::Columns, Layout::Both];
    let sizes = [
        (1, 1, 1),
        (1, 40, 33),
        (2, 3, 0),
        (3, 65, 17),
        (5, 100, 1),
        (13, 31, 64),
        (14, 32, 16),
        (15, 33, 47),
        (27, 16, 5),
        (30, 130, 129),
        (64, 1, 7),
        (131, 65, 40),
    ];
    for size in sizes {
        for a in layouts {
            for b in layouts {
                for accumulate in [Accumulate::Overwrite, Accumulate::Add] {
                    check(&Case { size, a, b, accumulate });
                }
            }
        }
    }
}

#[test]
fn agrees_with_the_triple_loop_when_k_is_long_and_work_is_shared() {
    let (rows, columns) = (Layout::Rows, Layout::Columns);
    let accumulate = Accumulate::Add;
    for size in [(300, 70, 803), (70, 300, 801), (1, 500, 1000), (2, 33, 2000), (9, 700, 70)] {
        for (a, b) in [(rows, rows), (rows, columns), (columns, rows), (columns, columns)] {
            check(&Case { size, a, b, accumulate });
        }
    }
}

#[test]
fn empty_products_do_nothing() {
    let device = Device::cpu(1, Precision::F32).unwrap();
    let empty = Mat::new(&[], 0, 4);
    let b = [1.0; 12];
    matmul(&device, &mut [], 3, empty, Mat::new(&b, 4, 3), Accumulate::Add, Epilogue::None);
    let mut c = [1.0, 2.0];
    let (a, b) = (Mat::new(&[], 1, 0), Mat::new(&[], 0, 2));
    matmul(&device, &mut c, 2, a, b, Accumulate::Add, Epilogue::None);
    assert_eq!(c, [1.0, 2.0]);
    matmul(&device, &mut c, 2, a, b, Accumulate::Overwrite, Epilogue::Bias(&[0.5, 0.25]));
    assert_eq!(c, [0.5, 0.25]);
}

/// A row's bits do not depend on how many rows are computed with it.
#[test]
fn rows_do_not_depend_on_their_neighbours() {
    let (n, k) = (70, 900);
    let (a, b) = (values(100 * k, 1), values(n * k, 2));
    for precision in [Precision::F32, Precision::Bf16] {
        for isa in isas() {
            let device = Device::cpu_with_isa(2, precision, isa).unwrap();
            let product = |first: usize, rows: usize| {
                let mut c = vec![0.0; rows * n];
                let a = Mat::new(&a[first * k..(first + rows) * k], rows, k);
                let b = Mat::new(&b, n, k).t();
                matmul(&device, &mut c, n, a, b, Accumulate::Overwrite, Epilogue::None);
                c
            };
            let all = product(0, 100);
            for (first, rows) in [(0, 50), (50, 50), (3, 14), (17, 83)] {
                assert_eq!(product(first, rows), all[first * n..(first + rows) * n]);
            }
        }
    }
}

#[test]
fn epilogues_follow_the_product() {
    let activations = [
        Activation::None,
        Activation::GeluTanh,
        Activation::GeluErf,
        Activation::Silu,
        Activation::Relu,
    ];
    for (m, n, k) in [(1, 50, 20), (30, 77, 40), (70, 33, 900)] {
        let (a, b, bias) = (values(m * k, 1), values(k * n, 2), values(n, 3));
        let (a, b) = (Mat::new(&a, m, k), Mat::new(&b, k, n));
        for isa in isas() {
            let device = Device::cpu_with_isa(2, Precision::F32, isa).unwrap();
            let mut plain = vec![0.0; m * n];
            matmul(&device, &mut plain, n, a, b, Accumulate::Overwrite, Epilogue::None);
            for activation in activations {
                let (mut c, mut pre) = (vec![0.0; m * n], vec![0.0; m * n]);
                let pre_floats = Some(ViewMut::Floats(&mut pre));
                let epilogue =
                    Epilogue::BiasActivation { bias: Some(&bias), activation, pre: pre_floats };
                matmul(&device, &mut c, n, a, b, Accumulate::Overwrite, epilogue);
                let mut halves = vec![0u16; m * n];
                let pre_halves = Some(ViewMut::Halves(&mut halves));
                let epilogue =
                    Epilogue::BiasActivation { bias: Some(&bias), activation, pre: pre_halves };
                let mut again = vec![0.0; m * n];
                matmul(&device, &mut again, n, a, b, Accumulate::Overwrite, epilogue);
                assert_eq!(c, again);
                for (at, plain) in plain.iter().enumerate() {
                    let expected = plain + bias[at % n];
                    assert!((pre[at] - expected).abs() <= 1e-5, "{} {expected}", pre[at]);
                    assert_eq!(halves[at], to_bf16(pre[at]));
                    let error = (c[at] - activation.value(pre[at])).abs();
                    assert!(error <= 1e-6 * expected.abs().max(1.0), "{activation:?} {isa:?}");
                }
            }
        }
    }
}

/// A result in bf16 is the result in f32, rounded once: whole tiles end in other kernels.
#[test]
fn narrow_results_are_rounded_once() {
    for (m, n, k) in [(28, 64, 100), (30, 77, 40), (57, 31, 2)] {
        let (a, b, bias) = (values(m * k, 1), values(k * n, 2), values(n, 3));
        let (a, b) = (Mat::new(&a, m, k), Mat::new(&b, k, n));
        for isa in isas() {
            let device = Device::cpu_with_isa(2, Precision::Bf16, isa).unwrap();
            for activation in [Activation::None, Activation::GeluTanh, Activation::Silu] {
                let mut pres = [vec![0u16; m * n], vec![0u16; m * n]];
                let [pre, pre_narrow] = pres.each_mut().map(|pre| Some(ViewMut::Halves(pre)));
                let (mut c, mut narrow) = (vec![0.0; m * n], vec![0u16; m * n]);
                let bias = Some(&bias[..]);
                let epilogue = Epilogue::BiasActivation { bias, activation, pre };
                matmul(&device, &mut c, n, a, b, Accumulate::Overwrite, epilogue);
                let pre = pre_narrow.filter(|_| activation != Activation::None);
                let epilogue = Epilogue::BiasActivation { bias, activation, pre };
                let into = ViewMut::Halves(&mut narrow);
                matmul_into(&device, into, n, a, b, Accumulate::Overwrite, epilogue);
                let rounded: Vec<u16> = c.iter().map(|c| to_bf16(*c)).collect();
                assert_eq!(rounded, narrow, "{activation:?} {isa:?}");
                if activation != Activation::None {
                    assert_eq!(pres[0], pres[1], "{activation:?} {isa:?}");
                }
            }
        }
    }
}

/// Weights kept in bf16 give the bits of weights in f32 that are rounded on the way, for every
/// instruction set, number of threads and odd size.
#[test]
fn weights_in_bf16_change_no_bit() {
    for (n, k) in [(1, 1), (3, 15), (5, 17), (70, 900), (777, 401), (50, 0)] {
        let (a, w, bias) = (values(ROUNDED_ROWS * k, 1), values(n * k, 2), values(n, 3));
        let whole = Weight { offset: 0, rows: n, cols: k };
        for (rows, isa) in
            (1..=ROUNDED_ROWS).flat_map(|rows| isas().into_iter().map(move |i| (rows, i)))
        {
            let a = Mat::new(&a[..rows * k], rows, k);
            let epilogue = || Epilogue::BiasActivation {
                bias: Some(&bias),
                activation: Activation::GeluTanh,
                pre: None,
            };
            let mut expected: Option<Vec<f32>> = None;
            for threads in [1, 2, 3] {
                let device = Device::cpu_with_isa(threads, Precision::Bf16, isa).unwrap();
                let rounded = RoundedWeights::new(&device, &w);
                let (mut plain, mut found) = (vec![f32::NAN; rows * n], vec![f32::NAN; rows * n]);
                let b = Mat::new(&w, n, k).t();
                matmul(&device, &mut plain, n, a, b, Accumulate::Overwrite, epilogue());
                matmul_rounded(&device, &mut found, a, rounded.of(whole), epilogue());
                assert_eq!(plain, found, "{rows}×{n}×{k} {isa:?} {threads} threads");
                assert_eq!(expected.get_or_insert(plain), &found, "{rows}×{n}×{k} {isa:?}");
            }
        }
    }
}
