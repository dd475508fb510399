//! A call tree as rows: what is folded, how deep each row is indented, and how a row is found again
//! in the next snapshot.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::model::Origin;
use crate::session::{CallTree, ROOT};

/// Identifies a node across snapshots: a hash of its functions from the thread's start.
pub type Path = u64;

/// A row of the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeRow {
    pub path: Path,
    /// The node; of folded runtime frames, the last.
    pub node: usize,
    /// Branches above it.
    pub depth: usize,
    /// The number of runtime frames that the row folds; 0 for a frame of its own.
    pub folded_runtime: usize,
    /// Its callees are hidden.
    pub folded: bool,
    pub leaf: bool,
}

/// What the user folded and unfolded.
#[derive(Clone, Debug, Default)]
pub struct Folds {
    /// Nodes whose callees are hidden.
    pub closed: BTreeSet<Path>,
    /// Runs of runtime frames whose frames are shown.
    pub opened: BTreeSet<Path>,
    /// All runtime frames are shown.
    pub runtime: bool,
}

/// The path of a child.
pub fn child_path(parent: Path, function: &str, inlined: bool) -> Path {
    let mut hasher = DefaultHasher::new();
    (parent, function, inlined).hash(&mut hasher);
    hasher.finish()
}

/// The rows of a tree, callers above callees, heaviest first. Only branches indent: a chain of single
/// calls stays in one column.
pub fn rows(tree: &CallTree, folds: &Folds) -> Vec<TreeRow> {
    let mut rows = Vec::new();
    let mut stack: Vec<(usize, Path, usize)> = Vec::new();
    push_children(tree, ROOT, 0, 0, &mut stack);
    while let Some((node, parent, depth)) = stack.pop() {
        let Some(path) = path_of(tree, node, parent) else {
            continue;
        };
        let (last, last_path, run) = match folds.runtime || folds.opened.contains(&path) {
            true => (node, path, 0),
            false => runtime_run(tree, node, path),
        };
        let leaf = tree.node(last).is_none_or(|n| n.children.is_empty());
        let folded = !leaf && folds.closed.contains(&path);
        rows.push(TreeRow {
            path,
            node: last,
            depth,
            folded_runtime: run,
            folded,
            leaf,
        });
        if !folded {
            push_children(tree, last, last_path, depth, &mut stack);
        }
    }
    rows
}

fn push_children(
    tree: &CallTree,
    node: usize,
    path: Path,
    depth: usize,
    stack: &mut Vec<(usize, Path, usize)>,
) {
    let children = tree.heaviest_children(node);
    let depth = depth + usize::from(children.len() > 1);
    stack.extend(children.into_iter().rev().map(|child| (child, path, depth)));
}

fn path_of(tree: &CallTree, node: usize, parent: Path) -> Option<Path> {
    let frame = tree.node(node)?.frame.as_ref()?;
    Some(child_path(parent, &frame.function, frame.inlined))
}

/// The end of a run of runtime frames that call one another, and their number: 0 where `node` is not
/// a frame of the runtime.
fn runtime_run(tree: &CallTree, node: usize, path: Path) -> (usize, Path, usize) {
    let is_runtime = |node: usize| {
        let frame = tree.node(node).and_then(|n| n.frame.as_ref());
        frame.is_some_and(|f| f.origin == Origin::Runtime)
    };
    let (mut at, mut at_path, mut run) = (node, path, usize::from(is_runtime(node)));
    while run > 0 {
        let [only] = tree.node(at).map_or(&[][..], |n| &n.children) else {
            break;
        };
        let only = *only as usize;
        if !is_runtime(only) {
            break;
        }
        let Some(next) = path_of(tree, only, at_path) else {
            break;
        };
        (at, at_path, run) = (only, next, run + 1);
    }
    (at, at_path, run)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Activity, Cause, Frame, WeightedStack};

    fn tree(stacks: &[(&[&str], u64)]) -> CallTree {
        let mut tree = CallTree::default();
        for (names, ns) in stacks {
            let frame = |name: &&str| {
                let origin = match name.starts_with("tokio") {
                    true => Origin::Runtime,
                    false => Origin::User,
                };
                Arc::new(Frame::named(*name, origin))
            };
            let stack = WeightedStack {
                frames: names.iter().rev().map(frame).collect(),
                activity: Activity::OnCpu,
                cause: Cause::Cpu,
                weight_ns: *ns,
                complete: true,
            };
            tree.add(&stack, &mut 1000);
        }
        tree
    }

    fn shape(rows: &[TreeRow]) -> Vec<(usize, usize, bool)> {
        let of = |r: &TreeRow| (r.depth, r.folded_runtime, r.folded);
        rows.iter().map(of).collect()
    }

    #[test]
    fn runtime_frames_fold_and_only_branches_indent() {
        let tree = tree(&[
            (&["main", "tokio::a", "tokio::b", "app", "hash"], 10),
            (&["main", "tokio::a", "tokio::b", "app", "parse"], 20),
        ]);
        let mut folds = Folds::default();
        let all = rows(&tree, &folds);
        let expected = [
            (0, 0, false),
            (0, 2, false),
            (0, 0, false),
            (1, 0, false),
            (1, 0, false),
        ];
        assert_eq!(shape(&all), expected);
        let name = |row: &TreeRow| tree.node(row.node).unwrap().frame.clone().unwrap();
        assert_eq!(name(&all[3]).function, "parse");
        folds.opened.insert(all[1].path);
        assert_eq!(rows(&tree, &folds).len(), 6);
        folds.closed.insert(all[2].path);
        let folded = rows(&tree, &folds);
        assert!(folded.last().is_some_and(|r| r.folded));
        assert_eq!(folded.len(), 4);
    }
}
