//! Takes the snapshot of a session that a view asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::aggregate::Aggregate;
use super::{
    Basis, Kept, Kind, Query, Row, RowKey, Scope, Session, Snapshot, Sort, Sum, WorkerView,
    window_ns,
};
use crate::model::{Role, SlowPoll};

/// How many last polls a detail lists.
const DETAIL_POLLS: usize = 50;

impl Session {
    /// The session as the query asks for it. Cheap if nothing changed; mutates caches only.
    pub fn snapshot(&mut self, query: &Query) -> Snapshot {
        let now_ns = query.now_ns.unwrap_or(self.latest_ns);
        let scope = match self.window {
            Some(_) => query.scope,
            None => Scope::Session,
        };
        self.prepare_view(query, scope);
        let (table, basis) = match (&mut self.view, &mut self.window, scope) {
            (Some(view), _, _) => (&mut view.table, view.basis),
            (None, Some(window), Scope::Window) => (window, Basis::All),
            _ => (&mut self.all, Basis::All),
        };
        table.advance(now_ns);

        let mut kept = Kept {
            polls_seen: self.polls.seen(),
            polls_of_other_culprits: 0,
        };
        let (mut blocking, mut roots, mut not_code) =
            (Sum::default(), Sum::default(), Sum::default());
        let (mut rows, mut root_rows, mut not_code_rows) = (Vec::new(), Vec::new(), Vec::new());
        for aggregate in table.rows_mut() {
            let (sum, rows) = match aggregate.key().kind() {
                Kind::Worker => (&mut blocking, &mut rows),
                Kind::Root => (&mut roots, &mut root_rows),
                Kind::Outside => (&mut not_code, &mut not_code_rows),
            };
            add_row(sum, aggregate);
            if let RowKey::Other(_) = aggregate.key() {
                kept.polls_of_other_culprits += aggregate.polls();
            }
            rows.push(aggregate.row());
        }
        sort_rows(&mut rows, query.sort);
        sort_rows(&mut root_rows, query.sort);
        sort_rows(&mut not_code_rows, query.sort);

        let polls = &self.polls;
        let last = |key: &RowKey| -> Vec<Arc<SlowPoll>> {
            let matching = polls.newest().rev().filter(|poll| key.matches(poll));
            matching.take(DETAIL_POLLS).cloned().collect()
        };
        let mut detail = |key: &RowKey| table.get_mut(key).map(|row| row.detail(last));
        let details = rows.iter().take(query.details);
        let details = details.chain(root_rows.iter().take(query.details));
        let details = details.filter_map(|row| detail(&row.key)).collect();
        let selected = query.selected.as_ref().and_then(detail);

        let mut running: Vec<_> = self.running.values().cloned().collect();
        running.sort_by_key(|poll| (poll.start_ns, poll.tid));
        let window = window_ns(&self.options, scope);
        let since_ns = window.map_or(0, |ns| now_ns.saturating_sub(ns));
        let profile = query.profile.then(|| {
            let chosen = query.filter.workers.as_ref();
            self.profile.view(window.is_some(), chosen, now_ns)
        });
        let workers = self.workers.views(now_ns, &self.running);
        Snapshot {
            header: self.header.clone(),
            tier: self.tier,
            tier_changes: self.tier_changes.clone(),
            now_ns,
            ended: self.ended,
            scope,
            window_ns: window,
            group: query.group,
            basis,
            blocking,
            roots,
            not_code,
            rows,
            root_rows,
            not_code_rows,
            details,
            selected,
            running,
            held_runtimes: held_runtimes(&workers),
            workers,
            workers_left_out: self.workers.left_out(),
            recent: self
                .polls
                .newest()
                .rev()
                .take(query.recent)
                .cloned()
                .collect(),
            in_span: query
                .span
                .map_or_else(Vec::new, |span| self.polls.in_span(span)),
            longest: self.polls.longest().to_vec(),
            polls_per_second: self.rate(now_ns),
            kept,
            profiling: self.profile.is_on(),
            profiled_ns: self.profile.sampled_ns(since_ns, now_ns),
            profile,
            losses: self.losses,
            cost: self.cost,
            cost_of_start: self.cost_of_start,
            cost_share: self.cost_share,
            census: self.census.clone(),
        }
    }
}

fn add_row(sum: &mut Sum, row: &Aggregate) {
    sum.polls += row.polls();
    sum.held_ns = sum.held_ns.saturating_add(row.total_ns());
    sum.max_ns = sum.max_ns.max(row.max_ns());
}

/// Sorts by the column, then by total and key, so that equal rows keep their order.
fn sort_rows(rows: &mut [Arc<Row>], sort: Sort) {
    rows.sort_unstable_by(|a, b| {
        let column = match sort {
            Sort::Own => b.own_ns.cmp(&a.own_ns),
            Sort::Total => b.total_ns.cmp(&a.total_ns),
            Sort::Polls => b.polls.cmp(&a.polls),
            Sort::Max => b.max_ns.cmp(&a.max_ns),
            Sort::P50 => b.p50_ns.cmp(&a.p50_ns),
            Sort::P99 => b.p99_ns.cmp(&a.p99_ns),
            Sort::LastSeen => b.last_seen_ns.cmp(&a.last_seen_ns),
            Sort::Name => a.label.cmp(&b.label),
            Sort::Cause => a.cause.cmp(&b.cause),
            // Rows without location last.
            Sort::Location => {
                (a.location.is_none(), &a.location).cmp(&(b.location.is_none(), &b.location))
            }
        };
        column
            .then_with(|| b.total_ns.cmp(&a.total_ns))
            .then_with(|| a.key.cmp(&b.key))
    });
}

/// Runtimes whose workers all sit in a running slow poll.
fn held_runtimes(workers: &[WorkerView]) -> Vec<u32> {
    let mut held: BTreeMap<u32, bool> = BTreeMap::new();
    let is_worker = |view: &&WorkerView| view.worker.role == Role::Worker;
    let living = workers.iter().filter(|view| view.gone_ns.is_none());
    for view in living.filter(is_worker) {
        *held.entry(view.worker.runtime).or_insert(true) &= view.running.is_some();
    }
    let all_held = held.into_iter().filter(|(_, held)| *held);
    all_held.map(|(runtime, _)| runtime).collect()
}
