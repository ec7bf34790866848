//! What the tests of ops share: values, instruction sets, central differences.

use crate::device::{Device, Isa, Precision};

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

/// Devices for all instruction sets, with one to three threads.
pub(crate) fn devices() -> Vec<Device> {
    let threads = [2, 3, 1];
    let each = isas().into_iter().zip(threads);
    each.map(|(isa, threads)| Device::cpu_with_isa(threads, Precision::F32, isa).unwrap()).collect()
}
