//! Polls over the threshold that have not ended, with a running clock.

use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::model::SlowPoll;
use crate::text;
use crate::tui::widgets::canvas::{Canvas, narrow};
use crate::tui::widgets::row::RowText;

/// Rows the section asks for: a heading and the polls, at most a fifth of the screen.
pub fn height(stuck: usize, screen: u16) -> u16 {
    let most = usize::from(screen / 5).max(2);
    match stuck {
        0 => 0,
        n => narrow(n.min(most - 1) + 1),
    }
}

/// Draws the section.
pub fn draw(c: &mut Canvas, area: Rect) {
    if area.height == 0 {
        return;
    }
    let title = match c.snap.ended {
        None => "Stuck now",
        Some(_) => "Stuck at the end",
    };
    let n = c.snap.running.len();
    let hidden = n.saturating_sub(usize::from(area.height) - 1);
    let note = match hidden {
        0 => String::new(),
        hidden => format!("the longest of {n}, {hidden} not shown"),
    };
    c.heading(area, 0, title, &note);
    let polls: Vec<_> = c
        .snap
        .running
        .iter()
        .take(usize::from(area.height) - 1)
        .collect();
    for (y, poll) in (1..).zip(polls) {
        let line = line(c, poll, usize::from(area.width));
        c.row(area, y, line.line());
    }
}

fn line(c: &Canvas, poll: &SlowPoll, width: usize) -> RowText {
    let (snap, theme) = (c.snap, c.theme);
    let mut line = RowText::default();
    let least = if poll.began_before_attach { "≥" } else { "" };
    let clock = format!("{least}{}", text::running(snap.held_until_now(poll)));
    line.push(format!(" {} ", text::right(&clock, 8)), theme.alarm());
    line.push(" ", Style::new());
    let columns = if width >= 90 { 20 } else { 10 };
    let several = snap.has_several_runtimes();
    let worker = snap.workers.iter().find(|w| w.worker.tid == poll.tid);
    let worker = worker.map_or_else(
        || text::thread(None, poll.tid),
        |w| text::worker_within(&w.worker, several, columns),
    );
    line.push(text::left(&worker, columns), Style::new());
    line.push(" ", Style::new());
    let columns = if width >= 100 { 13 } else { 7 };
    let cause = text::left(text::cause(poll.cause, columns), columns);
    line.push(cause, theme.cause(poll.cause));
    line.push(" ", Style::new());
    let culprit = &poll.culprit;
    let place = culprit.location.as_ref().map(text::location);
    let room = |line: &RowText| width.saturating_sub(line.used());
    let (function, calls) =
        text::fit_call(&culprit.function, culprit.calls.as_deref(), room(&line));
    line.push(function, theme.strong());
    line.push(calls, theme.dim());
    if let Some(place) = place.filter(|_| room(&line) >= 14) {
        let short = text::path(&place, room(&line) - 2);
        line.push(format!("  {short}"), theme.dim());
    }
    line
}
