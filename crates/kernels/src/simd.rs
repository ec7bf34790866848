//! Compiling a plain loop for the instruction set at hand, so that it auto-vectorises.
#![allow(unsafe_code)]

use crate::device::Isa;

/// Runs `body` compiled for `isa`: loops in it (and in the `#[inline(always)]` functions that it
/// calls) become vector code of that width.
///
/// The closure must itself be marked, or it is compiled for the baseline:
/// `dispatch(isa, #[inline(always)] || for x in xs { *x = math::exp(*x) })`. So must every
/// closure inside it that is more than a few instructions: prefer plain `for` loops to
/// `for_each` and `map`.
///
/// `isa` must be one that this processor has, as every [`crate::Device`]'s is.
#[inline(always)]
pub fn dispatch<R>(isa: Isa, body: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    match isa {
        Isa::Portable => body(),
        // SAFETY: a `Device` holds only instruction sets that were detected at run time.
        Isa::Avx2 => unsafe { run_avx2(body) },
        // SAFETY: as above.
        Isa::Avx512 => unsafe { run_avx512(body) },
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = isa;
        body()
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<R>(body: impl FnOnce() -> R) -> R {
    body()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
unsafe fn run_avx512<R>(body: impl FnOnce() -> R) -> R {
    body()
}
