//! What views draw on: clipped rows, section headings, and a map from cells to what a click there
//! means.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::session::{Snapshot, Sort};
use crate::text;
use crate::tui::state::View;
use crate::tui::widgets::theme::Theme;

/// What lies under the mouse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hit {
    /// A row of the list in view, counted from its top.
    Row(usize),
    /// The heading of a column.
    Sort(Sort),
    View(View),
    /// A row of the table of all poll time.
    Spot(usize),
    /// The lanes on the first screen.
    Lanes,
    /// The part of the drill-down that shows facts.
    Facts,
    /// A bar of the flame view, by its path.
    Frame(u64),
    /// A lane of the timeline, counted from the top.
    Lane(usize),
    /// The bar that represents the whole session.
    Scrubber,
}

/// The clickable areas of the last drawn screen; later ones cover earlier ones.
#[derive(Debug, Default)]
pub struct Hits(Vec<(Rect, Hit)>);

impl Hits {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What is at a cell.
    pub fn at(&self, column: u16, row: u16) -> Option<Hit> {
        let position = Position::new(column, row);
        let hits = self.0.iter().rev();
        hits.clone()
            .find(|(area, _)| area.contains(position))
            .map(|(_, hit)| *hit)
    }
}

/// One screen being drawn.
pub struct Canvas<'a> {
    pub buf: &'a mut Buffer,
    pub hits: &'a mut Hits,
    pub snap: &'a Snapshot,
    pub theme: Theme,
}

impl Canvas<'_> {
    /// Draws a row of an area; what does not fit is left out.
    pub fn row<'l>(&mut self, area: Rect, row: u16, line: impl Into<Line<'l>>) {
        self.at(area, 0, row, line);
    }

    /// Draws into an area from a column of it on.
    pub fn at<'l>(&mut self, area: Rect, column: u16, row: u16, line: impl Into<Line<'l>>) {
        let area = area.intersection(self.buf.area);
        if row < area.height && column < area.width {
            let (x, y) = (area.x + column, area.y + row);
            self.buf.set_line(x, y, &line.into(), area.width - column);
        }
    }

    /// Draws at the right end of a row.
    pub fn right<'l>(&mut self, area: Rect, row: u16, line: impl Into<Line<'l>>) {
        let line = line.into();
        let width: usize = line.spans.iter().map(|s| text::width(&s.content)).sum();
        let column = area.width.saturating_sub(narrow(width));
        self.at(area, column, row, line);
    }

    /// Styles a whole row of an area.
    pub fn style_row(&mut self, area: Rect, row: u16, style: Style) {
        if row < area.height {
            self.buf.set_style(row_of(area, row), style);
        }
    }

    /// Draws a section's heading: title, note, and a rule up to the right end.
    pub fn heading(&mut self, area: Rect, row: u16, title: &str, note: &str) {
        self.heading_with_end(area, row, title, note, "");
    }

    /// Draws a section's heading with a text at its right end, which the note never covers.
    pub fn heading_with_end(&mut self, area: Rect, row: u16, title: &str, note: &str, end: &str) {
        let width = usize::from(area.width);
        let rule = "─".repeat(width);
        self.row(area, row, Span::styled(rule, self.theme.dim()));
        let end = match end {
            "" => String::new(),
            end => format!(" {end} "),
        };
        let mut parts = vec![Span::styled(format!("{title} "), self.theme.title())];
        if !note.is_empty() {
            let used = text::width(title) + 2 + text::width(&end);
            let note = format!("{} ", text::cut(note, width.saturating_sub(used)));
            parts.push(Span::styled(note, self.theme.dim()));
        }
        self.row(area, row, Line::from(parts));
        self.right(area, row, Span::styled(end, self.theme.dim()));
    }

    /// Makes an area clickable.
    pub fn hit(&mut self, area: Rect, hit: Hit) {
        self.hits.0.push((area, hit));
    }

    /// Empties an area, for an overlay.
    pub fn wipe(&mut self, area: Rect) {
        let area = area.intersection(self.buf.area);
        for position in area.positions() {
            if let Some(cell) = self.buf.cell_mut(position) {
                cell.reset();
            }
        }
    }
}

/// One row of an area.
pub fn row_of(area: Rect, row: u16) -> Rect {
    Rect::new(area.x, area.y.saturating_add(row), area.width, 1).intersection(area)
}

/// A number of columns or rows in the type that ratatui uses, capped.
pub fn narrow(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

/// The first row to show so that `selected` is in view, moved from `offset` no further than needed.
pub fn scrolled(offset: usize, selected: usize, rows: usize, height: usize) -> usize {
    let height = height.max(1);
    let offset = offset.min(rows.saturating_sub(height));
    if selected < offset {
        selected
    } else if selected >= offset + height {
        selected + 1 - height
    } else {
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrolling_follows_the_selection() {
        assert_eq!(scrolled(0, 0, 100, 10), 0);
        assert_eq!(scrolled(0, 10, 100, 10), 1);
        assert_eq!(scrolled(50, 20, 100, 10), 20);
        assert_eq!(scrolled(95, 99, 100, 10), 90);
        assert_eq!(scrolled(9, 2, 3, 10), 0);
        assert_eq!(scrolled(0, 5, 6, 0), 5);
    }

    #[test]
    fn the_topmost_hit_counts() {
        let mut hits = Hits::default();
        hits.0.push((Rect::new(0, 0, 10, 10), Hit::Lanes));
        hits.0.push((Rect::new(2, 2, 3, 1), Hit::Row(7)));
        assert_eq!(hits.at(3, 2), Some(Hit::Row(7)));
        assert_eq!(hits.at(5, 2), Some(Hit::Lanes));
        assert_eq!(hits.at(10, 2), None);
    }
}
