//! Below the table, where that leaves room: what the culprit under the cursor is.

use ratatui::layout::Rect;
use ratatui::text::Span;

use super::canvas::{self, Canvas};
use super::poll_facts::{shown_frames, stack_rows};
use super::text;
use crate::session::Detail;

/// Rows of the preview on a screen that is tall enough to set some apart for it.
pub const HEIGHT: u16 = 9;
/// Rows of such a screen.
pub const TALL: u16 = 36;
/// Fewer say too little.
const LEAST: u16 = 5;

/// Whether a screen of that size may have room for it.
pub fn fits((_, height): (u16, u16)) -> bool {
    height >= 24
}

/// Rows for the preview, where the table does not need so many; on a `roomy` screen it gets some all
/// the same.
pub fn height(detail: &Detail, unused: u16, roomy: bool) -> u16 {
    let frames = detail
        .stacks
        .first()
        .map_or(1, |stack| shown_frames(stack).count());
    match unused.min(canvas::narrow(frames + 1)) {
        rows if roomy => rows.max(HEIGHT),
        rows if rows >= LEAST => rows,
        _ => 0,
    }
}

/// Draws the heaviest stack of the selected culprit, the runtime's frames left out.
pub fn draw(c: &mut Canvas, area: Rect) {
    let snap = c.snap;
    let Some(detail) = &snap.selected else {
        return;
    };
    let row = &detail.row;
    let plural = |n: usize, what: &str| match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    let note = format!(
        "p50 {}, p99 {}, max {}, {}, {}",
        text::duration(row.p50_ns),
        text::duration(row.p99_ns),
        text::duration(row.max_ns),
        plural(row.workers, "worker"),
        plural(row.tasks, "task"),
    );
    let width = usize::from(area.width);
    let title = text::path(&row.label, width / 2);
    c.heading(area, 0, &title, &note);
    let Some(stack) = detail.stacks.first() else {
        c.row(
            area,
            1,
            Span::styled("  no stack was captured", c.theme.dim()),
        );
        return;
    };
    stack_rows(c, area, 1, stack);
}
