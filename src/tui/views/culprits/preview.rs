//! Below the table, if it leaves room: the heaviest stack of the culprit under the cursor.

use ratatui::layout::Rect;
use ratatui::text::Span;

use crate::session::Detail;
use crate::text;
use crate::tui::widgets::canvas::{Canvas, narrow};
use crate::tui::widgets::stack;

/// Rows set apart for the preview on a tall screen.
pub const HEIGHT: u16 = 9;
/// Rows of a tall screen.
pub const TALL: u16 = 36;
/// With fewer rows there is no preview.
const LEAST: u16 = 5;

/// Whether a screen of that size may have room for it.
pub fn fits((_, height): (u16, u16)) -> bool {
    height >= 24
}

/// Rows for the preview out of those that the table leaves `unused`; on a `roomy` screen it gets
/// [`HEIGHT`] in any case.
pub fn height(detail: &Detail, unused: u16, roomy: bool) -> u16 {
    let frames = detail
        .chief_stack()
        .map_or(1, |stack| stack::shown_frames(stack).count());
    match unused.min(narrow(frames + 1)) {
        rows if roomy => rows.max(HEIGHT),
        rows if rows >= LEAST => rows,
        _ => 0,
    }
}

/// Draws the heaviest stack of the selected culprit, without the runtime's frames.
pub fn draw(c: &mut Canvas, area: Rect) {
    let snap = c.snap;
    let Some(detail) = &snap.selected else {
        return;
    };
    let row = &detail.row;
    let note = format!(
        "p50 {}, p99 {}, max {}, {}, {}",
        text::duration(row.p50_ns),
        text::duration(row.p99_ns),
        text::duration(row.max_ns),
        text::counted(row.workers, "worker"),
        text::counted(row.tasks, "task"),
    );
    let width = usize::from(area.width);
    let title = text::path(&row.label, width / 2);
    c.heading(area, 0, &title, &note);
    let Some(stack) = detail.chief_stack() else {
        c.row(
            area,
            1,
            Span::styled("  no stack was captured", c.theme.dim()),
        );
        return;
    };
    stack::draw(c, area, 1, stack);
}
