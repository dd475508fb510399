//! Tier 4's orders: what tracking by stacks learns of the workers, for the kernel side.

use anyhow::Result;

use super::events::Capture;
use super::programs::Programs;
use super::tasks::FoundWorker;
use crate::bpf::types::{hud_flavor, hud_frame_counter, hud_frame_limits, hud_frame_path};

/// An order of tier 4.
#[derive(Clone, Debug, PartialEq)]
pub enum FrameOrder {
    /// These are all paths from now on.
    Paths(Vec<FramePath>),
    /// This thread is a worker.
    Adopt(Box<FoundWorker>),
    /// The loop of a known worker lies elsewhere on its stack.
    Moved { tid: u32, bases: FrameBases },
}

pub const MAX_PATHS: usize = hud_frame_limits::HUD_FRAME_PATHS.0 as usize;
pub const PATH_LEVELS: usize = hud_frame_limits::HUD_FRAME_LEVELS.0 as usize;
pub const PATH_VARIANTS: usize = hud_frame_limits::HUD_FRAME_VARIANTS.0 as usize;
pub const PATH_COUNTERS: usize = hud_frame_limits::HUD_FRAME_COUNTERS.0 as usize;

/// Address of the lowest return address of each path on a thread's stack; 0: the thread's loop is not
/// of that path.
pub type FrameBases = [u64; MAX_PATHS];

/// A path from a worker's loop into a poll: return addresses on the stack, lowest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FramePath {
    pub multi_thread: bool,
    /// Where they lie, bytes above the lowest one (the base).
    pub slots: [u32; PATH_LEVELS],
    /// The values they may have.
    pub returns: [Vec<u64>; PATH_LEVELS],
    /// The values that the second one has in parks.
    pub parks: Vec<u64>,
    /// Numbers that tell polls apart. Without any, only an uninterrupted sleep is certain to be one
    /// poll.
    pub counters: Vec<Counter>,
    /// Where the pointer to the worker's core is kept, bytes above the base; it is null in
    /// `block_in_place`.
    pub core: Option<u32>,
}

/// A number that grows with a worker's scheduling rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counter {
    /// Where on the stack a pointer to its struct is kept, bytes above the base.
    pub pointer: u32,
    /// Offset from that pointer, bytes.
    pub offset: u32,
}

impl FramePath {
    pub(super) fn to_kernel(&self) -> hud_frame_path {
        let flavor = match self.multi_thread {
            true => hud_flavor::HUD_FLAVOR_MULTI_THREAD,
            false => hud_flavor::HUD_FLAVOR_CURRENT_THREAD,
        };
        let mut path = hud_frame_path {
            slots: self.slots,
            flavor: flavor.0,
            counter_count: self.counters.len().min(PATH_COUNTERS) as u32,
            core: self.core.unwrap_or(0),
            ..hud_frame_path::default()
        };
        let known = self.returns.iter().chain([&self.parks]);
        for (to, from) in path
            .returns
            .iter_mut()
            .chain([&mut path.park_returns])
            .zip(known)
        {
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
        }
        for (to, from) in path.counters.iter_mut().zip(&self.counters) {
            *to = hud_frame_counter {
                pointer: from.pointer,
                offset: from.offset,
            };
        }
        path
    }
}

impl Programs<'_> {
    /// Carries out an order. Returns the stack of the poll that a new worker is asleep in.
    pub(super) fn apply_frames(&mut self, order: FrameOrder) -> Result<Option<Capture>> {
        match order {
            FrameOrder::Paths(paths) => {
                for (index, path) in paths.iter().enumerate().take(MAX_PATHS) {
                    self.set_global(path.to_kernel(), |data| &mut data.frame_paths[index]);
                }
                Ok(None)
            }
            FrameOrder::Adopt(worker) => self.adopt(&worker),
            FrameOrder::Moved { tid, bases } => {
                self.threads.set_frame_bases(tid, &bases);
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_the_limits_is_left_out() {
        let path = FramePath {
            returns: [(1..10).collect(), vec![7], vec![8]],
            counters: vec![
                Counter {
                    pointer: 8,
                    offset: 4
                };
                20
            ],
            ..FramePath::default()
        };
        let kernel = path.to_kernel();
        assert_eq!(kernel.returns, [[1, 2, 3, 4], [7, 0, 0, 0], [8, 0, 0, 0]]);
        assert_eq!(kernel.counter_count as usize, PATH_COUNTERS);
    }
}
