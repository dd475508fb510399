//! Notices that the scheduler tick does not fire although the target computes.

use std::time::{Duration, Instant};

/// Interval of the checks.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Less CPU time of the target than this in one interval proves nothing.
const MIN_CPU_TIME: Duration = Duration::from_millis(200);

/// Compares the samples with the target's CPU time.
pub struct TickWatch {
    pid: u32,
    period: Duration,
    next: Instant,
    /// The process's CPU time and its samples at the last check.
    before: Option<(Duration, u64)>,
}

impl TickWatch {
    /// Of the process `pid`, which is to be sampled every `period` that it runs.
    pub fn new(pid: u32, period: Duration) -> Self {
        TickWatch {
            pid,
            period,
            next: Instant::now(),
            before: None,
        }
    }

    /// Whether less than a quarter of the samples arrived that the target's CPU time makes due.
    pub fn is_missing(&mut self, samples: impl FnOnce() -> u64) -> bool {
        let now = Instant::now();
        if now < self.next {
            return false;
        }
        self.next = now + CHECK_EVERY;
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
    cpu >= MIN_CPU_TIME && samples < due / 4
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::programs::compute;

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
