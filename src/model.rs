//! The vocabulary everything shares: what hud observes and says, as plain data.
//!
//! These types import nothing of hud: not the kernel side, not JSON, not the terminal. A live
//! capture and a replayed trace both produce [`Record`]s of these types, and every view is drawn
//! from them. All times are nanoseconds; points in time are on `CLOCK_MONOTONIC`.

mod cause;
mod census;
mod name;
mod own;
mod poll;
mod stack;

use std::sync::Arc;

pub use cause::Cause;
pub use census::{Census, CensusThread, Duty, HANG_NS, ThreadWait};
pub use name::Name;
pub use own::{Losses, SelfCost};
pub use poll::{Culprit, HeldBack, Release, ReleasedBy, SlowPoll, TimeSplit};
pub use stack::{Activity, CodeAddress, Frame, Location, Origin, WeightedStack};

/// Which of Tokio's schedulers a worker belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flavor {
    CurrentThread,
    MultiThread,
}

impl Flavor {
    /// The name Tokio gives it.
    pub fn as_str(self) -> &'static str {
        match self {
            Flavor::CurrentThread => "current_thread",
            Flavor::MultiThread => "multi_thread",
        }
    }

    /// The flavor of that name.
    pub fn from_name(name: &str) -> Option<Flavor> {
        [Flavor::CurrentThread, Flavor::MultiThread]
            .into_iter()
            .find(|flavor| flavor.as_str() == name)
    }
}

/// A thread that runs tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    pub tid: u32,
    /// Tokio's index of it in its runtime, where it could be read.
    pub index: Option<u32>,
    /// The runtime, numbered from 0 in the order of discovery.
    pub runtime: u32,
    /// None where nothing tells (tier 5): then even that it is a worker is only a guess by its name.
    pub flavor: Option<Flavor>,
    /// The thread's name (`comm`, at most 15 bytes).
    pub thread_name: Name,
}

/// Where a worker's time went since hud attached. Cumulative, so a lost one costs nothing.
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
    /// Asleep, and nothing tells whether inside a poll (tier 5).
    pub asleep_ns: u64,
    /// Polls that were seen at a context switch or sample; most short ones never are.
    pub polls_observed: u64,
    /// The longest poll seen, slow or not.
    pub longest_poll_ns: u64,
}

impl WorkerUsage {
    /// All time that is known.
    pub fn known_ns(&self) -> u64 {
        self.on_cpu_ns
            .saturating_add(self.run_queue_ns)
            .saturating_add(self.blocked_ns)
            .saturating_add(self.parked_ns)
            .saturating_add(self.asleep_ns)
    }
}

/// Where one worker's CPU time inside polls went, slow polls or not: the samples of a second or so.
#[derive(Clone, Debug, PartialEq)]
pub struct PollTime {
    pub tid: u32,
    /// The time that was sampled.
    pub from_ns: u64,
    pub to_ns: u64,
    /// Heaviest first.
    pub stacks: Vec<ProfiledStack>,
}

impl PollTime {
    /// CPU time inside polls.
    pub fn on_cpu_ns(&self) -> u64 {
        let weights = self.stacks.iter().map(|profiled| profiled.stack.weight_ns);
        weights.fold(0, u64::saturating_add)
    }
}

/// One distinct stack of [`PollTime`].
#[derive(Clone, Debug, PartialEq)]
pub struct ProfiledStack {
    /// Its weight is the CPU time that its samples stand for: what the worker used up to each.
    pub stack: WeightedStack,
    /// The code it is put down to, by the same rule as a slow poll's culprit.
    pub function: Name,
    /// What that called, at the time.
    pub calls: Option<Name>,
    pub location: Option<Location>,
}

/// How hud knows where polls begin and end: the best way that this target allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Tier 1: field offsets from the target's own debug info.
    DebugInfo,
    /// Tier 2: Tokio's symbol, with offsets from a version table that the live process confirms.
    VersionTable,
    /// Tier 3: no symbols, but the offsets of the table fit one place in thread-local memory.
    Scan,
    /// Tier 3 as well: no known offsets fit, so they were learnt from what the workers do.
    Learnt,
    /// Tier 4: return addresses on the workers' stacks show where their loops call into polls.
    Frames,
    /// Tier 5: scheduler latency alone.
    Scheduler,
}

impl Tier {
    /// Best first.
    pub const ALL: [Tier; 6] = [
        Tier::DebugInfo,
        Tier::VersionTable,
        Tier::Scan,
        Tier::Learnt,
        Tier::Frames,
        Tier::Scheduler,
    ];

    /// From 1, the best, to 5.
    pub fn number(self) -> u8 {
        match self {
            Tier::DebugInfo => 1,
            Tier::VersionTable => 2,
            Tier::Scan | Tier::Learnt => 3,
            Tier::Frames => 4,
            Tier::Scheduler => 5,
        }
    }

    /// Tier of that number; `learnt` distinguishes the two of number 3.
    pub fn from_number(n: u8, learnt: bool) -> Option<Tier> {
        let is_it =
            |tier: &Tier| tier.number() == n && (*tier == Tier::Learnt) == (learnt && n == 3);
        Tier::ALL.into_iter().find(is_it)
    }

    /// What it rests on, in a few words.
    pub fn describe(self) -> &'static str {
        match self {
            Tier::DebugInfo => "exact polls, layout from debug info",
            Tier::VersionTable => "exact polls, layout from the version table, checked live",
            Tier::Scan => "exact polls, layout found by shape",
            Tier::Learnt => "exact polls, layout learnt from what the workers do",
            Tier::Frames => "polls known by the workers' stacks alone",
            Tier::Scheduler => "scheduler latency only",
        }
    }
}

/// What was recorded, and how: the first record of every session.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub hud_version: String,
    pub pid: u32,
    /// The process's name (`comm`).
    pub process: String,
    /// The command line, arguments separated by spaces.
    pub command: String,
    /// Path of the executable.
    pub executable: String,
    /// Tokio's version, where the binary says.
    pub tokio_version: Option<String>,
    pub tier: Tier,
    pub threshold_ns: u64,
    /// When hud attached, on `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// The same moment as Unix time.
    pub start_unix_ns: u64,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// `--duration` is over.
    Duration,
    /// Ctrl+C, SIGTERM, SIGHUP or `q`.
    Interrupted,
    /// The target exited.
    TargetExited,
}

impl EndReason {
    /// The name used in the trace.
    pub fn as_str(self) -> &'static str {
        match self {
            EndReason::Duration => "duration",
            EndReason::Interrupted => "interrupted",
            EndReason::TargetExited => "target_exited",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<EndReason> {
        [
            EndReason::Duration,
            EndReason::Interrupted,
            EndReason::TargetExited,
        ]
        .into_iter()
        .find(|reason| reason.as_str() == name)
    }
}

/// One thing that happened. A session is the fold of its records, live or replayed.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Always first.
    Header(Box<Header>),
    /// A worker was found, or more became known of it.
    Worker(Worker),
    /// A worker's thread ended.
    WorkerGone {
        tid: u32,
        at_ns: u64,
    },
    /// A poll ended that held its worker for the threshold or longer.
    SlowPoll(Arc<SlowPoll>),
    /// A poll over the threshold that has not ended: replaces the previous one of that thread.
    Running(Arc<SlowPoll>),
    Usage(WorkerUsage),
    /// All poll time was switched on or off.
    AllPollTime {
        on: bool,
        at_ns: u64,
    },
    /// Samples of all poll time, while it is on: at most one of these a worker and second.
    PollTime(Arc<PollTime>),
    Losses(Losses),
    Cost(SelfCost),
    /// Poll tracking moved to another tier, or could not leave it, and why. What ran then is not
    /// followed to its end.
    TierChanged {
        tier: Tier,
        at_ns: u64,
        why: String,
    },
    /// Every thread of the process, as the user asked to see them or as a hang was left.
    Census(Arc<Census>),
    /// Always last, unless the recording was cut short.
    End {
        reason: EndReason,
        at_ns: u64,
    },
}
