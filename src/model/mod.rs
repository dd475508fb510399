//! The vocabulary that all modules share: what hud observes and reports, as plain data.
//!
//! Imports nothing of hud: not the kernel side, not JSON, not the terminal. A live capture and a
//! replayed trace both produce [`Record`]s of these types, and every view is drawn from them. All
//! times are nanoseconds; points in time are on `CLOCK_MONOTONIC`.

mod cause;
mod census;
mod name;
mod named_enum;
mod own;
mod poll;
mod poll_time;
mod session;
mod stack;
mod worker;

use std::sync::Arc;

pub use cause::Cause;
pub use census::{Census, CensusThread, Duty, HANG_NS, ThreadWait};
pub use name::Name;
pub use own::{Losses, SelfCost};
pub use poll::{Culprit, HeldBack, Release, ReleasedBy, RootPoll, SlowPoll, TimeSplit};
pub use poll_time::{PollTime, ProfiledStack};
pub use session::{EndReason, Header, Tier};
pub use stack::{Activity, CodeAddress, Frame, Location, OUTSIDE_FUNCTIONS, Origin, WeightedStack};
pub use worker::{Flavor, Role, Worker, WorkerUsage};

/// One event of a session. A session is the fold of its records, live or replayed.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Always first.
    Header(Box<Header>),
    /// A worker was found, or more is known about it.
    Worker(Worker),
    /// A worker's thread ended.
    WorkerGone {
        tid: u32,
        at_ns: u64,
    },
    /// A poll ended that held its worker for the threshold or longer.
    SlowPoll(Arc<SlowPoll>),
    /// A poll over the threshold that has not ended. Replaces the previous one of that thread.
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
    /// Poll tracking moved to another tier, or failed to leave its tier. The end of polls that ran
    /// at that moment is never reported.
    TierChanged {
        tier: Tier,
        at_ns: u64,
        why: String,
    },
    /// Every thread of the process, on the user's request or when hud ends during a hang.
    Census(Arc<Census>),
    /// Always last, unless the recording was cut short.
    End {
        reason: EndReason,
        at_ns: u64,
    },
}
