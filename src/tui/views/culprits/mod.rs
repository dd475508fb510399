//! The first screen: the verdict, stuck polls, workers, the table of culprits and, where there is
//! room, a preview of the selected one.

mod columns;
mod lanes;
mod preview;
mod stuck;
mod table;
mod verdict;

use ratatui::layout::{Constraint, Layout, Rect};

use self::table::Table;
use crate::session::Sort;
use crate::tui::state::keys::Action;
use crate::tui::widgets::canvas::Canvas;

pub use self::preview::fits as has_room_for_preview;

/// Rows that the table of culprits keeps, its heading included, before a preview is set apart.
const TABLE_ROWS: u16 = 10;

/// The table with its cursor, and how far the lanes are scrolled.
#[derive(Debug, Default)]
pub struct CulpritsView {
    pub table: Table,
    lanes_scroll: usize,
}

impl CulpritsView {
    /// Moves the cursor of the table, or scrolls the lanes.
    pub fn act(&mut self, action: Action) {
        match action {
            Action::LanesUp => self.scroll_lanes(-1),
            Action::LanesDown => self.scroll_lanes(1),
            other => self.table.act(other),
        }
    }

    /// Scrolls the lanes.
    pub fn scroll_lanes(&mut self, by: isize) {
        self.lanes_scroll = self.lanes_scroll.saturating_add_signed(by);
    }

    /// Draws the screen. While nothing blocks, `status` says what hud itself is busy with.
    pub fn draw(
        &mut self,
        c: &mut Canvas,
        area: Rect,
        sort: Sort,
        search: &str,
        status: Option<&str>,
    ) {
        let screen = area.height + 3;
        let stuck_rows = stuck::height(c.snap.running.len(), screen);
        let lane_rows = lanes::height(c.snap.last_workers().len(), screen);
        let left = area.height.saturating_sub(1 + stuck_rows + lane_rows);
        // The table comes first: it also gets what is left beside many workers and stuck polls.
        let roomy = screen + 1 >= preview::TALL && left >= preview::HEIGHT + TABLE_ROWS;
        let under = match &c.snap.selected {
            Some(detail) => {
                let unused = left.saturating_sub(self.table.height());
                preview::height(detail, unused, roomy)
            }
            None => 0,
        };
        let [top, stuck, lanes, rows, below] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(stuck_rows),
            Constraint::Length(lane_rows),
            Constraint::Fill(1),
            Constraint::Length(under),
        ])
        .areas(area);
        verdict::draw(c, top, status);
        stuck::draw(c, stuck);
        lanes::draw(c, lanes, &mut self.lanes_scroll);
        table::draw(c, rows, &mut self.table, sort, search);
        if under > 0 {
            preview::draw(c, below);
        }
    }
}
