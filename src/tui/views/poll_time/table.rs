//! The table of code by CPU time in polls.

use std::sync::Arc;

use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::Span;

use crate::session::{ProfileView, SpotKey, SpotRow};
use crate::text;
use crate::tui::state::keys::Action;
use crate::tui::widgets::canvas::{Canvas, Hit, narrow, row_of};
use crate::tui::widgets::cursor::{Cursor, Keyed};
use crate::tui::widgets::row::RowText;

/// From this many columns on, locations are shown.
const LOCATIONS: usize = 110;

/// The rows as shown, and the one under the cursor.
#[derive(Debug, Default)]
pub struct Table {
    shown: Vec<Arc<SpotRow>>,
    cursor: Cursor<Arc<SpotRow>>,
}

impl Table {
    /// Takes the rows of a new snapshot that contain a text.
    pub fn update(&mut self, profile: &ProfileView, search: &str) {
        let keep =
            |row: &&Arc<SpotRow>| search.is_empty() || row.name().to_lowercase().contains(search);
        self.shown = profile.spots.iter().filter(keep).cloned().collect();
        self.cursor.update(&self.shown);
    }

    /// The row under the cursor.
    pub fn selected(&self) -> Option<&Arc<SpotRow>> {
        self.shown.get(self.cursor.at())
    }

    /// Whether the cursor is on this row as shown.
    pub fn is_at(&self, at: usize) -> bool {
        self.cursor.at() == at
    }

    /// Puts the cursor on a row as shown.
    pub fn select(&mut self, at: usize) {
        self.cursor.select(at, &self.shown);
    }

    /// Moves the cursor by rows.
    pub fn move_by(&mut self, by: isize) {
        self.cursor.move_by(by, &self.shown);
    }

    /// Moves the cursor if the key asks for that.
    pub fn act(&mut self, action: Action) {
        self.cursor.act(action, &self.shown);
    }

    /// Rows of the screen that show everything, headings included.
    pub fn height(&self) -> u16 {
        narrow(self.shown.len().max(1) + 2)
    }

    /// Draws the table. Returns the number of rows below those in view.
    pub fn draw(
        &mut self,
        c: &mut Canvas,
        area: Rect,
        profile: &ProfileView,
        search: &str,
    ) -> usize {
        let width = usize::from(area.width);
        let cause = if width >= 100 { 13 } else { 7 };
        let numbers = cause + 8 + 6 + 3;
        let location = match width >= LOCATIONS && self.shown.iter().any(|r| r.location.is_some()) {
            true => (width - numbers) * 2 / 5,
            false => 0,
        };
        let name = width.saturating_sub(numbers + 2 + location + usize::from(location > 0));
        let heading = c.theme.dim().add_modifier(Modifier::BOLD);
        let mut line = RowText::default();
        line.push(text::left("  CODE", name + 3), heading);
        line.push(text::left("CAUSE", cause + 1), heading);
        line.push(text::right("▼CPU", 8), c.theme.title());
        line.push(text::right("SHARE", 6), heading);
        if location > 0 {
            line.push("  LOCATION", heading);
        }
        c.row(area, 0, line.line());
        let body = Rect {
            y: area.y + 1,
            height: area.height.saturating_sub(1),
            ..area
        };
        if self.shown.is_empty() {
            let nothing = format!("  Nothing matches \"{search}\"; Esc clears the search.");
            c.row(body, 0, Span::styled(nothing, c.theme.dim()));
            return 0;
        }
        let in_view = self.cursor.in_view(body.height, &self.shown);
        let rows = self.shown.iter().enumerate().skip(in_view.start);
        for (y, (at, row)) in (0..body.height).zip(rows) {
            let share = profile.share(row);
            let (label, calls) = text::fit_call(&row.key.0, row.key.1.as_deref(), name);
            let used = text::width(&label) + text::width(&calls);
            let mut line = RowText::default();
            line.push("  ", Style::new());
            line.push(label, c.theme.strong());
            line.push(calls, c.theme.dim());
            line.push(" ".repeat(name.saturating_sub(used) + 1), Style::new());
            let cause_text = text::left(text::cause(row.cause, cause), cause + 1);
            line.push(cause_text, c.theme.cause(row.cause));
            let cpu = text::right(&text::duration(row.cpu_ns), 8);
            line.push(cpu, c.theme.strong());
            line.push(text::right(&text::percent(share), 6), Style::new());
            if let Some(at) = row.location.as_ref().filter(|_| location > 0) {
                let at = text::path(&text::location(at), location.saturating_sub(2));
                line.push(format!("  {at}"), c.theme.dim());
            }
            c.row(body, y, line.line());
            if self.is_at(at) {
                c.style_row(body, y, c.theme.selected());
            }
            c.hit(row_of(body, y), Hit::Spot(at));
        }
        self.shown.len() - in_view.end
    }
}

impl Keyed for Arc<SpotRow> {
    type Key = SpotKey;

    fn key(&self) -> SpotKey {
        self.key.clone()
    }
}
