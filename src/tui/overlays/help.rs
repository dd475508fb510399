//! The help: terms, columns, marks and keys.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::model::Cause;
use crate::text;
use crate::tui::state::keys::{KEYS, Place};
use crate::tui::widgets::canvas::{Canvas, Hit};
use crate::tui::widgets::theme::{Lane, Theme, cause_letter};

const TERMS: &[(&str, &str)] = &[
    (
        "worker",
        "a thread that polls tasks; a poll must return quickly, or every other task waits",
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
        "where the workers' CPU time in polls goes, slow or not, sampled while it is on (5, x): many short polls add up as well",
    ),
    (
        "tier",
        "how hud tracks polls: 1 to 3 are exact, 4 is an estimate, in 5 polls cannot be observed",
    ),
    (
        "lost",
        "events that hud dropped; what is shown is then less than what happened",
    ),
    (
        "kept",
        "the newest 10,000 slow polls and the 256 longest are kept whole; older ones remain in all totals",
    ),
];

const COLUMNS: &[(&str, &str)] = &[
    (
        "CULPRIT",
        "function → what it called; the bar on its left marks a tenth and four tenths of all held time",
    ),
    (
        "CAUSE",
        "why the worker was held, derived from kernel facts",
    ),
    ("POLLS", "slow polls"),
    (
        "OWN",
        "time that the code itself took: on a CPU or blocked, without waiting for a CPU",
    ),
    ("TOTAL", "time that they held workers, added up"),
    (
        "MAX P50 P99",
        "the longest; the median and the duration that 1 in 100 exceeds, where it is not the longest",
    ),
    ("SHARE", "of all time for which blocking code held workers"),
    (
        "LAST MINUTE",
        "held time per second, each row with its own scale",
    ),
    ("LAST", "how long ago it was last seen"),
    (
        "LOCATION",
        "source position of the culprit, if the debug info has one",
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
        Cause::RunQueue => "runnable, but without a CPU: contention or a cgroup limit",
        Cause::Stopped => "stopped by a signal or a debugger",
        Cause::Unknown => "the kernel's facts fit no rule",
    }
}

/// Draws the help over an area; `scroll` is kept in bounds.
pub fn draw(c: &mut Canvas, area: Rect, scroll: &mut usize) {
    c.wipe(area);
    c.hit(area, Hit::Facts);
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
        let rows = text::wrap(means, width.saturating_sub(WHAT + 1));
        for (i, part) in rows.iter().enumerate() {
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
    heading(&mut lines, "Terms");
    for (word, means) in TERMS {
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
            "asleep, parked or blocked: tier 5 cannot tell",
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
