//! The facts about one culprit: time, causes, distribution, workers, tasks, the last polls and the
//! source around it.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::source;
use crate::session::{Bar, Detail, Releaser, Row, Tally};
use crate::text;
use crate::tui::widgets::bars::bar;
use crate::tui::widgets::canvas::Canvas;
use crate::tui::widgets::row::RowText;

/// How many workers and tasks are listed each; the others are added up.
const LISTED: usize = 6;
/// How many of the last slow polls are listed.
const POLLS: usize = 12;
/// How many threads that ended waits are listed.
const RELEASERS: usize = 3;

/// Draws the culprit's name and its figures, in two rows.
pub fn title(c: &mut Canvas, area: Rect, row: &Row) {
    let width = usize::from(area.width);
    let mut line = RowText::default();
    let (label, calls) = text::fit_call(&row.label, row.calls.as_deref(), width.saturating_sub(1));
    line.push(" ", Style::new());
    line.push(label, c.theme.title());
    line.push(calls, c.theme.strong());
    c.row(area, 0, line.line());
    let facts = format!(
        "{} held workers for {}, {} of all held time, max {}, p99 {}, p50 {}",
        text::counted(row.polls, "poll"),
        text::duration(row.total_ns),
        text::percent(c.snap.share(row)),
        text::duration(row.max_ns),
        text::duration(row.p99_ns),
        text::duration(row.p50_ns),
    );
    let mut line = RowText::default();
    line.push(format!(" {} ", row.cause), c.theme.cause(row.cause));
    let room = width.saturating_sub(line.used());
    line.push(text::cut(&facts, room), Style::new());
    c.row(area, 1, line.line());
}

/// Draws the facts; `scroll` is kept in bounds.
pub fn draw(c: &mut Canvas, area: Rect, detail: &Detail, scroll: &mut usize, focused: bool) {
    if area.height == 0 {
        return;
    }
    let lines = lines(c, detail, usize::from(area.width));
    let rows = usize::from(area.height) - 1;
    *scroll = (*scroll).min(lines.len().saturating_sub(rows));
    let more = lines.len().saturating_sub(*scroll + rows);
    let note = match more {
        0 => String::new(),
        more => format!("{}: p, then j", text::counted(more, "more row")),
    };
    c.heading(area, 0, if focused { "▸ Facts" } else { "Facts" }, &note);
    for (y, line) in (1..area.height).zip(lines.into_iter().skip(*scroll)) {
        c.row(area, y, line);
    }
}

fn lines(c: &Canvas, detail: &Detail, width: usize) -> Vec<Line<'static>> {
    let (snap, theme) = (c.snap, c.theme);
    let row = &detail.row;
    let mut lines = Vec::new();
    let since_start = |at_ns: u64| {
        let start = snap.header.as_ref().map_or(0, |h| h.start_ns);
        text::elapsed(at_ns.saturating_sub(start))
    };
    // Names that the title shortened.
    for name in [Some(&row.label), row.calls.as_ref()].into_iter().flatten() {
        if text::width(name) > width {
            lines.extend(text::rows(name, width).into_iter().map(Line::from));
        }
    }
    if let Some(location) = &row.location {
        let place = text::path(&location.to_string(), width.saturating_sub(4));
        lines.push(Line::from(Span::styled(format!("at {place}"), theme.dim())));
    }
    for (i, caller) in row.chain.iter().enumerate() {
        let what = if i == 0 { "awaited by " } else { "           " };
        let caller = text::path(caller, width.saturating_sub(what.len()));
        lines.push(Line::from(vec![
            Span::styled(what, theme.dim()),
            Span::raw(caller),
        ]));
    }
    let seen = format!(
        "seen from {} to {} of the session",
        since_start(row.first_seen_ns),
        since_start(row.last_seen_ns)
    );
    lines.push(Line::from(Span::styled(seen, theme.dim())));
    if row.throttled_polls > 0 {
        let text = format!(
            "the cgroup's CPU limit throttled {}",
            text::counted(row.throttled_polls, "poll")
        );
        lines.push(Line::from(Span::styled(text, theme.warn())));
    }
    if row.stolen_polls > 0 {
        let text = format!(
            "the hypervisor or interrupts took the CPU away in {}",
            text::counted(row.stolen_polls, "poll")
        );
        lines.push(Line::from(Span::styled(text, theme.warn())));
    }

    let heading = |lines: &mut Vec<Line<'static>>, title: &'static str| {
        lines.push(Line::from(Span::styled(title, theme.title())));
    };
    let split = detail.split;
    heading(&mut lines, "Where the time went");
    let parts = [
        ("on CPU", split.on_cpu_ns),
        ("blocked", split.blocked_ns),
        ("run queue", split.run_queue_ns),
    ];
    for (name, ns) in parts {
        lines.push(bar_line(name, ns, split.total_ns(), width, Style::new()));
    }
    heading(&mut lines, "By cause");
    let all: u64 = row.causes.iter().map(|(_, ns)| *ns).sum();
    for (cause, ns) in &row.causes {
        lines.push(bar_line(
            cause.as_str(),
            *ns,
            all,
            width,
            theme.cause(*cause),
        ));
    }
    if !detail.released_by.is_empty() {
        heading(&mut lines, "Waits ended by");
    }
    for releaser in detail.released_by.iter().take(RELEASERS) {
        lines.extend(releaser_lines(c, releaser, width));
    }
    heading(&mut lines, "Durations");
    let most = detail.durations.iter().map(|bar| bar.polls).max();
    for bar in &detail.durations {
        lines.push(duration_line(bar, most.unwrap_or(1), width));
    }
    heading(&mut lines, "Workers");
    let named = |tid: u32| snap.worker_name(tid);
    for (tid, tally) in detail.workers.iter().take(LISTED) {
        lines.push(tally_line(&named(*tid), tally));
    }
    others(
        &mut lines,
        detail.workers.iter().skip(LISTED).map(|w| &w.1),
        &detail.other_workers,
    );
    heading(&mut lines, "Tasks");
    for (task, tally) in detail.tasks.iter().take(LISTED) {
        lines.push(tally_line(&text::task(*task), tally));
    }
    others(
        &mut lines,
        detail.tasks.iter().skip(LISTED).map(|t| &t.1),
        &detail.other_tasks,
    );
    heading(&mut lines, "Last slow polls");
    for poll in detail.last.iter().take(POLLS) {
        let task = text::task(poll.task);
        let text = format!(
            "{} {} {} {task}",
            since_start(poll.start_ns),
            text::right(&text::duration(poll.held_ns()), 8),
            named(poll.tid)
        );
        lines.push(Line::from(text::cut(&text, width)));
    }
    if let Some(location) = &row.location {
        let source = source::around(location);
        if !source.is_empty() {
            heading(&mut lines, "Source");
        }
        for (number, text) in source {
            let here = number == location.line;
            let mark = if here { ">" } else { " " };
            let style = if here { theme.strong() } else { theme.dim() };
            let text = text::cut(&format!("{mark}{number:>5} {text}"), width);
            lines.push(Line::from(Span::styled(text, style)));
        }
    }
    lines
}

/// The code that ended waits; below it its thread and the time waited.
fn releaser_lines(c: &Canvas, releaser: &Releaser, width: usize) -> [Line<'static>; 2] {
    let by = &releaser.longest;
    let (function, calls) =
        text::fit_call(&by.culprit.function, by.culprit.calls.as_deref(), width);
    let who = format!(
        "  by {}, {}, {}",
        text::thread(Some(&by.thread), by.tid),
        text::counted(releaser.tally.polls, "wait"),
        text::duration(releaser.tally.total_ns)
    );
    [
        Line::from(vec![
            Span::styled(function, c.theme.strong()),
            Span::raw(calls),
        ]),
        Line::from(Span::styled(text::cut(&who, width), c.theme.dim())),
    ]
}

fn bar_line(name: &str, ns: u64, all: u64, width: usize, style: Style) -> Line<'static> {
    let share = text::share(ns, all);
    let bar = bar(share, width.saturating_sub(29).min(30));
    Line::from(vec![
        Span::raw(format!("{} ", text::left(name, 13))),
        Span::raw(format!(
            "{:>4} {} ",
            text::percent(share),
            text::right(&text::duration(ns), 8)
        )),
        Span::styled(bar, style),
    ])
}

fn duration_line(bin: &Bar, most: u64, width: usize) -> Line<'static> {
    let to = match bin.to_ns {
        u64::MAX => "and more".to_owned(),
        ns => format!("to {}", text::setting(ns)),
    };
    let range = format!("{} {to}", text::setting(bin.from_ns));
    let filled = bar(
        text::share(bin.polls, most),
        width.saturating_sub(26).min(30),
    );
    Line::from(format!(
        "{} {:>5} {filled}",
        text::left(&range, 18),
        text::count(bin.polls)
    ))
}

fn tally_line(name: &str, tally: &Tally) -> Line<'static> {
    let noun = if tally.polls == 1 { "poll " } else { "polls" };
    Line::from(format!(
        "{} {:>5} {noun} {} max {}",
        text::left(name, 22),
        text::count(tally.polls),
        text::right(&text::duration(tally.total_ns), 8),
        text::right(&text::duration(tally.max_ns), 8)
    ))
}

fn others<'a>(
    lines: &mut Vec<Line<'static>>,
    hidden: impl Iterator<Item = &'a Tally>,
    rest: &Tally,
) {
    let mut sum = *rest;
    hidden.for_each(|tally| sum.merge(tally));
    if sum.polls > 0 {
        lines.push(tally_line("all others", &sum));
    }
}
