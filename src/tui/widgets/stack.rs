//! One stack as rows, leaf first.

use std::sync::Arc;

use ratatui::layout::Rect;

use crate::model::{Frame, Origin, WeightedStack};
use crate::text;
use crate::tui::widgets::canvas::Canvas;
use crate::tui::widgets::row::RowText;

/// The frames worth showing: without the runtime's and, where there are others, without the
/// kernel's, which the cause already summarises.
pub fn shown_frames(stack: &WeightedStack) -> impl Iterator<Item = &Arc<Frame>> {
    let hidden = [Origin::Runtime, Origin::Kernel];
    let has_user_code = stack.frames.iter().any(|f| !hidden.contains(&f.origin));
    stack
        .frames
        .iter()
        .filter(move |frame| match has_user_code {
            true => !hidden.contains(&frame.origin),
            false => frame.origin != Origin::Runtime,
        })
}

/// Draws the shown frames of a stack from row `from` of an area down.
pub fn draw(c: &mut Canvas, area: Rect, from: u16, stack: &WeightedStack) {
    let width = usize::from(area.width);
    // Locations stand beside the names, however wide the screen is.
    let names = shown_frames(stack).take(usize::from(area.height.saturating_sub(from)));
    let longest = names.map(|frame| text::width(&frame.function)).max();
    let longest = longest.unwrap_or(0);
    let for_location = width.saturating_sub(longest + 8).max(width / 3);
    for (y, frame) in (from..area.height).zip(shown_frames(stack)) {
        let mut line = RowText::default();
        let location = frame.location.as_ref().map(text::location);
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
