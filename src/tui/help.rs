//! What everything means: concepts, columns, marks and keys.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::canvas::Canvas;
use super::keys::{KEYS, Place};
use super::text;
use super::theme::{Lane, Theme, cause_letter};
use crate::model::Cause;

const CONCEPTS: &[(&str, &str)] = &[
    (
        "worker",
        "a thread that polls tasks; what it polls must return quickly, or every other task waits",
    ),
    ("poll", "one run of a task, from one await to the next"),
    (
        "slow poll",
        "a poll that held its worker for at least the threshold: that code blocks",
    ),
    (
        "culprit",
        "the innermost function of your own code inside the slow poll, and what it called",
    ),
    ("stuck", "a slow poll that has not ended; its clock runs"),
    (
        "held up from outside",
        "the worker was runnable but had no CPU, or was stopped: not the code's fault",
    ),
    (
        "all poll time",
        "where the workers' CPU time in polls goes, slow or not, from samples while it is on (5, x): many short polls add up, too",
    ),
    (
        "tier",
        "how exactly polls are known: 1 is best; 4 and 5 are estimates, and say so",
    ),
    (
        "lost",
        "events hud could not take in; what is shown is then less than what happened",
    ),
    (
        "kept",
        "the newest 10,000 slow polls and the 256 longest are kept whole; older ones stay in all totals",
    ),
];

const COLUMNS: &[(&str, &str)] = &[
    (
        "CULPRIT",
        "function → what it called; the bar on its left marks a tenth and four tenths of all held time",
    ),
    ("CAUSE", "why the worker was held, by the kernel's facts"),
    ("POLLS", "slow polls"),
    ("TOTAL", "time they held workers, together"),
    (
        "MAX P50 P99",
        "the longest, the median, and what one in a hundred exceeds",
    ),
    ("SHARE", "of all time that blocking code held workers"),
    (
        "LAST MINUTE",
        "held time by the second, each row to its own scale",
    ),
    ("LAST", "how long ago it was seen"),
    (
        "LOCATION",
        "source position of the culprit, where the debug info has one",
    ),
];

fn explain(cause: Cause) -> &'static str {
    match cause {
        Cause::Cpu => "computing",
        Cause::Lock => "waiting for another thread: mutex, channel, join",
        Cause::FileIo => "reading, writing or opening files",
        Cause::Sleep => "a timed sleep of the thread itself",
        Cause::Network => "a blocking socket call, or name resolution",
        Cause::Pipe => "a pipe to another process",
        Cause::ChildProcess => "starting or waiting for a child process",
        Cause::PageFault => "page faults, or the locks of the address space",
        Cause::RunQueue => "runnable, but no CPU: contention or a cgroup limit",
        Cause::Stopped => "stopped by a signal or a debugger",
        Cause::Unknown => "the kernel's facts fit no rule",
    }
}

/// Draws the help over an area; `scroll` is kept in bounds.
pub fn draw(c: &mut Canvas, area: Rect, scroll: &mut usize) {
    c.wipe(area);
    c.hit(area, super::canvas::Hit::Facts);
    let lines = lines(c.theme, usize::from(area.width));
    *scroll = (*scroll).min(lines.len().saturating_sub(usize::from(area.height)));
    for (y, line) in (0..area.height).zip(lines.into_iter().skip(*scroll)) {
        c.row(area, y, line);
    }
}

fn lines(theme: Theme, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let heading = |lines: &mut Vec<Line>, title: &'static str| {
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(Line::from(Span::styled(title, theme.title())));
    };
    let entry = |lines: &mut Vec<Line<'static>>, what: &str, style: Style, means: &str| {
        const WHAT: usize = 22;
        for (i, part) in wrap(means, width.saturating_sub(WHAT + 1)).enumerate() {
            let what = if i == 0 { what } else { "" };
            lines.push(Line::from(vec![
                Span::styled(text::left(&format!("  {what}"), WHAT), style),
                Span::raw(format!(" {part}")),
            ]));
        }
    };
    let places = [
        ("Keys: culprits", Place::Culprits),
        ("Keys: drill-down", Place::Detail),
        ("Keys: flame", Place::Flame),
        ("Keys: timeline", Place::Timeline),
        ("Keys: all poll time", Place::PollTime),
        ("Keys: everywhere", Place::Everywhere),
    ];
    heading(&mut lines, "Words");
    for (word, means) in CONCEPTS {
        entry(&mut lines, word, theme.strong(), means);
    }
    heading(&mut lines, "Columns");
    for (column, means) in COLUMNS {
        entry(&mut lines, column, theme.strong(), means);
    }
    heading(&mut lines, "Lanes");
    let marks = [
        ("▁ ▄ █", Lane::OnCpu, "on a CPU, by how much of the time"),
        (
            "▒",
            Lane::Blocked,
            "mostly asleep in the kernel inside a poll",
        ),
        ("░", Lane::RunQueue, "mostly waiting for a CPU"),
        ("·", Lane::Parked, "parked: nothing to do"),
        (
            "~",
            Lane::Asleep,
            "asleep, parked or blocked: in tier 5 nothing tells",
        ),
    ];
    for (mark, lane, means) in marks {
        entry(&mut lines, mark, theme.lane(lane), means);
    }
    heading(&mut lines, "Causes, and their letters in lanes");
    for cause in Cause::ALL {
        let what = format!("{} {cause}", cause_letter(cause));
        entry(&mut lines, &what, theme.cause(cause), explain(cause));
    }
    for (title, place) in places {
        heading(&mut lines, title);
        for key in KEYS.iter().filter(|key| key.place == place) {
            entry(&mut lines, key.keys, theme.key(), key.does);
        }
    }
    lines
}

/// Breaks a text at spaces.
pub(super) fn wrap(text: &str, width: usize) -> impl Iterator<Item = String> + use<> {
    let mut rows: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let row = rows.last_mut();
        match row {
            Some(row) if row.is_empty() => row.push_str(word),
            Some(row) if text::width(row) + 1 + text::width(word) <= width => {
                row.push(' ');
                row.push_str(word);
            }
            _ => rows.push(word.to_owned()),
        }
    }
    rows.into_iter()
}
