//! What the mouse does: clicks, drags and the wheel.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};

use super::{App, Effect, Overlay};
use crate::tui::state::View;
use crate::tui::state::keys::Action;
use crate::tui::widgets::canvas::Hit;

/// Rows that one step of the mouse wheel moves.
const WHEEL: isize = 3;

impl App {
    /// Handles a mouse event.
    pub(super) fn on_mouse(&mut self, mouse: &MouseEvent) -> Option<Effect> {
        let hit = self.hits.at(mouse.column, mouse.row);
        match mouse.kind {
            MouseEventKind::ScrollDown => self.wheel(hit, mouse.column, WHEEL),
            MouseEventKind::ScrollUp => self.wheel(hit, mouse.column, -WHEEL),
            MouseEventKind::Down(MouseButton::Left) => self.click(hit?, mouse.column),
            // The scrubber follows the mouse.
            MouseEventKind::Drag(MouseButton::Left) if hit == Some(Hit::Scrubber) => {
                self.timeline.click(mouse.column, Hit::Scrubber);
            }
            _ => return None,
        }
        self.touch();
        None
    }

    fn wheel(&mut self, hit: Option<Hit>, column: u16, by: isize) {
        match (&mut self.overlay, hit) {
            (Some(Overlay::Help { scroll } | Overlay::Threads { scroll }), _) => {
                *scroll = scroll.saturating_add_signed(by);
            }
            (Some(Overlay::Workers(_)), _) => {}
            (None, Some(Hit::Lanes)) => self.culprits.scroll_lanes(by),
            (None, hit) => match self.view {
                View::Culprits => self.culprits.table.move_by(by),
                View::Detail => self.detail.scroll(by, hit == Some(Hit::Facts)),
                View::Flame => self.in_flame(if by > 0 { Action::Down } else { Action::Up }),
                View::Timeline => self.timeline.wheel(column, by < 0),
                View::PollTime => self.poll_time.wheel(by, hit),
            },
        }
    }

    fn click(&mut self, hit: Hit, column: u16) {
        match (&mut self.overlay, hit) {
            (Some(Overlay::Workers(picker)), Hit::Row(at)) => picker.toggle(at),
            (Some(_), _) => {}
            (None, Hit::Row(at)) => match self.view {
                // A second click on the row under the cursor opens it.
                View::Culprits if self.culprits.table.is_at(at) => self.go(View::Detail),
                View::Culprits => self.culprits.table.select(at),
                View::Detail => self.detail.click(at),
                View::PollTime => self.poll_time.click_tree(at),
                View::Flame | View::Timeline => {}
            },
            (None, Hit::Sort(sort)) if sort == self.sort => {
                self.culprits.table.reversed = !self.culprits.table.reversed;
            }
            (None, Hit::Sort(sort)) => {
                self.sort = sort;
                self.culprits.table.reversed = false;
            }
            (None, Hit::View(view)) => self.go(view),
            (None, Hit::Facts) => self.detail.focus_facts(),
            (None, Hit::Spot(at)) => self.poll_time.click(at),
            (None, Hit::Frame(path)) if self.view == View::PollTime => {
                self.poll_time.click_flame(path);
            }
            (None, Hit::Frame(path)) => self.flame.click(path),
            (None, hit @ (Hit::Lane(_) | Hit::Scrubber)) => self.timeline.click(column, hit),
            (None, Hit::Lanes) => {}
        }
    }
}
