//! The BPF programs: sized, configured and loaded here; attached, seeded and read in the files below.

mod attach;
mod globals;
pub mod messages;
mod sampling;
mod seeding;
mod slots;

use std::mem::MaybeUninit;
use std::time::Duration;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, OpenObject};

pub use self::sampling::MIN_SAMPLE_PERIOD;
use self::sampling::Sampling;
#[cfg(test)]
pub(super) use self::sampling::compute;
use super::orders::TrackingMode;
use super::threads::ThreadStates;
use crate::bpf::types::hud_config;
use crate::bpf::{HudSkel, HudSkelBuilder};
use crate::tokio::kernel::kernel_layout;

/// Workers that there is room for at most. Each takes some 400 KiB of kernel memory, for its
/// captured stacks.
const MAX_SLOTS: usize = 1024;

/// What to capture, and of whom.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    pub pid: u32,
    /// Polls that hold their worker at least this long are slow.
    pub threshold: Duration,
    pub tracking: TrackingMode,
    /// Tier 5: prefix of the workers' thread names, where the user gives one.
    pub worker_names: Option<String>,
}

/// What the kernel side lost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelLosses {
    pub ring_full: u64,
    pub stack_unreadable: u64,
    pub worker_untracked: u64,
    /// Worker states that could not be read because each attempt overlapped a write.
    pub state_unread: u64,
}

impl KernelLosses {
    /// The sum with the losses of another capture.
    pub(super) fn and(self, other: KernelLosses) -> KernelLosses {
        KernelLosses {
            ring_full: self.ring_full + other.ring_full,
            stack_unreadable: self.stack_unreadable + other.stack_unreadable,
            worker_untracked: self.worker_untracked + other.worker_untracked,
            state_unread: self.state_unread + other.state_unread,
        }
    }
}

/// The loaded programs; attached once [`Programs::attach`] was called, until dropped.
pub(super) struct Programs<'obj> {
    pub skeleton: HudSkel<'obj>,
    pub threads: ThreadStates,
    pub sampling: Sampling,
    links: Vec<Link>,
    /// perf's CPU clocks, one a CPU.
    clock_links: Vec<Link>,
    /// The tracepoint of wake-ups.
    wakes_link: Option<Link>,
    /// Workers that were not adopted because no slot was free.
    untracked: u64,
}

impl<'obj> Programs<'obj> {
    /// Loads the programs with room for about twice as many workers as `workers`.
    ///
    /// # Errors
    /// When the kernel refuses a program or a map, or the layout lies outside of what the programs
    /// read.
    pub fn load(
        storage: &'obj mut MaybeUninit<OpenObject>,
        config: &CaptureConfig,
        workers: usize,
    ) -> Result<Self> {
        let tokio = config.tracking.layout().map(kernel_layout).transpose()?;
        let sampling = Sampling::for_threshold(config.threshold);
        let slots = (workers * 2 + 16).clamp(32, MAX_SLOTS) as u32;
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
            by_frames: (config.tracking == TrackingMode::Frames).into(),
        };
        open.progs.tick.set_autoload(sampling.tick.is_some());
        open.progs.learn_tick.set_autoload(sampling.tick.is_some());
        let skeleton = open
            .load()
            .context("the kernel refused the BPF programs (run with RUST_LOG=debug for its log)")?;
        let threads = ThreadStates::map(&skeleton.maps.threads)?;
        Ok(Programs {
            skeleton,
            threads,
            sampling,
            links: Vec::new(),
            clock_links: Vec::new(),
            wakes_link: None,
            untracked: 0,
        })
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
