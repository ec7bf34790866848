//! Measures what the processor can do at most: multiply-adds from registers, and memory.
//!
//! `cargo bench -p heldout-kernels --bench peak` prints GFLOP/s (f32 and bf16) and GB/s for one
//! thread and for all, each the best of many short runs.
#![allow(unsafe_code)]

use std::time::Instant;

use heldout_kernels::{Device, Isa, Pool, default_threads};

const ROUNDS: usize = 60;

fn main() {
    println!("{}", processor());
    println!("{:<34}{:>10}{:>14}", "", "1 thread", "all threads");
    let pools = [Pool::new(1), Pool::new(default_threads())];
    let line = |name: &str, unit: &str, work: &dyn Fn(&Pool) -> f64| {
        let best = pools.each_ref().map(|pool| (0..ROUNDS).map(|_| work(pool)).fold(0.0, f64::max));
        println!("{name:<34}{:>10.1}{:>14.1} {unit}", best[0], best[1]);
    };
    #[cfg(target_arch = "x86_64")]
    {
        let isa = Device::detect_isa();
        if isa >= Isa::Avx2 {
            line("f32 multiply-add, 256 bit", "GFLOP/s", &|pool| flops(pool, 16, x86::fma256));
        }
        if isa >= Isa::Avx512 {
            line("f32 multiply-add, 512 bit", "GFLOP/s", &|pool| flops(pool, 32, x86::fma512));
        }
        if Device::native_bf16() {
            line("bf16 vdpbf16ps, 512 bit", "GFLOP/s", &|pool| flops(pool, 64, x86::dot512));
        }
    }
    for mib in [8, 256] {
        let values = vec![1.0f32; mib << 18];
        let name = format!("read {mib} MiB");
        line(&name, "GB/s", &|pool| read(pool, &values));
    }
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|line| line.starts_with("model name")).unwrap_or("unknown");
    format!("{name}, {:?}, bf16 native: {}", Device::detect_isa(), Device::native_bf16())
}

/// GFLOP/s when every thread runs `kernel`, a loop of 24 operations of `flop_each`.
fn flops(pool: &Pool, flop_each: usize, kernel: unsafe fn(usize) -> f32) -> f64 {
    let loops = 40_000;
    let start = Instant::now();
    pool.run(pool.threads(), &|_| {
        // SAFETY: the caller has checked that the processor has the instructions.
        std::hint::black_box(unsafe { kernel(loops) });
    });
    (pool.threads() * loops * 24 * flop_each) as f64 / start.elapsed().as_secs_f64() / 1e9
}

fn read(pool: &Pool, values: &[f32]) -> f64 {
    let part = values.len().div_ceil(pool.threads());
    let start = Instant::now();
    pool.run(pool.threads(), &|task| {
        let part = &values[task * part..values.len().min((task + 1) * part)];
        let sum = heldout_kernels::simd::dispatch(
            Device::detect_isa(),
            #[inline(always)]
            || {
                let mut lanes = [0.0f32; 128];
                for block in part.as_chunks::<128>().0 {
                    for (lane, &x) in lanes.iter_mut().zip(block) {
                        *lane += x;
                    }
                }
                lanes.iter().sum::<f32>()
            },
        );
        std::hint::black_box(sum);
    });
    (values.len() * 4) as f64 / start.elapsed().as_secs_f64() / 1e9
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx2,fma")]
    pub fn fma256(loops: usize) -> f32 {
        let (x, y) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(0.25)));
        let mut sums = [x; 12];
        for _ in 0..loops * 2 {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, y);
            }
        }
        sums.iter().map(|&sum| _mm256_cvtss_f32(sum)).sum()
    }

    #[target_feature(enable = "avx512f")]
    pub fn fma512(loops: usize) -> f32 {
        let (x, y) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.25)));
        let mut sums = [x; 24];
        for _ in 0..loops {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, y);
            }
        }
        sums.iter().map(|&sum| _mm512_cvtss_f32(sum)).sum()
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn dot512(loops: usize) -> f32 {
        let x = _mm512_set1_ps(black_box(0.5));
        let pair = _mm512_cvtne2ps_pbh(x, x);
        let mut sums = [x; 24];
        for _ in 0..loops {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, pair, pair);
            }
        }
        sums.iter().map(|&sum| _mm512_cvtss_f32(sum)).sum()
    }
}
