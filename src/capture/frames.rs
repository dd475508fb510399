//! Tier 4's orders: what tracking by stacks learns of the workers, for the kernel side.

use anyhow::{Context as _, Result};

use super::events::Capture;
use super::programs::Programs;
use super::tasks::FoundWorker;
use crate::bpf::types::{hud_flavor, hud_frame_counter, hud_frame_limits, hud_frame_path};

/// An order of tier 4.
#[derive(Clone, Debug, PartialEq)]
pub enum FrameOrder {
    /// These are the ways from now on.
    Ways(Vec<Way>),
    /// This thread is a worker.
    Adopt(Box<FoundWorker>),
    /// The loop of a known worker runs elsewhere on its stack.
    Moved { tid: u32, places: Places },
}

pub const MAX_WAYS: usize = hud_frame_limits::HUD_FRAME_PATHS.0 as usize;
pub const WAY_LEVELS: usize = hud_frame_limits::HUD_FRAME_LEVELS.0 as usize;
pub const WAY_RETURNS: usize = hud_frame_limits::HUD_FRAME_VARIANTS.0 as usize;
pub const WAY_COUNTERS: usize = hud_frame_limits::HUD_FRAME_COUNTERS.0 as usize;

/// Where the lowest word of each way lies on a thread's stack; 0: the thread does not take it.
pub type Places = [u64; MAX_WAYS];

/// One way from a worker's loop into a poll: return addresses that lie one above the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    pub multi_thread: bool,
    /// Where they lie, in bytes above the lowest one.
    pub places: [u32; WAY_LEVELS],
    /// What they may be.
    pub returns: [Vec<u64>; WAY_LEVELS],
    /// In the place of the second one: where calls of the loop return to that park.
    pub parks: Vec<u64>,
    /// What tells polls apart; without any, only one uninterrupted sleep is sure to be one poll.
    pub counters: Vec<Counter>,
    /// Where the worker's core is kept on the stack, bytes above the lowest word; 0 there in
    /// `block_in_place`.
    pub core: Option<u32>,
}

/// A number that grows with a worker's rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counter {
    /// Where on the stack a pointer to its surroundings is kept, bytes above the way's lowest word.
    pub pointer: u32,
    /// From there, bytes.
    pub offset: u32,
}

impl Way {
    pub(super) fn to_kernel(&self) -> hud_frame_path {
        let flavor = match self.multi_thread {
            true => hud_flavor::HUD_FLAVOR_MULTI_THREAD,
            false => hud_flavor::HUD_FLAVOR_CURRENT_THREAD,
        };
        let mut way = hud_frame_path {
            slots: self.places,
            flavor: flavor.0,
            counter_count: self.counters.len().min(WAY_COUNTERS) as u32,
            core: self.core.unwrap_or(0),
            ..hud_frame_path::default()
        };
        let known = self.returns.iter().chain([&self.parks]);
        for (to, from) in way
            .returns
            .iter_mut()
            .chain([&mut way.park_returns])
            .zip(known)
        {
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
        }
        for (to, from) in way.counters.iter_mut().zip(&self.counters) {
            *to = hud_frame_counter {
                pointer: from.pointer,
                offset: from.offset,
            };
        }
        way
    }
}

impl Programs<'_> {
    /// Carries out an order. Returns the stack of the poll that a new worker is asleep in.
    pub(super) fn apply_frames(&mut self, order: FrameOrder) -> Result<Option<Capture>> {
        match order {
            FrameOrder::Ways(ways) => {
                let data = self.skeleton.maps.bss_data.as_deref_mut();
                let data = data.context("the BPF programs have no globals")?;
                for (to, from) in data.frame_paths.iter_mut().zip(&ways) {
                    // SAFETY: plain integers that the kernel reads at any time, hence volatile.
                    unsafe { std::ptr::from_mut(to).write_volatile(from.to_kernel()) };
                }
                Ok(None)
            }
            FrameOrder::Adopt(worker) => self.adopt(&worker),
            FrameOrder::Moved { tid, places } => {
                self.threads.set_ways(tid, &places);
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_is_room_for_is_cut() {
        let way = Way {
            returns: [(1..10).collect(), vec![7], vec![8]],
            counters: vec![
                Counter {
                    pointer: 8,
                    offset: 4
                };
                20
            ],
            ..Way::default()
        };
        let kernel = way.to_kernel();
        assert_eq!(kernel.returns, [[1, 2, 3, 4], [7, 0, 0, 0], [8, 0, 0, 0]]);
        assert_eq!(kernel.counter_count as usize, WAY_COUNTERS);
    }
}
