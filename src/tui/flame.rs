//! The flame view: a call tree as bars, callers above what they call, widths by held time.

use std::sync::Arc;

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::canvas::{Canvas, Hit, narrow};
use super::flame_bars::{Cell, covers, frame, lay_out};
use super::keys::Action;
use super::text::{self, RowText};
use super::tree_rows::Path;
use crate::session::{CallTree, Snapshot, Sum};

/// Rows of the table that are merged when the view is about everything.
pub const ROWS: usize = 200;
/// Nodes of the merged tree.
const NODES: usize = 50_000;
/// A tree under a live session is merged anew this often at most.
const MERGE_EVERY_NS: u64 = 1_000_000_000;

/// What is zoomed into and selected.
#[derive(Debug, Default)]
pub struct FlameView {
    tree: Arc<CallTree>,
    /// What it is called and what its widths are, where they are not slow polls.
    about: Option<(String, &'static str)>,
    /// What the tree was made of: a name, the sums then, and when.
    made_of: Option<(String, Sum, u64)>,
    /// About all culprits, not one.
    pub everything: bool,
    /// Show the frames of the runtime, too.
    runtime: bool,
    /// Frames zoomed into, the innermost last.
    zoom: Vec<Path>,
    selected: Option<Path>,
    cells: Vec<Cell>,
    /// First depth shown, and how many fit.
    offset: usize,
    size: (u16, u16),
}

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Here,
    /// Nothing was left to zoom out of.
    Leave,
}

impl FlameView {
    /// Takes the trees of a new picture.
    pub fn update(&mut self, snap: &Snapshot) {
        let about = match (&snap.selected, self.everything) {
            (_, true) => String::new(),
            (Some(detail), false) => detail.row.label.to_string(),
            (None, false) => return,
        };
        let stale = self.made_of.as_ref().is_none_or(|(name, sum, at)| {
            let old = snap.now_ns.abs_diff(*at) >= MERGE_EVERY_NS || snap.ended.is_some();
            *name != about || *sum != snap.blocking && old
        });
        if stale {
            self.tree = match &snap.selected {
                Some(detail) if !self.everything => Arc::new(detail.tree.clone()),
                _ => {
                    let mut tree = CallTree::default();
                    let mut room = NODES;
                    for detail in &snap.details {
                        tree.merge(&detail.tree, &mut room);
                    }
                    Arc::new(tree)
                }
            };
            self.made_of = Some((about, snap.blocking, snap.now_ns));
        }
        self.lay_out();
    }

    /// Shows a tree of something else than slow polls: what it is called, and what of it is shown.
    pub fn show(&mut self, tree: Arc<CallTree>, about: String, what: &'static str) {
        self.tree = tree;
        self.about = Some((about, what));
        self.lay_out();
    }

    /// Forgets where it was, for another subject.
    pub fn about(&mut self, everything: bool) {
        *self = FlameView {
            everything,
            runtime: self.runtime,
            size: self.size,
            ..FlameView::default()
        };
    }

    fn lay_out(&mut self) {
        let width = self.size.0;
        self.cells = lay_out(&self.tree, self.runtime, width, self.zoom.last().copied());
        if self.cells.is_empty() && self.zoom.pop().is_some() {
            // The frame zoomed into has left the picture.
            self.lay_out();
            return;
        }
        if self.at().is_none() {
            self.selected = self.cells.first().map(|cell| cell.path);
        }
    }

    fn at(&self) -> Option<usize> {
        let selected = self.selected?;
        self.cells.iter().position(|cell| cell.path == selected)
    }

    /// Does what a key asks for.
    pub fn act(&mut self, action: Action, search: &str) -> Done {
        match action {
            Action::Back => match self.zoom.pop() {
                Some(path) => self.selected = Some(path),
                None => return Done::Leave,
            },
            Action::Open => self.zoom_into_selected(),
            Action::Whole | Action::Home => self.zoom.clear(),
            Action::Unfold => self.runtime = !self.runtime,
            Action::Next => self.find(search, false),
            Action::Previous => self.find(search, true),
            Action::Up => self.step(|at, cell| cell.depth + 1 == at.depth && covers(cell, at)),
            Action::Down => self.step(|at, cell| cell.depth == at.depth + 1 && covers(at, cell)),
            Action::Right => self.step(|at, cell| cell.depth == at.depth && cell.x > at.x),
            Action::Left => {
                let at = self.at().and_then(|i| self.cells.get(i));
                let before =
                    |cell: &&Cell| at.is_some_and(|at| cell.depth == at.depth && cell.x < at.x);
                let left = self.cells.iter().filter(before).max_by_key(|cell| cell.x);
                if let Some(path) = left.map(|cell| cell.path) {
                    self.selected = Some(path);
                }
            }
            _ => {}
        }
        self.lay_out();
        Done::Here
    }

    /// Moves to the first bar, from the left, that fits.
    fn step(&mut self, fits: impl Fn(&Cell, &Cell) -> bool) {
        let Some(at) = self.at().and_then(|i| self.cells.get(i)) else {
            return;
        };
        let found = self.cells.iter().filter(|cell| fits(at, cell));
        if let Some(path) = found.min_by_key(|cell| cell.x).map(|cell| cell.path) {
            self.selected = Some(path);
        }
    }

    fn zoom_into_selected(&mut self) {
        if let Some(path) = self.selected
            && self.zoom.last() != Some(&path)
        {
            self.zoom.push(path);
        }
    }

    /// A click selects; a click on the selected bar zooms.
    pub fn click(&mut self, path: Path) {
        match self.selected == Some(path) {
            true => self.zoom_into_selected(),
            false => self.selected = Some(path),
        }
        self.lay_out();
    }

    fn find(&mut self, search: &str, back: bool) {
        let n = self.cells.len();
        let at = self.at().unwrap_or(0);
        let step = |i: usize| if back { (at + n - i) % n } else { (at + i) % n };
        let has = |i: &usize| {
            self.cells
                .get(*i)
                .is_some_and(|cell| self.matches(cell, search))
        };
        if let Some(found) = (1..=n).map(step).find(has) {
            self.selected = self.cells.get(found).map(|cell| cell.path);
        }
    }

    fn matches(&self, cell: &Cell, search: &str) -> bool {
        let frame = frame(&self.tree, cell.node);
        !search.is_empty() && frame.is_some_and(|f| f.function.to_lowercase().contains(search))
    }

    /// Draws the view.
    pub fn draw(&mut self, c: &mut Canvas, area: Rect, search: &str) {
        let body = Rect {
            y: area.y + 1,
            height: area.height.saturating_sub(4),
            ..area
        };
        if (body.width, body.height) != self.size {
            self.size = (body.width, body.height);
            self.lay_out();
        }
        self.heading(c, area, search);
        if self.cells.is_empty() {
            let text = "  no stack of a slow poll yet";
            c.row(body, 0, Span::styled(text, c.theme.dim()));
            return;
        }
        let selected = self.at();
        let depth = selected
            .and_then(|i| self.cells.get(i))
            .map_or(0, |cell| cell.depth);
        let deepest = self
            .cells
            .iter()
            .map(|cell| cell.depth + 1)
            .max()
            .unwrap_or(0);
        self.offset =
            super::canvas::scrolled(self.offset, depth, deepest, usize::from(body.height));
        for (i, cell) in self.cells.iter().enumerate() {
            let Some(row) = cell.depth.checked_sub(self.offset).map(narrow) else {
                continue;
            };
            if row >= body.height {
                continue;
            }
            let Some(frame) = frame(&self.tree, cell.node) else {
                continue;
            };
            let mut style = c.theme.flame(frame.origin);
            if self.matches(cell, search) {
                style = style.patch(c.theme.found());
            }
            if Some(i) == selected {
                style = style.patch(c.theme.selected());
            }
            // A thin line on its left keeps bars apart where there is no colour.
            let room = usize::from(cell.width).saturating_sub(1);
            let name = text::left(&text::path(&frame.function, room), room);
            c.at(body, cell.x, row, Span::styled(format!("▏{name}"), style));
            let click = Rect::new(body.x + cell.x, body.y + row, cell.width, 1);
            c.hit(click.intersection(body), Hit::Frame(cell.path));
        }
        if let Some(cell) = selected.and_then(|i| self.cells.get(i)) {
            let below = Rect {
                y: area.bottom().saturating_sub(3),
                height: 3,
                ..area
            };
            self.describe(c, below, cell);
        }
    }

    fn heading(&self, c: &mut Canvas, area: Rect, search: &str) {
        let table = || match (&c.snap.selected, self.everything) {
            (Some(detail), false) => detail.row.label.to_string(),
            (None, false) => "a culprit that has left the table".to_owned(),
            (_, true) => match c.snap.rows.len() {
                n if n > ROWS => format!("the first {ROWS} rows of the table"),
                _ => "all blocking code".to_owned(),
            },
        };
        let (about, what) = match &self.about {
            Some((about, what)) => (about.clone(), *what),
            None => (table(), "held"),
        };
        let mut note = format!("{about}, {} {what}", text::duration(self.tree.total_ns()));
        match self.zoom.len() {
            0 => {}
            n => note.push_str(&format!(", zoomed in {n} times (Esc: out)")),
        }
        if !search.is_empty() {
            let cells = self.cells.iter().filter(|cell| self.matches(cell, search));
            note.push_str(&format!(", {} frames match \"{search}\"", cells.count()));
        }
        c.heading(area, 0, "Flame", &note);
    }

    /// All there is to say of the selected bar.
    fn describe(&self, c: &mut Canvas, area: Rect, cell: &Cell) {
        let (Some(node), Some(frame)) = (self.tree.node(cell.node), frame(&self.tree, cell.node))
        else {
            return;
        };
        let width = usize::from(area.width);
        let mut line = RowText::default();
        line.push(" ", Style::new());
        line.push(
            text::path(&frame.function, width.saturating_sub(11)),
            c.theme.strong(),
        );
        if frame.inlined {
            line.push(" (inlined)", c.theme.dim());
        }
        c.heading(area, 0, "", "");
        c.row(area, 1, line.line());
        let share = text::part(node.total_ns, self.tree.total_ns());
        let own = match node.own_ns() {
            0 => String::new(),
            ns => format!(", {} of it in its own code or waiting", text::duration(ns)),
        };
        let location = frame.location.as_ref().map(|l| format!(", {l}"));
        let facts = format!(
            " {} ({}){own}{}",
            text::duration(node.total_ns),
            text::percent(share),
            location.unwrap_or_default()
        );
        c.row(
            area,
            2,
            Line::from(Span::styled(text::cut(&facts, width), c.theme.dim())),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cause, Record};
    use crate::session::{Query, Session, SessionOptions, testing as t};

    fn view(width: u16) -> FlameView {
        let mut session = Session::new(SessionOptions::default());
        session.apply(&t::header());
        for (held, function, calls) in [
            (30, "shop::hash", "bcrypt::bcrypt"),
            (10, "shop::parse", "serde_json::from_str"),
        ] {
            let poll = t::poll(0, 100, held, Cause::Cpu, function, calls);
            session.apply(&Record::SlowPoll(poll.into()));
        }
        let mut view = FlameView {
            everything: true,
            size: (width, 20),
            ..FlameView::default()
        };
        view.update(&session.snapshot(&Query {
            details: ROWS,
            ..Query::default()
        }));
        view
    }

    fn names(view: &FlameView) -> Vec<(usize, u16, u16, &str)> {
        let name = |node| &frame(&view.tree, node).unwrap().function;
        let cells = view.cells.iter();
        cells
            .map(|cell| (cell.depth, cell.x, cell.width, name(cell.node).as_str()))
            .collect()
    }

    #[test]
    fn widths_follow_held_time_and_the_runtime_is_left_out() {
        let mut view = view(80);
        let expected = [
            (0, 0, 80, "shop::serve"),
            (1, 0, 60, "shop::hash"),
            (1, 60, 20, "shop::parse"),
            (2, 0, 60, "bcrypt::bcrypt"),
            (2, 60, 20, "serde_json::from_str"),
        ];
        assert_eq!(names(&view), expected);
        view.act(Action::Unfold, "");
        assert_eq!(names(&view)[0].3, "std::thread::spawn");
    }

    #[test]
    fn keys_move_zoom_and_find() {
        let mut view = view(80);
        let selected = |view: &FlameView| names(view)[view.at().unwrap()].3.to_owned();
        view.act(Action::Down, "");
        view.act(Action::Right, "");
        assert_eq!(selected(&view), "shop::parse");
        view.act(Action::Open, "");
        assert_eq!(names(&view)[0], (0, 0, 80, "shop::parse"));
        assert_eq!(view.cells.len(), 2);
        assert_eq!(view.act(Action::Back, ""), Done::Here);
        assert_eq!(selected(&view), "shop::parse");
        view.act(Action::Left, "");
        assert_eq!(selected(&view), "shop::hash");
        view.act(Action::Up, "");
        assert_eq!(selected(&view), "shop::serve");
        view.act(Action::Next, "from_str");
        assert_eq!(selected(&view), "serde_json::from_str");
        assert_eq!(view.act(Action::Back, ""), Done::Leave);
    }

    #[test]
    fn a_narrow_screen_drops_thin_bars_only() {
        let view = view(3);
        assert!(view.cells.iter().all(|cell| cell.width > 0));
        assert!(names(&view).iter().any(|cell| cell.3 == "shop::hash"));
        assert!(view.cells.iter().all(|cell| cell.x + cell.width <= 3));
    }
}
