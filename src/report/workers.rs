//! The section on workers: what the threads of each runtime did.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::style::heading;
use super::table::{Align, Cell, Table};
use crate::model::{Role, Worker};
use crate::session::{Snapshot, WorkerView};
use crate::text::{self, count, counted, duration, percent_of};

/// Workers shown of a runtime; if there are more, those with most slow polls.
const WORKERS: usize = 6;

/// Writes the section.
pub fn write(out: &mut String, snap: &Snapshot) -> fmt::Result {
    let mut runtimes: BTreeMap<u32, Vec<&WorkerView>> = BTreeMap::new();
    for view in &snap.workers {
        runtimes.entry(view.worker.runtime).or_default().push(view);
    }
    for (runtime, views) in runtimes {
        let is_worker = |view: &&&WorkerView| view.worker.role == Role::Worker;
        let workers = views.iter().filter(is_worker).count();
        let roots = match views.len() - workers {
            0 => String::new(),
            n => format!(", {}", counted(n, "root future")),
        };
        let title = match views.iter().find(is_worker).map(|view| &view.worker) {
            None => format!("Runtime {runtime}{roots}"),
            Some(Worker {
                flavor: Some(flavor),
                ..
            }) => {
                let workers = counted(workers, "worker");
                format!("Runtime {runtime}: {}, {workers}{roots}", flavor.as_str())
            }
            // Threads of the blocking pool may be among them.
            Some(Worker { thread_name, .. }) => {
                format!("{} named {thread_name}", counted(workers, "thread"))
            }
        };
        heading(out, &title)?;
        let (shown, more) = select(views);
        out.write_str(&table(&shown))?;
        if let Some(more) = more {
            writeln!(out, "{more}")?;
        }
    }
    Ok(())
}

/// The workers of one runtime that are shown, and a line about the others.
fn select(mut views: Vec<&WorkerView>) -> (Vec<&WorkerView>, Option<String>) {
    let more = views.len().saturating_sub(WORKERS);
    if more == 0 {
        return (views, None);
    }
    views.sort_by_key(|v| Reverse((v.slow.held_ns, v.usage.on_cpu_ns)));
    let rest = views.split_off(WORKERS);
    let slow: u64 = rest.iter().map(|v| v.slow.polls).sum();
    let text = format!(
        "and {}, with {}",
        counted(more, "more worker"),
        counted(slow, "slow poll")
    );
    (views, Some(text))
}

fn table(views: &[&WorkerView]) -> String {
    use Align::{Left, Right};
    // Tier 5 cannot tell parked from blocked, and knows nothing of polls.
    let in_tier_5 = |view: &&&WorkerView| view.usage.asleep_ns > 0;
    let in_polls = |view: &&&WorkerView| view.usage.blocked_ns + view.usage.parked_ns > 0;
    let has_asleep = views.iter().any(|view| in_tier_5(&view));
    let has_polls = !has_asleep || views.iter().any(|view| in_polls(&view));
    let mut columns = vec![("worker", Left), ("on CPU", Right), ("run queue", Right)];
    if has_polls {
        columns.extend([("blocked", Right), ("parked", Right)]);
    }
    if has_asleep {
        columns.push(("asleep", Right));
    }
    if has_polls {
        columns.extend([
            ("slow polls", Right),
            ("held", Right),
            ("longest poll", Right),
        ]);
    }
    let mut table = Table::new(columns);
    for view in views {
        let usage = &view.usage;
        let known = usage.known_ns();
        let mut name = text::worker(&view.worker, false);
        if view.gone_ns.is_some() {
            name += " (ended)";
        }
        let of_known = |ns| Cell::from(percent_of(ns, known));
        let mut cells = vec![Cell::from(name)];
        cells.extend([usage.on_cpu_ns, usage.run_queue_ns].map(of_known));
        if has_polls {
            cells.extend([usage.blocked_ns, usage.parked_ns].map(of_known));
        }
        if has_asleep {
            cells.push(of_known(usage.asleep_ns));
        }
        if has_polls {
            cells.extend(
                [
                    count(view.slow.polls),
                    duration(view.slow.held_ns),
                    duration(usage.longest_poll_ns.max(view.slow.max_ns)),
                ]
                .map(Cell::from),
            );
        }
        table.row(cells);
    }
    table.render()
}
