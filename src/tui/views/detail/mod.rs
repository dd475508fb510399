//! The drill-down: one culprit's call tree of held time, and the facts about it.

mod facts;
mod source;

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Span;

use crate::session::Snapshot;
use crate::tui::state::keys::Action;
use crate::tui::widgets::call_tree::CallTreeView;
use crate::tui::widgets::canvas::{Canvas, Hit};

/// From this many columns on, the facts stand beside the tree instead of below it.
const BESIDE: u16 = 110;

/// The tree with its cursor, and how far the facts are scrolled.
#[derive(Debug, Default)]
pub struct DetailView {
    tree: CallTreeView,
    facts_focused: bool,
    facts_scroll: usize,
    /// Rows of the facts when last drawn.
    facts_page: u16,
}

impl DetailView {
    /// Takes the tree of a new snapshot.
    pub fn update(&mut self, snap: &Snapshot) {
        if let Some(detail) = &snap.selected {
            self.tree.update(&detail.tree, &detail.row.label);
        }
    }

    /// Does what a key asks for.
    pub fn act(&mut self, action: Action, search: &str) {
        let page = self.facts_page as isize;
        match action {
            Action::Pane => self.facts_focused = !self.facts_focused,
            Action::Up if self.facts_focused => self.scroll(-1, true),
            Action::Down if self.facts_focused => self.scroll(1, true),
            Action::PageUp if self.facts_focused => self.scroll(-page, true),
            Action::PageDown if self.facts_focused => self.scroll(page, true),
            Action::Home if self.facts_focused => self.scroll(isize::MIN, true),
            Action::End if self.facts_focused => self.scroll(isize::MAX, true),
            other => self.tree.act(other, search),
        }
    }

    /// Moves the cursor of the tree, or scrolls the facts.
    pub fn scroll(&mut self, by: isize, facts: bool) {
        match facts {
            true => self.facts_scroll = self.facts_scroll.saturating_add_signed(by),
            false => self.tree.scroll(by),
        }
    }

    /// A click on a row of the tree.
    pub fn click(&mut self, at: usize) {
        self.facts_focused = false;
        self.tree.click(at);
    }

    /// A click on the facts.
    pub fn focus_facts(&mut self) {
        self.facts_focused = true;
    }

    /// Draws the view.
    pub fn draw(&mut self, c: &mut Canvas, area: Rect, search: &str) {
        let Some(detail) = c.snap.selected.clone() else {
            let gone = "  This culprit is not in the table any more; Esc goes back.";
            c.row(area, 1, Span::styled(gone, c.theme.dim()));
            return;
        };
        facts::title(c, area, &detail.row);
        let below = Rect {
            y: area.y + 2,
            height: area.height.saturating_sub(2),
            ..area
        };
        // The facts get the rows that a short tree does not need.
        let part = if self.facts_focused { 2 } else { 3 };
        let tree_rows = self.tree.height().min(below.height * part / 5);
        let [tree, facts] = match area.width >= BESIDE {
            true => Layout::horizontal([Constraint::Percentage(58), Constraint::Percentage(42)])
                .spacing(1)
                .areas(below),
            false => {
                Layout::vertical([Constraint::Length(tree_rows), Constraint::Fill(1)]).areas(below)
            }
        };
        let focused = !self.facts_focused;
        let shown = (&detail.tree, "Call tree");
        self.tree.draw(c, tree, shown, focused, search);
        c.hit(facts, Hit::Facts);
        self.facts_page = facts.height.saturating_sub(1).max(1);
        facts::draw(
            c,
            facts,
            &detail,
            &mut self.facts_scroll,
            self.facts_focused,
        );
    }
}
