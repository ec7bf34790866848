//! The functions that training spends most time in, with fused multiply-adds: half the time of
//! those in [`super`], on processors that have the instruction. Elsewhere each would be a library
//! call: ask [`Isa::has_fused`] first.
//!
//! Every instruction set that has it gives the same bits; [`super`]'s differ in the last place.

use std::f32::consts::LOG2_E;

use super::{GELU_CUBIC, GELU_LINEAR, ROUNDER, clamp};
#[cfg(doc)]
use crate::device::Isa;

/// An exponential function, chosen once for a loop.
pub trait Exponential {
    /// eˣ for x ≤ 0; below −87 it may end at e⁻⁸⁷ = 1.6e-38.
    fn of_negative(x: f32) -> f32;
}

/// With fused multiply-adds.
pub struct Fused;

impl Exponential for Fused {
    #[inline(always)]
    fn of_negative(x: f32) -> f32 {
        exp_within(if x < -87.0 { -87.0 } else { x })
    }
}

/// Without: [`super::exp`].
pub struct Separate;

impl Exponential for Separate {
    #[inline(always)]
    fn of_negative(x: f32) -> f32 {
        super::exp(x)
    }
}

/// eˣ for −87 ≤ x ≤ 88, to 1e-7.
#[inline(always)]
fn exp_within(x: f32) -> f32 {
    let shifted = x.mul_add(LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    // ln 2 in two parts, so that the remainder is right to the last bit.
    let r = n.mul_add(-1.428_606_8e-6, n.mul_add(-0.693_145_75, x));
    let q = 0.001_388_250_5f32.mul_add(r, 0.008_366_534);
    let q = q.mul_add(r, 0.041_667_2).mul_add(r, 0.166_665_43).mul_add(r, 0.499_999_97);
    let power = (r * r).mul_add(q, r) + 1.0;
    // The low bits of `shifted` are n: added to the exponent's.
    f32::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// (s, s·(1 − s)) for s = 1 / (1 + e⁻ˣ), without cancellation where s is nearly 1; |x| ≤ 87.
#[inline(always)]
fn sigmoid_and_slope(x: f32) -> (f32, f32) {
    let exponential = exp_within(-x);
    let s = 1.0 / (1.0 + exponential);
    (s, exponential * s * s)
}

/// [`super::gelu_tanh`], to 3e-7 of the larger of 1 and its magnitude.
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    let x = if x < -50.0 { -50.0 } else { x };
    let inner = x * (x * x).mul_add(GELU_CUBIC, GELU_LINEAR);
    x / (1.0 + exp_within(clamp(-inner, -87.0, 87.0)))
}

/// d [`gelu_tanh`] / dx, to 3e-7 of the larger of 1 and its magnitude.
#[inline(always)]
pub fn gelu_tanh_derivative(x: f32) -> f32 {
    let x = clamp(x, -50.0, 50.0);
    let square = x * x;
    let inner = x * square.mul_add(GELU_CUBIC, GELU_LINEAR);
    let (s, slope) = sigmoid_and_slope(clamp(inner, -80.0, 80.0));
    let steepness = square.mul_add(3.0 * GELU_CUBIC, GELU_LINEAR);
    (x * steepness).mul_add(slope, s)
}

/// [`super::silu`], to 3e-7 of the larger of 1 and its magnitude.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    let x = if x < -200.0 { -200.0 } else { x };
    x / (1.0 + exp_within(clamp(-x, -87.0, 87.0)))
}

/// d [`silu`] / dx, to 3e-7 of the larger of 1 and its magnitude.
#[inline(always)]
pub fn silu_derivative(x: f32) -> f32 {
    let x = clamp(x, -80.0, 80.0);
    let (s, slope) = sigmoid_and_slope(x);
    x.mul_add(slope, s)
}
