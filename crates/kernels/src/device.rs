//! The processor that runs the operations: instruction set, precision, and the pool of threads.

use crate::pool::Pool;

/// How matrix products treat their inputs. Everything else is f32 in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Products of f32 values, accumulated in f32.
    F32,
    /// Inputs of products rounded to bfloat16 (nearest, ties to even), accumulated in f32.
    /// Processors without bfloat16 instructions emulate it: same inputs, f32 products.
    Bf16,
}

/// The instruction sets for which the kernels have a path, slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Whatever the compiler's baseline for the target is.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, VL and DQ (with BF16 where the processor has it).
    Avx512,
}

impl Isa {
    /// All of them, slowest first, whatever this processor has.
    pub const ALL: [Isa; 3] = [Isa::Portable, Isa::Avx2, Isa::Avx512];

    /// Whether a fused multiply-add is an instruction rather than a library call.
    #[inline(always)]
    pub fn has_fused(self) -> bool {
        self != Isa::Portable || cfg!(target_arch = "aarch64")
    }

    /// In lower case, as recipes and manifests write it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

/// Why a device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A pool needs at least one thread.
    #[error("a device needs at least 1 thread, found 0: give the number of threads to use")]
    NoThreads,
    /// The processor lacks the instruction set that was asked for.
    #[error(
        "this processor has no {} instructions, only {}: ask for {1}",
        .wanted.name(), .found.name()
    )]
    NoIsa {
        /// The instruction set asked for.
        wanted: Isa,
        /// The best one this processor has.
        found: Isa,
    },
}

/// A processor with its pool of threads; every operation takes one.
pub struct Device {
    pool: Pool,
    precision: Precision,
    isa: Isa,
}

impl Device {
    /// The processor with `threads` threads and its best instruction set.
    pub fn cpu(threads: usize, precision: Precision) -> Result<Device, DeviceError> {
        Device::cpu_with_isa(threads, precision, Device::detect_isa())
    }

    /// The processor with an instruction set of the caller's choice, for tests and comparisons.
    pub fn cpu_with_isa(
        threads: usize,
        precision: Precision,
        isa: Isa,
    ) -> Result<Device, DeviceError> {
        if threads == 0 {
            return Err(DeviceError::NoThreads);
        }
        let found = Device::detect_isa();
        if isa > found {
            return Err(DeviceError::NoIsa { wanted: isa, found });
        }
        Ok(Device { pool: Pool::new(threads), precision, isa })
    }

    /// The best instruction set of this processor.
    pub fn detect_isa() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if fma
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
            {
                return Isa::Avx512;
            }
            if fma {
                return Isa::Avx2;
            }
        }
        Isa::Portable
    }

    /// Whether this processor multiplies bfloat16 natively; without, [`Precision::Bf16`] is
    /// emulated and no faster than [`Precision::F32`].
    pub fn native_bf16() -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            Device::detect_isa() == Isa::Avx512 && is_x86_feature_detected!("avx512bf16")
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            false
        }
    }

    /// Threads of the pool, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// What products do to their inputs.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The pool that the operations fork onto.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// One line for the manifest, for instance `cpu, 2 threads, avx512, bf16 native`.
    pub fn describe(&self) -> String {
        let isa = self.isa.name();
        let native = self.isa == Isa::Avx512 && Device::native_bf16();
        let precision = match self.precision {
            Precision::F32 => "f32",
            Precision::Bf16 if native => "bf16 native",
            Precision::Bf16 => "bf16 emulated",
        };
        let threads = self.threads();
        let plural = if threads == 1 { "thread" } else { "threads" };
        format!("cpu, {threads} {plural}, {isa}, {precision}")
    }
}
