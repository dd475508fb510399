//! What hud itself costs: CPU time and memory of its own process.

use crate::model::SelfCost;

/// The cost so far, as of `at_ns`, without the BPF programs.
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
