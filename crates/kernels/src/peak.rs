//! What the processor can do at most: multiply-adds whose operands never leave the registers.
//!
//! The yardstick of every "fraction of the peak". The loops are written in assembly because a
//! compiler that spills one accumulator measures the memory instead: 16 (with 256 bit 12)
//! independent sums hide the latency of the two units that such processors have.
#![allow(unsafe_code)]

use crate::device::{Isa, Precision};

/// The best of this many short runs counts: a run that was interrupted says nothing.
#[cfg(target_arch = "x86_64")]
const RUNS: usize = 80;
/// Turns of the loop in one run: about a millisecond.
#[cfg(target_arch = "x86_64")]
const LOOPS: usize = 200_000;

/// GFLOP/s of multiply-adds from registers with `threads` threads at once, the best of many runs
/// of about a millisecond; `None` where nothing is known about the processor (portable paths).
///
/// [`Precision::Bf16`] is `vdpbf16ps` where the processor has it and `isa` is AVX-512, and what
/// f32 reaches elsewhere, since there it is emulated. A multiply-add counts as two operations, a
/// `vdpbf16ps` as four a lane.
///
/// # Panics
/// If `threads` is 0 or the processor lacks `isa`.
pub fn peak(threads: usize, precision: Precision, isa: Isa) -> Option<f64> {
    assert!(isa <= crate::Device::detect_isa(), "this processor has no {isa:?} instructions");
    assert!(threads > 0, "the peak of at least one thread");
    #[cfg(target_arch = "x86_64")]
    {
        x86::peak(&crate::Pool::new(threads), precision, isa)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = precision;
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::hint::black_box;
    use std::time::Instant;

    use super::{Isa, LOOPS, Precision, RUNS};
    use crate::{Device, Pool};

    pub fn peak(pool: &Pool, precision: Precision, isa: Isa) -> Option<f64> {
        let bf16 = precision == Precision::Bf16 && Device::native_bf16();
        let (kernel, flop): (unsafe fn(usize), usize) = match isa {
            Isa::Portable => return None,
            Isa::Avx2 => (fma_256, 12 * 16),
            Isa::Avx512 if bf16 => (dot_512, 16 * 64),
            Isa::Avx512 => (fma_512, 16 * 32),
        };
        let run = || {
            let start = Instant::now();
            pool.run(pool.threads(), &|_| {
                // SAFETY: the caller has checked that the processor has the instructions.
                unsafe { kernel(black_box(LOOPS)) }
            });
            (pool.threads() * LOOPS * flop) as f64 / start.elapsed().as_secs_f64() / 1e9
        };
        Some((0..RUNS).map(|_| run()).fold(0.0, f64::max))
    }

    /// One line of assembly for each of twelve or sixteen registers, cleared or accumulated into.
    macro_rules! lines {
        (twelve $($rest:tt)*) => { lines!([0 1 2 3 4 5 6 7 8 9 10 11] $($rest)*) };
        (sixteen $($rest:tt)*) => {
            lines!([0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] $($rest)*)
        };
        ([$($r:literal)*] clear) => {
            concat!($("vxorps xmm", $r, ", xmm", $r, ", xmm", $r, "\n",)*)
        };
        ([$($r:literal)*] $before:literal $after:literal) => {
            concat!($($before, $r, $after, "\n",)*)
        };
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn fma_256(loops: usize) {
        let x = _mm256_set1_ps(black_box(0.5));
        // SAFETY: registers only, all of them declared.
        unsafe {
            asm!(
                lines!(twelve clear), "2:",
                lines!(twelve "vfmadd231ps ymm" ", ymm15, ymm15"), "dec {n}", "jnz 2b",
                n = inout(reg) loops => _, in("ymm15") x,
                out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _,
                out("ymm5") _, out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _,
                out("ymm10") _, out("ymm11") _, options(nomem, nostack)
            );
        }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn fma_512(loops: usize) {
        let x = _mm512_set1_ps(black_box(0.5));
        // SAFETY: registers only, all of them declared.
        unsafe {
            asm!(
                lines!(sixteen clear), "2:",
                lines!(sixteen "vfmadd231ps zmm" ", zmm31, zmm31"), "dec {n}", "jnz 2b",
                n = inout(reg) loops => _, in("zmm31") x,
                out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _,
                out("zmm5") _, out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _,
                out("zmm10") _, out("zmm11") _, out("zmm12") _, out("zmm13") _, out("zmm14") _,
                out("zmm15") _, options(nomem, nostack)
            );
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn dot_512(loops: usize) {
        // Every bfloat16 of the pairs is 0.5.
        let x = _mm512_set1_ps(black_box(f32::from_bits(0x3f00_3f00)));
        // SAFETY: registers only, all of them declared.
        unsafe {
            asm!(
                lines!(sixteen clear), "2:",
                lines!(sixteen "vdpbf16ps zmm" ", zmm31, zmm31"), "dec {n}", "jnz 2b",
                n = inout(reg) loops => _, in("zmm31") x,
                out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _,
                out("zmm5") _, out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _,
                out("zmm10") _, out("zmm11") _, out("zmm12") _, out("zmm13") _, out("zmm14") _,
                out("zmm15") _, options(nomem, nostack)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;

    #[test]
    fn wider_instructions_are_not_slower_and_none_is_implausible() {
        let isa = Device::detect_isa();
        assert_eq!(peak(1, Precision::F32, Isa::Portable), None);
        if isa == Isa::Portable {
            return;
        }
        // A core between 1 and 6 GHz does 16 to 64 f32 operations a cycle, with bf16 twice that.
        let narrow = peak(1, Precision::F32, Isa::Avx2).expect("a measurement");
        assert!((10.0..400.0).contains(&narrow), "256 bit: {narrow} GFLOP/s");
        let f32_best = peak(1, Precision::F32, isa).expect("a measurement");
        // Measured one after the other on a machine that others use too: far apart is wrong.
        assert!(f32_best > 0.6 * narrow, "{f32_best} against {narrow} GFLOP/s");
        let bf16 = peak(1, Precision::Bf16, isa).expect("a measurement");
        assert!((0.6..4.0).contains(&(bf16 / f32_best)), "{bf16} against {f32_best} GFLOP/s");
    }
}
