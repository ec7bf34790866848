//! Measures what the processor can do at most: multiply-adds from registers, and memory.
//!
//! `cargo bench -p heldout-kernels --bench peak` prints GFLOP/s (f32 and bf16) and GB/s for one
//! thread and for all, each the best of many short runs.

use std::time::Instant;

use heldout_kernels::peak::peak;
use heldout_kernels::{Device, Isa, Pool, Precision, default_threads};

const ROUNDS: usize = 60;

fn main() {
    println!("{}", processor());
    println!("{:<34}{:>10}{:>14}", "", "1 thread", "all threads");
    let pools = [Pool::new(1), Pool::new(default_threads())];
    for (name, precision, isa) in [
        ("f32 multiply-add, 256 bit", Precision::F32, Isa::Avx2),
        ("f32 multiply-add, 512 bit", Precision::F32, Isa::Avx512),
        ("bf16 vdpbf16ps, 512 bit", Precision::Bf16, Isa::Avx512),
    ] {
        let native = precision == Precision::F32 || Device::native_bf16();
        if isa <= Device::detect_isa() && native {
            let best = [1, default_threads()].map(|threads| peak(threads, precision, isa));
            let [one, all] = best.map(|best| best.unwrap_or(f64::NAN));
            println!("{name:<34}{one:>10.1}{all:>14.1} GFLOP/s");
        }
    }
    for mib in [8, 256] {
        let values = vec![1.0f32; mib << 18];
        let name = format!("read {mib} MiB");
        let best = |pool| (0..ROUNDS).map(|_| read(pool, &values)).fold(0.0, f64::max);
        let [one, all] = pools.each_ref().map(best);
        println!("{name:<34}{one:>10.1}{all:>14.1} GB/s");
    }
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|line| line.starts_with("model name")).unwrap_or("unknown");
    format!("{name}, {:?}, bf16 native: {}", Device::detect_isa(), Device::native_bf16())
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
