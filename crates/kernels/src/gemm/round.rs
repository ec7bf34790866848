//! Writes f32 values as bf16, and past the cache.
//!
//! What is read again only when all else has been through the cache is better not left there,
//! and a line that is written whole need not be read first.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use crate::device::Device;
use crate::device::Isa;
use crate::math::to_bf16;
use crate::simd::dispatch;

#[cfg(target_arch = "x86_64")]
const LANES: usize = 16;

/// Where written values go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// They are read soon.
    Cached,
    /// They are read much later.
    PastTheCache,
}

impl Route {
    /// Makes what was streamed past the cache visible to other threads, before a task ends.
    pub fn publish(self) {
        #[cfg(target_arch = "x86_64")]
        if self == Route::PastTheCache {
            // SAFETY: SSE is part of x86-64.
            unsafe { std::arch::x86_64::_mm_sfence() };
        }
    }
}

/// Rows of f32 to be written as bf16, or as they are.
pub(super) struct Rows<T> {
    pub from: *const f32,
    pub from_stride: usize,
    pub to: *mut T,
    pub to_stride: usize,
    pub rows: usize,
    pub cols: usize,
    pub route: Route,
}

/// to ← from, rounded to bf16.
pub(crate) fn round_into(isa: Isa, from: &[f32], to: &mut [u16]) {
    assert_eq!(from.len(), to.len(), "values to be rounded");
    let (rows, cols, route) = (1, from.len(), Route::Cached);
    let (from, to, from_stride, to_stride) = (from.as_ptr(), to.as_mut_ptr(), 0, 0);
    // SAFETY: one row, as long as both slices, of which one is borrowed exclusively.
    unsafe { Rows { from, from_stride, to, to_stride, rows, cols, route }.run(isa) };
}

/// Rounds values to bf16, which take the first half of their place.
pub(crate) fn round_in_place(isa: Isa, values: &mut [f32]) {
    let from = values.as_mut_ptr();
    let to = from.cast::<u16>();
    // SAFETY: the borrow is exclusive, and what is written lies behind what is still to be read:
    // value i goes to bytes 2i and 2i + 1 after it was read from 4i, in rising order.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::Avx512 && Device::native_bf16() {
            let (rows, cols, route) = (1, values.len(), Route::Cached);
            let (from_stride, to_stride) = (0, 0);
            return x86::rounded_rows(&Rows {
                from,
                from_stride,
                to,
                to_stride,
                rows,
                cols,
                route,
            });
        }
        for i in 0..values.len() {
            to.add(i).write(to_bf16(from.add(i).read()));
        }
    }
}

impl Rows<u16> {
    /// # Safety
    /// The rows must be readable, and their places writable and no other thread's. Before another
    /// thread reads what went past the cache, a store fence is needed.
    pub unsafe fn run(&self, isa: Isa) {
        // SAFETY: passed on; the instruction was found.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if isa == Isa::Avx512 && Device::native_bf16() {
                return x86::rounded_rows(self);
            }
            dispatch(
                isa,
                #[inline(always)]
                || self.plain(to_bf16),
            );
        }
    }
}

impl Rows<f32> {
    /// # Safety
    /// As for bf16.
    pub unsafe fn run(&self, isa: Isa) {
        // SAFETY: passed on; the instruction was found.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if isa == Isa::Avx512 {
                return x86::plain_rows(self);
            }
            dispatch(
                isa,
                #[inline(always)]
                || self.plain(|x| x),
            );
        }
    }
}

impl<T> Rows<T> {
    /// # Safety
    /// As [`Rows::run`].
    #[inline(always)]
    unsafe fn plain(&self, store: impl Fn(f32) -> T) {
        for row in 0..self.rows {
            // SAFETY: passed on.
            let (from, to) = unsafe {
                let from = self.from.add(row * self.from_stride);
                let to = self.to.add(row * self.to_stride);
                (std::slice::from_raw_parts(from, self.cols), to)
            };
            for (i, x) in from.iter().enumerate() {
                // SAFETY: as above.
                unsafe { to.add(i).write(store(*x)) };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LANES, Route, Rows};

    /// # Safety
    /// As [`Rows::run`], with the instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub unsafe fn rounded_rows(job: &Rows<u16>) {
        let tail = job.cols % LANES;
        let mask = (1u16 << tail) - 1;
        for row in 0..job.rows {
            // SAFETY: inside the rows; the mask holds back what lies beyond.
            unsafe {
                let from = job.from.add(row * job.from_stride);
                let to = job.to.add(row * job.to_stride);
                let streamed = job.route == Route::PastTheCache && to.addr().is_multiple_of(32);
                for i in (0..job.cols - tail).step_by(LANES) {
                    let values = rounded(_mm512_loadu_ps(from.add(i)));
                    let to = to.add(i).cast::<__m256i>();
                    if streamed {
                        _mm256_stream_si256(to, values);
                    } else {
                        _mm256_storeu_si256(to, values);
                    }
                }
                if tail > 0 {
                    let at = job.cols - tail;
                    let values = rounded(_mm512_maskz_loadu_ps(mask, from.add(at)));
                    _mm256_mask_storeu_epi16(to.add(at).cast(), mask, values);
                }
            }
        }
    }

    /// # Safety
    /// As [`Rows::run`], with the instructions.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn plain_rows(job: &Rows<f32>) {
        let tail = job.cols % LANES;
        let mask = (1u16 << tail) - 1;
        for row in 0..job.rows {
            // SAFETY: inside the rows; the mask holds back what lies beyond.
            unsafe {
                let from = job.from.add(row * job.from_stride);
                let to = job.to.add(row * job.to_stride);
                let streamed = job.route == Route::PastTheCache && to.addr().is_multiple_of(64);
                for i in (0..job.cols - tail).step_by(LANES) {
                    let values = _mm512_loadu_ps(from.add(i));
                    if streamed {
                        _mm512_stream_ps(to.add(i).cast(), values);
                    } else {
                        _mm512_storeu_ps(to.add(i), values);
                    }
                }
                if tail > 0 {
                    let at = job.cols - tail;
                    let values = _mm512_maskz_loadu_ps(mask, from.add(at));
                    _mm512_mask_storeu_ps(to.add(at), mask, values);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn rounded(values: __m512) -> __m256i {
        // SAFETY: both types are 256 plain bits.
        unsafe { std::mem::transmute(_mm512_cvtneps_pbh(values)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{devices, values};
    use crate::values::as_halves;

    #[test]
    fn rounding_in_place_is_that_of_single_values() {
        for device in devices() {
            for len in [0, 1, 15, 16, 33, 1000] {
                let from = values(len, 3);
                let mut place = from.clone();
                round_in_place(device.isa(), &mut place);
                let mut elsewhere = vec![0; len];
                round_into(device.isa(), &from, &mut elsewhere);
                let expected: Vec<u16> = from.iter().map(|x| to_bf16(*x)).collect();
                assert_eq!(as_halves(&place)[..len], expected, "{}", device.describe());
                assert_eq!(elsewhere, expected, "{}", device.describe());
            }
        }
    }
}
