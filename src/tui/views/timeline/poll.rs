//! One slow poll: where and when it ran, how its time splits, and its heaviest stack.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::model::{ReleasedBy, SlowPoll};
use crate::text;
use crate::tui::widgets::canvas::Canvas;
use crate::tui::widgets::row::RowText;
use crate::tui::widgets::stack;
use crate::tui::widgets::theme::Lane;

/// Rows it asks for.
pub const HEIGHT: u16 = 14;

/// Draws the poll. Its moment is given relative to `start_ns`.
pub fn draw(c: &mut Canvas, area: Rect, poll: &SlowPoll, start_ns: u64) {
    if area.height == 0 {
        return;
    }
    let width = usize::from(area.width);
    let task = text::task(poll.task);
    let held = c.snap.held_until_now(poll);
    let least = if poll.began_before_attach {
        "at least "
    } else {
        ""
    };
    let running = if poll.running { ", still running" } else { "" };
    let note = format!(
        "{least}{} on {}, {task}, from {}{running}",
        text::duration(held),
        c.snap.worker_name(poll.tid),
        text::moment(poll.start_ns.saturating_sub(start_ns)),
    );
    c.heading(area, 0, "Slow poll", &note);
    let mut line = RowText::default();
    line.push(format!(" {} ", poll.cause), c.theme.cause(poll.cause));
    let culprit = &poll.culprit;
    let room = width.saturating_sub(line.used());
    let (function, calls) = text::fit_call(&culprit.function, culprit.calls.as_deref(), room);
    line.push(function, c.theme.strong());
    line.push(calls, Style::new());
    c.row(area, 1, line.line());
    split(c, area, poll);
    let Some(stack) = poll.heaviest() else {
        c.row(
            area,
            3,
            Span::styled(" no stack was captured", c.theme.dim()),
        );
        return;
    };
    let from = match &poll.released_by {
        None => 3,
        Some(by) => {
            c.row(area, 3, released_by(c, by, width));
            4
        }
    };
    stack::draw(c, area, from, stack);
}

fn released_by(c: &Canvas, by: &ReleasedBy, width: usize) -> Line<'static> {
    let mut line = RowText::default();
    let who = format!(
        " after {} released by {} in ",
        text::duration(by.wait_ns),
        text::thread(Some(&by.thread), by.tid)
    );
    line.push(text::cut(&who, width), c.theme.dim());
    let room = width.saturating_sub(line.used());
    let (function, calls) = text::fit_call(&by.culprit.function, by.culprit.calls.as_deref(), room);
    line.push(function, c.theme.strong());
    line.push(calls, Style::new());
    line.line()
}

/// Draws the poll's time as one bar: on CPU, blocked, in the run queue.
fn split(c: &mut Canvas, area: Rect, poll: &SlowPoll) {
    let all = poll.split.total_ns();
    let mut line = RowText::default();
    line.push(" ", Style::new());
    let parts = [
        ("on CPU", poll.split.on_cpu_ns, "█", Lane::OnCpu),
        ("blocked", poll.split.blocked_ns, "▒", Lane::Blocked),
        ("run queue", poll.split.run_queue_ns, "░", Lane::RunQueue),
    ];
    for (_, ns, glyph, lane) in parts {
        let columns = (text::share(ns, all) * 20.0).round() as usize;
        line.push(glyph.repeat(columns), c.theme.lane(lane));
    }
    for (name, ns, _, lane) in parts {
        if ns > 0 {
            line.push(
                format!("  {name} {}", text::duration(ns)),
                c.theme.lane(lane),
            );
        }
    }
    if let Some(reason) = poll.held_back.reason() {
        line.push(format!("  {reason}"), c.theme.warn());
    }
    c.row(area, 2, line.line());
}
