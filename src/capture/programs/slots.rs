//! The slots of the kernel side's arrays, one a worker: filled for workers that user space finds, and
//! their captured stacks read.

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags};

use super::Programs;
use crate::bpf::types::hud_captures;
use crate::capture::events::Capture;
use crate::capture::tasks::FoundWorker;
use crate::clock::monotonic_ns;

impl Programs<'_> {
    /// Seeds the kernel side with the workers that exist already: a parked one would not be seen
    /// before it wakes, and a poll that sleeps not before it ends. `clock` is the scheduler's now.
    ///
    /// # Errors
    /// When a map cannot be written.
    pub fn seed(&mut self, workers: &[FoundWorker], clock: u64) -> Result<()> {
        self.set_global(clock, |data| &mut data.attached_at);
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

    /// Adds a worker while the capture runs. Returns the stack of the poll it is asleep in. Without
    /// a free slot the worker is counted as untracked.
    ///
    /// # Errors
    /// When a map cannot be written.
    pub fn adopt(&mut self, worker: &FoundWorker) -> Result<Option<Capture>> {
        let offset = self
            .mono_minus_clock()
            .context("the clocks were not compared")?;
        let clock = monotonic_ns().wrapping_add_signed(-offset);
        let Some(slot) = self.take_slot()? else {
            self.untracked += 1;
            return Ok(None);
        };
        self.publish(slot, worker, clock)?;
        Ok(worker.capture(clock, offset))
    }

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

    fn take_slot(&self) -> Result<Option<u32>> {
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
