//! Advice to the system on large buffers.
#![allow(unsafe_code)]

/// Asks for huge pages under a large buffer: fewer faults when it is first touched, and fewer
/// address translations when rows far apart are read together.
pub(crate) fn advise_huge<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        const HUGE: usize = 2 << 20;
        let start = memory.as_mut_ptr() as usize;
        let first = start.next_multiple_of(HUGE);
        let end = (start + size_of_val(memory)) / HUGE * HUGE;
        if end > first {
            // SAFETY: advice on whole pages inside a live allocation; it may be refused.
            unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}
