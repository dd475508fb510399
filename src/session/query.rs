//! What a view asks of a session.

use std::collections::BTreeSet;
use std::time::Duration;

use super::key::{Group, RowKey};
use crate::model::SlowPoll;

/// What a session keeps, fixed when it starts.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Keep a rolling window of this length beside the totals since the start.
    pub window: Option<Duration>,
    /// Only workers whose thread name begins with this.
    pub workers_prefix: Option<String>,
    /// Slow polls that are kept whole, newest first; older ones live on in the totals.
    pub keep_polls: usize,
    /// Culprits told apart; later ones are put together as "all other culprits".
    pub keep_culprits: usize,
    /// Nodes of all call trees together; stacks that come later lose their deepest frames.
    pub keep_tree_nodes: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            window: None,
            workers_prefix: None,
            keep_polls: 10_000,
            keep_culprits: 10_000,
            keep_tree_nodes: 200_000,
        }
    }
}

/// Which time the table covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Everything since the session began (or was cleared).
    #[default]
    Session,
    /// [`SessionOptions::window`]; the same as `Session` where there is none.
    Window,
}

/// The column the table is sorted by, largest (or latest) first; names in alphabetical order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Total,
    Polls,
    Max,
    P50,
    P99,
    LastSeen,
    Name,
    Cause,
    Location,
}

impl Sort {
    /// In the order of the columns.
    pub const ALL: [Sort; 9] = [
        Sort::Total,
        Sort::Polls,
        Sort::Max,
        Sort::P50,
        Sort::P99,
        Sort::LastSeen,
        Sort::Name,
        Sort::Cause,
        Sort::Location,
    ];
}

/// Which slow polls count. Anything but the default is answered from the polls kept whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// At least this long; below the capture's threshold it changes nothing.
    pub min_held_ns: u64,
    /// Only of these worker threads.
    pub workers: Option<BTreeSet<u32>>,
}

impl Filter {
    /// Whether a poll counts.
    pub fn admits(&self, poll: &SlowPoll) -> bool {
        poll.held_ns() >= self.min_held_ns
            && self
                .workers
                .as_ref()
                .is_none_or(|set| set.contains(&poll.tid))
    }
}

/// What to put into a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// The moment the view is drawn for, on `CLOCK_MONOTONIC`. None: the latest moment any record
    /// speaks of, which makes the snapshot a function of the records alone.
    pub now_ns: Option<u64>,
    pub scope: Scope,
    pub group: Group,
    pub sort: Sort,
    pub filter: Filter,
    /// Details of the first rows of the table, this many.
    pub details: usize,
    /// Details of this row, wherever it stands.
    pub selected: Option<RowKey>,
    /// The newest slow polls, this many.
    pub recent: usize,
    /// Slow polls kept whole that overlap this span (nanoseconds), for the timeline.
    pub span: Option<(u64, u64)>,
    /// All poll time.
    pub profile: bool,
}
