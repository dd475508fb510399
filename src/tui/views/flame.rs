//! The flame view: the call tree of one culprit, or of all blocking code, as a flame graph.

use std::sync::Arc;

use ratatui::layout::Rect;

use crate::model::Name;
use crate::session::{CallTree, Snapshot, Sum};
use crate::tui::state::Handled;
use crate::tui::state::keys::Action;
use crate::tui::widgets::call_tree::rows::Path;
use crate::tui::widgets::canvas::Canvas;
use crate::tui::widgets::flame_graph::FlameGraph;

/// Rows of the table that are merged when the view is about everything.
pub const ROWS: usize = 200;
/// Nodes of the merged tree.
const NODES: usize = 50_000;
/// A tree under a live session is merged again this often at most.
const MERGE_EVERY_NS: u64 = 1_000_000_000;

/// The graph, and what its tree was made from.
#[derive(Debug, Default)]
pub struct FlameView {
    graph: FlameGraph,
    /// About all culprits, not one.
    pub everything: bool,
    source: Option<Source>,
}

#[derive(Debug, PartialEq)]
struct Source {
    /// The culprit; None for everything.
    culprit: Option<Name>,
    blocking: Sum,
    at_ns: u64,
}

impl FlameView {
    /// Takes the trees of a new snapshot.
    pub fn update(&mut self, snap: &Snapshot) {
        let culprit = match (&snap.selected, self.everything) {
            (_, true) => None,
            (Some(detail), false) => Some(detail.row.label.clone()),
            (None, false) => return,
        };
        let is_stale = self.source.as_ref().is_none_or(|source| {
            let is_old =
                snap.now_ns.abs_diff(source.at_ns) >= MERGE_EVERY_NS || snap.ended.is_some();
            source.culprit != culprit || source.blocking != snap.blocking && is_old
        });
        if !is_stale {
            return;
        }
        let tree = match &snap.selected {
            Some(detail) if !self.everything => detail.tree.clone(),
            _ => {
                let mut tree = CallTree::default();
                let mut room = NODES;
                for detail in &snap.details {
                    tree.merge(&detail.tree, &mut room);
                }
                tree
            }
        };
        self.graph.set_tree(Arc::new(tree));
        self.source = Some(Source {
            culprit,
            blocking: snap.blocking,
            at_ns: snap.now_ns,
        });
    }

    /// Makes the view about everything or about one culprit, without zoom and selection.
    pub fn begin(&mut self, everything: bool) {
        self.graph.reset();
        self.everything = everything;
        self.source = None;
    }

    /// Does what a key asks for.
    pub fn act(&mut self, action: Action, search: &str) -> Handled {
        self.graph.act(action, search)
    }

    /// A click on a bar.
    pub fn click(&mut self, path: Path) {
        self.graph.click(path);
    }

    /// Draws the view.
    pub fn draw(&mut self, c: &mut Canvas, area: Rect, search: &str) {
        let about = match (&c.snap.selected, self.everything) {
            (Some(detail), false) => detail.row.label.to_string(),
            (None, false) => "a culprit that has left the table".to_owned(),
            (_, true) => match c.snap.rows.len() {
                n if n > ROWS => format!("the first {ROWS} rows of the table"),
                _ => "all blocking code".to_owned(),
            },
        };
        self.graph.draw(c, area, &about, "held", search);
    }
}
