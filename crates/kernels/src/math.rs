//! Elementary functions in f32, written as straight code that auto-vectorises inside
//! [`crate::simd::dispatch`].
//!
//! Products and sums are rounded separately, not fused (but see [`fused`]): so every instruction
//! set gives the same bits, and a processor without fused multiply-add does not fall into a library
//! call. Errors below are the worst against f64 found by `tests/math.rs`, relative unless said
//! otherwise. The polynomials were fitted by `tests/golden/fit_math.py`.

pub mod fused;
#[cfg(target_arch = "x86_64")]
pub(crate) mod fused_x86;

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E};

/// 1.5·2²³: adding it rounds to an integer, which then stands in the low bits.
const ROUNDER: f32 = 12_582_912.0;
/// ln 2 in two parts; products of the first with exponents are exact.
const LN2_HIGH: f32 = 355.0 / 512.0;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// a·b + c, rounded twice.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    a * b + c
}

/// c₀ + c₁·x + c₂·x² + …, without a loop, which could keep the caller's from vectorising.
macro_rules! polynomial {
    ($x:expr; $last:expr $(,)?) => { $last };
    ($x:expr; $first:expr, $($rest:expr),+ $(,)?) => {
        multiply_add(polynomial!($x; $($rest),+), $x, $first)
    };
}

/// x, or the bound it exceeds; a NaN stays one.
#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// The two factors of eˣ⁺ˡ = 2ⁿ·(1 + m): the integer n, and m. `x` within ±110, `low` tiny.
#[inline(always)]
fn split_exponential(x: f32, low: f32) -> (i32, f32) {
    let shifted = multiply_add(x, LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW + low;
    let q = polynomial!(r; 0.499_999_97, 0.166_665_43, 0.041_667_2, 0.008_366_534, 0.001_388_250_5);
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32);
    (n, multiply_add(r * r, q, r))
}

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// eˣ⁺ˡ for a tiny `low`.
#[inline(always)]
fn exp_sum(x: f32, low: f32) -> f32 {
    let (n, m) = split_exponential(clamp(x, -105.0, 89.0), low);
    // In two steps, so that results below the smallest normal number are right, too.
    let half = n >> 1;
    (1.0 + m) * power_of_two(half) * power_of_two(n - half)
}

/// eˣ, to 1e-7 (below the smallest normal number: to one unit in the last place).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    exp_sum(x, 0.0)
}

/// Natural logarithm, to 1e-7; −∞ at 0, NaN below.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let tiny = x < f32::MIN_POSITIVE;
    let bits = if tiny { x * 8_388_608.0 } else { x }.to_bits();
    // m = x / 2ᵉ lies between √½ and √2.
    let e = (bits.wrapping_sub(SQRT_HALF) as i32) >> 23;
    let f = f32::from_bits(bits.wrapping_sub((e as u32) << 23)) - 1.0;
    let e = (if tiny { e.wrapping_sub(23) } else { e }) as f32;
    let q = polynomial!(
        f; 0.333_333_3, -0.250_008_23, 0.200_012_25, -0.166_233_52, 0.142_017_84, -0.131_602_56,
        0.127_614_2, -0.076_341_08
    );
    let square = f * f;
    let low = multiply_add(e, LN2_LOW, square * f * q) - 0.5 * square;
    let finite = multiply_add(e, LN2_HIGH, f + low);
    let edge = if x == 0.0 { f32::NEG_INFINITY } else { f32::NAN };
    let value = if x > 0.0 { finite } else { edge };
    if x == f32::INFINITY { x } else { value }
}

/// The nearest bf16, ties to even, as its 16 bits; a NaN stays one.
#[inline(always)]
pub fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    (if x.is_nan() { bits | 0x0040_0000 } else { rounded } >> 16) as u16
}

/// The value of a bf16, exactly.
#[inline(always)]
pub fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Hyperbolic tangent, to 2e-7.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let (n, m) = split_exponential(2.0 * clamp(x.abs(), 0.0, 10.0), 0.0);
    let scale = power_of_two(n);
    // e²ˣ − 1 without cancellation.
    let exponential = multiply_add(m, scale, scale - 1.0);
    (exponential / (exponential + 2.0)).copysign(x)
}

/// 1 − tanh² x.
#[inline(always)]
pub fn tanh_derivative(x: f32) -> f32 {
    let y = tanh(x);
    (1.0 - y) * (1.0 + y)
}

/// 1 / (1 + e⁻ˣ), to 1.5e-7 (0 below −88.8).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// (s, s·(1 − s)) for s = sigmoid x, without cancellation where s is nearly 1.
#[inline(always)]
fn sigmoid_and_slope(x: f32) -> (f32, f32) {
    let exponential = exp(if x < -80.0 { 80.0 } else { -x });
    let s = 1.0 / (1.0 + exponential);
    (s, exponential * s * s)
}

/// e^(−factor·z²) for a power of two `factor`, without rounding z²: it is kept in two parts.
#[inline(always)]
fn exp_minus_square(factor: f32, z: f32) -> f32 {
    let high = f32::from_bits(z.to_bits() & 0xffff_f000);
    exp_sum(-factor * (high * high), -factor * ((z - high) * (z + high)))
}

/// 1 − erf z for 0 ≤ z, given e^(−z²).
#[inline(always)]
fn erfc_positive(z: f32, exponential: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.35 * z);
    let q = polynomial!(
        t; 0.197_483_76, 0.197_138_7, 0.187_899_63, 0.151_198_97, 0.146_005_48, 0.087_086_67,
        -0.027_786_803, 0.181_521_73, -0.158_953_88, 0.038_405_742
    );
    q * t * exponential
}

/// The error function, to 2e-7.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let z = clamp(x.abs(), 0.0, 10.0);
    let square = z * z;
    let small = z * polynomial!(
        square; FRAC_2_SQRT_PI, -0.376_126_26, 0.112_835_854, -0.026_853_811, 0.005_188_325_4,
        -0.000_801_017_45, 7.853_798e-5
    );
    let large = 1.0 - erfc_positive(z, exp_minus_square(1.0, z));
    (if z < 1.0 { small } else { large }).copysign(x)
}

/// d erf / dx = 2/√π·e^(−x²), to 3e-7.
#[inline(always)]
pub fn erf_derivative(x: f32) -> f32 {
    FRAC_2_SQRT_PI * exp_minus_square(1.0, clamp(x, -20.0, 20.0))
}

/// The normal distribution's function Φ and density φ, for x within ±50.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let exponential = exp_minus_square(0.5, x);
    let tail = 0.5 * erfc_positive(x.abs() * FRAC_1_SQRT_2, exponential);
    (if x < 0.0 { tail } else { 1.0 - tail }, 0.398_942_3 * exponential)
}

/// GELU, exact form: x·Φ(x), to 5e-7 where it exceeds 1e-37 in magnitude.
#[inline(always)]
pub fn gelu_erf(x: f32) -> f32 {
    let x = if x < -50.0 { -50.0 } else { x };
    x * normal(if x > 50.0 { 50.0 } else { x }).0
}

/// d [`gelu_erf`] / dx = Φ(x) + x·φ(x), to 3e-7 of the larger of 1 and its magnitude.
#[inline(always)]
pub fn gelu_erf_derivative(x: f32) -> f32 {
    let x = clamp(x, -50.0, 50.0);
    let (distribution, density) = normal(x);
    multiply_add(x, density, distribution)
}

/// 2·√(2/π) and its product with the cubic coefficient 0.044715.
const GELU_LINEAR: f32 = 1.595_769_2;
const GELU_CUBIC: f32 = 0.071_354_814;

/// GELU, tanh form (GPT-2): ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) = x·sigmoid(2·√(2/π)·…),
/// to 2e-7 for x ≥ 0 and 6e-7 for x ≥ −2, growing to 2e-5 where it leaves f32's range (x = −10).
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    let x = if x < -50.0 { -50.0 } else { x };
    x * sigmoid(x * multiply_add(GELU_CUBIC, x * x, GELU_LINEAR))
}

/// d [`gelu_tanh`] / dx, to 2e-7 of the larger of 1 and its magnitude.
#[inline(always)]
pub fn gelu_tanh_derivative(x: f32) -> f32 {
    let x = clamp(x, -50.0, 50.0);
    let square = x * x;
    let (s, slope) = sigmoid_and_slope(x * multiply_add(GELU_CUBIC, square, GELU_LINEAR));
    let inner = multiply_add(3.0 * GELU_CUBIC, square, GELU_LINEAR);
    multiply_add(x * inner, slope, s)
}

/// x·sigmoid(x), to 2e-7 (0 below −88.8).
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    let x = if x < -200.0 { -200.0 } else { x };
    x * sigmoid(x)
}

/// d [`silu`] / dx, to 2e-7 of the larger of 1 and its magnitude.
#[inline(always)]
pub fn silu_derivative(x: f32) -> f32 {
    let x = clamp(x, -200.0, 200.0);
    let (s, slope) = sigmoid_and_slope(x);
    multiply_add(x, slope, s)
}

/// max(x, 0); a NaN stays one.
#[inline(always)]
pub fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// The element-wise function behind a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The identity.
    None,
    /// [`gelu_tanh`].
    GeluTanh,
    /// [`gelu_erf`].
    GeluErf,
    /// [`silu`].
    Silu,
    /// [`relu`].
    Relu,
    /// [`tanh`].
    Tanh,
}

impl Activation {
    /// The function's value. In a loop, match on the activation outside of it.
    #[inline(always)]
    pub fn value(self, x: f32) -> f32 {
        match self {
            Activation::None => x,
            Activation::GeluTanh => gelu_tanh(x),
            Activation::GeluErf => gelu_erf(x),
            Activation::Silu => silu(x),
            Activation::Relu => relu(x),
            Activation::Tanh => tanh(x),
        }
    }

    /// The derivative at `x`, the value before the activation.
    #[inline(always)]
    pub fn derivative(self, x: f32) -> f32 {
        match self {
            Activation::None => 1.0,
            Activation::GeluTanh => gelu_tanh_derivative(x),
            Activation::GeluErf => gelu_erf_derivative(x),
            Activation::Silu => silu_derivative(x),
            Activation::Relu => f32::from(u8::from(x > 0.0)),
            Activation::Tanh => tanh_derivative(x),
        }
    }
}
