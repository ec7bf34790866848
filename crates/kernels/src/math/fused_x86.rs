//! [`super::fused`] sixteen values at a time in the registers of AVX-512, with the same bits: for
//! kernels that are written in intrinsics.

use std::arch::x86_64::*;
use std::f32::consts::LOG2_E;

use super::{GELU_CUBIC, GELU_LINEAR, ROUNDER};

/// [`super::fused::gelu_tanh`].
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn gelu_tanh(x: __m512) -> __m512 {
    // Of maximum and minimum the second operand is the one that stays where one is not a number.
    let x = _mm512_max_ps(_mm512_set1_ps(-50.0), x);
    let square = _mm512_mul_ps(x, x);
    let slope = _mm512_fmadd_ps(square, _mm512_set1_ps(GELU_CUBIC), _mm512_set1_ps(GELU_LINEAR));
    let inner = _mm512_mul_ps(x, slope);
    let sign = _mm512_set1_epi32(i32::MIN);
    let negative = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(inner), sign));
    let within = _mm512_max_ps(_mm512_set1_ps(-87.0), negative);
    let within = _mm512_min_ps(_mm512_set1_ps(87.0), within);
    _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0), exp_within(within)))
}

/// `super::fused::exp_within`.
#[inline]
#[target_feature(enable = "avx512f")]
fn exp_within(x: __m512) -> __m512 {
    let of = _mm512_set1_ps;
    let shifted = _mm512_fmadd_ps(x, of(LOG2_E), of(ROUNDER));
    let n = _mm512_sub_ps(shifted, of(ROUNDER));
    let r = _mm512_fmadd_ps(n, of(-0.693_145_75), x);
    let r = _mm512_fmadd_ps(n, of(-1.428_606_8e-6), r);
    let q = _mm512_fmadd_ps(of(0.001_388_250_5), r, of(0.008_366_534));
    let q = _mm512_fmadd_ps(q, r, of(0.041_667_2));
    let q = _mm512_fmadd_ps(q, r, of(0.166_665_43));
    let q = _mm512_fmadd_ps(q, r, of(0.499_999_97));
    let power = _mm512_fmadd_ps(_mm512_mul_ps(r, r), q, r);
    let power = _mm512_castps_si512(_mm512_add_ps(power, of(1.0)));
    let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
    _mm512_castsi512_ps(_mm512_add_epi32(power, exponent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Isa;
    use crate::math::fused;
    use crate::testing::isas;

    #[test]
    fn bits_are_those_of_single_values() {
        if !isas().contains(&Isa::Avx512) {
            return;
        }
        let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -49.99, -50.01, 3e38];
        let range = (-4000..4000).map(|i| i as f32 * 0.0171);
        let all: Vec<f32> = special.into_iter().chain(special.map(|x| -x)).chain(range).collect();
        #[target_feature(enable = "avx512f")]
        fn of(x: &[f32; 16]) -> [f32; 16] {
            let mut y = [0.0; 16];
            #[allow(unsafe_code)]
            // SAFETY: sixteen values each.
            unsafe {
                _mm512_storeu_ps(y.as_mut_ptr(), gelu_tanh(_mm512_loadu_ps(x.as_ptr())));
            }
            y
        }
        for x in all.as_chunks::<16>().0.iter().chain([&[f32::NAN; 16]]) {
            #[allow(unsafe_code)]
            // SAFETY: the instruction set is there.
            let got = unsafe { of(x) };
            for (x, got) in x.iter().zip(got) {
                let expected = fused::gelu_tanh(*x);
                let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
                assert!(same, "{x}: {got}, {expected}");
            }
        }
    }
}
