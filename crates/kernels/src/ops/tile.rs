//! Small single-threaded products on register tiles, for attention: C[m,n] (+)= A[m,k]·B[k,n].
//!
//! Nothing is packed: B and C have unit column stride and are read and written as they lie, A
//! may have any strides and is broadcast. C is f32. A and B hold units of four bytes: f32
//! values, or pairs of bf16 values that follow each other along k. Each element of C is one
//! chain of fused multiply-adds in the order of k, whatever the tile it falls into.
#![allow(unsafe_code)]

use crate::device::{Device, Isa, Precision};
use crate::simd::dispatch;
use crate::values::Element;

/// What a four-byte unit of A and B is, and who multiplies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Units {
    /// One f32.
    F32,
    /// Two bf16, the lower half first; multiplied natively.
    Pairs,
    /// Two bf16, multiplied as f32.
    PairsEmulated,
}

impl Units {
    /// Units that hold `len` values along k.
    #[inline(always)]
    pub fn along(self, len: usize) -> usize {
        if self == Units::F32 { len } else { len.div_ceil(2) }
    }
}

/// How products are computed: instruction set and units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Engine {
    pub isa: Isa,
    pub units: Units,
}

impl Engine {
    /// What the device's precision asks for.
    pub fn of(device: &Device) -> Engine {
        let native = device.isa() == Isa::Avx512 && Device::native_bf16();
        let units = match device.precision() {
            Precision::F32 => Units::F32,
            Precision::Bf16 if native => Units::Pairs,
            Precision::Bf16 => Units::PairsEmulated,
        };
        Engine { isa: device.isa(), units }
    }

    /// Products of f32 on the device, whatever its precision.
    pub fn f32(device: &Device) -> Engine {
        Engine { isa: device.isa(), units: Units::F32 }
    }
}

/// The left operand: unit (i, p) is `data[i * row + p * col]`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub col: usize,
}

/// The right operand: unit (p, j) is `data[p * row + j]`.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    pub data: &'a [f32],
    pub row: usize,
}

/// Sizes of a product; k counts units.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// Whether C is replaced or added to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    Overwrite,
    Add,
}

/// C (+)= A·B where C's element (i, j) is `c[i * ldc + j]`.
pub(crate) fn product(
    engine: Engine,
    c: &mut [f32],
    ldc: usize,
    a: Left,
    b: Right,
    size: Size,
    into: Into,
) {
    let Size { m, n, k } = size;
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * ldc + n <= c.len(), "tile product: C is too short");
    assert!(k == 0 || (m - 1) * a.row + (k - 1) * a.col < a.data.len(), "tile product: A");
    assert!(k == 0 || (k - 1) * b.row + n <= b.data.len(), "tile product: B is too short");
    let raw = Raw {
        c: c.as_mut_ptr(),
        ldc,
        a: a.data.as_ptr(),
        row: a.row,
        col: a.col,
        b: b.data.as_ptr(),
        ldb: b.row,
        k,
        into,
    };
    // SAFETY: the device found the instruction set, and `Engine::of` the native pairs; the
    // assertions above bound every access.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use super::tile_x86 as x86;
        match (engine.isa, engine.units) {
            (Isa::Avx512, Units::F32) => x86::panels512(raw, m, n),
            (Isa::Avx512, Units::Pairs) => x86::panels512_pairs(raw, m, n),
            (Isa::Avx512, Units::PairsEmulated) => x86::panels512_emulated(raw, m, n),
            (Isa::Avx2, Units::F32) => x86::panels256(raw, m, n),
            (Isa::Avx2, _) => x86::panels256_emulated(raw, m, n),
            (Isa::Portable, units) => portable(raw, m, n, units),
        }
    }
    // SAFETY: the assertions above bound every access.
    #[cfg(not(target_arch = "x86_64"))]
    unsafe {
        portable(raw, m, n, engine.units);
    }
}

/// A value's upper 16 bits, rounded to nearest, ties to even.
#[inline(always)]
fn rounded(value: f32) -> u32 {
    let bits = value.to_bits();
    bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16
}

/// Two values as a pair of bf16, the lower half first.
#[inline(always)]
fn pair(low: f32, high: f32) -> f32 {
    f32::from_bits(rounded(high) << 16 | rounded(low))
}

/// Two bf16 as a pair, the lower half first.
#[inline(always)]
fn joined(low: u16, high: u16) -> f32 {
    f32::from_bits(u32::from(high) << 16 | u32::from(low))
}

/// Asks for the cache lines of a row that will be read soon: rows of a head lie in pages of
/// their own, which the processor does not foresee.
#[inline(always)]
pub(crate) fn prefetch<T>(row: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(64 / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: prefetching reads nothing, and the address is inside the row.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

/// to ← units along `from`: values, or pairs of neighbours; an odd last one is paired with 0.
pub(crate) fn pack_along<T: Element>(engine: Engine, from: &[T], to: &mut [f32]) {
    assert_eq!(to.len(), engine.units.along(from.len()), "units of a row");
    if let (Some(from), true) = (T::halves(from), engine.units != Units::F32) {
        return dispatch(
            engine.isa,
            #[inline(always)]
            || {
                let (pairs, rest) = from.as_chunks::<2>();
                for (to, [low, high]) in to.iter_mut().zip(pairs) {
                    *to = joined(*low, *high);
                }
                if let ([low], Some(to)) = (rest, to.last_mut()) {
                    *to = joined(*low, 0);
                }
            },
        );
    }
    match (engine.units, T::floats(from)) {
        (Units::F32, Some(from)) => to.copy_from_slice(from),
        (Units::F32, None) => to.iter_mut().zip(from).for_each(|(to, from)| *to = from.get()),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Engine::of` found native pairs.
        (Units::Pairs, Some(from)) => unsafe { super::tile_x86::pack_along(from, to) },
        _ => dispatch(
            engine.isa,
            #[inline(always)]
            || {
                let (pairs, rest) = from.as_chunks::<2>();
                for (to, [low, high]) in to.iter_mut().zip(pairs) {
                    *to = pair(low.get(), high.get());
                }
                if let ([low], Some(to)) = (rest, to.last_mut()) {
                    *to = pair(low.get(), 0.0);
                }
            },
        ),
    }
}

/// to[i] ← the pair of low[i] and high[i], all equally long; never f32 units.
pub(crate) fn pack_across<T: Element>(engine: Engine, low: &[T], high: &[T], to: &mut [f32]) {
    assert!(low.len() == to.len() && high.len() == to.len(), "pairs of two rows");
    assert_ne!(engine.units, Units::F32, "f32 units are not paired");
    if let (Some(low), Some(high)) = (T::halves(low), T::halves(high)) {
        return dispatch(
            engine.isa,
            #[inline(always)]
            || {
                for ((to, low), high) in to.iter_mut().zip(low).zip(high) {
                    *to = joined(*low, *high);
                }
            },
        );
    }
    match (engine.units, T::floats(low), T::floats(high)) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Engine::of` found native pairs.
        (Units::Pairs, Some(low), Some(high)) => unsafe {
            super::tile_x86::pack_across(low, high, to)
        },
        _ => dispatch(
            engine.isa,
            #[inline(always)]
            || {
                for ((to, low), high) in to.iter_mut().zip(low).zip(high) {
                    *to = pair(low.get(), high.get());
                }
            },
        ),
    }
}

/// to[d, r] ← from[r, d] for a block of 16×16; rows start `from_stride` and `to_stride` apart.
pub(crate) fn transpose16(
    isa: Isa,
    from: &[f32],
    from_stride: usize,
    to: &mut [f32],
    to_stride: usize,
) {
    assert!(from.len() >= 15 * from_stride + 16 && to.len() >= 15 * to_stride + 16);
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Avx512 {
        // SAFETY: the device found AVX-512; the assertion bounds every access.
        unsafe {
            super::tile_x86::transpose16(from.as_ptr(), from_stride, to.as_mut_ptr(), to_stride);
        }
        return;
    }
    let _ = isa;
    for (r, from) in from.chunks(from_stride).take(16).enumerate() {
        for (d, value) in from[..16].iter().enumerate() {
            to[d * to_stride + r] = *value;
        }
    }
}

/// The operands without their bounds, positioned at the current tile.
#[derive(Clone, Copy)]
pub(super) struct Raw {
    pub c: *mut f32,
    pub ldc: usize,
    pub a: *const f32,
    pub row: usize,
    pub col: usize,
    pub b: *const f32,
    pub ldb: usize,
    pub k: usize,
    pub into: Into,
}

impl Raw {
    /// The operands for the tile whose first element is (i, j).
    ///
    /// # Safety
    /// (i, j) must lie inside C.
    #[inline(always)]
    pub unsafe fn at(self, i: usize, j: usize) -> Raw {
        // SAFETY: row i of A and column j of B and (i, j) of C are inside by the caller's word.
        unsafe {
            Raw {
                c: self.c.add(i * self.ldc + j),
                a: self.a.wrapping_add(i * self.row),
                b: self.b.wrapping_add(j),
                ..self
            }
        }
    }
}

/// The lower and the upper bf16 of a pair, as f32.
#[inline(always)]
fn halves(pair: f32) -> [f32; 2] {
    let bits = pair.to_bits();
    [f32::from_bits(bits << 16), f32::from_bits(bits & 0xFFFF_0000)]
}

/// # Safety
/// Every access within m, n, k and the strides must be in bounds.
unsafe fn portable(raw: Raw, m: usize, n: usize, units: Units) {
    match units {
        // SAFETY: the caller's word.
        Units::F32 => unsafe { panels_portable(raw, m, n, |a, b, sum| sum + a * b) },
        // SAFETY: the caller's word.
        Units::Pairs | Units::PairsEmulated => unsafe {
            panels_portable(raw, m, n, |a, b, sum| {
                let ([a0, a1], [b0, b1]) = (halves(a), halves(b));
                sum + a0 * b0 + a1 * b1
            });
        },
    }
}

/// # Safety
/// Every access within m, n, k and the strides must be in bounds.
#[inline(always)]
unsafe fn panels_portable(
    raw: Raw,
    m: usize,
    n: usize,
    step: impl Fn(f32, f32, f32) -> f32 + Copy,
) {
    const WIDE: usize = 8;
    let mut j = 0;
    while j < n {
        let mut i = 0;
        while i < m {
            // SAFETY: tiles lie inside C.
            unsafe {
                let tile = raw.at(i, j);
                match (m - i >= 2, n - j >= WIDE) {
                    (true, true) => tile_portable::<2, WIDE>(tile, step),
                    (false, true) => tile_portable::<1, WIDE>(tile, step),
                    (_, false) => {
                        for column in 0..n - j {
                            tile_portable::<1, 1>(tile.at(0, column), step);
                        }
                    }
                }
            }
            i += if m - i >= 2 && n - j >= WIDE { 2 } else { 1 };
        }
        j += WIDE;
    }
}

/// # Safety
/// The tile's rows and columns, and k, must be in bounds.
#[inline(always)]
unsafe fn tile_portable<const R: usize, const W: usize>(
    raw: Raw,
    step: impl Fn(f32, f32, f32) -> f32,
) {
    // SAFETY: the caller's word.
    unsafe {
        let mut sums = [[0.0f32; W]; R];
        if raw.into == Into::Add {
            for (r, sums) in sums.iter_mut().enumerate() {
                *sums = raw.c.add(r * raw.ldc).cast::<[f32; W]>().read();
            }
        }
        for p in 0..raw.k {
            let right = raw.b.wrapping_add(p * raw.ldb).cast::<[f32; W]>().read();
            for (r, sums) in sums.iter_mut().enumerate() {
                let left = *raw.a.wrapping_add(p * raw.col + r * raw.row);
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = step(left, right, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            raw.c.add(r * raw.ldc).cast::<[f32; W]>().write(*sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{engines, values};

    /// Values that bf16 holds exactly.
    fn short(len: usize, seed: u64) -> Vec<f32> {
        let cut = |x: f32| f32::from_bits(x.to_bits() & 0xFFFF_0000);
        values(len, seed).into_iter().map(cut).collect()
    }

    #[test]
    fn agrees_with_the_triple_loop_at_odd_sizes() {
        for engine in engines() {
            for (m, n, k) in
                [(1, 1, 1), (7, 5, 3), (13, 65, 17), (6, 64, 64), (9, 40, 0), (5, 100, 33)]
            {
                for into in [Into::Overwrite, Into::Add] {
                    check(engine, Size { m, n, k }, into);
                }
            }
        }
    }

    fn check(engine: Engine, Size { m, n, k }: Size, into: Into) {
        let depth = if engine.units == Units::F32 { 1 } else { 2 };
        // Value (i, p·depth + h) of A is half h of unit (i, p).
        let (a, b) = (short(depth * m * k, 1), short(depth * k * n, 2));
        let unit = |values: &[f32], index: usize| match depth {
            1 => values[index],
            _ => {
                let (low, high) = (values[2 * index].to_bits(), values[2 * index + 1].to_bits());
                f32::from_bits(low >> 16 | high)
            }
        };
        // A is stored by columns.
        let units_a: Vec<f32> = (0..m * k).map(|at| unit(&a, at)).collect();
        let units_b: Vec<f32> = (0..k * n).map(|at| unit(&b, at)).collect();
        let mut c = values(m * (n + 3), 3);
        let mut expected: Vec<f64> = c.iter().map(|&c| f64::from(c)).collect();
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let mut sum = if into == Into::Add { expected[i * (n + 3) + j] } else { 0.0 };
            for (p, half) in (0..k).flat_map(|p| (0..depth).map(move |half| (p, half))) {
                let left = a[(p * m + i) * depth + half];
                sum += f64::from(left) * f64::from(b[(p * n + j) * depth + half]);
            }
            expected[i * (n + 3) + j] = sum;
        }
        let left = Left { data: &units_a, row: 1, col: m };
        let right = Right { data: &units_b, row: n };
        product(engine, &mut c, n + 3, left, right, Size { m, n, k }, into);
        for (c, expected) in c.iter().zip(&expected) {
            assert!((f64::from(*c) - expected).abs() < 2e-5, "{engine:?} {m} {n} {k}");
        }
    }
}
