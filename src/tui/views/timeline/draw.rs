//! Draws the timeline: lanes, cursor, scrubber, and the slow poll under the cursor.

use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::cells::{self, columns_of};
use super::{TimelineView, column_at, poll};
use crate::session::{Snapshot, WorkerView};
use crate::text;
use crate::tui::widgets::canvas::{Canvas, Hit, narrow, scrolled};
use crate::tui::widgets::row::RowText;

impl TimelineView {
    /// Draws the view.
    pub fn draw(&mut self, c: &mut Canvas, area: Rect) {
        let (from, to) = self.view();
        let note = format!(
            "{} to {} of {}, a column is {}",
            text::moment(from.saturating_sub(self.all.0)),
            text::moment(to.saturating_sub(self.all.0)),
            text::elapsed(self.all.1.saturating_sub(self.all.0)),
            text::duration(self.column_ns())
        );
        c.heading(area, 0, "Timeline", &note);
        if self.lanes.is_empty() {
            c.row(area, 1, Span::styled("  no worker yet", c.theme.dim()));
            return;
        }
        let about = poll::HEIGHT.min(area.height / 2);
        let rows = area.height.saturating_sub(3 + about).max(1);
        let several = c.snap.has_several_runtimes();
        let name = if area.width < 90 {
            10
        } else if several {
            22
        } else {
            16
        };
        self.lanes_area = Rect {
            x: area.x + name + 1,
            y: area.y + 1,
            width: area.width.saturating_sub(name + 1).max(1),
            height: rows.min(narrow(self.lanes.len())),
        };
        let (shown, lanes_area) = (usize::from(self.lanes_area.height), self.lanes_area);
        self.offset = scrolled(self.offset, self.lane, self.lanes.len(), shown);
        let left = Rect {
            x: area.x,
            width: name,
            ..lanes_area
        };
        for (row, lane) in (0..lanes_area.height).zip(self.offset..) {
            let Some(worker) = self.lanes.get(lane).and_then(|tid| worker_of(c.snap, *tid)) else {
                continue;
            };
            let label = text::worker_within(&worker.worker, several, usize::from(name) - 1);
            let mark = if lane == self.lane { "▸" } else { " " };
            let style = match (lane == self.lane, worker.gone_ns) {
                (true, _) => c.theme.strong(),
                (false, Some(_)) => c.theme.dim(),
                (false, None) => Style::new(),
            };
            let label = text::cut(&format!("{mark}{label}"), usize::from(name));
            c.row(left, row, Span::styled(label, style));
            let polls = self.polls.iter().filter(|p| p.tid == worker.worker.tid);
            let slices = cells::slices(
                &worker.timeline,
                polls,
                (from, to),
                lanes_area.width,
                c.snap,
            );
            cells::draw(c, lanes_area, row, &slices, self.column_ns());
            let hit = Rect::new(lanes_area.x, lanes_area.y + row, lanes_area.width, 1);
            c.hit(hit, Hit::Lane(lane));
        }
        self.draw_cursor(c);
        self.draw_scrubber(c, area);
        let below = Rect {
            y: lanes_area.bottom() + 2,
            height: area.bottom().saturating_sub(lanes_area.bottom() + 2),
            ..area
        };
        match self.poll().cloned() {
            Some(poll) => poll::draw(c, below, &poll, self.all.0),
            None => {
                let text = match self.polls.len() {
                    0 => " no slow poll".to_owned(),
                    n => format!(
                        " no slow poll here; n and N step through {}, L jumps to the longest",
                        text::count(n as u64)
                    ),
                };
                c.heading(below, 0, "", "");
                c.row(below, 1, Span::styled(text, c.theme.dim()));
            }
        }
    }

    fn draw_cursor(&self, c: &mut Canvas) {
        let (from, to) = self.view();
        let area = self.lanes_area;
        let Some(column) = column_at(from, to, area.width, self.cursor_ns) else {
            return;
        };
        let row = self.lane.saturating_sub(self.offset);
        let place = (area.x + column, area.y.saturating_add(narrow(row)));
        if let Some(cell) = c.buf.cell_mut(place) {
            // The cursor must be visible on a reversed cell as well.
            let style = cell.style().remove_modifier(Modifier::REVERSED);
            cell.set_style(style.add_modifier(Modifier::UNDERLINED));
            if cell.symbol() == " " || cell.symbol() == "·" {
                cell.set_symbol("│");
            }
        }
        let below = Rect {
            y: area.bottom(),
            height: 1,
            ..area
        };
        let at = text::moment(self.cursor_ns.saturating_sub(self.all.0));
        let fits = usize::from(column) + 2 + at.len() <= usize::from(area.width);
        let (start, text) = match fits {
            true => (column, format!("▲ {at}")),
            false => (
                column.saturating_sub(narrow(at.len() + 1)),
                format!("{at} ▲"),
            ),
        };
        c.at(below, start, 0, Span::styled(text, c.theme.strong()));
    }

    /// Draws the whole session as one line, with the part in view marked on it.
    fn draw_scrubber(&mut self, c: &mut Canvas, area: Rect) {
        let lanes = self.lanes_area;
        self.scrubber = Rect {
            y: lanes.bottom() + 1,
            height: 1,
            ..lanes
        };
        let (from, to) = self.view();
        let mut line = RowText::default();
        for column in 0..lanes.width {
            let (start, end) = columns_of(self.all.0, self.all.1, lanes.width, column);
            let cursor = (start..end).contains(&self.cursor_ns);
            let inside = start < to && end > from;
            let (glyph, style) = match (cursor, inside) {
                (true, _) => ("┃", c.theme.strong()),
                (_, true) => ("━", c.theme.title()),
                (_, false) => ("─", c.theme.dim()),
            };
            line.push(glyph, style);
        }
        let label = Rect {
            y: self.scrubber.y,
            height: 1,
            ..area
        };
        c.row(
            label,
            0,
            Line::from(Span::styled(" session", c.theme.dim())),
        );
        c.row(self.scrubber, 0, line.line());
        c.hit(self.scrubber, Hit::Scrubber);
    }
}

fn worker_of(snap: &Snapshot, tid: u32) -> Option<&WorkerView> {
    snap.workers.iter().find(|w| w.worker.tid == tid)
}
