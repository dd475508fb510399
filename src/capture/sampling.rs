//! What makes the kernel look at threads that run, and how often.
//!
//! The scheduler's tick comes anyhow on a busy CPU and stops on an idle one: where it is frequent
//! enough, samples cost no interrupts. A clock of one's own costs a virtual machine 100 us an
//! interrupt, measured as throughput that was missing. It is used where the tick is too slow, and
//! where it turns out not to come (`nohz_full`, no high-resolution timers).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use perf_event_open_sys as perf;

/// How long the tick's looks may take to be learnt: a few ticks do.
pub(super) const LEARN_WITHIN: Duration = Duration::from_millis(150);

/// How threads that run are sampled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampling {
    /// By the scheduler's tick, which is so far apart; by perf's CPU clock otherwise.
    pub tick: Option<Duration>,
    /// Samples of a running thread are this far apart, or somewhat less.
    pub period: Duration,
}

impl Sampling {
    /// Samples often enough that a poll of the threshold's length meets one, and hardly more.
    pub fn for_threshold(threshold: Duration) -> Sampling {
        let period = (threshold * 4 / 5).clamp(Duration::from_millis(1), Duration::from_millis(10));
        let tick = tick_period().filter(|tick| *tick <= period && knows_the_current_task());
        Sampling { tick, period }
    }
}

/// Stacks of all poll time that are sent a second, at most: unwinding one takes some 30 us.
const PROFILE_STACKS: usize = 2000;

impl Sampling {
    /// Of so many samples of a thread inside polls one stack is sent, so that no number of busy
    /// CPUs gives more than can be unwound.
    pub fn profile_stride(&self, cpus: usize) -> u32 {
        let samples = cpus as f64 / self.period.as_secs_f64();
        (samples / PROFILE_STACKS as f64).ceil().max(1.0) as u32
    }
}

/// Computes for about 50 us without a system call.
pub(super) fn compute() {
    let mut x = 1_u64;
    for _ in 0..50_000 {
        x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

/// How far apart ticks are: what the coarse clock advances by.
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

/// Outside of perf's events, the current task's registers are read through helpers of 5.15
/// (dd6e10fbd9fb).
fn knows_the_current_task() -> bool {
    let version = procfs::KernelVersion::current();
    version.is_ok_and(|version| (version.major, version.minor) >= (5, 15))
}

/// Notices a tick that does not come although the target computes.
pub(super) struct TickWatch {
    pid: u32,
    period: Duration,
    next: Instant,
    /// The process's CPU time, and its samples, when last looked at.
    before: Option<(Duration, u64)>,
}

impl TickWatch {
    /// How often it is looked.
    const EVERY: Duration = Duration::from_secs(1);
    /// Less CPU time than this proves nothing.
    const LEAST: Duration = Duration::from_millis(200);

    pub fn new(pid: u32, period: Duration) -> Self {
        TickWatch {
            pid,
            period,
            next: Instant::now(),
            before: None,
        }
    }

    /// Whether fewer than a quarter of the samples came that the target's CPU time makes due.
    pub fn is_missing(&mut self, samples: impl FnOnce() -> u64) -> bool {
        let now = Instant::now();
        if now < self.next {
            return false;
        }
        self.next = now + Self::EVERY;
        let Some(cpu) = process_cpu_time(self.pid) else {
            return false;
        };
        let samples = samples();
        match self.before.replace((cpu, samples)) {
            Some((cpu_before, samples_before)) => too_few(
                cpu.saturating_sub(cpu_before),
                samples.saturating_sub(samples_before),
                self.period,
            ),
            None => false,
        }
    }
}

fn too_few(cpu: Duration, samples: u64, period: Duration) -> bool {
    let due = (cpu.as_nanos() / period.as_nanos().max(1)) as u64;
    cpu >= TickWatch::LEAST && samples < due / 4
}

/// CPU time of all threads of a process, those that ended included.
fn process_cpu_time(pid: u32) -> Option<Duration> {
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both pointers are valid; the second call reads the clock the first one gave.
    let done = unsafe {
        libc::clock_getcpuclockid(pid.try_into().ok()?, &mut clock) == 0
            && libc::clock_gettime(clock, &mut time) == 0
    };
    let seconds = u64::try_from(time.tv_sec).ok()?;
    done.then(|| Duration::new(seconds, time.tv_nsec as u32))
}

/// The CPUs there are.
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

/// perf's CPU clock: an event every `period`, or a little sooner: what runs in step with the tick,
/// or with round times, must not meet every event or none.
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

    #[test]
    fn only_a_target_that_computes_can_miss_ticks() {
        let tick = Duration::from_millis(4);
        assert!(too_few(Duration::from_secs(1), 0, tick));
        assert!(too_few(Duration::from_secs(1), 60, tick));
        assert!(!too_few(Duration::from_secs(1), 200, tick));
        assert!(!too_few(Duration::from_millis(50), 0, tick));
    }

    #[test]
    fn a_process_has_a_cpu_clock() {
        let before = process_cpu_time(std::process::id()).unwrap();
        while process_cpu_time(std::process::id()).unwrap() < before + Duration::from_millis(2) {
            compute();
        }
        assert_eq!(process_cpu_time(u32::MAX), None);
    }
}
