//! Workers, and where their time goes.

use super::Name;
use super::named_enum::named_enum;

named_enum! {
    /// Tokio's scheduler that a worker belongs to, by Tokio's name for it.
    pub enum Flavor {
        CurrentThread = "current_thread",
        MultiThread = "multi_thread",
    }
}

named_enum! {
    /// What a thread polls.
    #[derive(Default)]
    pub enum Role {
        /// The tasks of a scheduler, and of a `current_thread` runtime the root future as well.
        #[default]
        Worker = "worker",
        /// One root future: the thread called `block_on` of a runtime whose workers are other
        /// threads.
        RootFuture = "root_future",
    }
}

/// A thread that polls tasks or a root future.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    pub tid: u32,
    pub role: Role,
    /// Tokio's index of it in its runtime, where it could be read.
    pub index: Option<u32>,
    /// The runtime, numbered from 0 in the order of discovery.
    pub runtime: u32,
    /// None where it cannot be determined (tier 5): then only its name suggests that it is a worker.
    pub flavor: Option<Flavor>,
    /// The thread's name (`comm`, at most 15 bytes).
    pub thread_name: Name,
}

/// Where a worker's time went since hud attached. Cumulative, so a lost reading costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerUsage {
    pub tid: u32,
    /// When this was read.
    pub at_ns: u64,
    /// On a CPU: polling, scheduling, or driving I/O.
    pub on_cpu_ns: u64,
    /// Runnable, waiting for a CPU.
    pub run_queue_ns: u64,
    /// Asleep inside a poll.
    pub blocked_ns: u64,
    /// Asleep with nothing to do.
    pub parked_ns: u64,
    /// Asleep, inside a poll or not: tier 5 cannot tell.
    pub asleep_ns: u64,
    /// Polls that were seen at a context switch or sample; most short ones never are.
    pub polls_observed: u64,
    /// The longest poll seen, slow or not.
    pub longest_poll_ns: u64,
}

impl WorkerUsage {
    /// All time that is accounted for.
    pub fn known_ns(&self) -> u64 {
        self.on_cpu_ns
            .saturating_add(self.run_queue_ns)
            .saturating_add(self.blocked_ns)
            .saturating_add(self.parked_ns)
            .saturating_add(self.asleep_ns)
    }
}
