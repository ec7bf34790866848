//! The elementary functions against f64 over all of f32's range, and at its edges.

use heldout_kernels::math::*;
use heldout_kernels::simd::dispatch;
use heldout_kernels::{Device, Isa};

/// Every `step`-th f32 between two values of one sign.
fn floats(low: f32, high: f32, step: u32) -> impl Iterator<Item = f32> {
    let (a, b) = (low.to_bits().min(high.to_bits()), low.to_bits().max(high.to_bits()));
    (a..=b).step_by(step as usize).map(f32::from_bits)
}

/// The worst of |f(x) − exact(x)| / scale(exact(x)) over the range.
fn worst(
    range: (f32, f32),
    f: impl Fn(f32) -> f32,
    exact: impl Fn(f64) -> f64,
    scale: impl Fn(f64) -> f64,
) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    for x in floats(range.0, range.1, 4099) {
        let expected = exact(f64::from(x));
        let error = (f64::from(f(x)) - expected).abs() / scale(expected);
        assert!(!error.is_nan(), "NaN at {x:e}");
        if error > worst.0 {
            worst = (error, x);
        }
    }
    worst
}

fn check(
    name: &str,
    range: (f32, f32),
    bound: f64,
    f: impl Fn(f32) -> f32,
    exact: impl Fn(f64) -> f64,
) {
    let (error, at) = worst(range, f, exact, f64::abs);
    println!("{name} on {range:?}: {error:.2e} at {at:e}");
    assert!(error <= bound, "{name}: relative error {error:e} at {at:e}, stated {bound:e}");
}

fn check_absolute(
    name: &str,
    range: (f32, f32),
    bound: f64,
    f: impl Fn(f32) -> f32,
    exact: impl Fn(f64) -> f64,
) {
    let (error, at) = worst(range, f, exact, |y| y.abs().max(1.0));
    println!("{name} on {range:?}: {error:.2e} at {at:e}, absolute below 1");
    assert!(error <= bound, "{name}: error {error:e} at {at:e}, stated {bound:e}");
}

fn exact_sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// erfc by its series (small z) or its continued fraction (large z), to 1e-14.
fn exact_erfc(z: f64) -> f64 {
    if z < 0.0 {
        return 2.0 - exact_erfc(-z);
    }
    if z < 2.5 {
        let (mut term, mut sum, mut n) = (z, z, 0.0);
        while term.abs() > 1e-18 * sum.abs() {
            n += 1.0;
            term *= -z * z / n;
            sum += term / (2.0 * n + 1.0);
            if n > 300.0 || sum == 0.0 {
                break;
            }
        }
        return 1.0 - std::f64::consts::FRAC_2_SQRT_PI * sum;
    }
    let mut fraction = 0.0;
    for n in (1..200).rev() {
        fraction = f64::from(n) / 2.0 / (z + fraction);
    }
    (-z * z).exp() / (std::f64::consts::PI.sqrt() * (z + fraction))
}

fn exact_erf(x: f64) -> f64 {
    if x.abs() < 1e-3 {
        return std::f64::consts::FRAC_2_SQRT_PI * (x - x * x * x / 3.0 + x.powi(5) / 10.0);
    }
    1.0 - exact_erfc(x)
}

fn exact_normal(x: f64) -> f64 {
    0.5 * exact_erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

fn exact_gelu_tanh_argument(x: f64) -> f64 {
    2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)
}

#[test]
fn exponential_and_logarithm() {
    check("exp", (0.0, 88.72), 1e-7, exp, f64::exp);
    check("exp", (-0.0, -87.33), 1e-7, exp, f64::exp);
    for x in floats(-87.34, -104.5, 997) {
        let error = (f64::from(exp(x)) - f64::from(x).exp()).abs();
        assert!(error <= f64::from(f32::from_bits(1)), "exp({x})");
    }
    check("ln", (f32::from_bits(1), 0.999), 1e-7, ln, f64::ln);
    check("ln", (1.0001, f32::MAX), 1e-7, ln, f64::ln);
    for x in floats(0.999, 1.0001, 1) {
        let error = (f64::from(ln(x)) - f64::from(x).ln()).abs();
        assert!(error <= 1e-7 * f64::from(x).ln().abs(), "ln({x})");
    }
}

#[test]
fn hyperbolic_and_error_functions() {
    for sign in [1.0, -1.0] {
        check("tanh", (sign * 1e-45, sign * f32::MAX), 2e-7, tanh, f64::tanh);
        check("erf", (sign * 1e-37, sign * f32::MAX), 2e-7, erf, exact_erf);
        check("erf'", (sign * 1e-45, sign * 9.3), 3e-7, erf_derivative, |x| {
            std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp()
        });
    }
    check("sigmoid", (0.0, f32::MAX), 1.5e-7, sigmoid, exact_sigmoid);
    check("sigmoid", (-0.0, -87.0), 1.5e-7, sigmoid, exact_sigmoid);
}

#[test]
fn activations() {
    let gelu = |x: f64| x * exact_sigmoid(exact_gelu_tanh_argument(x));
    check("gelu_tanh", (1e-37, f32::MAX), 2e-7, gelu_tanh, gelu);
    check("gelu_tanh", (-1e-37, -2.0), 6e-7, gelu_tanh, gelu);
    check("gelu_tanh", (-2.0, -9.5), 2e-5, gelu_tanh, gelu);
    check("gelu_erf", (1e-37, f32::MAX), 5e-7, gelu_erf, |x| x * exact_normal(x));
    check("gelu_erf", (-1e-37, -12.9), 5e-7, gelu_erf, |x| x * exact_normal(x));
    check("silu", (1e-37, f32::MAX), 2e-7, silu, |x| x * exact_sigmoid(x));
    check("silu", (-1e-37, -87.0), 2e-7, silu, |x| x * exact_sigmoid(x));
    for sign in [1.0, -1.0] {
        let range = (sign * 1e-45, sign * f32::MAX);
        check_absolute("gelu_tanh'", range, 2e-7, gelu_tanh_derivative, |x| {
            let x = x.clamp(-50.0, 50.0);
            let s = exact_sigmoid(exact_gelu_tanh_argument(x));
            let slope = 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044715 * x * x);
            s + x * s * (1.0 - s) * slope
        });
        check_absolute("gelu_erf'", range, 3e-7, gelu_erf_derivative, |x| {
            let x = x.clamp(-50.0, 50.0);
            exact_normal(x) + x * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
        });
        check_absolute("silu'", range, 2e-7, silu_derivative, |x| {
            let x = x.clamp(-300.0, 300.0);
            let s = exact_sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        });
    }
}

#[test]
fn fused_functions() {
    let gelu = |x: f64| x * exact_sigmoid(exact_gelu_tanh_argument(x.max(-50.0)));
    for range in [(1e-37, 1e4), (-1e-37, -1e4)] {
        check_absolute("gelu_tanh", range, 3e-7, fused::gelu_tanh, gelu);
        check_absolute("gelu_tanh'", range, 3e-7, fused::gelu_tanh_derivative, |x| {
            let x = x.clamp(-50.0, 50.0);
            let s = exact_sigmoid(exact_gelu_tanh_argument(x));
            let slope = 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044715 * x * x);
            s + x * s * (1.0 - s) * slope
        });
        check_absolute("silu", range, 3e-7, fused::silu, |x| x * exact_sigmoid(x));
        check_absolute("silu'", range, 3e-7, fused::silu_derivative, |x| {
            let s = exact_sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        });
    }
    let functions =
        [fused::gelu_tanh, fused::silu, fused::gelu_tanh_derivative, fused::silu_derivative];
    for (f, at_plus) in functions.into_iter().zip([f32::INFINITY, f32::INFINITY, 1.0, 1.0]) {
        assert!(f(f32::NEG_INFINITY).abs() < 1e-29 && f(f32::NAN).is_nan());
        assert_eq!(f(f32::INFINITY), at_plus);
    }
}

#[test]
fn edges() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    type Edge = (&'static str, fn(f32) -> f32, f32, f32);
    let functions: [Edge; 12] = [
        ("exp", exp, 0.0, inf),
        ("tanh", tanh, -1.0, 1.0),
        ("sigmoid", sigmoid, 0.0, 1.0),
        ("erf", erf, -1.0, 1.0),
        ("erf'", erf_derivative, 0.0, 0.0),
        ("gelu_tanh", gelu_tanh, 0.0, inf),
        ("gelu_tanh'", gelu_tanh_derivative, 0.0, 1.0),
        ("gelu_erf", gelu_erf, 0.0, inf),
        ("gelu_erf'", gelu_erf_derivative, 0.0, 1.0),
        ("silu", silu, 0.0, inf),
        ("silu'", silu_derivative, 0.0, 1.0),
        ("relu", relu, 0.0, inf),
    ];
    for (name, f, at_minus, at_plus) in functions {
        assert!((f(-inf) - at_minus).abs() < 1e-29, "{name}(−∞)");
        assert_eq!(f(inf), at_plus, "{name}(∞)");
        assert!(f(nan).is_nan(), "{name}(NaN)");
        let tiny = f32::from_bits(3);
        assert!((f(tiny) - f(0.0)).abs() <= 3.0 * tiny, "{name} at a denormal");
    }
    assert_eq!(exp(0.0), 1.0);
    assert_eq!(exp(89.0), inf);
    assert_eq!(exp(-104.0), 0.0);
    assert_eq!((ln(0.0), ln(inf), ln(1.0)), (-inf, inf, 0.0));
    assert!(ln(-1.0).is_nan() && ln(nan).is_nan() && ln(-inf).is_nan());
    assert_eq!(tanh(-0.0).to_bits(), (-0.0f32).to_bits());
}

/// The same bits from scalar code and from vector code of every instruction set.
#[test]
fn instruction_sets_agree_bit_for_bit() {
    let inputs: Vec<f32> =
        (0..100_003u32).map(|i| f32::from_bits(i.wrapping_mul(42_949))).collect();
    let functions: [fn(f32) -> f32; 8] =
        [exp, ln, tanh, erf, gelu_tanh, gelu_tanh_derivative, gelu_erf, silu_derivative];
    let isas = [Isa::Portable, Isa::Avx2, Isa::Avx512];
    for isa in isas.into_iter().filter(|&isa| isa <= Device::detect_isa()) {
        let mut outputs = [const { Vec::new() }; 8].map(|_: Vec<f32>| vec![0.0; inputs.len()]);
        dispatch(
            isa,
            #[inline(always)]
            || {
                for (&x, y) in inputs.iter().zip(&mut outputs[0]) {
                    *y = exp(x);
                }
                for (&x, y) in inputs.iter().zip(&mut outputs[1]) {
                    *y = ln(x);
                }
                for (&x, y) in inputs.iter().zip(&mut outputs[2]) {
                    *y = tanh(x);
                }
                for (&x, y) in inputs.iter().zip(&mut outputs[3]) {
                    *y = erf(x);
                }
                for (&x, y) in inputs.iter().zip(&mut outputs[4]) {
                    *y = gelu_tanh(x);
                }
                for (&x, y) in inputs.iter().zip(&mut outputs[5]) {
                    *y = gelu_tanh_derivative(x);
                }
                for (&x, y) in inputs.iter().zip(&mut outputs[6]) {
                    *y = gelu_erf(x);
                }
                for (&x, y) in inputs.iter().zip(&mut outputs[7]) {
                    *y = silu_derivative(x);
                }
            },
        );
        for (f, output) in functions.iter().zip(&outputs) {
            for (&x, &y) in inputs.iter().zip(output) {
                let same = y.to_bits() == f(x).to_bits() || (y.is_nan() && f(x).is_nan());
                assert!(same, "{isa:?}: {y:e} for {:e} at {x:e}", f(x));
            }
        }
    }
}
