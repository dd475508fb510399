//! hud's own cost: CPU time and peak memory of its process, without the BPF programs.

use crate::model::SelfCost;

/// hud's CPU time and peak memory so far; `at_ns` is the `CLOCK_MONOTONIC` time to record with it.
/// `bpf_ns` is left empty.
pub fn of_self(at_ns: u64) -> SelfCost {
    // SAFETY: `rusage` is integers only, so zeroes are a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: writes to a local.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
    SelfCost {
        at_ns,
        cpu_ns: ns(usage.ru_utime) + ns(usage.ru_stime),
        bpf_ns: None,
        // In KiB on Linux.
        peak_rss: usage.ru_maxrss as u64 * 1024,
    }
}
