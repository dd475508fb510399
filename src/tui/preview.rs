//! On tall screens: what the culprit under the cursor is, in a few rows below the table.

use ratatui::layout::Rect;
use ratatui::text::Span;

use super::canvas::Canvas;
use super::poll_facts::stack_rows;
use super::text;

/// Rows of the preview.
pub const HEIGHT: u16 = 9;

/// Whether a screen of that size has room for it.
pub fn fits((_, height): (u16, u16)) -> bool {
    height >= 36
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
