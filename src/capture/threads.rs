//! The kernel side's state of each worker, read through the mapped `threads` array.
//!
//! The kernel side writes while user space reads: see [`seqlock`] for how a copy is consistent.

use std::cell::Cell;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use anyhow::{Context, Result, ensure};
use libbpf_rs::MapCore;

use super::events::{PollTimes, Site, Usage};
use super::frames::FrameBases;
use super::{decode, seqlock};
use crate::bpf::types::{hud_flavor, hud_observed, hud_phase, hud_thread};
use crate::text::comm;

/// What a worker did when it was observed last (`enum hud_phase`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Unknown,
    /// Not holding a worker's core.
    Detached,
    /// Holding a core, not polling.
    Idle,
    Poll,
}

/// What a thread runs (`enum hud_flavor`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// The scheduler of that flavor.
    CurrentThread,
    MultiThread,
    /// `block_on` outside of a scheduler.
    RootFuture,
}

impl Runs {
    pub(super) fn to_kernel(self) -> hud_flavor {
        match self {
            Runs::CurrentThread => hud_flavor::HUD_FLAVOR_CURRENT_THREAD,
            Runs::MultiThread => hud_flavor::HUD_FLAVOR_MULTI_THREAD,
            Runs::RootFuture => hud_flavor::HUD_FLAVOR_ROOT,
        }
    }
}

/// How a worker was observed last (`enum hud_observed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenAs {
    Sampled,
    Runnable,
    Blocked,
    Stopped,
}

/// The poll a worker is in.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenPoll {
    pub times: PollTimes,
    pub sites: Vec<Site>,
    /// Index into `sites` of the place where it sleeps now.
    pub asleep_at: Option<usize>,
    /// Stopped by a signal or a debugger.
    pub stopped: bool,
    /// The newest captured stack has not been sent yet.
    pub capture_waits: bool,
}

/// One worker as the kernel side observed it last. Times are `CLOCK_MONOTONIC` nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadState {
    /// Its index in the kernel side's arrays.
    pub slot: u32,
    pub tid: u32,
    pub phase: Phase,
    pub seen_as: SeenAs,
    pub seen_ns: u64,
    pub runs: Runs,
    /// Address of its `scheduler::Context`, or of the runtime's handle for a root future; 0 for
    /// none.
    pub scheduler: u64,
    pub thread_pointer: u64,
    pub comm: String,
    pub usage: Usage,
    /// While `phase` is [`Phase::Poll`].
    pub poll: Option<OpenPoll>,
}

/// A worker: its index in the kernel side's arrays, and its thread id.
pub(super) type Worker = (u32, u32);

/// The `threads` map, mapped into hud's memory.
pub struct ThreadStates {
    base: NonNull<hud_thread>,
    count: usize,
    bytes: usize,
    /// States that were dropped because every attempt to copy them overlapped a write.
    unread: Cell<u64>,
}

// SAFETY: the mapping belongs to this value alone and stays valid until it is dropped; all access
// to the memory behind it is volatile.
unsafe impl Send for ThreadStates {}

impl ThreadStates {
    /// Maps the array.
    pub fn map(map: &impl MapCore) -> Result<Self> {
        let count = map.max_entries() as usize;
        // SAFETY: no reads happen through this call.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        ensure!(page > 0, "no page size");
        let bytes = (count * size_of::<hud_thread>()).next_multiple_of(page);
        // SAFETY: a fresh shared mapping of the map's own descriptor; the length is what the
        // kernel gives an array of `count` values of this type.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_fd().as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("cannot map the worker states");
        }
        Ok(ThreadStates {
            base: NonNull::new(address.cast()).context("mapped at address 0")?,
            count,
            bytes,
            unread: Cell::default(),
        })
    }

    /// Every worker; `offset` is `CLOCK_MONOTONIC` minus the scheduler's clock. A worker whose state
    /// is being written at every attempt is left out this time, and counted in [`Self::unread`].
    pub fn read(&self, offset: i64) -> Vec<ThreadState> {
        (0..self.count)
            .filter_map(|slot| self.read_raw(slot).map(|raw| (slot, raw)))
            .filter(|(_, raw)| raw.tid != 0)
            .map(|(slot, raw)| convert(slot as u32, &raw, offset))
            .collect()
    }

    /// Whether a worker's state is still as it was read: the worker has not been observed since.
    pub(super) fn is_unchanged(&self, state: &ThreadState, offset: i64) -> bool {
        self.read_raw(state.slot as usize)
            .is_some_and(|raw| convert(state.slot, &raw, offset) == *state)
    }

    /// How many states could not be read so far.
    pub(super) fn unread(&self) -> u64 {
        self.unread.get()
    }

    /// How many slots there are.
    pub(super) fn len(&self) -> u32 {
        self.count as u32
    }

    /// The slots in use, with their threads.
    pub(super) fn tids(&self) -> impl Iterator<Item = Worker> + '_ {
        let tid = |slot: u32| {
            // SAFETY: in bounds of the mapping; a plain integer that the kernel writes at any
            // time, hence volatile.
            unsafe {
                let thread = self.base.add(slot as usize).as_ptr();
                (&raw const (*thread).tid).read_volatile()
            }
        };
        (0..self.len())
            .map(move |slot| (slot, tid(slot)))
            .filter(|(_, tid)| *tid != 0)
    }

    /// Whether a state is still the seed that user space wrote: the kernel side has not observed the
    /// thread since.
    pub(super) fn is_seeded(&self, slot: u32) -> bool {
        assert!((slot as usize) < self.count);
        // SAFETY: as in `tids`.
        unsafe {
            let thread = self.base.add(slot as usize).as_ptr();
            (&raw const (*thread).seeded).read_volatile() != 0
        }
    }

    /// Marks a slot as not in use. No entry of `slots` may lead to it.
    pub(super) fn clear(&mut self, slot: u32) {
        assert!((slot as usize) < self.count);
        // SAFETY: in bounds of the mapping; a plain integer that the kernel reads at any time,
        // hence volatile.
        unsafe {
            let thread = self.base.add(slot as usize).as_ptr();
            (&raw mut (*thread).tid).write_volatile(0);
        }
    }

    /// Writes a state for a thread that the kernel side has not seen yet.
    pub(super) fn write(&mut self, slot: usize, state: &hud_thread) {
        assert!(slot < self.count);
        // SAFETY: in bounds of the mapping; the slot is ours until its tid is published in `slots`.
        unsafe { self.base.add(slot).write_volatile(*state) };
    }

    /// Tier 4: sets where a worker's loop lies on its stack.
    pub(super) fn set_frame_bases(&mut self, tid: u32, bases: &FrameBases) {
        for slot in 0..self.count {
            // SAFETY: in bounds of the mapping; the fields are plain integers that the kernel reads
            // at any time, hence volatile.
            unsafe {
                let thread = self.base.add(slot).as_ptr();
                if std::ptr::addr_of!((*thread).tid).read_volatile() == tid {
                    std::ptr::addr_of_mut!((*thread).frame_bases).write_volatile(*bases);
                }
            }
        }
    }

    /// Every worker with its uncertain edges so far.
    pub(super) fn uncertain_edges(&self) -> impl Iterator<Item = (Worker, u32)> + '_ {
        (0..self.count).filter_map(|slot| {
            // SAFETY: in bounds of the mapping; plain integers that the kernel writes at any time,
            // hence volatile.
            let (tid, edges) = unsafe {
                let thread = self.base.add(slot).as_ptr();
                (
                    std::ptr::addr_of!((*thread).tid).read_volatile(),
                    std::ptr::addr_of!((*thread).uncertain_edges).read_volatile(),
                )
            };
            (tid != 0).then_some(((slot as u32, tid), edges))
        })
    }

    /// Has every sample of a worker observed, since it has a clock of its own; or only those that slow
    /// polls need.
    pub(super) fn set_thread_clock(&mut self, slot: u32, on: bool) {
        assert!((slot as usize) < self.count);
        // SAFETY: in bounds of the mapping; a plain integer that the kernel reads at any time,
        // hence volatile.
        unsafe {
            let thread = self.base.add(slot as usize).as_ptr();
            std::ptr::addr_of_mut!((*thread).has_own_clock).write_volatile(on.into());
        }
    }

    fn read_raw(&self, slot: usize) -> Option<hud_thread> {
        assert!(slot < self.count);
        // SAFETY: in bounds of the mapping, which the kernel writes in words.
        let state = unsafe { seqlock::read(self.base.add(slot)) };
        if state.is_none() {
            self.unread.set(self.unread.get() + 1);
        }
        state
    }
}

impl Drop for ThreadStates {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

fn convert(slot: u32, raw: &hud_thread, offset: i64) -> ThreadState {
    let phase = match hud_phase(raw.phase) {
        hud_phase::HUD_PHASE_DETACHED => Phase::Detached,
        hud_phase::HUD_PHASE_IDLE => Phase::Idle,
        hud_phase::HUD_PHASE_POLL => Phase::Poll,
        _ => Phase::Unknown,
    };
    let seen_as = match hud_observed(raw.observed_as) {
        hud_observed::HUD_OBSERVED_RUNNABLE => SeenAs::Runnable,
        hud_observed::HUD_OBSERVED_BLOCKED => SeenAs::Blocked,
        hud_observed::HUD_OBSERVED_STOPPED => SeenAs::Stopped,
        _ => SeenAs::Sampled,
    };
    let poll = (phase == Phase::Poll).then(|| {
        let sites = decode::sites(&raw.poll);
        let asleep_at = (seen_as == SeenAs::Blocked)
            .then_some(raw.site as usize)
            .filter(|&site| site < sites.len());
        OpenPoll {
            times: decode::poll_times(&raw.poll, offset),
            sites,
            asleep_at,
            stopped: seen_as == SeenAs::Stopped,
            capture_waits: raw.newest_valid != 0
                || raw.costliest_valid != 0
                || raw.sample_valid != 0,
        }
    });
    ThreadState {
        slot,
        tid: raw.tid,
        phase,
        seen_as,
        seen_ns: raw.observed_clock.wrapping_add_signed(offset),
        runs: match hud_flavor(raw.flavor) {
            hud_flavor::HUD_FLAVOR_ROOT => Runs::RootFuture,
            hud_flavor::HUD_FLAVOR_MULTI_THREAD => Runs::MultiThread,
            _ => Runs::CurrentThread,
        },
        scheduler: raw.scheduler,
        thread_pointer: raw.thread_pointer,
        comm: comm(&raw.comm),
        usage: decode::usage(&raw.usage),
        poll,
    }
}
