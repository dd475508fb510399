//! A call tree as a list of rows that fold, with a cursor.

pub mod rows;

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use self::rows::{Folds, Path, TreeRow};
use crate::model::Origin;
use crate::session::{CallTree, Node};
use crate::text;
use crate::tui::state::keys::Action;
use crate::tui::widgets::bars::bar;
use crate::tui::widgets::canvas::{Canvas, Hit, narrow, row_of};
use crate::tui::widgets::cursor::{Cursor, Keyed};
use crate::tui::widgets::row::RowText;

/// The rows shown, and the one under the cursor.
#[derive(Debug, Default)]
pub struct CallTreeView {
    folds: Folds,
    rows: Vec<TreeRow>,
    /// Functions of the rows, lower case, for the search.
    names: Vec<String>,
    cursor: Cursor<TreeRow>,
    /// The cursor was put on the function that the tree is about.
    placed: bool,
}

impl CallTreeView {
    /// Takes the tree of a new snapshot. The cursor starts on the function `about`.
    pub fn update(&mut self, tree: &CallTree, about: &str) {
        self.rows = rows::rows(tree, &self.folds);
        self.names.clear();
        let name = |row: &TreeRow| match (row.folded_runtime, frame(tree, row)) {
            (0, Some(frame)) => frame.function.to_lowercase(),
            _ => String::new(),
        };
        self.names.extend(self.rows.iter().map(name));
        if !self.placed && !self.rows.is_empty() {
            self.placed = true;
            let own = about.to_lowercase();
            let at = self.names.iter().position(|name| *name == own);
            self.cursor.select(at.unwrap_or(0), &self.rows);
        }
        self.cursor.update(&self.rows);
    }

    /// Does what a key asks for.
    pub fn act(&mut self, action: Action, search: &str) {
        match action {
            Action::Open => self.toggle(None),
            Action::Left => self.toggle(Some(true)),
            Action::Right => self.toggle(Some(false)),
            Action::Unfold => {
                self.folds.runtime = !self.folds.runtime;
                self.folds.opened.clear();
            }
            Action::Next => self.find(search, false),
            Action::Previous => self.find(search, true),
            other => self.cursor.act(other, &self.rows),
        }
    }

    /// Moves the cursor.
    pub fn scroll(&mut self, by: isize) {
        self.cursor.move_by(by, &self.rows);
    }

    /// A click on a row: the cursor goes there; on the cursor's row, folds or unfolds.
    pub fn click(&mut self, at: usize) {
        match at == self.cursor.at() {
            true => self.toggle(None),
            false => self.cursor.select(at, &self.rows),
        }
    }

    fn toggle(&mut self, fold: Option<bool>) {
        let Some(row) = self.rows.get(self.cursor.at()) else {
            return;
        };
        if row.folded_runtime > 0 {
            if fold != Some(true) {
                self.folds.opened.insert(row.path);
            }
            return;
        }
        // Left or Enter on the first frame of an opened run folds the run again.
        if fold != Some(false) && self.folds.opened.remove(&row.path) {
            return;
        }
        match fold.unwrap_or(!row.folded) {
            true => self.folds.closed.insert(row.path),
            false => self.folds.closed.remove(&row.path),
        };
    }

    fn find(&mut self, search: &str, back: bool) {
        let n = self.names.len();
        if search.is_empty() {
            return;
        }
        let at = self.cursor.at();
        let step = |i: usize| match back {
            false => (at + i) % n,
            true => (at + n - i) % n,
        };
        let has = |at: &usize| {
            self.names
                .get(*at)
                .is_some_and(|name| name.contains(search))
        };
        if let Some(at) = (1..=n).map(step).find(has) {
            self.cursor.select(at, &self.rows);
        }
    }

    /// Rows that show everything, the heading included.
    pub fn height(&self) -> u16 {
        narrow(self.rows.len().max(1) + 1)
    }

    /// Draws it under a title. The cursor is shown while it has the focus.
    pub fn draw(
        &mut self,
        c: &mut Canvas,
        area: Rect,
        (tree, title): (&CallTree, &str),
        focused: bool,
        search: &str,
    ) {
        let note = match tree.cut_ns() {
            0 => "caller to callee, all stacks merged; own code is bold".to_owned(),
            cut => format!(
                "deeper frames of {} left out: the tree is full",
                text::duration(cut)
            ),
        };
        let title = match focused {
            true => format!("▸ {title}"),
            false => title.to_owned(),
        };
        c.heading(area, 0, &title, &note);
        let body = Rect {
            y: area.y + 1,
            height: area.height.saturating_sub(1),
            ..area
        };
        if self.rows.is_empty() {
            c.row(
                body,
                0,
                Span::styled("  no stack was captured", c.theme.dim()),
            );
            return;
        }
        let in_view = self.cursor.in_view(body.height, &self.rows);
        let shown = self.rows.iter().zip(&self.names).enumerate();
        for (y, (at, (row, name))) in (0..body.height).zip(shown.skip(in_view.start)) {
            let found = !search.is_empty() && name.contains(search);
            let Some(line) = line(c, tree, row, usize::from(body.width), found) else {
                continue;
            };
            c.row(body, y, line);
            if at == self.cursor.at() && focused {
                c.style_row(body, y, c.theme.selected());
            }
            c.hit(row_of(body, y), Hit::Row(at));
        }
    }
}

impl Keyed for TreeRow {
    type Key = Path;

    fn key(&self) -> Path {
        self.path
    }
}

fn frame<'t>(tree: &'t CallTree, row: &TreeRow) -> Option<&'t crate::model::Frame> {
    tree.node(row.node)?.frame.as_deref()
}

fn line(
    c: &Canvas,
    tree: &CallTree,
    row: &TreeRow,
    width: usize,
    found: bool,
) -> Option<Line<'static>> {
    let theme = c.theme;
    let node: &Node = tree.node(row.node)?;
    let frame = node.frame.as_ref()?;
    let share = text::share(node.total_ns, tree.total_ns());
    let mut line = RowText::default();
    line.push(text::right(&text::percent(share), 4), theme.strong());
    line.push(
        format!(" {} ", text::right(&text::duration(node.total_ns), 7)),
        Style::new(),
    );
    if width >= 60 {
        line.push(format!("{} ", bar(share, 5)), theme.dim());
    }
    line.push(" ".repeat((2 * row.depth).min(width / 4)), Style::new());
    let mark = match (row.folded, row.leaf, frame.inlined) {
        (true, ..) => "▸ ",
        _ if row.folded_runtime > 0 => "⋯ ",
        (_, _, true) => "┆ ",
        (_, true, _) => "└ ",
        _ => "│ ",
    };
    line.push(mark, theme.dim());
    if row.folded_runtime > 0 {
        let folded = match row.folded_runtime {
            1 => format!("{} (runtime)", &frame.function),
            n => format!("{n} frames of the runtime"),
        };
        let room = width.saturating_sub(line.used());
        line.push(text::path(&folded, room), theme.dim());
        return Some(line.line());
    }
    let own = node.own.iter().max_by_key(|leaf| leaf.ns);
    let leaf = own.map_or_else(String::new, |leaf| format!(" [{}]", leaf.cause));
    let room = width.saturating_sub(line.used() + text::width(&leaf));
    // The name comes first; the location takes what is left.
    let name = text::path(&frame.function, room);
    let left = room - text::width(&name);
    let style = match found {
        true => theme.origin(frame.origin).patch(theme.found()),
        false => theme.origin(frame.origin),
    };
    line.push(name, style);
    if let Some(own) = own {
        line.push(leaf, theme.cause(own.cause));
    }
    let location = match (&frame.location, frame.origin) {
        (Some(location), _) => text::location(location),
        (None, Origin::Kernel) => "kernel".to_owned(),
        (None, _) => "no debug info".to_owned(),
    };
    if left >= 14 {
        line.push(
            format!("  {}", text::path(&location, left - 2)),
            theme.dim(),
        );
    }
    Some(line.line())
}
