//! Sizes, configures, loads and attaches the BPF programs.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, OpenObject};

use super::events::Capture;
use super::frames::FrameTable;
use super::sampling::{self, Clock, Sampling};
use super::seed::FoundWorker;
use super::threads::{ThreadStates, Worker};
use super::tracking::Tracking;
use crate::bpf::types::{hud_captures, hud_config, hud_work};
use crate::bpf::{HudSkel, HudSkelBuilder};
use crate::clock::monotonic_ns;
use crate::tokio::kernel::{CoreTicks, kernel_layout};

/// What to capture, and of whom.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    pub pid: u32,
    /// Polls that hold their worker at least this long are slow.
    pub threshold: Duration,
    pub tracking: Tracking,
    /// What workers' names begin with, where nothing else tells them and the user says so.
    pub worker_names: Option<String>,
    /// Begin with all poll time on; [`super::RingThread::set_all_poll_time`] changes it.
    pub all_poll_time: bool,
}

/// What the kernel side lost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelLosses {
    pub ring_full: u64,
    pub stack_unreadable: u64,
    pub worker_untracked: u64,
    /// Worker states that could not be read for all the writes to them.
    pub state_unread: u64,
}

impl KernelLosses {
    /// With what was lost at another time.
    pub(super) fn and(self, other: KernelLosses) -> KernelLosses {
        KernelLosses {
            ring_full: self.ring_full + other.ring_full,
            stack_unreadable: self.stack_unreadable + other.stack_unreadable,
            worker_untracked: self.worker_untracked + other.worker_untracked,
            state_unread: self.state_unread + other.state_unread,
        }
    }
}

/// The programs, loaded; attached once `attach` was called, until dropped.
pub(super) struct Loaded<'obj> {
    pub skeleton: HudSkel<'obj>,
    pub threads: ThreadStates,
    pub sampling: Sampling,
    links: Vec<Link>,
    /// Those of the CPU clocks.
    clock_links: Vec<Link>,
    /// That of the wake-ups.
    wakes_link: Option<Link>,
    free: Vec<u32>,
    /// Workers that found no room when they were met.
    untracked: u64,
}

impl<'obj> Loaded<'obj> {
    /// Loads the programs with room for about twice as many workers as there are now, or may be.
    pub fn load(
        storage: &'obj mut MaybeUninit<OpenObject>,
        config: &CaptureConfig,
        workers: usize,
    ) -> Result<Self> {
        let tokio = config.tracking.layout().map(kernel_layout).transpose()?;
        let sampling = Sampling::for_threshold(config.threshold);
        let slots = (workers * 2 + 16).next_power_of_two().clamp(32, 1024) as u32;
        let mut open = HudSkelBuilder::default()
            .open(storage)
            .context("cannot open the BPF programs")?;
        open.maps.threads.set_max_entries(slots)?;
        open.maps.captures.set_max_entries(slots)?;
        open.maps.free_slots.set_max_entries(slots)?;
        open.maps.slots.set_max_entries(pid_max()? + 1)?;
        open.maps
            .rodata_data
            .as_deref_mut()
            .context("the BPF programs have no configuration")?
            .config = hud_config {
            tokio: tokio.unwrap_or_default(),
            threshold_ns: config.threshold.as_nanos() as u64,
            sample_period_ns: sampling.period.as_nanos() as u64,
            tick_ns: sampling.tick.map_or(0, |tick| tick.as_nanos() as u64),
            tgid: config.pid,
            own_tgid: std::process::id(),
            profile_stride: sampling.profile_stride(sampling::online_cpus()?.len()),
            by_frames: (config.tracking == Tracking::Frames).into(),
        };
        open.progs.tick.set_autoload(sampling.tick.is_some());
        open.progs.learn_tick.set_autoload(sampling.tick.is_some());
        let skeleton = open
            .load()
            .context("the kernel refused the BPF programs (run with RUST_LOG=debug for its log)")?;
        let threads = ThreadStates::map(&skeleton.maps.threads)?;
        Ok(Loaded {
            skeleton,
            threads,
            sampling,
            links: Vec::new(),
            clock_links: Vec::new(),
            wakes_link: None,
            free: (0..slots).rev().collect(),
            untracked: 0,
        })
    }

    /// Compares the scheduler's clock with `CLOCK_MONOTONIC`, which takes one context switch.
    /// Returns the former's now.
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

    /// `CLOCK_MONOTONIC` minus the scheduler's clock, once known.
    pub fn mono_minus_clock(&self) -> Option<i64> {
        let data = self.skeleton.maps.bss_data.as_deref()?;
        // SAFETY: plain integers that the kernel writes at any time, hence volatile.
        let (at, offset) = unsafe {
            (
                std::ptr::addr_of!(data.compared_at).read_volatile(),
                std::ptr::addr_of!(data.mono_minus_clock).read_volatile(),
            )
        };
        (at != 0).then_some(offset)
    }

    /// What was lost so far.
    pub fn losses(&self) -> KernelLosses {
        let Some(data) = self.skeleton.maps.bss_data.as_deref() else {
            return KernelLosses::default();
        };
        // SAFETY: plain integers that the kernel writes at any time, hence volatile.
        let losses = unsafe { std::ptr::addr_of!(data.losses).read_volatile() };
        KernelLosses {
            ring_full: losses.ring_full,
            stack_unreadable: losses.stack_unreadable,
            worker_untracked: losses.worker_untracked + self.untracked,
            state_unread: self.threads.unread(),
        }
    }

    /// Tells the kernel side where the cores' ticks are.
    pub fn set_core_ticks(&mut self, ticks: &CoreTicks) {
        if let Some(data) = self.skeleton.maps.bss_data.as_deref_mut() {
            // SAFETY: plain integers that the kernel reads at any time, hence volatile.
            unsafe { std::ptr::addr_of_mut!(data.core_ticks).write_volatile(ticks.get()) };
        }
    }

    /// Gives the kernel side the workers that exist already: parked ones would not be seen before
    /// they wake, and polls that sleep already not before they end.
    pub fn seed(&mut self, workers: &[FoundWorker], clock: u64) -> Result<()> {
        if let Some(data) = self.skeleton.maps.bss_data.as_deref_mut() {
            data.attached_at = clock;
        }
        for worker in workers {
            let Some(slot) = self.free.pop() else { break };
            self.publish(slot, worker, clock)?;
        }
        for slot in self.free.drain(..) {
            self.skeleton
                .maps
                .free_slots
                .update(&[], &slot.to_ne_bytes(), MapFlags::ANY)
                .context("cannot fill the list of free slots")?;
        }
        Ok(())
    }

    /// Gives the kernel side a worker's state.
    fn publish(&mut self, slot: u32, worker: &FoundWorker, clock: u64) -> Result<()> {
        self.threads.write(slot as usize, &worker.state(clock));
        self.skeleton
            .maps
            .slots
            .update(
                &worker.task.tid.to_ne_bytes(),
                &(slot as u16 + 1).to_ne_bytes(),
                MapFlags::ANY,
            )
            .context("cannot register a worker")
    }

    /// Tells the kernel side what was learnt of workers' frames. Gives the stacks of the polls that
    /// the new workers are asleep in.
    pub fn learn_frames(&mut self, table: &FrameTable) -> Result<Vec<Capture>> {
        let news = table.take();
        if let (Some(ways), Some(data)) = (news.ways, self.skeleton.maps.bss_data.as_deref_mut()) {
            for (to, from) in data.frame_paths.iter_mut().zip(&ways) {
                // SAFETY: plain integers that the kernel reads at any time, hence volatile.
                unsafe { std::ptr::from_mut(to).write_volatile(from.to_kernel()) };
            }
        }
        for (tid, places) in news.moved {
            self.threads.set_ways(tid, &places);
        }
        let mut asleep = Vec::new();
        for worker in &news.workers {
            let Some(offset) = self.mono_minus_clock() else {
                break;
            };
            let clock = monotonic_ns().wrapping_add_signed(-offset);
            let Some(slot) = self.take_slot()? else {
                self.untracked += 1;
                continue;
            };
            self.publish(slot, worker, clock)?;
            asleep.extend(worker.capture(clock, offset));
        }
        Ok(asleep)
    }

    /// A free place in the kernel side's arrays.
    fn take_slot(&self) -> Result<Option<u32>> {
        let slot = self.skeleton.maps.free_slots.lookup_and_delete(&[]);
        let slot = slot.context("cannot take a free slot")?;
        Ok(slot.and_then(|bytes| Some(u32::from_ne_bytes(bytes.try_into().ok()?))))
    }

    /// Attaches to the scheduler and to what gives samples.
    pub fn attach(&mut self) -> Result<()> {
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

    /// Lets the kernel side learn the tick's looks from ticks that interrupt hud's computing.
    /// Whether it did, soon enough.
    fn learn_tick(&self) -> Result<bool> {
        let program = &self.skeleton.progs.learn_tick;
        let _link = program.attach().context("cannot attach to the tick")?;
        let until = Instant::now() + sampling::LEARN_WITHIN;
        while Instant::now() < until {
            sampling::compute();
            let data = self.skeleton.maps.bss_data.as_deref();
            // SAFETY: a plain integer that the kernel writes at any time, hence volatile.
            let confirmed = data.map_or(0, |data| unsafe {
                std::ptr::addr_of!(data.tick_signature.confirmed).read_volatile()
            });
            if confirmed >= 2 {
                return Ok(true);
            }
        }
        log::info!("the scheduler's tick could not be made out: sampling by the CPU clock");
        Ok(false)
    }

    /// Samples by perf's CPU clock from now on, beside what gives samples already.
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

    /// Samples a worker by a clock of its own from now on, until the link is dropped.
    pub fn sample_closely(&mut self, (slot, tid): Worker, period: Duration) -> Result<Link> {
        let link = self
            .attach_clock(Clock::Thread(tid.try_into()?), period)
            .with_context(|| format!("cannot sample thread {tid}"))?;
        self.threads.set_closely(slot, true);
        Ok(link)
    }

    /// Sends the samples of all poll time from now on, or no longer. They are the CPU clock's, which
    /// runs for that alone where slow polls are sampled by the tick.
    pub fn set_profiling(&mut self, on: bool) -> Result<()> {
        if on && self.clock_links.is_empty() {
            self.clock_links = self.cpu_clocks()?;
        } else if !on && self.sampling.tick.is_some() {
            self.clock_links.clear();
        }
        if let Some(data) = self.skeleton.maps.bss_data.as_deref_mut() {
            // SAFETY: a plain integer that the kernel reads at any time, hence volatile.
            unsafe { std::ptr::addr_of_mut!(data.profiling).write_volatile(on.into()) };
        }
        Ok(())
    }

    /// Listens to wake-ups from now on, or no longer.
    pub fn set_hears_wakes(&mut self, on: bool) -> Result<()> {
        if on == self.wakes_link.is_some() {
            return Ok(());
        }
        if let Some(data) = self.skeleton.maps.bss_data.as_deref_mut() {
            // SAFETY: a plain integer that the kernel reads at any time, hence volatile.
            unsafe { std::ptr::addr_of_mut!(data.tracking_wakes).write_volatile(on.into()) };
        }
        let program = &self.skeleton.progs.sched_waking;
        self.wakes_link = on
            .then(|| program.attach().context("cannot attach to sched_waking"))
            .transpose()?;
        Ok(())
    }

    /// Samples of the target so far.
    pub fn samples(&self) -> u64 {
        self.work().samples
    }

    /// Long waits in slow polls so far.
    pub fn long_waits(&self) -> u64 {
        self.work().long_waits
    }

    fn work(&self) -> hud_work {
        let data = self.skeleton.maps.bss_data.as_deref();
        // SAFETY: plain integers that the kernel writes at any time, hence volatile.
        data.map_or_else(hud_work::default, |data| unsafe {
            std::ptr::addr_of!(data.work).read_volatile()
        })
    }

    /// Nanoseconds spent in the programs so far, on all CPUs; none while the kernel does not count
    /// (`kernel.bpf_stats_enabled` is 0).
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

    /// Detaches; what was captured stays readable.
    pub fn detach(&mut self) {
        self.links.clear();
        self.clock_links.clear();
        self.wakes_link = None;
    }

    /// The bytes of a worker's capture buffers.
    pub fn captures(&self, slot: u32) -> Option<Box<hud_captures>> {
        let mut buffer = Box::<hud_captures>::new_uninit();
        // SAFETY: `hud_captures` is integers only, so zeroes are a valid value.
        let mut buffer = unsafe {
            buffer.as_mut_ptr().write_bytes(0, 1);
            buffer.assume_init()
        };
        // SAFETY: the value's own bytes; every bit pattern is valid for it.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(
                std::ptr::from_mut(&mut *buffer).cast::<u8>(),
                size_of::<hud_captures>(),
            )
        };
        self.skeleton
            .maps
            .captures
            .lookup_into(&slot.to_ne_bytes(), bytes, MapFlags::ANY)
            .ok()?
            .then_some(buffer)
    }
}

/// Time spent in a program, as far as the kernel counts it.
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

fn pid_max() -> Result<u32> {
    let path = "/proc/sys/kernel/pid_max";
    std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {path}"))?
        .trim()
        .parse()
        .with_context(|| format!("{path} holds no number"))
}
