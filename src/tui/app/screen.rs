//! Draws the app: divides the screen by its size and draws each part.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::text::Span;

use super::{App, Overlay};
use crate::tui::frame::header::Mode;
use crate::tui::frame::{footer, header};
use crate::tui::overlays::{help, threads};
use crate::tui::state::View;
use crate::tui::widgets::canvas::Canvas;

/// The smallest screen: columns and rows. A smaller one shows only a line that says so.
pub const SMALLEST: (u16, u16) = (60, 16);

impl App {
    /// Draws the last snapshot.
    pub fn draw(&mut self, frame: &mut Frame) {
        let area = frame.area();
        if self.size != (area.width, area.height) {
            // What is asked of the session depends on the size: the next snapshot has all of it.
            self.size = (area.width, area.height);
            self.touch();
        }
        self.hits.clear();
        let mode = Mode {
            replay: self.options.replay,
            expected: self.expected.clone(),
            paused: self.paused(),
            missed: self.missed,
            view: self.view,
            min_held_ns: Some(self.min_held_ns).filter(|ns| *ns > self.captured_ns()),
            workers: self.workers.as_ref().map(|set| set.len()),
        };
        let App {
            snap,
            hits,
            options,
            ..
        } = self;
        let mut c = Canvas {
            buf: frame.buffer_mut(),
            hits,
            snap,
            theme: options.theme,
        };
        if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
            c.row(
                area,
                area.height / 2,
                Span::raw(too_small(area.width, area.height)),
            );
            return;
        }
        let [top, middle, bottom] = Layout::vertical([
            Constraint::Length(header::height(area.height)),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(area);
        header::draw(&mut c, top, &mode);
        let (search, status) = (self.search.as_str(), self.status.as_deref());
        match self.view {
            View::Culprits => self
                .culprits
                .draw(&mut c, middle, self.sort, search, status),
            View::Detail => self.detail.draw(&mut c, middle, search),
            View::Flame => self.flame.draw(&mut c, middle, search),
            View::Timeline => self.timeline.draw(&mut c, middle),
            View::PollTime => self.poll_time.draw(&mut c, middle, search, mode.replay),
        }
        match &mut self.overlay {
            Some(Overlay::Help { scroll }) => help::draw(&mut c, middle, scroll),
            Some(Overlay::Threads { scroll }) => threads::draw(&mut c, middle, scroll),
            Some(Overlay::Workers(picker)) => picker.draw(&mut c, middle),
            None => {}
        }
        if let Some(message) = self.message.as_deref() {
            footer::notice(&mut c, middle, message);
        }
        let hints = match &self.overlay {
            Some(overlay) => overlay.hints().to_vec(),
            None => footer::of_view(self.view),
        };
        let cursor = footer::draw(&mut c, bottom, &hints, self.prompt.as_ref(), status);
        if let Some(cursor) = cursor {
            frame.set_cursor_position(cursor);
        }
    }
}

/// What a screen that is too small shows, in as many words as fit.
fn too_small(width: u16, height: u16) -> String {
    let needs = format!("needs {}x{}", SMALLEST.0, SMALLEST.1);
    let whole = format!("hud {needs}, this terminal has {width}x{height}");
    match usize::from(width) {
        width if width >= whole.len() => whole,
        width if width >= 4 + needs.len() => format!("hud {needs}"),
        width if width >= needs.len() => needs,
        // Fits ten columns.
        _ => format!(">={}x{}", SMALLEST.0, SMALLEST.1),
    }
}
