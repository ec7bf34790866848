//! The bias of an output projection: added to logits, its gradient the sum of theirs over rows.

use crate::device::Device;
use crate::gemm::{self, Accumulate, Epilogue, Mat};
use crate::parallel;
use crate::pool::Disjoint;
use crate::simd::dispatch;
use crate::values::{Element, with_elements};

/// logits `[n, V]`, `stride` apart, ← x·headᵀ + bias.
pub(super) fn project(
    device: &Device,
    logits: &mut [f32],
    stride: usize,
    x: Mat,
    head: Mat,
    bias: Option<&[f32]>,
) {
    let epilogue = bias.map_or(Epilogue::None, Epilogue::Bias);
    gemm::matmul(device, logits, stride, x, head.t(), Accumulate::Overwrite, epilogue);
}

/// dbias `[V]` += Σ over rows of dlogits `[n, V]`, in the order of the rows: tasks split columns.
pub(super) fn backward(device: &Device, dbias: Option<&mut [f32]>, dlogits: Mat) {
    let Some(dbias) = dbias else { return };
    assert_eq!(dbias.len(), dlogits.cols, "bias of the head: a number for every class");
    let isa = device.isa();
    let sums = Disjoint::new(dbias);
    parallel::ranges(device, dlogits.cols, 1024, |span| {
        #[allow(unsafe_code)]
        // SAFETY: the ranges of `ranges` are disjoint.
        let sums = unsafe { sums.range(span.clone()) };
        with_elements!(dlogits.data, data => {
            dispatch(
                isa,
                #[inline(always)]
                || {
                    for row in 0..dlogits.rows {
                        let values = &data[row * dlogits.row_stride..][span.clone()];
                        for (sum, value) in sums.iter_mut().zip(values) {
                            *sum += value.get();
                        }
                    }
                },
            );
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::ops::cross_entropy::joint::{Joint, Twins, joint};
    use crate::ops::cross_entropy::{Gradients, IGNORE, Inputs, LossSpec};
    use crate::profile::Profiler;
    use crate::testing::{assert_close, devices, values, wide};

    const COLS: usize = 7;
    const ROWS: usize = 12;
    const VOCABULARY: usize = 1100;

    /// Loss, dx, dhead and dbias.
    fn run(
        device: &Device,
        x: &[f32],
        head: &[f32],
        bias: Option<&[f32]>,
        twins: Option<Twins>,
    ) -> (f64, [Vec<f32>; 3]) {
        let mut targets: Vec<u32> = (0..ROWS as u32).map(|row| row * 91 % 1100).collect();
        targets[3] = IGNORE;
        let cols = head.len() / VOCABULARY;
        let inputs = Inputs { x, head, bias, targets: &targets, cols };
        let [mut dx, mut dhead, mut dbias] =
            [x.len(), head.len(), VOCABULARY].map(|len| vec![0.0; len]);
        let gradients = Some(Gradients {
            dx: &mut dx,
            dhead: &mut dhead,
            into: Accumulate::Add,
            dbias: bias.map(|_| &mut dbias[..]),
        });
        let (mut arena, mut profiler) = (Arena::default(), Profiler::default());
        let (spec, mut nll) = (LossSpec::plain(0.1), [0.0; ROWS]);
        let terms = (&spec, &Joint { twins, teaching: None });
        let report = match twins {
            Some(_) => joint(device, &mut arena, &mut profiler, &mut nll, inputs, terms, gradients),
            None => super::super::cross_entropy(
                device,
                &mut arena,
                &mut profiler,
                &mut nll,
                inputs,
                &spec,
                gradients,
            ),
        };
        (report.objective_sum, [dx, dhead, dbias])
    }

    #[test]
    fn a_bias_is_a_column_of_the_head_whose_input_is_one() {
        let twins = Some(Twins { strength: 0.7, seq_len: 4 });
        for device in devices() {
            for (twins, copies) in [(None, 1), (twins, 2)] {
                let x = values(copies * ROWS * COLS, 1);
                let (head, bias) = (values(VOCABULARY * COLS, 2), values(VOCABULARY, 3));
                let (loss, [dx, dhead, dbias]) = run(&device, &x, &head, Some(&bias), twins);
                let wider = |values: &[f32], last: &dyn Fn(usize) -> f32| -> Vec<f32> {
                    let rows = values.chunks_exact(COLS).enumerate();
                    rows.flat_map(|(i, row)| row.iter().copied().chain([last(i)])).collect()
                };
                let (wide_x, wide_head) = (wider(&x, &|_| 1.0), wider(&head, &|row| bias[row]));
                let (expected, [wide_dx, wide_dhead, _]) =
                    run(&device, &wide_x, &wide_head, None, twins);
                assert!((loss / expected - 1.0).abs() < 1e-6, "{loss} {expected}");
                let columns = |values: &[f32], keep: std::ops::Range<usize>| -> Vec<f64> {
                    let rows = values.chunks_exact(COLS + 1);
                    wide(&rows.flat_map(|row| &row[keep.clone()]).copied().collect::<Vec<_>>())
                };
                assert_close("dx", &dx, &columns(&wide_dx, 0..COLS), 1e-6);
                assert_close("dhead", &dhead, &columns(&wide_dhead, 0..COLS), 1e-6);
                assert_close("dbias", &dbias, &columns(&wide_dhead, COLS..COLS + 1), 1e-6);
            }
        }
    }
}
