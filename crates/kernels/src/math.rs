//! Elementary functions in f32 that auto-vectorise inside [`crate::simd::dispatch`].

/// e^x.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    x.exp()
}

/// Natural logarithm.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    x.ln()
}

/// Hyperbolic tangent.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    x.tanh()
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The error function.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    // Abramowitz & Stegun 7.1.26.
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let p = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t
        + 0.254_829_6)
        * t;
    (1.0 - p * exp(-x * x)).copysign(x)
}

/// d erf / dx.
#[inline(always)]
pub fn erf_derivative(x: f32) -> f32 {
    std::f32::consts::FRAC_2_SQRT_PI * exp(-x * x)
}

const GELU_SCALE: f32 = 0.797_884_6;
const GELU_CUBIC: f32 = 0.044_715;

/// GELU, tanh form (GPT-2): ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    x * sigmoid(2.0 * GELU_SCALE * (x + GELU_CUBIC * x * x * x))
}

/// d [`gelu_tanh`] / dx.
#[inline(always)]
pub fn gelu_tanh_derivative(x: f32) -> f32 {
    let s = sigmoid(2.0 * GELU_SCALE * (x + GELU_CUBIC * x * x * x));
    s + x * s * (1.0 - s) * 2.0 * GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * x * x)
}

/// GELU, exact form: x·Φ(x).
#[inline(always)]
pub fn gelu_erf(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// d [`gelu_erf`] / dx.
#[inline(always)]
pub fn gelu_erf_derivative(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * 0.398_942_3 * exp(-0.5 * x * x)
}

/// x·sigmoid(x).
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// d [`silu`] / dx.
#[inline(always)]
pub fn silu_derivative(x: f32) -> f32 {
    let s = sigmoid(x);
    s * (1.0 + x * (1.0 - s))
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
    /// max(x, 0).
    Relu,
}

impl Activation {
    /// The function's value. For a loop over many values use [`Activation::apply`], which
    /// chooses the function once.
    #[inline(always)]
    pub fn value(self, x: f32) -> f32 {
        match self {
            Activation::None => x,
            Activation::GeluTanh => gelu_tanh(x),
            Activation::GeluErf => gelu_erf(x),
            Activation::Silu => silu(x),
            Activation::Relu => x.max(0.0),
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
        }
    }
}
