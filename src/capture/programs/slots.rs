//! The slots of the kernel side's arrays, one a worker: taken, filled and freed, and their captured
//! stacks read.

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags};

use super::Programs;
use crate::bpf::types::hud_captures;
use crate::capture::events::Capture;
use crate::capture::tasks::FoundWorker;
use crate::clock::monotonic_ns;

impl Programs<'_> {
    /// Offers all slots to the kernel side.
    ///
    /// # Errors
    /// When a map cannot be written.
    pub fn free_all_slots(&mut self) -> Result<()> {
        (0..self.threads.len())
            .rev()
            .try_for_each(|slot| self.free_slot(slot))
    }

    /// How many workers there is room for.
    pub fn room(&self) -> usize {
        self.threads.len() as usize
    }

    /// Whether a worker found no room, and more room can be made.
    pub fn needs_room(&self) -> bool {
        self.losses().worker_untracked > 0 && self.room() < super::MAX_SLOTS
    }

    /// Takes a state out of use.
    pub(super) fn release_slot(&mut self, slot: u32) -> Result<()> {
        self.threads.clear(slot);
        self.free_slot(slot)
    }

    fn free_slot(&self, slot: u32) -> Result<()> {
        self.skeleton
            .maps
            .free_slots
            .update(&[], &slot.to_ne_bytes(), MapFlags::ANY)
            .context("cannot free a slot")
    }

    /// Adds a worker while the capture runs. Returns the stack of the poll it is asleep in. Without
    /// a free slot the worker is counted as untracked.
    ///
    /// # Errors
    /// When a map cannot be written.
    pub fn adopt(&mut self, worker: &FoundWorker) -> Result<Option<Capture>> {
        let Some(slot) = self.take_slot()? else {
            self.untracked += 1;
            return Ok(None);
        };
        self.publish(slot, worker)?;
        Ok(self.capture_of(worker))
    }

    /// The stack of the poll that a worker is asleep in.
    pub fn capture_of(&self, worker: &FoundWorker) -> Option<Capture> {
        let offset = self.mono_minus_clock()?;
        worker.capture(monotonic_ns().wrapping_add_signed(-offset), offset)
    }

    /// Writes a worker's state into a slot, and makes it the thread's.
    pub(super) fn publish(&mut self, slot: u32, worker: &FoundWorker) -> Result<()> {
        let offset = self
            .mono_minus_clock()
            .context("the clocks were not compared")?;
        let clock = monotonic_ns().wrapping_add_signed(-offset);
        self.threads.write(slot as usize, &worker.state(clock));
        self.set_slot(worker.task.tid, slot as u16 + 1)
    }

    /// Sets a thread's entry in `slots`.
    pub(super) fn set_slot(&self, tid: u32, value: u16) -> Result<()> {
        self.skeleton
            .maps
            .slots
            .update(&tid.to_ne_bytes(), &value.to_ne_bytes(), MapFlags::ANY)
            .context("cannot register a worker")
    }

    pub(super) fn take_slot(&self) -> Result<Option<u32>> {
        let slot = self.skeleton.maps.free_slots.lookup_and_delete(&[]);
        let slot = slot.context("cannot take a free slot")?;
        Ok(slot.and_then(|bytes| Some(u32::from_ne_bytes(bytes.try_into().ok()?))))
    }

    /// A copy of a worker's capture buffers.
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
