//! Attaches the programs to the scheduler's tracepoints and to the clocks that sample, and detaches
//! them.

use std::os::fd::{AsRawFd, IntoRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use libbpf_rs::Link;

use super::Programs;
use super::sampling::{self, Clock};
use crate::capture::threads::Worker;
use crate::clock::monotonic_ns;

impl Programs<'_> {
    /// Attaches to the scheduler and to the source of samples.
    ///
    /// # Errors
    /// When the kernel refuses an attachment.
    pub fn attach(&mut self) -> Result<()> {
        if let Some(offset) = self.mono_minus_clock() {
            let clock = monotonic_ns().wrapping_add_signed(-offset);
            self.set_global(clock, |data| &mut data.attached_at);
        }
        let programs = &self.skeleton.progs;
        for (name, program) in [
            ("sched_process_exit", &programs.sched_process_exit),
            ("sched_process_exec", &programs.sched_process_exec),
            ("sched_switch", &programs.sched_switch),
        ] {
            let link = program
                .attach()
                .with_context(|| format!("cannot attach to {name}"))?;
            self.links.push(link);
        }
        if self.sampling.tick.is_some() && self.learn_tick()? {
            let tick = &self.skeleton.progs.tick;
            let link = tick.attach().context("cannot attach to the tick")?;
            self.links.push(link);
            return Ok(());
        }
        self.attach_cpu_clocks()
    }

    /// Lets the kernel side learn to recognise the scheduler tick, from ticks that interrupt hud
    /// while it computes. Whether it did in time.
    fn learn_tick(&self) -> Result<bool> {
        let program = &self.skeleton.progs.learn_tick;
        let _link = program.attach().context("cannot attach to the tick")?;
        let until = Instant::now() + sampling::LEARN_WITHIN;
        while Instant::now() < until {
            sampling::compute();
            let confirmed = self.global(|data| &data.tick_signature.confirmed);
            if confirmed.is_some_and(|ticks| ticks >= 2) {
                return Ok(true);
            }
        }
        log::info!("the scheduler tick is not recognised: sampling by the CPU clock");
        Ok(false)
    }

    /// Samples by perf's CPU clock from now on.
    ///
    /// # Errors
    /// When a CPU's clock cannot be opened.
    pub fn attach_cpu_clocks(&mut self) -> Result<()> {
        self.sampling.tick = None;
        if self.clock_links.is_empty() {
            self.clock_links = self.cpu_clocks()?;
        }
        Ok(())
    }

    fn cpu_clocks(&self) -> Result<Vec<Link>> {
        let mut links = Vec::new();
        for cpu in sampling::online_cpus()? {
            let link = self
                .attach_clock(Clock::Cpu(cpu), self.sampling.period)
                .with_context(|| format!("cannot sample CPU {cpu}"))?;
            links.push(link);
        }
        Ok(links)
    }

    fn attach_clock(&self, of: Clock, period: Duration) -> Result<Link> {
        let event = sampling::open_clock(of, period)?;
        let program = &self.skeleton.progs.cpu_clock;
        let link = program.attach_perf_event(event.as_raw_fd())?;
        // The link closes the event it was attached to.
        let _ = event.into_raw_fd();
        Ok(link)
    }

    /// Samples a worker by a clock of its own until the link is dropped.
    ///
    /// # Errors
    /// When the thread has ended, or no file descriptor is left.
    pub fn attach_thread_clock(&mut self, (slot, tid): Worker, period: Duration) -> Result<Link> {
        let link = self
            .attach_clock(Clock::Thread(tid.try_into()?), period)
            .with_context(|| format!("cannot sample thread {tid}"))?;
        self.threads.set_thread_clock(slot, true);
        Ok(link)
    }

    /// Sends the samples of all poll time from now on, or no longer. They come from the CPU clocks,
    /// which run for that alone where slow polls are sampled by the tick.
    ///
    /// # Errors
    /// When a CPU's clock cannot be opened.
    pub fn set_profiling(&mut self, on: bool) -> Result<()> {
        if on && self.clock_links.is_empty() {
            self.clock_links = self.cpu_clocks()?;
        } else if !on && self.sampling.tick.is_some() {
            self.clock_links.clear();
        }
        self.set_global(on.into(), |data| &mut data.profiling);
        Ok(())
    }

    /// Listens to wake-ups from now on, or no longer.
    ///
    /// # Errors
    /// When the kernel refuses the attachment.
    pub fn set_wake_listening(&mut self, on: bool) -> Result<()> {
        if on == self.wakes_link.is_some() {
            return Ok(());
        }
        self.set_global(on.into(), |data| &mut data.tracking_wakes);
        let program = &self.skeleton.progs.sched_waking;
        self.wakes_link = on
            .then(|| program.attach().context("cannot attach to sched_waking"))
            .transpose()?;
        Ok(())
    }

    /// Detaches; what was captured stays readable.
    pub fn detach(&mut self) {
        self.links.clear();
        self.clock_links.clear();
        self.wakes_link = None;
    }
}
