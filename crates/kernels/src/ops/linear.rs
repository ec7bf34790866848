//! Linear map with bias, activation and dropout: y = dropout(f(x·Wᵀ + b)), W `[out, in]`.
//!
//! Backward turns dy into the gradient of the pre-activation in place, summing the bias gradient
//! in the same pass; then dW += dpreᵀ·x and dx (+)= dpre·W.

use crate::arena::Arena;
use crate::device::{Device, Isa, Precision};
use crate::gemm::{self, Accumulate, Epilogue, Mat};
use crate::math::{self, Activation};
use crate::ops::columns;
use crate::ops::dropout::Site;
use crate::pool::Disjoint;
use crate::simd::dispatch;
use crate::values::{Element, View, ViewMut, as_halves, as_halves_mut, with_elements};

/// The map: `weight` `[out, in]`, `bias` `[out]`; `rounded`, where there is one, is the weight in
/// bfloat16 and is read instead for a few rows.
#[derive(Clone, Copy)]
pub(crate) struct Map<'a> {
    pub weight: &'a [f32],
    pub rounded: Option<&'a [u16]>,
    pub bias: Option<&'a [f32]>,
    pub inputs: usize,
    pub outputs: usize,
    pub activation: Activation,
}

/// Elements of a buffer that keeps `len` pre-activations: half of them where products are in
/// bf16 anyway.
pub(crate) fn kept_len(device: &Device, len: usize) -> usize {
    match device.precision() {
        Precision::F32 => len,
        Precision::Bf16 => len.div_ceil(2),
    }
}

/// The buffer as the forward pass writes it.
pub(crate) fn to_keep<'a>(device: &Device, buffer: &'a mut [f32]) -> Option<ViewMut<'a>> {
    match device.precision() {
        _ if buffer.is_empty() => None,
        Precision::F32 => Some(ViewMut::Floats(buffer)),
        Precision::Bf16 => Some(ViewMut::Halves(as_halves_mut(buffer))),
    }
}

/// The buffer as the backward pass reads it.
pub(crate) fn kept<'a>(device: &Device, buffer: &'a [f32]) -> Option<View<'a>> {
    match device.precision() {
        _ if buffer.is_empty() => None,
        Precision::F32 => Some(View::Floats(buffer)),
        Precision::Bf16 => Some(View::Halves(as_halves(buffer))),
    }
}

/// y `[N, out]` ← dropout(f(x·Wᵀ + b)); `pre`, when given, receives x·Wᵀ + b.
pub(crate) fn forward(
    device: &Device,
    mut y: ViewMut,
    pre: Option<ViewMut>,
    x: View,
    map: Map,
    site: Option<Site>,
) {
    let rows = x.len() / map.inputs;
    let epilogue = match (map.activation, map.bias) {
        (Activation::None, None) => Epilogue::None,
        (Activation::None, Some(bias)) => Epilogue::Bias(bias),
        (activation, bias) => Epilogue::BiasActivation { bias, activation, pre },
    };
    let x = Mat::of(x, rows, map.inputs);
    let rounded = map.rounded.filter(|_| rows <= gemm::ROUNDED_ROWS);
    match (rounded, y.reborrow()) {
        (Some(rounded), ViewMut::Floats(y)) => {
            gemm::matmul_rounded(device, y, x, rounded, epilogue);
        }
        (_, y) => {
            let weight = Mat::new(map.weight, map.outputs, map.inputs).t();
            let into = Accumulate::Overwrite;
            gemm::matmul_into(device, y, map.outputs, x, weight, into, epilogue);
        }
    }
    if let Some(site) = site {
        with_elements!(mut y, y => {
            super::embedding::backward_dropout(device, y, map.outputs, site);
        });
    }
}

/// dy `[N, out]` ← gradient of x·Wᵀ + b, in place; `dbias` `[out]` += its sum over rows.
pub(crate) fn backward_activation<T: Element>(
    device: &Device,
    arena: &mut Arena,
    dy: &mut [T],
    dbias: Option<&mut [f32]>,
    pre: Option<View>,
    map: Map,
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
                        site.row(row).scale(dy);
                    }
                },
            );
        }
        let pre = pre.map(|pre| pre.part(rows.start * cols..rows.end * cols));
        chunk(isa, dy, sums, pre, map.activation);
    });
    if let Some(dbias) = dbias {
        columns::combine(device, dbias, &partials, cols, 0);
    }
    arena.give(partials);
}

/// One chunk of rows: chooses the derivative once.
fn chunk<T: Element>(
    isa: Isa,
    dy: &mut [T],
    sums: &mut [f32],
    pre: Option<View>,
    activation: Activation,
) {
    match activation {
        Activation::None => dispatch(
            isa,
            #[inline(always)]
            || {
                for dy in dy.chunks_exact(sums.len()) {
                    for (sum, dy) in sums.iter_mut().zip(dy) {
                        *sum += dy.get();
                    }
                }
            },
        ),
        Activation::GeluTanh if isa.has_fused() => {
            scaled(isa, dy, sums, pre, math::fused::gelu_tanh_derivative);
        }
        Activation::Silu if isa.has_fused() => {
            scaled(isa, dy, sums, pre, math::fused::silu_derivative);
        }
        Activation::GeluTanh => scaled(isa, dy, sums, pre, math::gelu_tanh_derivative),
        Activation::GeluErf => scaled(isa, dy, sums, pre, math::gelu_erf_derivative),
        Activation::Silu => scaled(isa, dy, sums, pre, math::silu_derivative),
        Activation::Relu => scaled(isa, dy, sums, pre, |x| if x > 0.0 { 1.0 } else { 0.0 }),
        Activation::Tanh => scaled(isa, dy, sums, pre, math::tanh_derivative),
    }
}

/// Columns at a time that are written together.
const PIECE: usize = 256;

/// dy *= derivative(pre) and sums += dy, row by row.
#[inline(always)]
fn scaled<T: Element>(
    isa: Isa,
    dy: &mut [T],
    sums: &mut [f32],
    pre: Option<View>,
    derivative: impl Fn(f32) -> f32,
) {
    let pre = pre.expect("a map with an activation keeps its pre-activations");
    with_elements!(pre, pre => scaled_by(isa, dy, sums, pre, derivative));
}

#[inline(always)]
fn scaled_by<T: Element, P: Element>(
    isa: Isa,
    dy: &mut [T],
    sums: &mut [f32],
    pre: &[P],
    derivative: impl Fn(f32) -> f32,
) {
    dispatch(
        isa,
        #[inline(always)]
        || {
            let mut gradients = [0.0; PIECE];
            let cols = sums.len();
            for (dy, pre) in dy.chunks_exact_mut(cols).zip(pre.chunks_exact(cols)) {
                let pieces = dy.chunks_mut(PIECE).zip(pre.chunks(PIECE));
                for ((dy, pre), sums) in pieces.zip(sums.chunks_mut(PIECE)) {
                    let gradients = &mut gradients[..dy.len()];
                    let values = dy.iter().zip(pre).zip(sums);
                    for (((dy, pre), sum), gradient) in values.zip(gradients.iter_mut()) {
                        *gradient = dy.get() * derivative(pre.get());
                        *sum += *gradient;
                    }
                    T::store(isa, gradients, dy);
                }
            }
        },
    );
}

/// dW `[out, in]` += dpreᵀ·x.
pub(crate) fn backward_weight(
    device: &Device,
    (dweight, into): (&mut [f32], Accumulate),
    dpre: View,
    x: View,
    inputs: usize,
    outputs: usize,
) {
    let rows = x.len() / inputs;
    gemm::matmul(
        device,
        dweight,
        inputs,
        Mat::of(dpre, rows, outputs).t(),
        Mat::of(x, rows, inputs),
        into,
        Epilogue::None,
    );
}

/// dx `[N, in]` (+)= dpre·W.
pub(crate) fn backward_input(device: &Device, dx: ViewMut, into: Accumulate, dpre: View, map: Map) {
    let rows = dpre.len() / map.outputs;
    gemm::matmul_into(
        device,
        dx,
        map.inputs,
        Mat::of(dpre, rows, map.outputs),
        Mat::new(map.weight, map.outputs, map.inputs),
        into,
        Epilogue::None,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::dropout::Sharing;
    use crate::testing::{assert_close, assert_slopes, devices, sites, values, wide};

    const SEQ_LEN: usize = 7;

    fn activate(activation: Activation, x: f64) -> f64 {
        let root = (2.0 / std::f64::consts::PI).sqrt();
        match activation {
            Activation::None => x,
            Activation::GeluTanh => 0.5 * x * (1.0 + (root * (x + 0.044715 * x * x * x)).tanh()),
            Activation::GeluErf => x * normal_cdf(x),
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Relu => x.max(0.0),
            Activation::Tanh => x.tanh(),
        }
    }

    /// Φ(x) by Simpson's rule.
    fn normal_cdf(x: f64) -> f64 {
        let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        let (steps, h) = (400, x / 400.0);
        let weight = |i: usize| match i {
            0 | 400 => 1.0,
            i if i % 2 == 1 => 4.0,
            _ => 2.0,
        };
        0.5 + (0..=steps).map(|i| weight(i) * density(i as f64 * h)).sum::<f64>() * h / 3.0
    }

    /// The specification.
    fn reference(
        (x, weight, bias): (&[f64], &[f64], &[f64]),
        activation: Activation,
        site: Option<Site>,
    ) -> Vec<f64> {
        let inputs = weight.len() / bias.len();
        let mut y = Vec::new();
        for (row, x) in x.chunks_exact(inputs).enumerate() {
            for (column, (weight, bias)) in weight.chunks_exact(inputs).zip(bias).enumerate() {
                let dot: f64 = x.iter().zip(weight).map(|(x, w)| x * w).sum();
                let factor = site.map_or(1.0, |site| site.row(row).at(column));
                y.push(activate(activation, dot + bias) * f64::from(factor));
            }
        }
        y
    }

    #[test]
    fn agrees_with_the_reference() {
        use Activation::{GeluErf, GeluTanh, None, Relu, Silu};
        for device in devices() {
            for (inputs, outputs) in [(1, 1), (5, 3), (20, 37)] {
                for activation in [None, GeluTanh, GeluErf, Silu, Relu] {
                    for site in sites(Sharing::Time, SEQ_LEN) {
                        check(&device, inputs, outputs, activation, site);
                    }
                }
            }
        }
    }

    fn check(
        device: &Device,
        inputs: usize,
        outputs: usize,
        activation: Activation,
        site: Option<Site>,
    ) {
        let rows = 3 * SEQ_LEN;
        let (x, bias) = (values(rows * inputs, 1), values(outputs, 3));
        let weight: Vec<f32> =
            values(inputs * outputs, 2).iter().map(|w| w / (inputs as f32).sqrt()).collect();
        let map =
            Map { weight: &weight, rounded: None, bias: Some(&bias), inputs, outputs, activation };
        let mut y = vec![0.0; rows * outputs];
        let mut pre = vec![0.0; kept_len(device, rows * outputs)];
        let out = ViewMut::Floats(&mut y);
        forward(device, out, to_keep(device, &mut pre), View::Floats(&x), map, site);
        let (x64, w64, b64) = (wide(&x), wide(&weight), wide(&bias));
        let what = format!("{activation:?} {inputs}→{outputs} {}", device.describe());
        assert_close(&what, &y, &reference((&x64, &w64, &b64), activation, site), 2e-6);
        let upstream = values(y.len(), 4);
        let mut dy = upstream.clone();
        let mut dbias = vec![0.0; outputs];
        let arena = &mut Arena::default();
        backward_activation(
            device,
            arena,
            &mut dy,
            Some(&mut dbias),
            kept(device, &pre),
            map,
            site,
        );
        let (mut dx, mut dweight) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
        let dy = View::Floats(&dy);
        backward_input(device, ViewMut::Floats(&mut dx), Accumulate::Overwrite, dy, map);
        let into = Accumulate::Add;
        backward_weight(device, (&mut dweight, into), dy, View::Floats(&x), inputs, outputs);
        let spec = |x: &[f64], w: &[f64], b: &[f64]| reference((x, w, b), activation, site);
        assert_slopes(&what, &dx, &x, &upstream, 15, |x| spec(x, &w64, &b64));
        assert_slopes(&what, &dweight, &weight, &upstream, 15, |w| spec(&x64, w, &b64));
        assert_slopes(&what, &dbias, &bias, &upstream, 10, |b| spec(&x64, &w64, b));
    }
}
