//! Seeding: gives the kernel side the workers that exist already. A parked one would not be observed
//! before it wakes, and a poll that sleeps not before it ends.
//!
//! The programs are attached first, so that they observe every switch from then on. What user space
//! reads of a thread holds if the thread has not run since, which only a second look can show. So
//! looks are repeated until each seed is either confirmed or observed by the kernel side. A seed that
//! turns out to be old is replaced whole: its successor is written into a slot of its own, and then
//! `slots` is switched over in one write. Neither side ever writes a state that the other may be
//! writing. Should the kernel side add the same thread meanwhile, its state loses its entry in
//! `slots` and is freed at the end; a seed that was overtaken so is reset by the kernel side at the
//! thread's next switch, as its count of context switches does not match.

use std::collections::HashMap;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags};

use super::Programs;
use crate::capture::tasks::seed::find_worker;
use crate::capture::tasks::{FoundWorker, TaskReader, TaskState};
use crate::target::memory::Memory;
use crate::tokio::TokioLayout;

/// Looks at most: threads that still run then are observed by the kernel side.
const MAX_LOOKS: usize = 8;

/// A value of `slots` for a worker that found no room (`SLOT_UNTRACKED`).
const UNTRACKED: u16 = u16::MAX;

/// A seed in the kernel side's arrays.
struct Seed {
    slot: u32,
    worker: FoundWorker,
}

impl Programs<'_> {
    /// Seeds the kernel side. Returns the workers whose seeds were confirmed.
    ///
    /// # Errors
    /// When the task iterator or a map cannot be used.
    pub fn seed(
        &mut self,
        reader: &TaskReader,
        layout: &TokioLayout,
        memory: &dyn Memory,
    ) -> Result<Vec<FoundWorker>> {
        let mut seeds = HashMap::new();
        let mut replaced = Vec::new();
        for look in 0..MAX_LOOKS {
            let tasks = reader.read()?;
            let mut changed = false;
            for task in &tasks {
                changed |= self.seed_thread(task, layout, memory, &mut seeds, &mut replaced)?;
            }
            log::debug!("look {look}: {} seeds, changed: {changed}", seeds.len());
            if !changed {
                break;
            }
        }
        for slot in replaced.into_iter().chain(self.orphans()?) {
            self.release_slot(slot)?;
        }
        let confirmed = seeds.into_values();
        let confirmed = confirmed.filter(|seed| self.threads.is_seeded(seed.slot));
        Ok(confirmed.map(|seed| seed.worker).collect())
    }

    /// Seeds one thread, or renews or removes its seed, unless the kernel side has observed it.
    /// Returns whether anything changed.
    fn seed_thread(
        &mut self,
        task: &TaskState,
        layout: &TokioLayout,
        memory: &dyn Memory,
        seeds: &mut HashMap<u32, Seed>,
        replaced: &mut Vec<u32>,
    ) -> Result<bool> {
        let slot = self.slot_of(task.tid)?;
        let seed = seeds.get(&task.tid);
        let is_ours = |slot| seed.is_some_and(|seed| seed.slot == slot);
        match slot {
            Slot::Taken(slot) if is_ours(slot) && self.threads.is_seeded(slot) => {
                if seed.is_some_and(|seed| task.same_stint(&seed.worker.task)) {
                    return Ok(false);
                }
                // The kernel side would not learn of it before the thread's next switch.
                replaced.push(slot);
            }
            Slot::Taken(_) | Slot::Untracked => return Ok(false),
            Slot::Free => {}
        }
        let Some(worker) = find_worker(layout, task, memory) else {
            let was_seeded = seeds.remove(&task.tid).is_some();
            if was_seeded {
                self.set_slot(task.tid, 0)?;
            }
            return Ok(was_seeded);
        };
        let Some(slot) = self.take_slot()? else {
            self.untracked += 1;
            self.set_slot(task.tid, UNTRACKED)?;
            return Ok(false);
        };
        self.publish(slot, &worker)?;
        seeds.insert(task.tid, Seed { slot, worker });
        Ok(true)
    }

    fn slot_of(&self, tid: u32) -> Result<Slot> {
        let value = self
            .skeleton
            .maps
            .slots
            .lookup(&tid.to_ne_bytes(), MapFlags::ANY)
            .context("cannot look up a thread's slot")?;
        let value = value.and_then(|bytes| Some(u16::from_ne_bytes(bytes.try_into().ok()?)));
        Ok(match value {
            None | Some(0) => Slot::Free,
            Some(UNTRACKED) => Slot::Untracked,
            Some(index) => Slot::Taken(u32::from(index) - 1),
        })
    }

    /// States that no entry of `slots` leads to.
    fn orphans(&self) -> Result<Vec<u32>> {
        let mut orphans = Vec::new();
        for (slot, tid) in self.threads.tids() {
            if self.slot_of(tid)? != Slot::Taken(slot) {
                orphans.push(slot);
            }
        }
        Ok(orphans)
    }
}

/// An entry of `slots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Free,
    Untracked,
    Taken(u32),
}
