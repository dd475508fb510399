//! All poll time as views show it: the sums of the chosen time and workers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Slice, Spot, SpotKey};
use crate::model::{Cause, Location};
use crate::session::tree::CallTree;
use crate::text;

/// All poll time within a scope.
#[derive(Clone, Debug, Default)]
pub struct ProfileView {
    /// CPU time inside polls.
    pub cpu_ns: u64,
    /// Heaviest first.
    pub spots: Vec<Arc<SpotRow>>,
    /// All stacks merged, caller to callee.
    pub tree: Arc<CallTree>,
}

/// Code that CPU time is attributed to.
#[derive(Clone, Debug)]
pub struct SpotRow {
    pub key: SpotKey,
    /// Of the newest samples.
    pub location: Option<Location>,
    pub cpu_ns: u64,
    pub last_seen_ns: u64,
    /// Worker threads it was seen on.
    pub workers: usize,
    /// What most of the time went to, by the kernel's facts.
    pub cause: Cause,
    pub tree: Arc<CallTree>,
}

impl SpotRow {
    /// `function -> what it called`.
    pub fn name(&self) -> String {
        text::call(&self.key.0, self.key.1.as_deref())
    }
}

impl ProfileView {
    /// A row's share of the whole, 0 to 1.
    pub fn share(&self, row: &SpotRow) -> f64 {
        match self.cpu_ns {
            0 => 0.0,
            all => row.cpu_ns as f64 / all as f64,
        }
    }

    /// The row of that code.
    pub fn find(&self, key: &SpotKey) -> Option<&Arc<SpotRow>> {
        self.spots.iter().find(|row| row.key == *key)
    }
}

/// Sums up these parts, of the chosen workers only if any are.
pub(super) fn merge(slices: &[&Slice], workers: Option<&BTreeSet<u32>>) -> ProfileView {
    struct Merged {
        spot: Spot,
        workers: BTreeSet<u32>,
    }
    let mut by_code: BTreeMap<&SpotKey, Merged> = BTreeMap::new();
    let mut tree = CallTree::default();
    // The trees are bounded already.
    let mut room = usize::MAX;
    for (tid, spots) in slices.iter().flat_map(|slice| slice.iter()) {
        if workers.is_some_and(|chosen| !chosen.contains(tid)) {
            continue;
        }
        for (key, spot) in spots {
            let merged = by_code.entry(key).or_insert_with(|| Merged {
                spot: Spot::default(),
                workers: BTreeSet::new(),
            });
            let sum = &mut merged.spot;
            sum.cpu_ns = sum.cpu_ns.saturating_add(spot.cpu_ns);
            sum.tree.merge(&spot.tree, &mut room);
            if spot.last_seen_ns >= sum.last_seen_ns {
                sum.last_seen_ns = spot.last_seen_ns;
                sum.location.clone_from(&spot.location);
            }
            merged.workers.insert(*tid);
            tree.merge(&spot.tree, &mut room);
        }
    }
    let mut rows: Vec<_> = by_code
        .into_iter()
        .map(|(key, Merged { spot, workers })| {
            Arc::new(SpotRow {
                key: key.clone(),
                location: spot.location,
                cpu_ns: spot.cpu_ns,
                last_seen_ns: spot.last_seen_ns,
                workers: workers.len(),
                cause: chief_cause(&spot.tree),
                tree: Arc::new(spot.tree),
            })
        })
        .collect();
    rows.sort_by(|a, b| b.cpu_ns.cmp(&a.cpu_ns).then_with(|| a.key.cmp(&b.key)));
    ProfileView {
        cpu_ns: rows
            .iter()
            .fold(0, |sum, row| sum.saturating_add(row.cpu_ns)),
        spots: rows,
        tree: Arc::new(tree),
    }
}

fn chief_cause(tree: &CallTree) -> Cause {
    let mut causes: BTreeMap<Cause, u64> = BTreeMap::new();
    let nodes = (0..=tree.len()).filter_map(|at| tree.node(at));
    for leaf in nodes.flat_map(|node| &node.own) {
        let sum = causes.entry(leaf.cause).or_default();
        *sum = sum.saturating_add(leaf.ns);
    }
    let chief = causes.into_iter().rev().max_by_key(|(_, ns)| *ns);
    chief.map_or(Cause::Cpu, |(cause, _)| cause)
}
