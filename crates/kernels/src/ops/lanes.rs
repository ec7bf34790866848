//! Sums along a row in a fixed number of lanes: they vectorise, and their order never changes.
//!
//! The functions are meant to be called inside [`crate::simd::dispatch`].

use crate::values::Element;

/// Lanes of a row sum.
pub(crate) const LANES: usize = 32;

type Lanes = [f32; LANES];

/// Folds the lanes pairwise, always in the same order.
#[inline(always)]
fn fold(mut lanes: Lanes, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = combine(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn add(a: f32, b: f32) -> f32 {
    a + b
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// The tail of a row in lanes of its own, the rest of which hold `rest`: were the main loop's
/// lanes indexed by a variable, they would live in memory instead of registers.
#[inline(always)]
fn with_tail(lanes: Lanes, tail: Lanes, combine: impl Fn(f32, f32) -> f32) -> Lanes {
    std::array::from_fn(
        #[inline(always)]
        |lane| combine(lanes[lane], tail[lane]),
    )
}

/// Σ f(aᵢ).
#[inline(always)]
pub(crate) fn sum<T: Element>(a: &[T], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (blocks, rest) = a.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &a) in lanes.iter_mut().zip(block) {
            *lane += f(a.get());
        }
    }
    if !rest.is_empty() {
        let mut tail = [0.0f32; LANES];
        for (lane, &a) in tail.iter_mut().zip(rest) {
            *lane = f(a.get());
        }
        lanes = with_tail(lanes, tail, add);
    }
    fold(lanes, add)
}

/// Σ f(aᵢ, bᵢ); the slices are equally long.
#[inline(always)]
pub(crate) fn sum2<T: Element, U: Element>(a: &[T], b: &[U], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f(a.get(), b.get());
        }
    }
    if !a_rest.is_empty() {
        let mut tail = [0.0f32; LANES];
        for ((lane, &a), &b) in tail.iter_mut().zip(a_rest).zip(b_rest) {
            *lane = f(a.get(), b.get());
        }
        lanes = with_tail(lanes, tail, add);
    }
    fold(lanes, add)
}

/// Σ aᵢ·bᵢ.
#[inline(always)]
pub(crate) fn dot<T: Element, U: Element>(a: &[T], b: &[U]) -> f32 {
    sum2(
        a,
        b,
        #[inline(always)]
        |a, b| a * b,
    )
}

/// The largest element, or −∞ of an empty row. NaNs are passed over.
#[inline(always)]
pub(crate) fn max(a: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = a.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &a) in lanes.iter_mut().zip(block) {
            *lane = larger(*lane, a);
        }
    }
    if !rest.is_empty() {
        let mut tail = [f32::NEG_INFINITY; LANES];
        for (lane, &a) in tail.iter_mut().zip(rest) {
            *lane = larger(*lane, a);
        }
        lanes = with_tail(lanes, tail, larger);
    }
    fold(lanes, larger)
}

/// Replaces every xᵢ by f(xᵢ) and returns the sum of the new values.
#[inline(always)]
pub(crate) fn map_sum(x: &mut [f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (blocks, rest) = x.as_chunks_mut::<LANES>();
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *x = f(*x);
            *lane += *x;
        }
    }
    if !rest.is_empty() {
        let mut tail = [0.0f32; LANES];
        for (lane, x) in tail.iter_mut().zip(rest) {
            *x = f(*x);
            *lane = *x;
        }
        lanes = with_tail(lanes, tail, add);
    }
    fold(lanes, add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::dispatch;
    use crate::testing::{isas, values};

    #[test]
    fn sums_agree_with_the_plain_loop() {
        for isa in isas() {
            for len in [0, 1, 31, 32, 33, 100, 1000] {
                let (a, b) = (values(len, 1), values(len, 2));
                let exact: f64 = a.iter().zip(&b).map(|(&a, &b)| a as f64 * b as f64).sum();
                let got = dispatch(
                    isa,
                    #[inline(always)]
                    || dot(&a, &b),
                );
                assert!((got as f64 - exact).abs() < 1e-4, "{isa:?} {len}");
                let most = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(
                    dispatch(
                        isa,
                        #[inline(always)]
                        || max(&a)
                    ),
                    most
                );
                let mut doubled = a.clone();
                let total = dispatch(
                    isa,
                    #[inline(always)]
                    || map_sum(&mut doubled, |x| 2.0 * x),
                );
                let exact: f64 = a.iter().map(|&a| 2.0 * a as f64).sum();
                assert!((total as f64 - exact).abs() < 1e-4);
                assert!(doubled.iter().zip(&a).all(|(d, a)| *d == 2.0 * a));
            }
        }
    }
}
