//! Call trees: stacks merged from caller to callee, with a limit on the number of nodes.

use std::sync::Arc;

use crate::model::{Activity, Cause, Frame, WeightedStack};

/// Index of the root, which has no frame.
pub const ROOT: usize = 0;

/// Stacks merged from the thread's start towards the leaf.
#[derive(Clone, Debug)]
pub struct CallTree {
    nodes: Vec<Node>,
    /// Weight of stacks that lost their deepest frames to the limit.
    cut_ns: u64,
}

/// One function, called through one path.
#[derive(Clone, Debug)]
pub struct Node {
    /// None for the root.
    pub frame: Option<Arc<Frame>>,
    pub parent: usize,
    /// In the order of insertion; [`CallTree::heaviest_children`] sorts.
    pub children: Vec<u32>,
    /// Time in this function and what it called.
    pub total_ns: u64,
    /// Time in this function alone, by what the thread was doing.
    pub own: Vec<Leaf>,
}

/// Time in a function alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub activity: Activity,
    pub cause: Cause,
    pub complete: bool,
    pub ns: u64,
}

impl Node {
    /// Time in this function alone.
    pub fn own_ns(&self) -> u64 {
        self.own
            .iter()
            .fold(0, |sum, leaf| sum.saturating_add(leaf.ns))
    }

    fn add(&mut self, ns: u64) {
        self.total_ns = self.total_ns.saturating_add(ns);
    }

    /// Adds time in this function alone.
    fn add_own(&mut self, leaf: &Leaf) {
        let same = |l: &&mut Leaf| {
            (l.activity, l.cause, l.complete) == (leaf.activity, leaf.cause, leaf.complete)
        };
        match self.own.iter_mut().find(same) {
            Some(l) => l.ns = l.ns.saturating_add(leaf.ns),
            None => self.own.push(*leaf),
        }
    }
}

/// Where the time of another tree's node goes.
#[derive(Clone, Copy)]
enum Counterpart {
    /// The same path.
    Whole(usize),
    /// Only the beginning of it.
    Cut(usize),
}

impl Default for CallTree {
    fn default() -> Self {
        CallTree {
            nodes: vec![Node::new(None, ROOT)],
            cut_ns: 0,
        }
    }
}

impl Node {
    fn new(frame: Option<Arc<Frame>>, parent: usize) -> Node {
        Node {
            frame,
            parent,
            children: Vec::new(),
            total_ns: 0,
            own: Vec::new(),
        }
    }
}

impl CallTree {
    /// Adds a stack. `room` is how many nodes may still be created. The time of a stack that does not
    /// fit is added to its deepest existing node, and counted as cut.
    pub fn add(&mut self, stack: &WeightedStack, room: &mut usize) {
        let leaf = Leaf {
            activity: stack.activity,
            cause: stack.cause,
            complete: stack.complete,
            ns: stack.weight_ns,
        };
        let mut at = ROOT;
        self.nodes[at].add(leaf.ns);
        for frame in stack.frames.iter().rev() {
            let Some(next) = self.child(at, frame, room) else {
                self.cut_ns = self.cut_ns.saturating_add(leaf.ns);
                break;
            };
            at = next;
            self.nodes[at].add(leaf.ns);
        }
        self.nodes[at].add_own(&leaf);
    }

    fn child(&mut self, at: usize, frame: &Arc<Frame>, room: &mut usize) -> Option<usize> {
        let known = self.nodes[at].children.iter().copied().find(|&child| {
            let node = &self.nodes[child as usize];
            node.frame.as_ref().is_some_and(|f| same_code(f, frame))
        });
        if let Some(child) = known {
            return Some(child as usize);
        }
        *room = room.checked_sub(1)?;
        let child = self.nodes.len();
        self.nodes.push(Node::new(Some(frame.clone()), at));
        self.nodes[at].children.push(u32::try_from(child).ok()?);
        Some(child)
    }

    /// Adds all stacks of the other tree.
    pub fn merge(&mut self, other: &CallTree, room: &mut usize) {
        self.cut_ns = self.cut_ns.saturating_add(other.cut_ns);
        // For each node the same path in this tree, or as much of it as there is room for. Parents
        // precede their children.
        let mut counterparts: Vec<Counterpart> = Vec::with_capacity(other.nodes.len());
        for node in &other.nodes {
            let parent = counterparts.get(node.parent).copied();
            let parent = parent.unwrap_or(Counterpart::Whole(ROOT));
            let here = match (&node.frame, parent) {
                (Some(frame), Counterpart::Whole(at)) => match self.child(at, frame, room) {
                    Some(child) => Counterpart::Whole(child),
                    None => Counterpart::Cut(at),
                },
                (_, parent) => parent,
            };
            counterparts.push(here);
            match here {
                Counterpart::Whole(at) => self.nodes[at].add(node.total_ns),
                Counterpart::Cut(_) => self.cut_ns = self.cut_ns.saturating_add(node.own_ns()),
            }
            let (Counterpart::Whole(at) | Counterpart::Cut(at)) = here;
            node.own
                .iter()
                .for_each(|leaf| self.nodes[at].add_own(leaf));
        }
    }

    /// The frames from the thread's start down to a node.
    pub fn path(&self, mut at: usize) -> Vec<Arc<Frame>> {
        let mut path = Vec::new();
        while let Some(Node {
            frame: Some(f),
            parent,
            ..
        }) = self.nodes.get(at)
        {
            path.push(f.clone());
            at = *parent;
        }
        path.reverse();
        path
    }

    /// A node. [`ROOT`] always exists.
    pub fn node(&self, at: usize) -> Option<&Node> {
        self.nodes.get(at)
    }

    /// The weight of all stacks.
    pub fn total_ns(&self) -> u64 {
        self.nodes[ROOT].total_ns
    }

    /// Weight of stacks that lost their deepest frames to the limit.
    pub fn cut_ns(&self) -> u64 {
        self.cut_ns
    }

    /// How many nodes it has, without the root.
    pub fn len(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Whether no stack was added.
    pub fn is_empty(&self) -> bool {
        self.nodes[ROOT].total_ns == 0
    }

    /// The callees of a node, heaviest first.
    pub fn heaviest_children(&self, at: usize) -> Vec<usize> {
        let Some(node) = self.nodes.get(at) else {
            return Vec::new();
        };
        let mut children: Vec<usize> = node.children.iter().map(|&c| c as usize).collect();
        children.sort_by_key(|&c| std::cmp::Reverse(self.nodes[c].total_ns));
        children
    }

    /// The `n` heaviest distinct stacks, heaviest first.
    pub fn heaviest_stacks(&self, n: usize) -> Vec<WeightedStack> {
        let mut leaves: Vec<(usize, Leaf)> = self
            .nodes
            .iter()
            .enumerate()
            .flat_map(|(i, node)| node.own.iter().map(move |leaf| (i, *leaf)))
            .collect();
        // The index breaks ties, so that a replay gives the same order.
        leaves.sort_by_key(|&(i, leaf)| (std::cmp::Reverse(leaf.ns), i));
        leaves.truncate(n);
        let stack = |(i, leaf): (usize, Leaf)| {
            let mut frames = self.path(i);
            frames.reverse();
            WeightedStack {
                frames,
                activity: leaf.activity,
                cause: leaf.cause,
                weight_ns: leaf.ns,
                complete: leaf.complete,
            }
        };
        leaves.into_iter().map(stack).collect()
    }
}

/// Frames of one function are one node, whichever of its lines they are at.
fn same_code(a: &Arc<Frame>, b: &Arc<Frame>) -> bool {
    Arc::ptr_eq(a, b)
        || (a.function == b.function
            && a.inlined == b.inlined
            && a.raw == b.raw
            && a.module == b.module)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;

    fn stack(names: &[&str], ns: u64) -> WeightedStack {
        let frame = |name: &&str| Arc::new(Frame::named(*name, Origin::User));
        WeightedStack {
            frames: names.iter().map(frame).collect(),
            activity: Activity::OnCpu,
            cause: Cause::Cpu,
            weight_ns: ns,
            complete: true,
        }
    }

    #[test]
    fn stacks_share_their_callers() {
        let mut tree = CallTree::default();
        let mut room = 100;
        tree.add(&stack(&["hash", "handler", "main"], 30), &mut room);
        tree.add(&stack(&["parse", "handler", "main"], 50), &mut room);
        tree.add(&stack(&["handler", "main"], 5), &mut room);
        assert_eq!((tree.len(), room, tree.total_ns()), (4, 96, 85));
        let main = tree.heaviest_children(ROOT)[0];
        let handler = tree.heaviest_children(main)[0];
        assert_eq!(tree.node(handler).unwrap().own_ns(), 5);
        let callees = tree.heaviest_children(handler);
        let name = |i: usize| {
            tree.node(i)
                .unwrap()
                .frame
                .as_ref()
                .unwrap()
                .function
                .clone()
        };
        assert_eq!([name(callees[0]), name(callees[1])], ["parse", "hash"]);
        let top = tree.heaviest_stacks(1);
        assert_eq!(top[0], stack(&["parse", "handler", "main"], 50));
    }

    #[test]
    fn a_full_tree_keeps_the_weight_and_says_what_it_cut() {
        let mut tree = CallTree::default();
        let mut room = 2;
        tree.add(&stack(&["leaf", "handler", "main"], 10), &mut room);
        assert_eq!((tree.len(), tree.total_ns(), tree.cut_ns()), (2, 10, 10));
        let mut again = CallTree::default();
        again.merge(&tree, &mut 10);
        assert_eq!((again.total_ns(), again.cut_ns()), (10, 10));
    }

    #[test]
    fn merging_equals_adding_all_and_cuts_where_it_would() {
        let stacks = [
            stack(&["hash", "handler", "main"], 30),
            stack(&["parse", "handler", "main"], 50),
            stack(&["handler", "main"], 5),
            stack(&["main"], 7),
        ];
        let tree = |stacks: &[WeightedStack], mut room: usize| {
            let mut tree = CallTree::default();
            stacks.iter().for_each(|stack| tree.add(stack, &mut room));
            tree
        };
        let shape = |tree: &CallTree| {
            let node = |n: &Node| (n.total_ns, n.own.clone(), n.children.len());
            tree.nodes.iter().map(node).collect::<Vec<_>>()
        };
        for (room, cut) in [(10, 0), (3, 50), (2, 80), (0, 92)] {
            let whole = tree(&stacks, room);
            let mut merged = CallTree::default();
            let mut left = room;
            merged.merge(&tree(&stacks[..2], 10), &mut left);
            merged.merge(&tree(&stacks[2..], 10), &mut left);
            assert_eq!(shape(&merged), shape(&whole), "room for {room}");
            assert_eq!(
                (merged.cut_ns(), whole.cut_ns()),
                (cut, cut),
                "room for {room}"
            );
        }
    }
}
