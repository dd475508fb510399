//! The programs' globals, which kernel and user space read and write at any time; and the time that
//! the programs took.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{KernelLosses, Programs};
use crate::bpf::types::bss;
use crate::clock::monotonic_ns;
use crate::tokio::TokioLayout;
use crate::tokio::kernel::core_ticks;

impl Programs<'_> {
    /// A copy of a global.
    pub(super) fn global<T: Copy>(&self, field: impl FnOnce(&bss) -> &T) -> Option<T> {
        let data = self.skeleton.maps.bss_data.as_deref()?;
        // SAFETY: a valid, aligned reference to integers, which the kernel writes at any time, hence
        // volatile.
        Some(unsafe { std::ptr::from_ref(field(data)).read_volatile() })
    }

    /// Sets a global.
    pub(in crate::capture) fn set_global<T>(
        &mut self,
        value: T,
        field: impl FnOnce(&mut bss) -> &mut T,
    ) {
        if let Some(data) = self.skeleton.maps.bss_data.as_deref_mut() {
            // SAFETY: a valid, aligned reference to integers, which the kernel reads at any time,
            // hence volatile.
            unsafe { std::ptr::from_mut(field(data)).write_volatile(value) };
        }
    }

    /// Compares the scheduler's clock with `CLOCK_MONOTONIC`, which takes one context switch.
    /// Returns the scheduler's clock now, nanoseconds.
    ///
    /// # Errors
    /// When no context switch reaches the program.
    pub fn compare_clocks(&mut self) -> Result<u64> {
        let _link = self
            .skeleton
            .progs
            .compare
            .attach()
            .context("cannot attach to sched_switch")?;
        for _ in 0..200 {
            std::thread::sleep(Duration::from_micros(500));
            if let Some(offset) = self.mono_minus_clock() {
                return Ok(monotonic_ns().wrapping_add_signed(-offset));
            }
        }
        anyhow::bail!("sched_switch does not fire: is BPF tracing switched off in this kernel?")
    }

    /// `CLOCK_MONOTONIC` minus the scheduler's clock, nanoseconds, once compared.
    pub fn mono_minus_clock(&self) -> Option<i64> {
        let compared_at = self.global(|data| &data.compared_at)?;
        let offset = self.global(|data| &data.mono_minus_clock)?;
        (compared_at != 0).then_some(offset)
    }

    /// What the kernel side lost so far.
    pub fn losses(&self) -> KernelLosses {
        let losses = self.global(|data| &data.losses).unwrap_or_default();
        KernelLosses {
            ring_full: losses.ring_full,
            stack_unreadable: losses.stack_unreadable,
            worker_untracked: losses.worker_untracked + self.untracked,
            state_unread: self.threads.unread(),
        }
    }

    /// The scheduling ticks lie where this layout says.
    pub fn set_core_ticks(&mut self, layout: &TokioLayout) {
        self.set_global(core_ticks(layout), |data| &mut data.core_ticks);
    }

    /// Samples of the target so far.
    pub fn samples(&self) -> u64 {
        self.global(|data| &data.work.samples).unwrap_or(0)
    }

    /// Long waits in slow polls so far.
    pub fn long_waits(&self) -> u64 {
        self.global(|data| &data.work.long_waits).unwrap_or(0)
    }

    /// Nanoseconds spent in the programs so far, on all CPUs; None while the kernel does not count
    /// them (`kernel.bpf_stats_enabled` is 0).
    pub fn run_time_ns(&self) -> Option<u64> {
        let programs = &self.skeleton.progs;
        let descriptors = [
            programs.sched_switch.as_fd(),
            programs.sched_waking.as_fd(),
            programs.cpu_clock.as_fd(),
            programs.sched_process_exit.as_fd(),
            programs.sched_process_exec.as_fd(),
        ];
        // Not loaded, and so without a descriptor, where the tick is not used.
        let tick = self.sampling.tick.map(|_| programs.tick.as_fd());
        let times = descriptors.into_iter().chain(tick).map(run_time_ns);
        Some(times.sum()).filter(|ns| *ns > 0)
    }
}

/// Nanoseconds spent in a program, as far as the kernel counts them.
fn run_time_ns(program: BorrowedFd<'_>) -> u64 {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut bytes = size_of_val(&info) as u32;
    // SAFETY: `info` is integers only and has room for `bytes`.
    let error =
        unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &mut info, &mut bytes) };
    match error {
        0 => info.run_time_ns,
        _ => 0,
    }
}
