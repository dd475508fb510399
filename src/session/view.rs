//! The table for a grouping or filter other than the default, which no table of the session holds.

use super::key::Group;
use super::query::{Filter, Query, Scope, SessionOptions};
use super::snapshot::Basis;
use super::table::{Limits, Table};
use super::{Session, window_ns};
use crate::model::SlowPoll;

/// Such a table, updated from when a query first asked for it.
#[derive(Clone, Debug)]
pub struct View {
    group: Group,
    filter: Filter,
    scope: Scope,
    pub basis: Basis,
    pub table: Table,
}

impl View {
    /// Adds a poll, if the filter admits it.
    pub fn add(&mut self, poll: &SlowPoll, now_ns: u64) {
        if self.filter.admits(poll) {
            self.table.advance(now_ns);
            self.table.add(poll);
        }
    }
}

impl Session {
    /// Makes the view that the query asks for, unless it exists or the query needs none.
    pub(super) fn prepare_view(&mut self, query: &Query, scope: Scope) {
        // A filter below the captured threshold hides nothing.
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
        let (table, basis) = match (regrouped, self.polls.incomplete_since_ns()) {
            (Some(table), _) => (table, Basis::All),
            (None, since_ns) => {
                let mut table = new_table(&self.options, query.group, scope);
                let polls = self.polls.newest().filter(|poll| filter.admits(poll));
                polls.for_each(|poll| table.add(poll));
                let basis = since_ns.map_or(Basis::All, |since_ns| Basis::Kept { since_ns });
                (table, basis)
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
}

/// An empty table within the session's bounds.
pub fn new_table(options: &SessionOptions, group: Group, scope: Scope) -> Table {
    let limits = Limits {
        rows: options.keep_culprits,
        tree_nodes: options.keep_tree_nodes,
    };
    Table::new(group, window_ns(options, scope), limits)
}
