//! The session: records folded into what views ask for.
//!
//! A [`Session`] neither knows where its records come from, live or replayed, nor what draws it:
//! views get [`Snapshot`]s. Its memory is bounded however long it runs:
//!
//! - the newest slow polls are kept whole ([`SessionOptions::keep_polls`]), and the 256 longest;
//! - all others live on in the rows of the table: counts, sums, distribution, causes, workers,
//!   tasks and one merged call tree each;
//! - rows, tree nodes, tallies and workers have bounds of their own; what goes beyond is added to
//!   an explicit rest (`Other` row, `other_tasks`, [`CallTree::cut_ns`]) and never dropped in
//!   silence;
//! - all poll time lives on in sums and call trees by worker and code (`profile`);
//! - with a window, polls leave it a twentieth of the window (or a quarter of a second) at a time.

mod aggregate;
mod bins;
mod census;
mod durations;
mod key;
mod picture;
mod profile;
mod query;
mod releasers;
mod snapshot;
mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tree;
mod workers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use self::profile::Profile;
use self::table::{Limits, Table};
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

/// The longest polls of the session that are kept whole.
const KEEP_LONGEST: usize = 256;
/// Tier changes that are remembered, the newest.
const KEEP_TIER_CHANGES: usize = 64;
/// The rate of slow polls is taken over this long.
const RATE_NS: u64 = 10_000_000_000;

/// All that is known of one recording.
#[derive(Clone, Debug)]
pub struct Session {
    options: SessionOptions,
    header: Option<Arc<Header>>,
    tier: Option<Tier>,
    tier_changes: Vec<TierChange>,
    ended: Option<(EndReason, u64)>,
    /// The latest moment a record spoke of.
    latest_ns: u64,
    workers: Workers,
    running: BTreeMap<u32, Arc<SlowPoll>>,
    recent: VecDeque<Arc<SlowPoll>>,
    longest: Vec<Arc<SlowPoll>>,
    polls_seen: u64,
    losses: Losses,
    cost: Option<SelfCost>,
    /// The first reading.
    cost_of_start: Option<SelfCost>,
    /// hud's part of one CPU between the last two readings.
    cost_share: Option<f64>,
    census: Option<Arc<Census>>,
    all: Table,
    window: Option<Table>,
    profile: Profile,
    view: Option<View>,
    revision: u64,
}

/// A table for a grouping or a filter that is not the default, kept up from when it was asked for.
#[derive(Clone, Debug)]
struct View {
    group: Group,
    filter: Filter,
    scope: Scope,
    basis: Basis,
    table: Table,
}

impl Session {
    /// Nothing has happened yet.
    pub fn new(options: SessionOptions) -> Self {
        Session {
            header: None,
            tier: None,
            tier_changes: Vec::new(),
            ended: None,
            latest_ns: 0,
            workers: Workers::new(options.workers_prefix.clone()),
            running: BTreeMap::new(),
            recent: VecDeque::new(),
            longest: Vec::new(),
            polls_seen: 0,
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

    /// Takes in what happened.
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
                self.saw(*at_ns);
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
                    self.saw(poll.end_ns);
                    self.running.insert(poll.tid, poll.clone());
                }
            }
            Record::Usage(usage) => {
                self.saw(usage.at_ns);
                self.workers.usage(usage);
            }
            Record::AllPollTime { on, at_ns } => {
                self.saw(*at_ns);
                self.profile.switch(*on, *at_ns);
            }
            Record::PollTime(time) => {
                self.saw(time.to_ns);
                if self.workers.is_ours(time.tid) {
                    self.profile.add(time);
                }
            }
            Record::Losses(losses) => self.losses = *losses,
            Record::Cost(cost) => {
                self.saw(cost.at_ns);
                self.cost_share = self.cost.and_then(|before| cost.share_since(&before));
                self.cost = Some(*cost);
                self.cost_of_start.get_or_insert(*cost);
            }
            Record::TierChanged { tier, at_ns, why } => {
                self.saw(*at_ns);
                self.tier = Some(*tier);
                // What was under way is not followed to its end.
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
                self.saw(census.at_ns);
                self.census = Some(census.clone());
            }
            Record::End { reason, at_ns } => {
                self.saw(*at_ns);
                self.ended = Some((*reason, *at_ns));
                self.profile.switch(false, *at_ns);
                // What never ended held its worker all the same.
                for poll in self.running.values().cloned().collect::<Vec<_>>() {
                    self.add(&poll);
                }
            }
        }
    }

    /// Grows with every change: nothing needs drawing while it stays.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether all poll time is being sampled.
    pub fn is_profiling(&self) -> bool {
        self.profile.is_on()
    }

    /// What is kept, as records: the header (if there is one), the workers with their usage, the
    /// tier changes, the slow polls kept whole, and the end, so that a trace of it replays.
    pub fn kept_records(&self) -> Vec<Record> {
        let header = self
            .header
            .iter()
            .map(|h| Record::Header(Box::new((**h).clone())));
        let whole = self.in_span((0, u64::MAX)).into_iter();
        let running = self.running.values().cloned();
        let tier_changes = self.tier_changes.iter().cloned();
        let tier_changes = tier_changes
            .map(|TierChange { tier, at_ns, why }| Record::TierChanged { tier, at_ns, why });
        let (reason, at_ns) = self
            .ended
            .unwrap_or((EndReason::Interrupted, self.latest_ns));
        header
            .chain(self.workers.records())
            // Before the polls that run: a change of tier ends those.
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

    /// Forgets the slow polls and the samples of all poll time so far; workers, losses and the header stay.
    pub fn clear(&mut self) {
        self.revision += 1;
        self.recent.clear();
        self.longest.clear();
        self.polls_seen = 0;
        self.workers.clear();
        self.all = new_table(&self.options, Group::Culprit, Scope::Session);
        if self.window.is_some() {
            self.window = Some(new_table(&self.options, Group::Culprit, Scope::Window));
        }
        self.profile.clear(self.latest_ns);
        self.view = None;
    }

    fn saw(&mut self, at_ns: u64) {
        self.latest_ns = self.latest_ns.max(at_ns);
    }

    fn add(&mut self, poll: &Arc<SlowPoll>) {
        self.saw(poll.end_ns);
        self.polls_seen += 1;
        self.workers.slow_poll(poll);
        self.all.add(poll);
        if let Some(window) = &mut self.window {
            window.advance(self.latest_ns);
            window.add(poll);
        }
        if let Some(view) = &mut self.view
            && view.filter.admits(poll)
        {
            view.table.advance(self.latest_ns);
            view.table.add(poll);
        }
        self.recent.push_back(poll.clone());
        if self.recent.len() > self.options.keep_polls {
            self.recent.pop_front();
        }
        let held = poll.held_ns();
        let at = self.longest.partition_point(|p| p.held_ns() >= held);
        if at < KEEP_LONGEST {
            self.longest.insert(at, poll.clone());
            self.longest.truncate(KEEP_LONGEST);
        }
    }

    /// Makes the table for a grouping or filter that is not the default, unless it is there.
    fn prepare_view(&mut self, query: &Query, scope: Scope) {
        // A view threshold below the captured one hides nothing.
        let captured = self.header.as_ref().map_or(0, |h| h.threshold_ns);
        let mut filter = query.filter.clone();
        if filter.min_held_ns <= captured {
            filter.min_held_ns = 0;
        }
        if query.group == Group::Culprit && filter == Filter::default() {
            self.view = None;
            return;
        }
        let same =
            |view: &View| (view.group, view.scope) == (query.group, scope) && view.filter == filter;
        if self.view.as_ref().is_some_and(same) {
            return;
        }
        let whole = match (&self.window, scope) {
            (Some(window), Scope::Window) => window,
            _ => &self.all,
        };
        let regrouped = match filter == Filter::default() {
            true => whole.regroup(query.group),
            false => None,
        };
        let (table, basis) = match regrouped {
            Some(table) => (table, Basis::All),
            None => {
                let mut table = new_table(&self.options, query.group, scope);
                let polls = self.recent.iter().filter(|poll| filter.admits(poll));
                polls.for_each(|poll| table.add(poll));
                let complete = self.polls_seen == self.recent.len() as u64;
                let since_ns = self.recent.front().map_or(0, |poll| poll.end_ns);
                match complete {
                    true => (table, Basis::All),
                    false => (table, Basis::Kept { since_ns }),
                }
            }
        };
        self.view = Some(View {
            group: query.group,
            filter,
            scope,
            basis,
            table,
        });
    }

    /// The slow polls that overlap a span.
    fn in_span(&self, (from_ns, to_ns): (u64, u64)) -> Vec<Arc<SlowPoll>> {
        let overlaps = |p: &&Arc<SlowPoll>| p.start_ns < to_ns && p.end_ns > from_ns;
        let mut polls: Vec<_> = self.recent.iter().filter(overlaps).cloned().collect();
        // The longest are kept beyond the recent ones.
        if self.polls_seen > self.recent.len() as u64 {
            let known: BTreeSet<_> = polls.iter().map(Arc::as_ptr).collect();
            let older = self.longest.iter().filter(overlaps);
            let older: Vec<_> = older
                .filter(|poll| !known.contains(&Arc::as_ptr(poll)))
                .cloned()
                .collect();
            polls.extend(older);
        }
        polls.sort_by_key(|poll| (poll.start_ns, poll.tid));
        polls
    }

    /// Slow polls that ended in the last ten seconds (or since the start), a second.
    fn rate(&self, now_ns: u64) -> f64 {
        let start = self.header.as_ref().map_or(0, |h| h.start_ns);
        let span = now_ns.saturating_sub(start).min(RATE_NS);
        let from = now_ns.saturating_sub(span);
        // Polls arrive nearly in the order of their ends.
        let polls = self.recent.iter().rev();
        let count = polls.take_while(|poll| poll.end_ns >= from).count();
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

fn new_table(options: &SessionOptions, group: Group, scope: Scope) -> Table {
    let limits = Limits {
        rows: options.keep_culprits,
        tree_nodes: options.keep_tree_nodes,
    };
    Table::new(group, window_ns(options, scope), limits)
}
