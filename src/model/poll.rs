//! A slow poll: what held which worker, for how long and why, and who made it wait.

use std::sync::Arc;

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
    /// The innermost function of the user's own code inside the poll; where there is none, the
    /// outermost that is not the runtime's.
    pub function: Name,
    /// What it called that held the worker: `bcrypt::hash`, `std::thread::sleep`.
    pub calls: Option<Name>,
    /// Where, if the debug info says.
    pub location: Option<Location>,
    /// The async chain above it: its callers inside the poll that are not runtime code, from the
    /// culprit's own caller up to the task's future.
    pub chain: Vec<Name>,
}

/// How a thread ended another's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Release {
    /// It woke the waiters of the futex: unlocked, sent, notified, unparked.
    Futex,
    /// It ended, and was being joined.
    Exit,
    /// It used the other end of the pipe, socket or eventfd.
    File,
}

impl Release {
    const ALL: [Release; 3] = [Release::Futex, Release::Exit, Release::File];

    /// The name used in the trace.
    pub fn as_str(self) -> &'static str {
        match self {
            Release::Futex => "futex",
            Release::Exit => "exit",
            Release::File => "file",
        }
    }

    /// The way of that name.
    pub fn from_name(name: &str) -> Option<Release> {
        Release::ALL.into_iter().find(|how| how.as_str() == name)
    }
}

/// The other side of a poll's longest wait: the thread of the process that ended it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleasedBy {
    /// Kernel thread id.
    pub tid: u32,
    /// The thread's name (`comm`, at most 15 bytes).
    pub thread: Name,
    pub how: Release,
    /// How long the wait was that it ended.
    pub wait_ns: u64,
    /// What that thread was doing: where it let go or, if that has left the stack by then, what it
    /// did while it was waited for.
    pub culprit: Culprit,
    /// The stack that shows it, leaf first: the innermost frames of it.
    pub frames: Vec<Arc<Frame>>,
}

/// One poll that held its worker for at least the threshold.
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
    pub start_ns: u64,
    /// When it ended or, while it runs, up to when it is known to have run.
    pub end_ns: u64,
    /// It has not ended yet.
    pub running: bool,
    /// It was under way when hud attached: `start_ns` is the latest it can have started.
    pub began_before_attach: bool,
    pub split: TimeSplit,
    /// The largest cause of those the code itself is to blame for, if they alone make the poll slow;
    /// otherwise the largest of the others.
    pub cause: Cause,
    /// Time by cause, largest first.
    pub causes: Vec<(Cause, u64)>,
    pub held_back: HeldBack,
    pub culprit: Culprit,
    /// Heaviest first. Empty when every capture was lost (which is counted).
    pub stacks: Vec<WeightedStack>,
    /// Who ended its longest wait, where another thread of the process did and that is certain.
    pub released_by: Option<Arc<ReleasedBy>>,
}

/// What kept a thread that could run from running, beside the threads that had the CPU.
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
