//! What a view asks of a session, and the options of a session.

use std::collections::BTreeSet;
use std::time::Duration;

use super::key::{Group, RowKey};
use crate::model::SlowPoll;

/// The limits of a session, fixed when it starts.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Length of a rolling window that is kept beside the totals since the start.
    pub window: Option<Duration>,
    /// Only workers whose thread name begins with this.
    pub workers_prefix: Option<String>,
    /// How many slow polls are kept whole, the newest. Older ones are in the sums.
    pub keep_polls: usize,
    /// How many distinct culprits are kept. Later ones are summed up as "all other culprits".
    pub keep_culprits: usize,
    /// Nodes of all call trees together. Later stacks lose their deepest frames.
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

/// The time that the table covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Everything since the session began or was cleared.
    #[default]
    Session,
    /// [`SessionOptions::window`]; the same as `Session` where there is none.
    Window,
}

/// The column that the table is sorted by: largest or latest first, names alphabetically.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Own,
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
    pub const ALL: [Sort; 10] = [
        Sort::Own,
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

/// Which slow polls count. All but the default is computed from the polls that are kept whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Minimal duration, nanoseconds; no effect below the capture's threshold.
    pub min_held_ns: u64,
    /// Only polls of these worker threads.
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

/// What a snapshot contains.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// The time that the snapshot describes, on `CLOCK_MONOTONIC`. None: the latest time in any record,
    /// which makes the snapshot a function of the records alone.
    pub now_ns: Option<u64>,
    pub scope: Scope,
    pub group: Group,
    pub sort: Sort,
    pub filter: Filter,
    /// How many rows, from the top, get details.
    pub details: usize,
    /// The row that gets details wherever it is.
    pub selected: Option<RowKey>,
    /// How many of the newest slow polls are listed.
    pub recent: usize,
    /// Lists the kept slow polls that overlap this span, nanoseconds.
    pub span: Option<(u64, u64)>,
    /// Include all poll time.
    pub profile: bool,
}
