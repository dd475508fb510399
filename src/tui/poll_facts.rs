//! One slow poll: where and when, its time split, and its heaviest stack.

use std::sync::Arc;

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::canvas::Canvas;
use super::text::{self, RowText};
use super::theme::Lane;
use super::timeline_draw::moment_text;
use crate::model::{Frame, Origin, ReleasedBy, SlowPoll, WeightedStack, task_name};

/// Rows it wants.
pub const HEIGHT: u16 = 14;

/// Draws the poll; `start_ns` is what moments are told from.
pub fn draw(c: &mut Canvas, area: Rect, poll: &SlowPoll, start_ns: u64) {
    if area.height == 0 {
        return;
    }
    let width = usize::from(area.width);
    let task = task_name(poll.task);
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
        moment_text(start_ns, poll.start_ns),
    );
    c.heading(area, 0, "Slow poll", &note);
    let mut line = RowText::default();
    line.push(format!(" {} ", poll.cause), c.theme.cause(poll.cause));
    let culprit = &poll.culprit;
    let room = width.saturating_sub(line.used());
    let (function, calls) = text::call(&culprit.function, culprit.calls.as_deref(), room);
    line.push(function, c.theme.strong());
    line.push(calls, Style::new());
    c.row(area, 1, line.line());
    split(c, area, poll);
    let Some(stack) = poll.heaviest() else {
        c.row(
            area,
            3,
            ratatui::text::Span::styled(" no stack was captured", c.theme.dim()),
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
    stack_rows(c, area, from, stack);
}

fn released_by(c: &Canvas, by: &ReleasedBy, width: usize) -> ratatui::text::Line<'static> {
    let mut line = RowText::default();
    let who = format!(
        " after {} released by {} ({}) in ",
        text::duration(by.wait_ns),
        by.thread,
        by.tid
    );
    line.push(text::cut(&who, width), c.theme.dim());
    let room = width.saturating_sub(line.used());
    let (function, calls) = text::call(&by.culprit.function, by.culprit.calls.as_deref(), room);
    line.push(function, c.theme.strong());
    line.push(calls, Style::new());
    line.line()
}

/// The frames of a stack that are no machinery: neither the runtime's nor, where there are others,
/// the kernel's.
pub fn shown_frames(stack: &WeightedStack) -> impl Iterator<Item = &Arc<Frame>> {
    let machinery = [Origin::Runtime, Origin::Kernel];
    let user = stack.frames.iter().any(|f| !machinery.contains(&f.origin));
    stack.frames.iter().filter(move |frame| match user {
        true => !machinery.contains(&frame.origin),
        false => frame.origin != Origin::Runtime,
    })
}

/// A stack, leaf first, from a row of an area down. The runtime's frames are left out, and the
/// kernel's where there are others: the cause says what the kernel did.
pub fn stack_rows(c: &mut Canvas, area: Rect, from: u16, stack: &WeightedStack) {
    let width = usize::from(area.width);
    // Locations stand beside the names, however wide the screen is.
    let names = shown_frames(stack).take(usize::from(area.height.saturating_sub(from)));
    let longest = names.map(|frame| text::width(&frame.function)).max();
    let longest = longest.unwrap_or(0);
    let for_location = width.saturating_sub(longest + 8).max(width / 3);
    for (y, frame) in (from..area.height).zip(shown_frames(stack)) {
        let mut line = RowText::default();
        let location = frame.location.as_ref().map(ToString::to_string);
        let location = text::path(&location.unwrap_or_default(), for_location);
        line.push(if frame.inlined { "  ┆ " } else { "  │ " }, c.theme.dim());
        let room = width.saturating_sub(6 + text::width(&location));
        let name = text::path(&frame.function, room);
        let name = text::left(&name, room.min(longest + 2));
        line.push(name, c.theme.origin(frame.origin));
        line.push(format!(" {location}"), c.theme.dim());
        c.row(area, y, line.line());
    }
}

/// The poll's time as one bar: on CPU, blocked, in the run queue.
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
        let columns = (text::part(ns, all) * 20.0).round() as usize;
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
