//! A call tree as a flame graph: callers above what they call, widths by time. It can be zoomed,
//! searched and walked through.

mod bars;

use std::sync::Arc;

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use self::bars::{Cell, covers, frame, lay_out};
use crate::session::CallTree;
use crate::text;
use crate::tui::state::Handled;
use crate::tui::state::keys::Action;
use crate::tui::widgets::call_tree::rows::Path;
use crate::tui::widgets::canvas::{Canvas, Hit, narrow, scrolled};
use crate::tui::widgets::row::RowText;

/// A tree, and what of it is zoomed into and selected.
#[derive(Debug, Default)]
pub struct FlameGraph {
    tree: Arc<CallTree>,
    /// Shows the frames of the runtime.
    runtime: bool,
    /// Frames zoomed into, the innermost last.
    zoom: Vec<Path>,
    selected: Option<Path>,
    cells: Vec<Cell>,
    /// The first depth shown.
    offset: usize,
    /// Columns and rows of the bars when last drawn.
    size: (u16, u16),
}

impl FlameGraph {
    /// Takes another tree, or a newer version of the same one.
    pub fn set_tree(&mut self, tree: Arc<CallTree>) {
        self.tree = tree;
        self.lay_out();
    }

    /// Forgets zoom and selection, for a tree of something else.
    pub fn reset(&mut self) {
        *self = FlameGraph {
            runtime: self.runtime,
            size: self.size,
            ..FlameGraph::default()
        };
    }

    fn lay_out(&mut self) {
        let width = self.size.0;
        self.cells = lay_out(&self.tree, self.runtime, width, self.zoom.last().copied());
        if self.cells.is_empty() && self.zoom.pop().is_some() {
            // The frame zoomed into is no longer in the tree.
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
    pub fn act(&mut self, action: Action, search: &str) -> Handled {
        match action {
            Action::Back => match self.zoom.pop() {
                Some(path) => self.selected = Some(path),
                None => return Handled::Leave,
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
        Handled::Here
    }

    /// Moves to the leftmost bar for which `fits(selected, bar)` holds.
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

    /// A click selects a bar; a click on the selected bar zooms into it.
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

    /// Draws it. `about` names the tree and `what` its time: `held`, `of CPU time`.
    pub fn draw(&mut self, c: &mut Canvas, area: Rect, about: &str, what: &str, search: &str) {
        let body = Rect {
            y: area.y + 1,
            height: area.height.saturating_sub(4),
            ..area
        };
        if (body.width, body.height) != self.size {
            self.size = (body.width, body.height);
            self.lay_out();
        }
        self.heading(c, area, about, what, search);
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
        self.offset = scrolled(self.offset, depth, deepest, usize::from(body.height));
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
            // The line at its left separates bars where there is no colour.
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

    fn heading(&self, c: &mut Canvas, area: Rect, about: &str, what: &str, search: &str) {
        let mut note = format!("{about}, {} {what}", text::duration(self.tree.total_ns()));
        if !self.zoom.is_empty() {
            let times = text::counted(self.zoom.len(), "time");
            note.push_str(&format!(", zoomed in {times} (Esc: out)"));
        }
        if !search.is_empty() {
            let cells = self.cells.iter().filter(|cell| self.matches(cell, search));
            let frames = match cells.count() {
                1 => "1 frame matches".to_owned(),
                n => format!("{n} frames match"),
            };
            note.push_str(&format!(", {frames} \"{search}\""));
        }
        c.heading(area, 0, "Flame", &note);
    }

    /// Draws what is known of the selected bar.
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
        let share = text::share(node.total_ns, self.tree.total_ns());
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

    fn graph(width: u16) -> FlameGraph {
        let mut session = Session::new(SessionOptions::default());
        session.apply(&t::header());
        for (held, function, calls) in [
            (30, "shop::hash", "bcrypt::bcrypt"),
            (10, "shop::parse", "serde_json::from_str"),
        ] {
            let poll = t::poll(0, 100, held, Cause::Cpu, function, calls);
            session.apply(&Record::SlowPoll(poll.into()));
        }
        let snap = session.snapshot(&Query {
            details: 10,
            ..Query::default()
        });
        let mut tree = CallTree::default();
        for detail in &snap.details {
            tree.merge(&detail.tree, &mut 1000);
        }
        let mut graph = FlameGraph {
            size: (width, 20),
            ..FlameGraph::default()
        };
        graph.set_tree(Arc::new(tree));
        graph
    }

    fn names(graph: &FlameGraph) -> Vec<(usize, u16, u16, &str)> {
        let name = |node| &frame(&graph.tree, node).unwrap().function;
        let cells = graph.cells.iter();
        cells
            .map(|cell| (cell.depth, cell.x, cell.width, name(cell.node).as_str()))
            .collect()
    }

    #[test]
    fn widths_follow_held_time_and_the_runtime_is_left_out() {
        let mut graph = graph(80);
        let expected = [
            (0, 0, 80, "shop::serve"),
            (1, 0, 60, "shop::hash"),
            (1, 60, 20, "shop::parse"),
            (2, 0, 60, "bcrypt::bcrypt"),
            (2, 60, 20, "serde_json::from_str"),
        ];
        assert_eq!(names(&graph), expected);
        graph.act(Action::Unfold, "");
        assert_eq!(names(&graph)[0].3, "std::thread::spawn");
    }

    #[test]
    fn keys_move_zoom_and_find() {
        let mut graph = graph(80);
        let selected = |graph: &FlameGraph| names(graph)[graph.at().unwrap()].3.to_owned();
        graph.act(Action::Down, "");
        graph.act(Action::Right, "");
        assert_eq!(selected(&graph), "shop::parse");
        graph.act(Action::Open, "");
        assert_eq!(names(&graph)[0], (0, 0, 80, "shop::parse"));
        assert_eq!(graph.cells.len(), 2);
        assert_eq!(graph.act(Action::Back, ""), Handled::Here);
        assert_eq!(selected(&graph), "shop::parse");
        graph.act(Action::Left, "");
        assert_eq!(selected(&graph), "shop::hash");
        graph.act(Action::Up, "");
        assert_eq!(selected(&graph), "shop::serve");
        graph.act(Action::Next, "from_str");
        assert_eq!(selected(&graph), "serde_json::from_str");
        assert_eq!(graph.act(Action::Back, ""), Handled::Leave);
    }

    #[test]
    fn a_narrow_screen_drops_thin_bars_only() {
        let graph = graph(3);
        assert!(graph.cells.iter().all(|cell| cell.width > 0));
        assert!(names(&graph).iter().any(|cell| cell.3 == "shop::hash"));
        assert!(graph.cells.iter().all(|cell| cell.x + cell.width <= 3));
    }
}
