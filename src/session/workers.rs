//! The workers of a session and their usage over time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::bins::{Bins, Overflow, Slice};
use super::snapshot::{Sum, WorkerView};
use crate::model::{Record, SlowPoll, Worker, WorkerUsage};

/// Bins of a lane, which covers the last half minute.
const LANE_BIN_NS: u64 = 100_000_000;
const LANE_BINS: usize = 300;
/// Bins of the timeline, at first as fine as those of a lane.
const TIMELINE_BINS: usize = 512;
/// How many of a lane's last bins [`WorkerView::now`] sums up.
const NOW_BINS: usize = 20;
/// How many ended workers and how many live ones are kept.
const KEEP_GONE: usize = 256;
const KEEP_LIVE: usize = 4096;

/// All workers in the records.
#[derive(Clone, Debug, Default)]
pub struct Workers {
    live: BTreeMap<u32, State>,
    gone: VecDeque<State>,
    /// Threads that `--workers` leaves out.
    excluded: BTreeSet<u32>,
    prefix: Option<String>,
}

#[derive(Clone, Debug)]
struct State {
    worker: Worker,
    gone_ns: Option<u64>,
    usage: WorkerUsage,
    lane: Bins<Slice>,
    timeline: Bins<Slice>,
    slow: Sum,
}

impl Workers {
    /// No workers. With a prefix, only those count whose thread name begins with it.
    pub fn new(prefix: Option<String>) -> Self {
        Workers {
            prefix,
            ..Workers::default()
        }
    }

    /// A worker was found, or more is known about it.
    pub fn found(&mut self, worker: &Worker) {
        let ours = |prefix: &String| worker.thread_name.starts_with(prefix.as_str());
        if !self.prefix.as_ref().is_none_or(ours) {
            if self.excluded.len() < KEEP_LIVE {
                self.excluded.insert(worker.tid);
            }
            self.live.remove(&worker.tid);
            return;
        }
        self.excluded.remove(&worker.tid);
        let full = self.live.len() >= KEEP_LIVE;
        match self.live.get_mut(&worker.tid) {
            Some(state) => state.worker.clone_from(worker),
            None if full => {}
            None => {
                self.live.insert(worker.tid, State::new(worker.clone()));
            }
        }
    }

    /// Whether records about this thread count. Those of an unknown thread do: the record of its
    /// worker may arrive later.
    pub fn is_ours(&self, tid: u32) -> bool {
        !self.excluded.contains(&tid)
    }

    /// How many live workers the prefix excludes.
    pub fn left_out(&self) -> usize {
        self.excluded.len()
    }

    /// The workers and their last usage as records. Ended ones first, since a thread id may have been
    /// reused.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.gone
            .iter()
            .chain(self.live.values())
            .flat_map(|state| {
                let tid = state.worker.tid;
                let gone = state.gone_ns.map(|at_ns| Record::WorkerGone { tid, at_ns });
                let found = [
                    Record::Worker(state.worker.clone()),
                    Record::Usage(state.usage),
                ];
                found.into_iter().chain(gone)
            })
    }

    /// A worker's thread ended.
    pub fn gone(&mut self, tid: u32, at_ns: u64) {
        self.excluded.remove(&tid);
        if let Some(mut state) = self.live.remove(&tid) {
            state.gone_ns = Some(at_ns);
            self.gone.push_back(state);
            if self.gone.len() > KEEP_GONE {
                self.gone.pop_front();
            }
        }
    }

    /// A new reading of a worker's cumulative counters.
    pub fn usage(&mut self, usage: &WorkerUsage) {
        if let Some(state) = self.live.get_mut(&usage.tid) {
            state.add_usage(usage);
        }
    }

    /// A slow poll ended on a worker.
    pub fn slow_poll(&mut self, poll: &SlowPoll) {
        if let Some(state) = self.live.get_mut(&poll.tid) {
            state.slow_poll(poll);
        }
    }

    /// Discards ended workers and the sums of slow polls.
    pub fn clear(&mut self) {
        self.gone.clear();
        for state in self.live.values_mut() {
            state.slow = Sum::default();
        }
    }

    /// Each worker at `now_ns`, with the slow poll that it has not ended, if `running` has one.
    pub fn views(&self, now_ns: u64, running: &BTreeMap<u32, Arc<SlowPoll>>) -> Vec<WorkerView> {
        let mut views: Vec<WorkerView> = Vec::with_capacity(self.live.len() + self.gone.len());
        for state in self.live.values().chain(&self.gone) {
            let stuck = running
                .get(&state.worker.tid)
                .filter(|_| state.gone_ns.is_none());
            let mut state = state.clone();
            if let Some(poll) = stuck {
                state.add_slow(poll, now_ns.max(poll.end_ns));
            }
            views.push(WorkerView {
                now: state.recent(),
                worker: state.worker,
                gone_ns: state.gone_ns,
                usage: state.usage,
                lane: state.lane,
                timeline: state.timeline,
                slow: state.slow,
                running: stuck.cloned(),
            });
        }
        views.sort_by_key(|v| {
            let w = &v.worker;
            (
                v.gone_ns.is_some(),
                w.runtime,
                w.index.unwrap_or(u32::MAX),
                w.tid,
            )
        });
        views
    }
}

impl State {
    fn new(worker: Worker) -> State {
        State {
            usage: WorkerUsage {
                tid: worker.tid,
                ..WorkerUsage::default()
            },
            worker,
            gone_ns: None,
            lane: Bins::new(LANE_BIN_NS, LANE_BINS, Overflow::DropOldest),
            timeline: Bins::new(LANE_BIN_NS, TIMELINE_BINS, Overflow::Coarsen),
            slow: Sum::default(),
        }
    }

    fn add_usage(&mut self, usage: &WorkerUsage) {
        let old = self.usage;
        let delta = Slice {
            on_cpu_ns: usage.on_cpu_ns.saturating_sub(old.on_cpu_ns),
            run_queue_ns: usage.run_queue_ns.saturating_sub(old.run_queue_ns),
            blocked_ns: usage.blocked_ns.saturating_sub(old.blocked_ns),
            parked_ns: usage.parked_ns.saturating_sub(old.parked_ns),
            asleep_ns: usage.asleep_ns.saturating_sub(old.asleep_ns),
            ..Slice::default()
        };
        // The first reading covers the time since hud found the worker.
        let from = match old.at_ns {
            0 => usage.at_ns.saturating_sub(delta.known_ns()),
            at => at,
        };
        self.usage = *usage;
        for bins in [&mut self.lane, &mut self.timeline] {
            let span = usage.at_ns.saturating_sub(from).max(1);
            bins.spread(from, usage.at_ns, |bin, a, b| {
                // Differences of cumulative shares, so that the parts add up to the whole.
                let upto = |ns: u64, t: u64| {
                    (u128::from(ns) * u128::from(t - from) / u128::from(span)) as u64
                };
                let part = |ns: u64| upto(ns, b) - upto(ns, a);
                for (sum, ns) in [
                    (&mut bin.on_cpu_ns, delta.on_cpu_ns),
                    (&mut bin.run_queue_ns, delta.run_queue_ns),
                    (&mut bin.blocked_ns, delta.blocked_ns),
                    (&mut bin.parked_ns, delta.parked_ns),
                    (&mut bin.asleep_ns, delta.asleep_ns),
                ] {
                    *sum = sum.saturating_add(part(ns));
                }
            });
        }
    }

    fn slow_poll(&mut self, poll: &SlowPoll) {
        if poll.cause.blames_code() {
            self.slow.add(poll.held_ns());
        }
        self.add_slow(poll, poll.end_ns);
    }

    fn add_slow(&mut self, poll: &SlowPoll, until_ns: u64) {
        for bins in [&mut self.lane, &mut self.timeline] {
            bins.spread(poll.start_ns, until_ns, |bin, from, to| {
                bin.add_slow(poll.cause, to - from);
            });
        }
    }

    /// The sum of the last non-empty bins.
    fn recent(&self) -> Slice {
        use super::bins::Merge;
        let mut sum = Slice::default();
        let known = self.lane.iter().rev().filter(|bin| bin.known_ns() > 0);
        known.take(NOW_BINS).for_each(|bin| sum.merge(bin));
        sum
    }
}

impl Sum {
    /// Adds one poll.
    pub fn add(&mut self, held_ns: u64) {
        self.polls += 1;
        self.held_ns = self.held_ns.saturating_add(held_ns);
        self.max_ns = self.max_ns.max(held_ns);
    }
}
