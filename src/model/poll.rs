//! Slow polls: which code held which worker, for how long and why, and which thread made it wait.

use std::sync::Arc;

use super::named_enum::named_enum;
use super::{Cause, Frame, Location, Name, WeightedStack};

/// A poll's wall time by what the scheduler did with the thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeSplit {
    pub on_cpu_ns: u64,
    pub run_queue_ns: u64,
    pub blocked_ns: u64,
}

impl TimeSplit {
    /// The wall time.
    pub fn total_ns(self) -> u64 {
        self.on_cpu_ns
            .saturating_add(self.run_queue_ns)
            .saturating_add(self.blocked_ns)
    }
}

/// The code to look at first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Culprit {
    /// The innermost function of the application's own code inside the poll; without one, the
    /// outermost that is not the runtime's.
    pub function: Name,
    /// What it called that held the worker: `bcrypt::hash`, `std::thread::sleep`.
    pub calls: Option<Name>,
    /// Where, if the debug info says.
    pub location: Option<Location>,
    /// The async chain: its callers inside the poll that are not runtime code, from its own caller to
    /// the task's future.
    pub chain: Vec<Name>,
}

named_enum! {
    /// How a thread ended another thread's wait.
    pub enum Release {
        /// It woke the waiters of the futex: unlocked, sent, notified, unparked.
        Futex = "futex",
        /// It ended, and was being joined.
        Exit = "exit",
        /// It used the other end of the pipe, socket or eventfd.
        File = "file",
    }
}

/// The thread of the process that ended a poll's longest wait.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleasedBy {
    /// Kernel thread id.
    pub tid: u32,
    /// The thread's name (`comm`, at most 15 bytes).
    pub thread: Name,
    pub how: Release,
    /// Duration of that wait.
    pub wait_ns: u64,
    /// Where it released the waiter or, if that function has already returned, what it did during
    /// the wait.
    pub culprit: Culprit,
    /// The innermost frames of the stack that shows the culprit, leaf first.
    pub frames: Vec<Arc<Frame>>,
}

named_enum! {
    /// How much of a root future's poll is known: nothing of Tokio's counts its polls.
    pub enum RootPoll {
        /// One poll: a single sleep in it was as long as the threshold.
        OnePoll = "one_poll",
        /// The thread computed without a park in between: in one poll, or in many that followed one
        /// another.
        BusyStretch = "busy_stretch",
    }
}

/// One poll that held its worker, or its root future's thread, for at least the threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct SlowPoll {
    /// Kernel thread id of the worker.
    pub tid: u32,
    /// Tokio's index of the worker in its runtime, where it could be read.
    pub worker: Option<u32>,
    /// [`Worker::runtime`](super::Worker::runtime) of that worker.
    pub runtime: u32,
    /// Tokio's task id. None for the root future of a `current_thread` runtime and where the id is
    /// not known.
    pub task: Option<u64>,
    /// It was no worker's: a root future was polled by `block_on` outside of the scheduler. It held
    /// everything that is joined in that future.
    pub root: Option<RootPoll>,
    pub start_ns: u64,
    /// When it ended; of a running poll, until when it is known to have run.
    pub end_ns: u64,
    /// It has not ended yet.
    pub running: bool,
    /// It ran already when hud attached: `start_ns` is the latest possible start.
    pub began_before_attach: bool,
    pub split: TimeSplit,
    /// The largest cause that blames the code, if those causes alone make the poll slow; otherwise the
    /// largest of the others.
    pub cause: Cause,
    /// Time by cause, largest first.
    pub causes: Vec<(Cause, u64)>,
    pub held_back: HeldBack,
    pub culprit: Culprit,
    /// Heaviest first. Empty if every capture was lost, which [`Losses`](super::Losses) count.
    pub stacks: Vec<WeightedStack>,
    /// Who ended its longest wait, if another thread of the process certainly did.
    pub released_by: Option<Arc<ReleasedBy>>,
}

/// What kept a runnable thread from running, apart from other threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldBack {
    /// The CPU bandwidth limit of its cgroup, at least once.
    pub throttled: bool,
    /// The hypervisor, which ran something else on the CPU, or interrupts, for a millisecond or
    /// more.
    pub stolen: bool,
}

impl HeldBack {
    /// In words, if anything did.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            HeldBack {
                throttled: true, ..
            } => Some("throttled by the cgroup's CPU limit"),
            HeldBack { stolen: true, .. } => {
                Some("the hypervisor or interrupts had taken the CPU away")
            }
            _ => None,
        }
    }
}

impl SlowPoll {
    /// How long it has held its worker.
    pub fn held_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// The stack that stands for most of the poll's time.
    pub fn heaviest(&self) -> Option<&WeightedStack> {
        self.stacks.first()
    }
}
