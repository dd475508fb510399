//! The verdict in one line: whether something blocks, what, how badly, and since when.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::session::Snapshot;
use crate::text;
use crate::tui::widgets::canvas::Canvas;

/// All workers in slow polls at once for this long is an alarm. Shorter coincidences are common on a
/// busy runtime and would make the alarm flicker.
const ALARM_NS: u64 = 100_000_000;

/// Draws the verdict into one row. While nothing is known, that is `status`: what hud is busy with.
pub fn draw(c: &mut Canvas, area: Rect, status: Option<&str>) {
    let held = held(c.snap);
    if held >= ALARM_NS {
        let line = all_held(c, held);
        c.row(area, 0, line);
        c.style_row(area, 0, c.theme.alarm());
        return;
    }
    let line = if c.snap.blocking.polls + c.snap.roots.polls > 0 {
        blocking(c, usize::from(area.width))
    } else if let Some(status) = status {
        let status = text::cut(status, usize::from(area.width).saturating_sub(3));
        Line::from(Span::styled(format!(" … {status}"), c.theme.warn()))
    } else {
        healthy(c)
    };
    c.row(area, 0, line);
}

/// For how long all workers of a runtime have been held, the longest over the runtimes; 0 if none.
fn held(snap: &Snapshot) -> u64 {
    let held = |runtime: &u32| {
        let polls = snap.running.iter().filter(|p| p.runtime == *runtime);
        polls.map(|p| snap.held_until_now(p)).min().unwrap_or(0)
    };
    snap.held_runtimes.iter().map(held).max().unwrap_or(0)
}

fn all_held(c: &Canvas, held: u64) -> Line<'static> {
    let snap = c.snap;
    let which = match (snap.has_several_runtimes(), snap.held_runtimes.as_slice()) {
        (false, _) => String::new(),
        (true, [one]) => format!(" of {}", text::runtime(*one)),
        (true, many) => format!(" of {} runtimes", many.len()),
    };
    Line::from(format!(
        " ✖ ALL WORKERS{which} HELD for {}: nothing else is polled",
        text::running(held)
    ))
}

fn blocking(c: &Canvas, width: usize) -> Line<'static> {
    let (snap, theme) = (c.snap, c.theme);
    // The verdict names what held most, whatever the order of the table.
    let Some(worst) = snap.rows.iter().max_by_key(|row| row.own_ns) else {
        return Line::default();
    };
    let calls = worst.calls.as_deref();
    let whole = text::width(&worst.label) + calls.map_or(0, |calls| text::width(calls) + 3);
    let ago = snap.now_ns.saturating_sub(worst.last_seen_ns);
    let facts = [
        format!(": {} of held time", text::percent(snap.share(worst))),
        format!(", up to {}", text::duration(worst.max_ns)),
        format!(", {}", worst.cause),
        match ago / 1_000_000_000 {
            0 => ", just now".to_owned(),
            _ => format!(", last {} ago", text::duration(ago)),
        },
        format!(", since {}", since(snap, worst.first_seen_ns)),
    ];
    // The names keep at least 40 columns; facts without room beside them are left out.
    let mut line = vec![Span::styled(" ● BLOCKING ", theme.alarm()), Span::raw(" ")];
    let mut room = width.saturating_sub(13 + whole.min(40));
    let mut kept = String::new();
    for fact in facts {
        let Some(left) = room.checked_sub(text::width(&fact)) else {
            break;
        };
        room = left;
        kept.push_str(&fact);
    }
    let for_name = width.saturating_sub(13 + text::width(&kept));
    let (function, calls) = text::fit_call(&worst.label, calls, for_name);
    line.push(Span::styled(function, theme.strong()));
    line.push(Span::raw(calls));
    line.push(Span::raw(kept));
    Line::from(line)
}

/// A moment as time since the start.
fn since(snap: &Snapshot, at_ns: u64) -> String {
    let start = snap.header.as_ref().map_or(at_ns, |h| h.start_ns);
    text::elapsed(at_ns.saturating_sub(start))
}

/// Nothing blocks: says so, with the figures that show that hud can see polls.
fn healthy(c: &Canvas) -> Line<'static> {
    let (snap, theme) = (c.snap, c.theme);
    if snap.live_workers().next().is_none() && snap.workers.is_empty() {
        let text = match snap.workers_left_out {
            0 => " … no worker found yet; looking for the runtime's threads".to_owned(),
            n => format!(" … no worker is watched: --workers leaves out all {n}"),
        };
        return Line::from(Span::styled(text, theme.dim()));
    }
    let (mut polls, mut longest, mut busy, mut known) = (0u64, 0u64, 0u64, 0u64);
    for worker in &snap.workers {
        polls = polls.saturating_add(worker.usage.polls_observed);
        longest = longest.max(worker.usage.longest_poll_ns);
        let now = worker.now;
        busy = busy.saturating_add(now.busy_ns());
        known = known.saturating_add(now.known_ns());
    }
    let busy = text::percent(text::share(busy, known));
    if snap.sees_no_polls() {
        let text = " ? Polls cannot be observed, nor what blocks";
        let rest = format!(": threads are on a CPU or wait for one {busy} of the time.");
        return Line::from(vec![Span::styled(text, theme.warn()), Span::raw(rest)]);
    }
    let threshold = snap.header.as_ref().map_or(0, |h| h.threshold_ns);
    Line::from(vec![
        Span::styled(" ✔ Nothing blocks", theme.good().patch(theme.strong())),
        Span::raw(format!(": no poll over {}", text::setting(threshold))),
        Span::raw(format!(
            ". Longest {}, {} observed, workers {busy} busy.",
            text::duration(longest),
            text::counted(polls, "poll"),
        )),
    ])
}
