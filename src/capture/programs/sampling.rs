//! What samples running threads, and how often.
//!
//! The scheduler tick fires on a busy CPU anyway and stops on an idle one: where it is frequent
//! enough, samples cost no interrupts of their own. perf's CPU clock is the fallback where the tick is
//! too slow, or does not fire (`nohz_full`, no high-resolution timers). In a virtual machine each of its
//! interrupts costs the computing thread 14 us; at 250 Hz an HTTP server lost 2 to 4 % of throughput.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use perf_event_open_sys as perf;

/// How long the kernel side may take to recognise the tick: a few ticks suffice.
pub(super) const LEARN_WITHIN: Duration = Duration::from_millis(150);

/// The shortest interval between two samples of a running thread, whatever the threshold.
pub const MIN_SAMPLE_PERIOD: Duration = Duration::from_millis(1);
/// The longest.
const MAX_SAMPLE_PERIOD: Duration = Duration::from_millis(10);

/// How running threads are sampled.
#[derive(Clone, Copy, Debug)]
pub(in crate::capture) struct Sampling {
    /// The period of the scheduler tick, where it samples; None: perf's CPU clock does.
    pub tick: Option<Duration>,
    /// Samples of a running thread are at most this far apart.
    pub period: Duration,
}

impl Sampling {
    /// Samples often enough that a poll of the threshold's length meets one, and hardly more.
    pub fn for_threshold(threshold: Duration) -> Sampling {
        let period = (threshold * 4 / 5).clamp(MIN_SAMPLE_PERIOD, MAX_SAMPLE_PERIOD);
        let tick = tick_period().filter(|tick| *tick <= period && can_read_registers());
        Sampling { tick, period }
    }
}

/// Stacks of all poll time that are sent per second, at most: unwinding one takes about 30 us.
const PROFILE_STACKS: usize = 2000;

impl Sampling {
    /// One of so many samples of a thread inside polls is sent with its stack, so that no number of
    /// busy CPUs gives more stacks than can be unwound.
    pub fn profile_stride(&self, cpus: usize) -> u32 {
        let samples = cpus as f64 / self.period.as_secs_f64();
        (samples / PROFILE_STACKS as f64).ceil().max(1.0) as u32
    }
}

/// Computes for about 50 us without a system call.
pub(in crate::capture) fn compute() {
    let mut x = 1_u64;
    for _ in 0..50_000 {
        x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

/// The tick's period: the resolution of the coarse clock.
fn tick_period() -> Option<Duration> {
    let mut resolution = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `resolution` is a valid timespec.
    let done = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut resolution) };
    let period = Duration::new(
        u64::try_from(resolution.tv_sec).ok()?,
        u32::try_from(resolution.tv_nsec).ok()?,
    );
    (done == 0 && !period.is_zero()).then_some(period)
}

/// Whether programs outside of perf events can read the current task's registers: helpers of Linux
/// 5.15 (dd6e10fbd9fb).
fn can_read_registers() -> bool {
    let version = procfs::KernelVersion::current();
    version.is_ok_and(|version| (version.major, version.minor) >= (5, 15))
}

/// The numbers of the CPUs that are online.
pub(super) fn online_cpus() -> Result<Vec<i32>> {
    let path = "/sys/devices/system/cpu/online";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    parse_cpu_list(text.trim()).with_context(|| format!("{path} holds no list of CPUs: {text}"))
}

/// The kernel's list format: `0-3,5`.
fn parse_cpu_list(text: &str) -> Option<Vec<i32>> {
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<i32>().ok()?..=last.parse::<i32>().ok()?);
    }
    Some(cpus)
}

/// What a perf event counts.
#[derive(Clone, Copy)]
pub(super) enum Clock {
    Cpu(i32),
    /// While the thread of this id is on a CPU.
    Thread(i32),
}

/// Opens perf's CPU clock: an event every `period` or slightly less, so that code which runs in step
/// with the tick or with round times does not meet every event or none.
pub(super) fn open_clock(of: Clock, period: Duration) -> io::Result<OwnedFd> {
    let mut attributes = perf::bindings::perf_event_attr {
        size: size_of::<perf::bindings::perf_event_attr>() as u32,
        type_: perf::bindings::PERF_TYPE_SOFTWARE,
        config: u64::from(perf::bindings::PERF_COUNT_SW_CPU_CLOCK),
        ..Default::default()
    };
    attributes.__bindgen_anon_1.sample_period = (period - period / 251).as_nanos() as u64;
    let flags = u64::from(perf::bindings::PERF_FLAG_FD_CLOEXEC);
    let (thread, cpu) = match of {
        Clock::Cpu(cpu) => (-1, cpu),
        Clock::Thread(tid) => (tid, -1),
    };
    // SAFETY: the attributes outlive the call.
    let fd = unsafe { perf::perf_event_open(&mut attributes, thread, cpu, -1, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpu_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_cpu_list("0"), Some(vec![0]));
        assert_eq!(parse_cpu_list("x"), None);
    }

    #[test]
    fn a_poll_of_the_threshold_always_meets_a_sample() {
        for us in [1_500, 2_000, 5_000, 10_000, 100_000] {
            let threshold = Duration::from_micros(us);
            assert!(Sampling::for_threshold(threshold).period < threshold);
        }
    }

    #[test]
    fn many_cpus_give_no_more_stacks_than_can_be_unwound() {
        let sampling = Sampling {
            tick: None,
            period: Duration::from_millis(4),
        };
        assert_eq!(sampling.profile_stride(2), 1);
        assert_eq!(sampling.profile_stride(8), 1);
        assert_eq!(sampling.profile_stride(9), 2);
        assert_eq!(sampling.profile_stride(64), 8);
    }

    #[test]
    fn the_tick_is_some_milliseconds() {
        let tick = tick_period().unwrap();
        assert!(tick >= Duration::from_micros(900) && tick <= Duration::from_millis(10));
    }
}
