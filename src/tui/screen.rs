//! Where everything goes: the screen cut into its parts, by its size.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Span;

use super::app::{App, Overlay, View};
use super::canvas::Canvas;
use super::header::Mode;
use super::{census, culprits, footer, header, help, lanes, preview, stuck, verdict};

/// Below this many columns or rows there is no view, only a line that says so.
pub const SMALLEST: (u16, u16) = (60, 16);

/// Rows the table of culprits keeps before anything is put below it, its heading included.
const TABLE_ROWS: u16 = 10;

impl App {
    /// Draws the last picture.
    pub fn draw(&mut self, frame: &mut Frame) {
        let area = frame.area();
        if self.size != (area.width, area.height) {
            // What is asked of the session depends on it: the next picture has all of it.
            self.size = (area.width, area.height);
            self.touch();
        }
        self.hits.clear();
        let mode = Mode::of(self);
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
            let needs = format!("needs {}x{}", SMALLEST.0, SMALLEST.1);
            let has = format!("this terminal has {}x{}", area.width, area.height);
            let whole = format!("hud {needs}, {has}");
            let text = match usize::from(area.width) {
                width if width >= whole.len() => whole,
                width if width >= 4 + needs.len() => format!("hud {needs}"),
                width if width >= needs.len() => needs,
                // Ten columns are enough to say it.
                _ => format!(">={}x{}", SMALLEST.0, SMALLEST.1),
            };
            c.row(area, area.height / 2, Span::raw(text));
            return;
        }
        let [top, middle, bottom] = Layout::vertical([
            Constraint::Length(header::height(area.height)),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(area);
        header::draw(&mut c, top, &mode);
        match self.view {
            View::Culprits => overview(
                &mut c,
                middle,
                &mut self.table,
                &mut self.lanes_scroll,
                self.sort,
                &self.search,
                self.status.as_deref(),
            ),
            View::Detail => self.detail.draw(&mut c, middle, &self.search),
            View::Flame => self.flame.draw(&mut c, middle, &self.search),
            View::Timeline => self.timeline.draw(&mut c, middle),
            View::PollTime => {
                let replay = mode.replay;
                self.poll_time.draw(&mut c, middle, &self.search, replay);
            }
        }
        match &mut self.overlay {
            Some(Overlay::Help { scroll }) => help::draw(&mut c, middle, scroll),
            Some(Overlay::Census { scroll }) => census::draw(&mut c, middle, scroll),
            Some(Overlay::Workers(picker)) => picker.draw(&mut c, middle),
            None => {}
        }
        if let Some(notice) = self.message.as_deref() {
            footer::notice(&mut c, middle, notice);
        }
        let cursor = footer::draw(
            &mut c,
            bottom,
            &footer::Foot {
                view: self.view,
                overlay: self.overlay.as_ref(),
                prompt: self.prompt.as_ref(),
                status: self.status.as_deref(),
            },
        );
        if let Some(cursor) = cursor {
            frame.set_cursor_position(cursor);
        }
    }
}

/// The first screen.
fn overview(
    c: &mut Canvas,
    area: Rect,
    table: &mut culprits::Table,
    lanes_scroll: &mut usize,
    sort: crate::session::Sort,
    search: &str,
    status: Option<&str>,
) {
    let screen = area.height + 3;
    let stuck_rows = stuck::height(c.snap.running.len(), screen);
    let lane_rows = lanes::height(c.snap.last_workers().len(), screen);
    let left = area.height.saturating_sub(1 + stuck_rows + lane_rows);
    // The table comes first: on a screen full of workers and stuck polls it gets what is left.
    let roomy = screen + 1 >= preview::TALL && left >= preview::HEIGHT + TABLE_ROWS;
    let under = match &c.snap.selected {
        Some(detail) => {
            let unused = left.saturating_sub(table.height());
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
    lanes::draw(c, lanes, lanes_scroll);
    culprits::draw(c, rows, table, sort, search);
    if under > 0 {
        preview::draw(c, below);
    }
}
