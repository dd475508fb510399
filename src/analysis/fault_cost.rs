//! Measures the CPU time of a page fault on this machine, on hud's own memory, within milliseconds.

use std::mem::MaybeUninit;
use std::time::Instant;

/// Pages that are touched per round, and rounds, the fastest of which counts. As many pages as a slow
/// poll touches: single faults hit the CPU's caches and cost half as much.
const PAGES: usize = 1024;
const ROUNDS: usize = 3;

/// The CPU time of a fault on a fresh page, the cheapest kind, in nanoseconds. 0 if it cannot be measured.
pub fn measure() -> u64 {
    (0..ROUNDS)
        .filter_map(|_| touch_fresh_pages())
        .min()
        .unwrap_or(0)
}

/// Nanoseconds per fault.
fn touch_fresh_pages() -> Option<u64> {
    // SAFETY: no preconditions.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    let bytes = PAGES.checked_mul(page)?;
    // SAFETY: a new mapping that nothing else uses.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return None;
    }
    let (before, begun) = (faults_so_far()?, Instant::now());
    for offset in (0..bytes).step_by(page) {
        // SAFETY: inside the mapping.
        unsafe { start.cast::<u8>().add(offset).write_volatile(1) };
    }
    let took = begun.elapsed();
    // SAFETY: exactly what was mapped.
    unsafe { libc::munmap(start, bytes) };
    // A fault may map several pages.
    let faults = faults_so_far()?.checked_sub(before)?;
    (took.as_nanos() as u64).checked_div(faults)
}

/// The minor page faults of this thread.
fn faults_so_far() -> Option<u64> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is large enough.
    let done = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    // SAFETY: integers only, for which zeroes are valid.
    let usage = unsafe { usage.assume_init() };
    u64::try_from(usage.ru_minflt).ok().filter(|_| done == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_takes_its_time() {
        let cost = measure();
        assert!((20..1_000_000).contains(&cost), "{cost} ns");
    }
}
