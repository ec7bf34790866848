//! What the tests of ops share: values, instruction sets, central differences.

use crate::device::{Device, Isa, Precision};
use crate::gemm::Accumulate;
use crate::ops::dropout::{Dropout, NoiseKey, Sharing, Site};
use crate::ops::tile::{Engine, Units};

/// `len` values of about unit size, the same for a seed.
pub(crate) fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 24) as f32
    };
    (0..8).for_each(|_| {
        next();
    });
    (0..len).map(|_| next() + next() + next() + next() - 2.0).map(|x| x * 1.7).collect()
}

/// All instruction sets of this processor.
pub(crate) fn isas() -> Vec<Isa> {
    let best = Device::detect_isa();
    [Isa::Portable, Isa::Avx2, Isa::Avx512].into_iter().filter(|&isa| isa <= best).collect()
}

/// All ways to compute tile products on this processor.
pub(crate) fn engines() -> Vec<Engine> {
    let mut all = Vec::new();
    for isa in isas() {
        all.extend([Units::F32, Units::PairsEmulated].map(|units| Engine { isa, units }));
        if isa == Isa::Avx512 && Device::native_bf16() {
            all.push(Engine { isa, units: Units::Pairs });
        }
    }
    all
}

/// Devices for all instruction sets, with one to three threads.
pub(crate) fn devices() -> Vec<Device> {
    let threads = [2, 3, 1];
    let each = isas().into_iter().zip(threads);
    each.map(|(isa, threads)| Device::cpu_with_isa(threads, Precision::F32, isa).unwrap()).collect()
}

/// Asserts |got − expected| ≤ tolerance·max(1, largest expected) for every element.
pub(crate) fn assert_close(what: &str, got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    let largest = expected.iter().fold(1.0f64, |most, x| most.max(x.abs()));
    for (index, (&got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - expected).abs();
        assert!(error <= tolerance * largest, "{what}[{index}]: got {got}, expected {expected}");
    }
}

/// Asserts that `gradient` holds the slopes of Σ f(x)·dy, by central differences in f64 of the
/// reference `f`, at about `samples` elements.
pub(crate) fn assert_slopes(
    what: &str,
    gradient: &[f32],
    x: &[f32],
    dy: &[f32],
    samples: usize,
    f: impl Fn(&[f64]) -> Vec<f64>,
) {
    assert_eq!(gradient.len(), x.len(), "{what}: length");
    let mut at = wide(x);
    let h = 1e-5;
    let objective = |y: Vec<f64>| -> f64 { y.iter().zip(dy).map(|(y, &d)| y * f64::from(d)).sum() };
    let largest = gradient.iter().fold(1.0f64, |most, g| most.max(f64::from(g.abs())));
    for index in (0..x.len()).step_by((x.len() / samples.max(1)).max(1)) {
        let middle = at[index];
        at[index] = middle + h;
        let above = objective(f(&at));
        at[index] = middle - h;
        let slope = (above - objective(f(&at))) / (2.0 * h);
        at[index] = middle;
        let error = (f64::from(gradient[index]) - slope).abs();
        let got = gradient[index];
        assert!(error <= 2e-5 * largest, "{what}[{index}]: got {got}, slope {slope}");
    }
}

/// The values in f64.
pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// No dropout site, and one for sequences of `seq_len`.
pub(crate) fn sites(sharing: Sharing, seq_len: usize) -> [Option<Site>; 2] {
    let noise = NoiseKey { seed: 3, step: 9, first_sequence: 5 };
    [None, Site::new(Some(Dropout { p: 0.3, stream: 17, sharing }), Some(noise), seq_len)]
}

/// Both ways to write a gradient.
pub(crate) const INTO: [Accumulate; 2] = [Accumulate::Overwrite, Accumulate::Add];
