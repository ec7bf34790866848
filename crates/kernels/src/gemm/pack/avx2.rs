//! Panels of AVX2; units are f32.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Packers, Panel};

pub(in crate::gemm) static F32: Packers = Packers {
    copy,
    transpose,
    copy_halves: None,
    gather: super::plain_panel,
    rows: super::plain_rows,
};

const LANES: usize = 8;

#[target_feature(enable = "avx2")]
unsafe fn copy(panel: &Panel) {
    let counts = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for k in 0..panel.depth {
        let from = panel.from.wrapping_add(k * panel.k_stride);
        let mut out = panel.out.wrapping_add(k * panel.step);
        for first_lane in (0..panel.lanes).step_by(panel.height) {
            let lanes = panel.height.min(panel.lanes - first_lane);
            for j in (0..lanes).step_by(LANES) {
                let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32((lanes - j) as i32), counts);
                // SAFETY: inside the panel; the mask holds back lanes beyond it, and a
                // panel's steps are whole vectors.
                unsafe {
                    let values = _mm256_maskload_ps(from.add(first_lane + j), mask);
                    _mm256_storeu_ps(out.add(j).cast(), values);
                }
            }
            out = out.wrapping_add(panel.next);
        }
    }
}

#[target_feature(enable = "avx2")]
unsafe fn transpose(panel: &Panel) {
    let whole_depth = panel.depth / LANES * LANES;
    let whole_lanes = panel.lanes / LANES * LANES;
    for j in (0..whole_lanes).step_by(LANES) {
        for k in (0..whole_depth).step_by(LANES) {
            // SAFETY: the block lies inside the panel.
            unsafe {
                let from = panel.from.add(j * panel.lane_stride + k);
                let out = panel.lane(j).add(k * panel.step).cast();
                transpose_block(from, panel.lane_stride, out, panel.step);
            }
        }
    }
    // SAFETY: the parts of the panel that whole blocks do not cover.
    unsafe {
        super::plain_panel(&Panel {
            out: panel.out.add(whole_depth * panel.step),
            from: panel.from.add(whole_depth),
            depth: panel.depth - whole_depth,
            ..*panel
        });
        super::plain_panel(&Panel {
            out: panel.lane(whole_lanes),
            from: panel.from.add(whole_lanes * panel.lane_stride),
            depth: whole_depth,
            lanes: panel.lanes - whole_lanes,
            ..*panel
        });
    }
}

/// Transposes eight rows of eight values.
#[target_feature(enable = "avx2")]
unsafe fn transpose_block(from: *const f32, stride: usize, out: *mut f32, step: usize) {
    // SAFETY: passed on.
    unsafe {
        let mut rows: [__m256; 8] = std::array::from_fn(|i| _mm256_loadu_ps(from.add(i * stride)));
        for i in (0..8).step_by(2) {
            let (a, b) = (rows[i], rows[i + 1]);
            rows[i] = _mm256_unpacklo_ps(a, b);
            rows[i + 1] = _mm256_unpackhi_ps(a, b);
        }
        for i in (0..8).step_by(4) {
            let [a, b, c, d] = [rows[i], rows[i + 1], rows[i + 2], rows[i + 3]];
            rows[i] = _mm256_shuffle_ps::<0b01_00_01_00>(a, c);
            rows[i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(a, c);
            rows[i + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(b, d);
            rows[i + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(b, d);
        }
        for i in 0..4 {
            let (a, b) = (rows[i], rows[i + 4]);
            _mm256_storeu_ps(out.add(i * step), _mm256_permute2f128_ps::<0x20>(a, b));
            _mm256_storeu_ps(out.add((i + 4) * step), _mm256_permute2f128_ps::<0x31>(a, b));
        }
    }
}
