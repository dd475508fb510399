//! The session: folds records into the state that views query.
//!
//! A [`Session`] knows neither where its records come from, live or replayed, nor what draws it:
//! views get [`Snapshot`]s. Its memory is bounded however long it runs:
//!
//! - the newest slow polls ([`SessionOptions::keep_polls`]) and the 256 longest are kept whole;
//! - all polls are summed up in the rows of a table: counts, times, distribution, causes, workers,
//!   tasks and one merged call tree each;
//! - rows, tree nodes, tallies and workers are limited; what exceeds a limit is added to an explicit
//!   rest (`Other` row, `other_tasks`, [`CallTree::cut_ns`]), so nothing is dropped silently;
//! - all poll time is summed up by worker and code, with call trees (`profile`);
//! - polls leave a rolling window in steps of a twentieth of it, or of a quarter of a second.

mod aggregate;
mod bins;
mod census;
mod durations;
mod kept;
mod key;
mod profile;
mod query;
mod releasers;
mod snapshot;
mod table;
mod take_snapshot;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tree;
mod view;
mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::kept::KeptPolls;
use self::profile::Profile;
use self::table::Table;
use self::view::{View, new_table};
use self::workers::Workers;
use crate::model::{Census, EndReason, Header, Losses, Record, SelfCost, SlowPoll, Tier};

pub use self::aggregate::{TREND_BIN_NS, TREND_BINS};
pub use self::bins::{Bins, Merge, Overflow, Slice};
pub use self::census::{RowKind, census_rows};
pub use self::durations::Bar;
pub use self::key::{CulpritKey, Group, Kind, RowKey};
pub use self::profile::{ProfileView, SpotKey, SpotRow};
pub use self::query::{Filter, Query, Scope, SessionOptions, Sort};
pub use self::snapshot::{
    Basis, Detail, Kept, Releaser, Row, Snapshot, Sum, Tally, TierChange, WorkerView,
};
pub use self::tree::{CallTree, Leaf, Node, ROOT};

/// How many tier changes are kept, the newest.
const KEEP_TIER_CHANGES: usize = 64;
/// The period over which the rate of slow polls is computed.
const RATE_NS: u64 = 10_000_000_000;

/// Everything known about one recording.
#[derive(Clone, Debug)]
pub struct Session {
    options: SessionOptions,
    header: Option<Arc<Header>>,
    tier: Option<Tier>,
    tier_changes: Vec<TierChange>,
    ended: Option<(EndReason, u64)>,
    /// The latest time in any record.
    latest_ns: u64,
    workers: Workers,
    running: BTreeMap<u32, Arc<SlowPoll>>,
    polls: KeptPolls,
    losses: Losses,
    cost: Option<SelfCost>,
    /// The first reading of the cost.
    cost_of_start: Option<SelfCost>,
    /// hud's share of one CPU between the last two readings.
    cost_share: Option<f64>,
    census: Option<Arc<Census>>,
    all: Table,
    window: Option<Table>,
    profile: Profile,
    view: Option<View>,
    revision: u64,
}

impl Session {
    /// A session without records.
    pub fn new(options: SessionOptions) -> Self {
        Session {
            header: None,
            tier: None,
            tier_changes: Vec::new(),
            ended: None,
            latest_ns: 0,
            workers: Workers::new(options.workers_prefix.clone()),
            running: BTreeMap::new(),
            polls: KeptPolls::new(options.keep_polls),
            losses: Losses::default(),
            cost: None,
            cost_of_start: None,
            cost_share: None,
            census: None,
            all: new_table(&options, Group::Culprit, Scope::Session),
            window: options
                .window
                .map(|_| new_table(&options, Group::Culprit, Scope::Window)),
            profile: Profile::new(window_ns(&options, Scope::Window)),
            view: None,
            revision: 0,
            options,
        }
    }

    /// Applies a record.
    pub fn apply(&mut self, record: &Record) {
        self.revision += 1;
        match record {
            Record::Header(header) => {
                self.latest_ns = self.latest_ns.max(header.start_ns);
                self.tier.get_or_insert(header.tier);
                self.header = Some(Arc::new((**header).clone()));
            }
            Record::Worker(worker) => self.workers.found(worker),
            Record::WorkerGone { tid, at_ns } => {
                self.advance_to(*at_ns);
                self.running.remove(tid);
                self.workers.gone(*tid, *at_ns);
            }
            Record::SlowPoll(poll) => {
                if self.workers.is_ours(poll.tid) {
                    self.running.remove(&poll.tid);
                    self.add(poll);
                }
            }
            Record::Running(poll) => {
                if self.workers.is_ours(poll.tid) {
                    self.advance_to(poll.end_ns);
                    self.running.insert(poll.tid, poll.clone());
                }
            }
            Record::Usage(usage) => {
                self.advance_to(usage.at_ns);
                self.workers.usage(usage);
            }
            Record::AllPollTime { on, at_ns } => {
                self.advance_to(*at_ns);
                self.profile.switch(*on, *at_ns);
            }
            Record::PollTime(time) => {
                self.advance_to(time.to_ns);
                if self.workers.is_ours(time.tid) {
                    self.profile.add(time);
                }
            }
            Record::Losses(losses) => self.losses = *losses,
            Record::Cost(cost) => {
                self.advance_to(cost.at_ns);
                self.cost_share = self.cost.and_then(|before| cost.share_since(&before));
                self.cost = Some(*cost);
                self.cost_of_start.get_or_insert(*cost);
            }
            Record::TierChanged { tier, at_ns, why } => {
                self.advance_to(*at_ns);
                self.tier = Some(*tier);
                // The end of running polls is never reported.
                self.running.clear();
                if self.tier_changes.len() == KEEP_TIER_CHANGES {
                    self.tier_changes.remove(0);
                }
                self.tier_changes.push(TierChange {
                    tier: *tier,
                    at_ns: *at_ns,
                    why: why.clone(),
                });
            }
            Record::Census(census) => {
                self.advance_to(census.at_ns);
                self.census = Some(census.clone());
            }
            Record::End { reason, at_ns } => {
                self.advance_to(*at_ns);
                self.ended = Some((*reason, *at_ns));
                self.profile.switch(false, *at_ns);
                // A poll that never ended held its worker nonetheless.
                for poll in self.running.values().cloned().collect::<Vec<_>>() {
                    self.add(&poll);
                }
            }
        }
    }

    /// Grows with every change, so a view is up to date while this is unchanged.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether all poll time is being sampled.
    pub fn is_profiling(&self) -> bool {
        self.profile.is_on()
    }

    /// The kept state as records from which a trace can be written: the header, the workers with
    /// their usage, the tier changes, the slow polls that are kept whole, and the end.
    pub fn kept_records(&self) -> Vec<Record> {
        let header = self
            .header
            .iter()
            .map(|h| Record::Header(Box::new((**h).clone())));
        let whole = self.polls.in_span((0, u64::MAX)).into_iter();
        // The end of the session has added them to the others.
        let running = self.running.values().filter(|_| self.ended.is_none());
        let running = running.cloned();
        let tier_changes = self.tier_changes.iter().cloned();
        let tier_changes = tier_changes
            .map(|TierChange { tier, at_ns, why }| Record::TierChanged { tier, at_ns, why });
        let (reason, at_ns) = self
            .ended
            .unwrap_or((EndReason::Interrupted, self.latest_ns));
        header
            .chain(self.workers.records())
            // Before the running polls, which a tier change drops.
            .chain(tier_changes)
            .chain(whole.map(Record::SlowPoll))
            .chain(running.map(Record::Running))
            .chain(self.profile.records(self.latest_ns))
            .chain([Record::Losses(self.losses)])
            .chain(self.cost_of_start.map(Record::Cost))
            .chain(self.cost.map(Record::Cost))
            .chain(self.census.clone().map(Record::Census))
            .chain([Record::End { reason, at_ns }])
            .collect()
    }

    /// Discards the slow polls and the samples of all poll time. Workers, losses and header stay.
    pub fn clear(&mut self) {
        self.revision += 1;
        self.polls.clear();
        self.workers.clear();
        self.all = new_table(&self.options, Group::Culprit, Scope::Session);
        if self.window.is_some() {
            self.window = Some(new_table(&self.options, Group::Culprit, Scope::Window));
        }
        self.profile.clear(self.latest_ns);
        self.view = None;
    }

    fn advance_to(&mut self, at_ns: u64) {
        self.latest_ns = self.latest_ns.max(at_ns);
    }

    fn add(&mut self, poll: &Arc<SlowPoll>) {
        self.advance_to(poll.end_ns);
        self.workers.slow_poll(poll);
        self.all.add(poll);
        if let Some(window) = &mut self.window {
            window.advance(self.latest_ns);
            window.add(poll);
        }
        if let Some(view) = &mut self.view {
            view.add(poll, self.latest_ns);
        }
        self.polls.add(poll);
    }

    /// Slow polls per second over the last ten seconds, or since the start.
    fn rate(&self, now_ns: u64) -> f64 {
        let start = self.header.as_ref().map_or(0, |h| h.start_ns);
        let span = now_ns.saturating_sub(start).min(RATE_NS);
        let count = self.polls.ended_since(now_ns.saturating_sub(span));
        match span {
            0 => 0.0,
            span => count as f64 * 1e9 / span as f64,
        }
    }
}

fn window_ns(options: &SessionOptions, scope: Scope) -> Option<u64> {
    let window = options.window.filter(|_| scope == Scope::Window)?;
    Some(u64::try_from(window.as_nanos()).unwrap_or(u64::MAX))
}
