//! Linear map with bias, activation and dropout: y = dropout(f(x·Wᵀ + b)), W `[out, in]`.
//!
//! Backward turns dy into the gradient of the pre-activation in place, summing the bias gradient
//! in the same pass; then dW += dpreᵀ·x and dx (+)= dpre·W.

use crate::arena::Arena;
use crate::device::{Device, Isa};
use crate::gemm::{self, Accumulate, Epilogue, Mat};
use crate::math::{self, Activation};
use crate::ops::columns;
use crate::ops::dropout::Site;
use crate::pool::Disjoint;
use crate::simd::dispatch;

/// The map: `weight` `[out, in]`, `bias` `[out]`.
#[derive(Clone, Copy)]
pub(crate) struct Map<'a> {
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
    pub inputs: usize,
    pub outputs: usize,
    pub activation: Activation,
}

/// y `[N, out]` ← dropout(f(x·Wᵀ + b)); `pre`, when given, receives x·Wᵀ + b.
pub(crate) fn forward(
    device: &Device,
    y: &mut [f32],
    pre: Option<&mut [f32]>,
    x: &[f32],
    map: Map,
    seq_len: usize,
    site: Option<Site>,
) {
    let rows = x.len() / map.inputs;
    let epilogue = match (map.activation, map.bias) {
        (Activation::None, None) => Epilogue::None,
        (Activation::None, Some(bias)) => Epilogue::Bias(bias),
        (activation, bias) => Epilogue::BiasActivation { bias, activation, pre },
    };
    gemm::matmul(
        device,
        y,
        map.outputs,
        Mat::new(x, rows, map.inputs),
        Mat::new(map.weight, map.outputs, map.inputs).t(),
        Accumulate::Overwrite,
        epilogue,
    );
    if let Some(site) = site {
        super::embedding::backward_dropout(device, y, map.outputs, seq_len, site);
    }
}

/// dy `[N, out]` ← gradient of x·Wᵀ + b, in place; `dbias` `[out]` += its sum over rows.
pub(crate) fn backward_activation(
    device: &Device,
    arena: &mut Arena,
    dy: &mut [f32],
    dbias: Option<&mut [f32]>,
    pre: &[f32],
    map: Map,
    seq_len: usize,
    site: Option<Site>,
) {
    if dbias.is_none() && map.activation == Activation::None && site.is_none() {
        return;
    }
    let cols = map.outputs;
    let rows = dy.len() / cols;
    let isa = device.isa();
    let dy = Disjoint::new(dy);
    let partials = columns::partial_sums(device, arena, rows, cols, |rows, sums| {
        #[allow(unsafe_code)]
        // SAFETY: the chunks of `partial_sums` are disjoint.
        let dy = unsafe { dy.range(rows.start * cols..rows.end * cols) };
        if let Some(site) = site {
            dispatch(
                isa,
                #[inline(always)]
                || {
                    for (row, dy) in rows.clone().zip(dy.chunks_exact_mut(cols)) {
                        site.row(row, seq_len).scale(dy);
                    }
                },
            );
        }
        let pre = pre.get(rows.start * cols..rows.end * cols);
        chunk(isa, dy, sums, pre, map.activation);
    });
    if let Some(dbias) = dbias {
        columns::combine(device, dbias, &partials, cols, 0);
    }
    arena.give(partials);
}

/// One chunk of rows: chooses the derivative once.
fn chunk(isa: Isa, dy: &mut [f32], sums: &mut [f32], pre: Option<&[f32]>, activation: Activation) {
    match (activation, pre) {
        (Activation::None, _) => dispatch(
            isa,
            #[inline(always)]
            || {
                for dy in dy.chunks_exact(sums.len()) {
                    sums.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
                }
            },
        ),
        (Activation::GeluTanh, Some(pre)) => scaled(isa, dy, sums, pre, math::gelu_tanh_derivative),
        (Activation::GeluErf, Some(pre)) => scaled(isa, dy, sums, pre, math::gelu_erf_derivative),
        (Activation::Silu, Some(pre)) => scaled(isa, dy, sums, pre, math::silu_derivative),
        (Activation::Relu, Some(pre)) => {
            scaled(isa, dy, sums, pre, |x| if x > 0.0 { 1.0 } else { 0.0 });
        }
        (_, None) => unreachable!("a linear map with an activation keeps its pre-activations"),
    }
}

/// dy *= derivative(pre) and sums += dy, row by row.
#[inline(always)]
fn scaled(
    isa: Isa,
    dy: &mut [f32],
    sums: &mut [f32],
    pre: &[f32],
    derivative: impl Fn(f32) -> f32,
) {
    dispatch(
        isa,
        #[inline(always)]
        || {
            let cols = sums.len();
            for (dy, pre) in dy.chunks_exact_mut(cols).zip(pre.chunks_exact(cols)) {
                for ((dy, pre), sum) in dy.iter_mut().zip(pre).zip(sums.iter_mut()) {
                    *dy *= derivative(*pre);
                    *sum += *dy;
                }
            }
        },
    );
}

/// dW `[out, in]` += dpreᵀ·x.
pub(crate) fn backward_weight(
    device: &Device,
    dweight: &mut [f32],
    dpre: &[f32],
    x: &[f32],
    inputs: usize,
    outputs: usize,
) {
    let rows = x.len() / inputs;
    gemm::matmul(
        device,
        dweight,
        inputs,
        Mat::new(dpre, rows, outputs).t(),
        Mat::new(x, rows, inputs),
        Accumulate::Add,
        Epilogue::None,
    );
}

/// dx `[N, in]` (+)= dpre·W.
pub(crate) fn backward_input(
    device: &Device,
    dx: &mut [f32],
    into: Accumulate,
    dpre: &[f32],
    map: Map,
) {
    let rows = dpre.len() / map.outputs;
    gemm::matmul(
        device,
        dx,
        map.inputs,
        Mat::new(dpre, rows, map.outputs),
        Mat::new(map.weight, map.outputs, map.inputs),
        into,
        Epilogue::None,
    );
}
