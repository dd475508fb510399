//! What views are drawn from: a session at one moment, as plain data.
//!
//! Everything large is shared with the session, so that taking one costs little.

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
    /// None until the first record came.
    pub header: Option<Arc<Header>>,
    /// The tier in use now.
    pub tier: Option<Tier>,
    pub tier_changes: Vec<TierChange>,
    /// The moment this is a picture of, on `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    pub ended: Option<(EndReason, u64)>,
    pub scope: Scope,
    /// Length of the window, where `scope` is one.
    pub window_ns: Option<u64>,
    pub group: Group,
    pub basis: Basis,
    /// Polls in which code held a worker, those in which it held a root future, and those held up
    /// from outside.
    pub blocking: Sum,
    pub roots: Sum,
    pub not_code: Sum,
    /// Rows of blocking code, sorted as asked.
    pub rows: Vec<Arc<Row>>,
    /// Rows of code that held a root future, sorted likewise.
    pub root_rows: Vec<Arc<Row>>,
    /// Rows of polls that were held up from outside (run queue, stopped), sorted likewise.
    pub not_code_rows: Vec<Arc<Row>>,
    /// Details of the first rows, as many as were asked for.
    pub details: Vec<Arc<Detail>>,
    /// Details of the selected row; none where it has left the table.
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
    /// Slow polls that began in the last ten seconds, a second.
    pub polls_per_second: f64,
    /// Everything that was kept whole and everything that is only in the sums.
    pub kept: Kept,
    /// All poll time is being sampled, and how long it was within the scope.
    pub profiling: bool,
    pub profiled_ns: u64,
    /// All poll time, where it was asked for; the view's threshold does not narrow it.
    pub profile: Option<Arc<ProfileView>>,
    pub losses: Losses,
    pub cost: Option<SelfCost>,
    /// What hud had cost when it began to tell findings with names.
    pub cost_of_start: Option<SelfCost>,
    /// hud's part of one CPU between the last two readings, BPF programs included, 0 to 1 (more
    /// with several threads).
    pub cost_share: Option<f64>,
    /// The last census.
    pub census: Option<Arc<Census>>,
}

/// Which polls the rows add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// All of the scope.
    All,
    /// Those that were still kept whole when the view was opened, and all since: none that ended
    /// before `since_ns`.
    Kept { since_ns: u64 },
}

/// Bounds in effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Slow polls seen in all.
    pub polls_seen: u64,
    /// Polls of culprits that came after the table was full.
    pub polls_of_other_culprits: u64,
}

/// A move to another tier.
#[derive(Clone, Debug, PartialEq)]
pub struct TierChange {
    pub tier: Tier,
    pub at_ns: u64,
    pub why: String,
}

/// Polls added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub polls: u64,
    pub held_ns: u64,
    pub max_ns: u64,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What to remember a selection by.
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
    pub total_ns: u64,
    pub max_ns: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    /// Polls in which the cgroup's CPU limit held the thread back.
    pub throttled_polls: u64,
    /// Polls whose CPU the hypervisor or interrupts took away.
    pub stolen_polls: u64,
    pub first_seen_ns: u64,
    pub last_seen_ns: u64,
    /// How many worker threads and tasks it was seen on (up to 128 each).
    pub workers: usize,
    pub tasks: usize,
    /// Held time by the second; [`Bins::last_until`] aligns it with now.
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
    /// Times are those that were waited.
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
    /// The heaviest distinct stacks, all polls merged.
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
    /// Since hud attached (or since the worker was found).
    pub usage: WorkerUsage,
    /// What it did over the last seconds.
    pub now: Slice,
    /// The last seconds in fine bins (100 ms), up to [`Snapshot::now_ns`] by [`Bins::last_until`].
    /// Polls that still run are in it.
    pub lane: Bins<Slice>,
    /// The whole session in coarser and coarser bins.
    pub timeline: Bins<Slice>,
    /// Slow polls that blame code, in the whole session.
    pub slow: Sum,
    /// The poll it is stuck in.
    pub running: Option<Arc<SlowPoll>>,
}

impl Snapshot {
    /// Whether nothing tells polls now (tier 5): then silence says nothing.
    pub fn sees_no_polls(&self) -> bool {
        self.tier == Some(Tier::Scheduler)
    }

    /// A row's part of all time that code of its kind held workers, 0 to 1.
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

    /// Workers whose threads live.
    pub fn live_workers(&self) -> impl Iterator<Item = &WorkerView> {
        self.workers.iter().filter(|w| w.gone_ns.is_none())
    }

    /// Workers to show: the living, or once the target has exited, those it had at its end.
    pub fn last_workers(&self) -> Vec<&WorkerView> {
        let living: Vec<_> = self.live_workers().collect();
        let last_gone = self.workers.iter().filter_map(|w| w.gone_ns).max();
        match (living.is_empty() && self.ended.is_some(), last_gone) {
            (true, Some(last)) => {
                // Threads of an exiting process end within moments of one another.
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
