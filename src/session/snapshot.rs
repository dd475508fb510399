//! Snapshots: a session at one moment, as plain data that views are drawn from.
//!
//! Everything large is shared with the session, so taking a snapshot is cheap.

use std::sync::Arc;

use super::bins::{Bins, Slice};
use super::durations::Bar;
use super::key::{Group, Kind, RowKey};
use super::profile::ProfileView;
use super::query::Scope;
use super::tree::CallTree;
use crate::model::{
    Cause, Census, EndReason, Header, Location, Losses, Name, ReleasedBy, SelfCost, SlowPoll, Tier,
    TimeSplit, WeightedStack, Worker, WorkerUsage,
};
use crate::text;

/// A session at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// None before the first record.
    pub header: Option<Arc<Header>>,
    /// The tier in use now.
    pub tier: Option<Tier>,
    pub tier_changes: Vec<TierChange>,
    /// The time that it describes, on `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    pub ended: Option<(EndReason, u64)>,
    pub scope: Scope,
    /// Length of the window, where `scope` is one.
    pub window_ns: Option<u64>,
    pub group: Group,
    pub basis: Basis,
    /// Sums of polls in which code held a worker, of those in which it held a root future, and of
    /// those held up by others.
    pub blocking: Sum,
    pub roots: Sum,
    pub not_code: Sum,
    /// Rows of polls that blame code, sorted as the query asks.
    pub rows: Vec<Arc<Row>>,
    /// Rows of code that held a root future, sorted likewise.
    pub root_rows: Vec<Arc<Row>>,
    /// Rows of polls held up by others (run queue, stopped), sorted likewise.
    pub not_code_rows: Vec<Arc<Row>>,
    /// Details of the first rows, as many as the query asks for.
    pub details: Vec<Arc<Detail>>,
    /// Details of the selected row; none if the table no longer has it.
    pub selected: Option<Arc<Detail>>,
    /// Polls over the threshold that have not ended, longest first.
    pub running: Vec<Arc<SlowPoll>>,
    /// By runtime, then index, then thread id; workers that ended last.
    pub workers: Vec<WorkerView>,
    /// Living workers that [`super::SessionOptions::workers_prefix`] leaves out.
    pub workers_left_out: usize,
    /// Runtimes whose every worker sits in a poll that is over the threshold.
    pub held_runtimes: Vec<u32>,
    /// The newest slow polls, newest first.
    pub recent: Vec<Arc<SlowPoll>>,
    /// Slow polls that overlap [`super::Query::span`], by start.
    pub in_span: Vec<Arc<SlowPoll>>,
    /// The longest slow polls of the whole session, longest first.
    pub longest: Vec<Arc<SlowPoll>>,
    /// Slow polls per second over the last ten seconds.
    pub polls_per_second: f64,
    /// What the session's limits left out.
    pub kept: Kept,
    /// Whether all poll time is being sampled, and for how long it was within the scope.
    pub profiling: bool,
    pub profiled_ns: u64,
    /// All poll time, if the query asks for it. The threshold does not apply to it.
    pub profile: Option<Arc<ProfileView>>,
    pub losses: Losses,
    pub cost: Option<SelfCost>,
    /// hud's cost when it had started.
    pub cost_of_start: Option<SelfCost>,
    /// hud's share of one CPU between the last two readings, BPF programs included: 0 to 1, more
    /// with several threads.
    pub cost_share: Option<f64>,
    /// The last census.
    pub census: Option<Arc<Census>>,
}

/// Which polls the rows include.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// All polls of the scope.
    All,
    /// The polls that were kept whole when the view was opened, and all since. None that ended before
    /// `since_ns`.
    Kept { since_ns: u64 },
}

/// How many polls there were, and how many have no row of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// All slow polls.
    pub polls_seen: u64,
    /// Polls of culprits beyond the table's limit.
    pub polls_of_other_culprits: u64,
}

/// A move to another tier.
#[derive(Clone, Debug, PartialEq)]
pub struct TierChange {
    pub tier: Tier,
    pub at_ns: u64,
    pub why: String,
}

/// Sums over polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub polls: u64,
    pub held_ns: u64,
    pub max_ns: u64,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its identity, by which it stays selected.
    pub key: RowKey,
    pub label: Name,
    /// Of the longest poll, as are `location` and `chain`.
    pub calls: Option<Name>,
    pub location: Option<Location>,
    pub chain: Vec<Name>,
    pub cause: Cause,
    /// Time by cause, largest first.
    pub causes: Vec<(Cause, u64)>,
    pub polls: u64,
    /// Time that the code itself took: on a CPU or blocked. The rest of `total_ns` it waited for a CPU.
    pub own_ns: u64,
    pub total_ns: u64,
    pub max_ns: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    /// Polls in which the cgroup's CPU limit held the thread back.
    pub throttled_polls: u64,
    /// Polls whose CPU the hypervisor or interrupts took.
    pub stolen_polls: u64,
    pub first_seen_ns: u64,
    pub last_seen_ns: u64,
    /// On how many worker threads and tasks it was seen, up to 128 each.
    pub workers: usize,
    pub tasks: usize,
    /// Held time per second; [`Bins::last_until`] aligns it with now.
    pub trend: Bins<u64>,
}

/// Polls of one worker or task in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub polls: u64,
    pub total_ns: u64,
    pub max_ns: u64,
    pub last_seen_ns: u64,
}

impl Tally {
    /// Adds another.
    pub fn merge(&mut self, other: &Tally) {
        self.polls += other.polls;
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        self.last_seen_ns = self.last_seen_ns.max(other.last_seen_ns);
    }
}

/// Code that ended waits of a row's polls.
#[derive(Clone, Debug)]
pub struct Releaser {
    /// The times are waiting times.
    pub tally: Tally,
    /// Of the longest wait.
    pub longest: Arc<ReleasedBy>,
}

/// Everything about one row.
#[derive(Clone, Debug)]
pub struct Detail {
    pub row: Arc<Row>,
    pub split: TimeSplit,
    pub durations: Vec<Bar>,
    /// The heaviest distinct stacks of all polls.
    pub stacks: Vec<WeightedStack>,
    /// All stacks merged, caller to callee.
    pub tree: CallTree,
    /// By thread id, most time first.
    pub workers: Vec<(u32, Tally)>,
    pub other_workers: Tally,
    /// By task id, most time first.
    pub tasks: Vec<(Option<u64>, Tally)>,
    pub other_tasks: Tally,
    /// Who ended the polls' longest waits, most waiting time first.
    pub released_by: Vec<Releaser>,
    /// The last polls, newest first.
    pub last: Vec<Arc<SlowPoll>>,
}

/// One worker at one moment.
#[derive(Clone, Debug)]
pub struct WorkerView {
    pub worker: Worker,
    /// When its thread ended.
    pub gone_ns: Option<u64>,
    /// Since hud attached or the worker was found.
    pub usage: WorkerUsage,
    /// What it did over the last seconds.
    pub now: Slice,
    /// The last seconds in bins of 100 ms, running polls included; [`Bins::last_until`] aligns it with
    /// [`Snapshot::now_ns`].
    pub lane: Bins<Slice>,
    /// The whole session, in bins that get coarser as it lasts.
    pub timeline: Bins<Slice>,
    /// Slow polls of the whole session that blame code.
    pub slow: Sum,
    /// The slow poll that it is in.
    pub running: Option<Arc<SlowPoll>>,
}

impl Detail {
    /// The stack to show first: the heaviest that shows the row's cause, else the heaviest.
    pub fn chief_stack(&self) -> Option<&WeightedStack> {
        let same_cause = |stack: &&WeightedStack| stack.cause == self.row.cause;
        let chief = self.stacks.iter().find(same_cause);
        chief.or_else(|| self.stacks.first())
    }
}

impl Snapshot {
    /// Whether polls cannot be seen now (tier 5), so that no findings mean nothing.
    pub fn sees_no_polls(&self) -> bool {
        self.tier == Some(Tier::Scheduler)
    }

    /// A row's share of the held time of all rows of its kind, 0 to 1.
    pub fn share(&self, row: &Row) -> f64 {
        let all = match row.key.kind() {
            Kind::Worker => self.blocking.held_ns,
            Kind::Root => self.roots.held_ns,
            Kind::Outside => self.not_code.held_ns,
        };
        match all {
            0 => 0.0,
            all => row.total_ns as f64 / all as f64,
        }
    }

    /// How long the session has lasted.
    pub fn elapsed_ns(&self) -> u64 {
        let start = self.header.as_ref().map_or(self.now_ns, |h| h.start_ns);
        let end = self.ended.map_or(self.now_ns, |(_, at)| at);
        end.saturating_sub(start)
    }

    /// Workers whose threads exist.
    pub fn live_workers(&self) -> impl Iterator<Item = &WorkerView> {
        self.workers.iter().filter(|w| w.gone_ns.is_none())
    }

    /// Workers to show: the live ones or, once the target has exited, those that it had then.
    pub fn last_workers(&self) -> Vec<&WorkerView> {
        let living: Vec<_> = self.live_workers().collect();
        let last_gone = self.workers.iter().filter_map(|w| w.gone_ns).max();
        match (living.is_empty() && self.ended.is_some(), last_gone) {
            (true, Some(last)) => {
                // The threads of an exiting process end within a second.
                let from = last.saturating_sub(1_000_000_000);
                let late = |w: &&WorkerView| w.gone_ns.is_some_and(|at| at >= from);
                self.workers.iter().filter(late).collect()
            }
            _ => living,
        }
    }

    /// Whether workers of more than one runtime were found.
    pub fn has_several_runtimes(&self) -> bool {
        self.workers.iter().any(|w| w.worker.runtime != 0)
    }

    /// A worker by its thread id, as [`text::worker`] names it.
    pub fn worker_name(&self, tid: u32) -> String {
        // The living come first, so a thread id that was used again names the newer worker.
        match self.workers.iter().find(|w| w.worker.tid == tid) {
            Some(w) => text::worker(&w.worker, self.has_several_runtimes()),
            None => text::thread(None, tid),
        }
    }

    /// How long a poll has held its worker, up to now if it still runs.
    pub fn held_until_now(&self, poll: &SlowPoll) -> u64 {
        match (poll.running, self.ended) {
            (true, None) => self.now_ns.max(poll.end_ns).saturating_sub(poll.start_ns),
            _ => poll.held_ns(),
        }
    }
}
