//! One row of the table: sums over its polls.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bins::{Bins, Overflow};
use super::durations::Durations;
use super::key::RowKey;
use super::releasers::Releasers;
use super::snapshot::{Detail, Row, Tally};
use super::tree::CallTree;
use crate::model::{Cause, Location, Name, SlowPoll, TimeSplit};

/// Width and number of the bins of a trend: the last minute.
pub const TREND_BIN_NS: u64 = 1_000_000_000;
pub const TREND_BINS: usize = 60;

/// Distinct workers and tasks per row; more are summed up together.
const TALLIES: usize = 128;
/// Distinct stacks that a detail lists; the tree has all of them.
const DETAIL_STACKS: usize = 10;
/// Nodes of one row's call tree.
const TREE_NODES: usize = 4_000;

/// The sums behind a row.
#[derive(Clone, Debug)]
pub struct Aggregate {
    key: RowKey,
    polls: u64,
    total_ns: u64,
    max_ns: u64,
    throttled: u64,
    stolen: u64,
    first_seen_ns: u64,
    last_seen_ns: u64,
    causes: BTreeMap<Cause, u64>,
    split: TimeSplit,
    durations: Durations,
    trend: Bins<u64>,
    workers: Tallies<u32>,
    tasks: Tallies<Option<u64>>,
    tree: CallTree,
    releasers: Releasers,
    /// Of the longest poll.
    calls: Option<Name>,
    location: Option<Location>,
    chain: Vec<Name>,
    /// Cached until the next change.
    row: Option<Arc<Row>>,
    detail: Option<Arc<Detail>>,
}

/// A bounded map of tallies.
#[derive(Clone, Debug)]
struct Tallies<K> {
    known: BTreeMap<K, Tally>,
    others: Tally,
}

impl<K: Ord + Copy> Tallies<K> {
    fn add(&mut self, key: K, tally: &Tally) {
        if self.known.len() < TALLIES || self.known.contains_key(&key) {
            self.known.entry(key).or_default().merge(tally);
        } else {
            self.others.merge(tally);
        }
    }

    fn merge(&mut self, other: &Tallies<K>) {
        for (key, tally) in &other.known {
            self.add(*key, tally);
        }
        self.others.merge(&other.others);
    }

    /// Most time first.
    fn sorted(&self) -> Vec<(K, Tally)> {
        let mut all: Vec<_> = self.known.iter().map(|(k, t)| (*k, *t)).collect();
        all.sort_by_key(|(key, tally)| (std::cmp::Reverse(tally.total_ns), *key));
        all
    }
}

impl<K> Default for Tallies<K> {
    fn default() -> Self {
        Tallies {
            known: BTreeMap::new(),
            others: Tally::default(),
        }
    }
}

impl Aggregate {
    /// An empty row.
    pub fn new(key: RowKey) -> Self {
        Aggregate {
            key,
            polls: 0,
            total_ns: 0,
            max_ns: 0,
            throttled: 0,
            stolen: 0,
            first_seen_ns: u64::MAX,
            last_seen_ns: 0,
            causes: BTreeMap::new(),
            split: TimeSplit::default(),
            durations: Durations::default(),
            trend: Bins::new(TREND_BIN_NS, TREND_BINS, Overflow::DropOldest),
            workers: Tallies::default(),
            tasks: Tallies::default(),
            tree: CallTree::default(),
            releasers: Releasers::default(),
            calls: None,
            location: None,
            chain: Vec::new(),
            row: None,
            detail: None,
        }
    }

    /// Adds a poll. `room` is how many tree nodes the table may still add.
    pub fn add(&mut self, poll: &SlowPoll, room: &mut usize) {
        let held = poll.held_ns();
        if held >= self.max_ns || self.polls == 0 {
            self.calls.clone_from(&poll.culprit.calls);
            self.location.clone_from(&poll.culprit.location);
            self.chain.clone_from(&poll.culprit.chain);
        }
        self.polls += 1;
        self.total_ns = self.total_ns.saturating_add(held);
        self.max_ns = self.max_ns.max(held);
        self.throttled += u64::from(poll.held_back.throttled);
        self.stolen += u64::from(poll.held_back.stolen);
        self.first_seen_ns = self.first_seen_ns.min(poll.start_ns);
        self.last_seen_ns = self.last_seen_ns.max(poll.end_ns);
        for (cause, ns) in &poll.causes {
            add_to(self.causes.entry(*cause).or_default(), *ns);
        }
        self.add_split(&poll.split);
        self.durations.record(held);
        self.trend
            .spread(poll.start_ns, poll.end_ns, |bin, from, to| {
                add_to(bin, to - from);
            });
        let tally = Tally {
            polls: 1,
            total_ns: held,
            max_ns: held,
            last_seen_ns: poll.end_ns,
        };
        self.workers.add(poll.tid, &tally);
        self.tasks.add(poll.task, &tally);
        self.releasers.add(poll);
        self.grow_tree(room, |tree, room| {
            poll.stacks.iter().for_each(|stack| tree.add(stack, room));
        });
        self.row = None;
        self.detail = None;
    }

    /// Adds the sums of the same row elsewhere, or of a finer one.
    pub fn merge(&mut self, other: &Aggregate, room: &mut usize) {
        if other.max_ns >= self.max_ns || self.polls == 0 {
            self.calls.clone_from(&other.calls);
            self.location.clone_from(&other.location);
            self.chain.clone_from(&other.chain);
        }
        self.polls += other.polls;
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        self.throttled += other.throttled;
        self.stolen += other.stolen;
        self.first_seen_ns = self.first_seen_ns.min(other.first_seen_ns);
        self.last_seen_ns = self.last_seen_ns.max(other.last_seen_ns);
        for (cause, ns) in &other.causes {
            add_to(self.causes.entry(*cause).or_default(), *ns);
        }
        self.add_split(&other.split);
        self.durations.merge(&other.durations);
        for (i, ns) in other.trend.iter().enumerate() {
            let at = other.trend.start_ns() + i as u64 * TREND_BIN_NS;
            if *ns > 0 {
                self.trend.spread(at, at + 1, |bin, _, _| add_to(bin, *ns));
            }
        }
        self.workers.merge(&other.workers);
        self.tasks.merge(&other.tasks);
        self.releasers.merge(&other.releasers);
        self.grow_tree(room, |tree, room| tree.merge(&other.tree, room));
        self.row = None;
        self.detail = None;
    }

    fn add_split(&mut self, split: &TimeSplit) {
        add_to(&mut self.split.on_cpu_ns, split.on_cpu_ns);
        add_to(&mut self.split.run_queue_ns, split.run_queue_ns);
        add_to(&mut self.split.blocked_ns, split.blocked_ns);
    }

    /// Grows the tree within its own limit and the table's.
    fn grow_tree(&mut self, room: &mut usize, grow: impl FnOnce(&mut CallTree, &mut usize)) {
        let mut left = TREE_NODES.saturating_sub(self.tree.len()).min(*room);
        let before = left;
        grow(&mut self.tree, &mut left);
        *room -= before - left;
    }

    /// What the row stands for.
    pub fn key(&self) -> &RowKey {
        &self.key
    }

    /// How many tree nodes it has.
    pub fn tree_nodes(&self) -> usize {
        self.tree.len()
    }

    pub fn polls(&self) -> u64 {
        self.polls
    }

    pub fn total_ns(&self) -> u64 {
        self.total_ns
    }

    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The row as views show it, cached until the next change.
    pub fn row(&mut self) -> Arc<Row> {
        if let Some(row) = &self.row {
            return row.clone();
        }
        let causes = self.causes_by_time();
        let cause = match &self.key {
            RowKey::Culprit(key) => key.cause,
            RowKey::Cause(cause, _) => *cause,
            // Waits that were imposed on the code do not explain why it blocks.
            key => causes
                .iter()
                .find(|(cause, _)| cause.blames_code() == key.kind().blames_code())
                .map_or(Cause::Unknown, |(cause, _)| *cause),
        };
        let row = Arc::new(Row {
            key: self.key.clone(),
            label: self.key.label(),
            calls: self.calls.clone(),
            location: self.location.clone(),
            chain: self.chain.clone(),
            cause,
            causes,
            polls: self.polls,
            own_ns: self.split.on_cpu_ns.saturating_add(self.split.blocked_ns),
            total_ns: self.total_ns,
            max_ns: self.max_ns,
            p50_ns: self.durations.quantile(0.5).min(self.max_ns),
            p99_ns: self.durations.quantile(0.99).min(self.max_ns),
            throttled_polls: self.throttled,
            stolen_polls: self.stolen,
            first_seen_ns: self.first_seen_ns,
            last_seen_ns: self.last_seen_ns,
            workers: self.workers.known.len(),
            tasks: self.tasks.known.len(),
            trend: self.trend.clone(),
        });
        self.row = Some(row.clone());
        row
    }

    /// All details of the row, cached until the next change. `last` returns its last polls.
    pub fn detail(&mut self, last: impl FnOnce(&RowKey) -> Vec<Arc<SlowPoll>>) -> Arc<Detail> {
        if let Some(detail) = &self.detail {
            return detail.clone();
        }
        let detail = Arc::new(Detail {
            row: self.row(),
            split: self.split,
            durations: self.durations.bars(),
            stacks: self.tree.heaviest_stacks(DETAIL_STACKS),
            tree: self.tree.clone(),
            workers: self.workers.sorted(),
            other_workers: self.workers.others,
            tasks: self.tasks.sorted(),
            other_tasks: self.tasks.others,
            released_by: self.releasers.sorted(),
            last: last(&self.key),
        });
        self.detail = Some(detail.clone());
        detail
    }

    fn causes_by_time(&self) -> Vec<(Cause, u64)> {
        let mut causes: Vec<_> = self.causes.iter().map(|(c, ns)| (*c, *ns)).collect();
        causes.sort_by_key(|(cause, ns)| (std::cmp::Reverse(*ns), *cause));
        causes
    }
}

fn add_to(sum: &mut u64, ns: u64) {
    *sum = sum.saturating_add(ns);
}
