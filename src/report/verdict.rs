//! The answer, before any table: what blocks, how badly, since when, and what to do.

use std::fmt::{self, Write as _};

use super::Layout;
use super::style::{ALARM, BOLD, paint};
use crate::model::Role;
use crate::session::{Row, Snapshot, WorkerView};
use crate::text::{self, WallClock, counted, duration, percent, percent_of, setting};

/// Columns of the culprit's name.
const NAME: usize = 100;

/// Writes the verdict.
pub fn write(out: &mut String, snap: &Snapshot, clock: &WallClock, layout: &Layout) -> fmt::Result {
    if snap.sees_no_polls() {
        let text =
            "Polls could not be observed: what blocks is unknown, only how busy threads were.";
        return writeln!(out, "\n{}", paint(ALARM, text));
    }
    if snap.blocking.polls == 0 && snap.roots.polls > 0 {
        let text = "No code held a worker; a root future was held.";
        return writeln!(out, "\n{}", paint(BOLD, text));
    }
    if snap.blocking.polls == 0 {
        return match snap.running.first() {
            // The section on stuck polls names them.
            Some(_) => {
                let polls = counted(snap.running.len(), "poll");
                let text = format!("STUCK: {polls} had not ended");
                writeln!(out, "\n{}", paint(ALARM, text))
            }
            None => no_slow_polls(out, snap),
        };
    }
    let text = format!(
        "BLOCKING: {} held workers for {} in total, the longest for {}",
        counted(snap.blocking.polls, "slow poll"),
        duration(snap.blocking.held_ns),
        duration(snap.blocking.max_ns)
    );
    writeln!(out, "\n{}", paint(ALARM, text))?;
    // The worst, whatever the order of the table.
    match snap.rows.iter().max_by_key(|row| row.own_ns) {
        Some(row) => worst(out, snap, clock, row, layout),
        None => Ok(()),
    }
}

fn worst(
    out: &mut String,
    snap: &Snapshot,
    clock: &WallClock,
    row: &Row,
    layout: &Layout,
) -> fmt::Result {
    let name = text::path(&text::call(&row.label, row.calls.as_deref()), NAME);
    let when = match row.polls {
        1 => format!("at {}", clock.both(row.first_seen_ns)),
        _ => format!(
            "from {} to {}",
            clock.both(row.first_seen_ns),
            clock.both(row.last_seen_ns)
        ),
    };
    writeln!(
        out,
        "  {}: {} of it ({}), {} {when}",
        paint(BOLD, name),
        percent(snap.share(row)),
        row.cause,
        counted(row.polls, "poll"),
    )?;
    let width = layout.width.map_or(usize::MAX, usize::from);
    for line in text::advice(row.cause).iter().flat_map(|advice| {
        let rows = text::wrap(advice, width.saturating_sub(2));
        rows.into_iter()
    }) {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

/// Distinguishes "nothing was slow" from "nothing could be observed".
fn no_slow_polls(out: &mut String, snap: &Snapshot) -> fmt::Result {
    let threshold = snap.header.as_ref().map_or(0, |h| h.threshold_ns);
    let text = format!(
        "No slow polls: no code held a worker for {} or longer.",
        setting(threshold)
    );
    writeln!(out, "\n{}", paint(BOLD, text))?;
    let mut observed = 0u64;
    let (mut busy, mut known, mut longest) = (0u64, 0u64, 0u64);
    for view in &snap.workers {
        let usage = &view.usage;
        observed = observed.saturating_add(usage.polls_observed);
        longest = longest.max(usage.longest_poll_ns);
        busy = busy
            .saturating_add(usage.on_cpu_ns)
            .saturating_add(usage.blocked_ns);
        known = known.saturating_add(usage.known_ns());
    }
    let is_worker = |view: &&WorkerView| view.worker.role == Role::Worker;
    let workers = counted(snap.workers.iter().filter(is_worker).count(), "worker");
    match (snap.workers.len(), observed) {
        (0, _) => {
            let text = match snap.workers_left_out {
                0 => "No worker was found: the process may have no running runtime.".to_owned(),
                n => format!(
                    "No worker was watched: --workers left out {}.",
                    counted(n, "worker")
                ),
            };
            writeln!(out, "{}", paint(ALARM, text))
        }
        (_, 0) if known == 0 => writeln!(
            out,
            "{workers} found, but nothing was recorded of what they did."
        ),
        (_, 0) if snap.running.is_empty() && snap.not_code.polls == 0 => writeln!(
            out,
            "{workers} watched, and no poll observed: the runtime is idle."
        ),
        (_, 0) => writeln!(out, "{workers} watched, and no poll observed to its end."),
        _ => writeln!(
            out,
            "{workers} watched, {} of the time busy; {} observed, the longest {}.",
            percent_of(busy, known),
            counted(observed, "poll"),
            duration(longest)
        ),
    }
}
