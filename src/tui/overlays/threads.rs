//! Every thread of the process at one moment.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::model::Origin;
use crate::session::{RowKind, census_rows};
use crate::text;
use crate::tui::widgets::canvas::{Canvas, Hit};

/// Draws the last census over an area; `scroll` is kept in bounds.
pub fn draw(c: &mut Canvas, area: Rect, scroll: &mut usize) {
    c.wipe(area);
    c.hit(area, Hit::Facts);
    let Some(census) = c.snap.census.clone() else {
        c.row(
            area,
            1,
            Span::styled("  reading every thread ...", c.theme.dim()),
        );
        return;
    };
    let start_ns = c.snap.header.as_ref().map_or(0, |header| header.start_ns);
    let at = text::elapsed(census.at_ns.saturating_sub(start_ns));
    let note = match census.words.is_empty() {
        true => format!("{} at {at}; T reads them again", census.threads.len()),
        false => format!("{} at {at}; something hangs", census.threads.len()),
    };
    c.heading(area, 0, "Threads", &note);
    let width = usize::from(area.width);
    let rows: Vec<(RowKind, String)> = census_rows(&census)
        .into_iter()
        .flat_map(|(kind, row)| {
            match kind {
                // What is wrong is shown in full.
                RowKind::Words => text::rows(&row, width.saturating_sub(2)),
                _ => vec![row],
            }
            .into_iter()
            .map(move |row| (kind, row))
        })
        .collect();
    let height = usize::from(area.height).saturating_sub(1);
    *scroll = (*scroll).min(rows.len().saturating_sub(height));
    for (y, (kind, row)) in (1..area.height).zip(rows.into_iter().skip(*scroll)) {
        let (indent, style) = match kind {
            RowKind::Words => (" ", c.theme.alarm()),
            RowKind::Thread => (" ", c.theme.strong()),
            RowKind::Frame(Origin::User) => ("   > ", c.theme.origin(Origin::User)),
            RowKind::Frame(origin) => ("     ", c.theme.origin(origin)),
            RowKind::Note => ("     ", c.theme.dim()),
        };
        let room = width.saturating_sub(indent.len());
        let row = text::cut(&row, room);
        c.row(
            area,
            y,
            Line::from(vec![
                Span::styled(indent, Style::new()),
                Span::styled(row, style),
            ]),
        );
    }
}
