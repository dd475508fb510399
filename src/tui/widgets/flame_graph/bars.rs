//! The layout of a flame graph: a call tree divided into columns by time.

use crate::model::{Frame, Origin};
use crate::session::{CallTree, ROOT};
use crate::tui::widgets::call_tree::rows::{Path, child_path};

/// One frame's bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    pub path: Path,
    pub node: usize,
    pub depth: usize,
    pub x: u16,
    pub width: u16,
}

/// A node's frame.
pub fn frame(tree: &CallTree, node: usize) -> Option<&Frame> {
    tree.node(node)?.frame.as_deref()
}

/// Whether `below` begins under `above`.
pub fn covers(above: &Cell, below: &Cell) -> bool {
    above.x <= below.x && below.x < above.x + above.width
}

/// The bars of a tree, from the frame zoomed into on. Bars thinner than a column are left out.
pub fn lay_out(tree: &CallTree, runtime: bool, width: u16, zoom: Option<Path>) -> Vec<Cell> {
    let mut cells = Vec::new();
    // Node, its path, whether frames are shown from here on, depth, and the columns of its callees.
    let top = (ROOT, 0, runtime, 0, 0, width);
    let start = match zoom {
        None => Some(top),
        Some(path) => find_path(tree, path, runtime).map(|(node, inside)| {
            cells.push(Cell {
                path,
                node,
                depth: 0,
                x: 0,
                width,
            });
            (node, path, inside, 1, 0, width)
        }),
    };
    let mut work: Vec<_> = start.into_iter().collect();
    while let Some((parent, parent_path, inside, depth, x, width)) = work.pop() {
        let total = tree.node(parent).map_or(0, |node| node.total_ns).max(1);
        let column = |ns: u64| x + (u128::from(ns) * u128::from(width) / u128::from(total)) as u16;
        let mut before = 0u64;
        for (node, path, inside) in visible_callees(tree, parent, parent_path, inside) {
            let ns = tree.node(node).map_or(0, |node| node.total_ns);
            let (from, to) = (column(before), column(before.saturating_add(ns).min(total)));
            before = before.saturating_add(ns);
            if to > from {
                let width = to - from;
                cells.push(Cell {
                    path,
                    node,
                    depth,
                    x: from,
                    width,
                });
                work.push((node, path, inside, depth + 1, from, width));
            }
        }
    }
    cells.sort_by_key(|cell| (cell.depth, cell.x));
    cells
}

/// What a frame calls, where hidden frames are replaced by what they call. Hidden are the frames of
/// the runtime and of the thread's start, above the first frame of other code.
fn visible_callees(
    tree: &CallTree,
    node: usize,
    path: Path,
    inside: bool,
) -> Vec<(usize, Path, bool)> {
    let mut visible = Vec::new();
    let mut work = vec![(node, path, inside)];
    while let Some((node, path, inside)) = work.pop() {
        // `work` is popped from its end, so the heaviest must stand there.
        let mut callees = tree.heaviest_children(node);
        callees.reverse();
        let mut hidden = Vec::new();
        for callee in callees {
            let Some(frame) = frame(tree, callee) else {
                continue;
            };
            let path = child_path(path, &frame.function, frame.inlined);
            match shows(frame.origin, inside) {
                Some(inside) => visible.push((callee, path, inside)),
                None => hidden.push((callee, path, inside)),
            }
        }
        work.extend(hidden);
    }
    let ns = |node: usize| tree.node(node).map_or(0, |node| node.total_ns);
    visible.sort_by_key(|(node, path, _)| (std::cmp::Reverse(ns(*node)), *path));
    visible
}

/// None for a hidden frame; else whether what it calls is inside other code than the runtime's.
fn shows(origin: Origin, inside: bool) -> Option<bool> {
    match origin {
        _ if inside => Some(true),
        Origin::User | Origin::ThirdParty => Some(true),
        Origin::Runtime | Origin::Std | Origin::Unknown | Origin::Kernel => None,
    }
}

/// The node of a path, and whether it is inside other code than the runtime's.
fn find_path(tree: &CallTree, wanted: Path, runtime: bool) -> Option<(usize, bool)> {
    let mut work = vec![(ROOT, 0, runtime)];
    while let Some((node, path, inside)) = work.pop() {
        for (callee, path, inside) in visible_callees(tree, node, path, inside) {
            if path == wanted {
                return Some((callee, inside));
            }
            work.push((callee, path, inside));
        }
    }
    None
}
