//! A table of rows, since the start or over a rolling window.

use std::collections::{HashMap, VecDeque};

use super::aggregate::Aggregate;
use super::key::{Group, RowKey};
use crate::model::SlowPoll;

/// Slices of a window; polls leave it a slice at a time. Then the rows that the slice contributed to
/// are rebuilt from all others, so the cost grows with the square of this number.
const SLICES: u64 = 20;
/// Bounds how often that happens.
const SHORTEST_SLICE_NS: u64 = 250_000_000;
/// A slice has fewer rows than the whole by this factor, since there are many slices.
const SLICE_SHARE: usize = 10;

/// Bounds of a table.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub rows: usize,
    pub tree_nodes: usize,
}

/// A bounded set of rows.
#[derive(Clone, Debug, Default)]
struct Rows {
    rows: HashMap<RowKey, Aggregate>,
}

impl Rows {
    fn entry(&mut self, key: RowKey, limit: usize) -> &mut Aggregate {
        let key = if self.rows.len() < limit || self.rows.contains_key(&key) {
            key
        } else {
            RowKey::Other(key.kind())
        };
        self.rows
            .entry(key)
            .or_insert_with_key(|key| Aggregate::new(key.clone()))
    }
}

/// Rows of one grouping, within its limits.
#[derive(Clone, Debug)]
pub struct Table {
    group: Group,
    limits: Limits,
    /// Tree nodes that may still be added, in `all` and the slices together.
    room: usize,
    all: Rows,
    window: Option<Window>,
}

/// A rolling window in slices.
#[derive(Clone, Debug)]
struct Window {
    slice_ns: u64,
    /// How many slices cover the window.
    count: u64,
    /// By number, oldest first.
    slices: VecDeque<(u64, Rows)>,
}

impl Table {
    /// An empty table. With `window_ns`, polls leave it that long after they ended, to within a twentieth
    /// of the window or a quarter of a second.
    pub fn new(group: Group, window_ns: Option<u64>, limits: Limits) -> Self {
        Table {
            group,
            limits,
            room: limits.tree_nodes,
            all: Rows::default(),
            window: window_ns.map(|ns| {
                let slice_ns = (ns / SLICES).max(SHORTEST_SLICE_NS);
                Window {
                    slice_ns,
                    count: ns.div_ceil(slice_ns),
                    slices: VecDeque::new(),
                }
            }),
        }
    }

    /// Adds a poll.
    pub fn add(&mut self, poll: &SlowPoll) {
        let key = RowKey::of(poll, self.group);
        if let Some(window) = &mut self.window {
            let number = poll.end_ns / window.slice_ns;
            let newest = window.slices.back().map_or(0, |(n, _)| *n);
            if number.saturating_add(window.count) < newest {
                return; // Ended before the window.
            }
            let limit = self.limits.rows / SLICE_SHARE;
            if let Some(rows) = window.slice(number) {
                rows.entry(key.clone(), limit).add(poll, &mut self.room);
            }
        }
        self.all
            .entry(key, self.limits.rows)
            .add(poll, &mut self.room);
    }

    /// Removes what has left the window at `now_ns`.
    pub fn advance(&mut self, now_ns: u64) {
        let Some(window) = &mut self.window else {
            return;
        };
        let oldest = (now_ns / window.slice_ns).saturating_sub(window.count);
        let mut stale = Vec::new();
        while window.slices.front().is_some_and(|(n, _)| *n < oldest) {
            if let Some((_, rows)) = window.slices.pop_front() {
                for (key, row) in rows.rows {
                    self.room += row.tree_nodes();
                    stale.push(key);
                }
            }
        }
        stale.sort_unstable();
        stale.dedup();
        for key in stale {
            if let Some(old) = self.all.rows.remove(&key) {
                self.room += old.tree_nodes();
            }
            for (_, rows) in &window.slices {
                if let Some(part) = rows.rows.get(&key) {
                    self.all
                        .entry(key.clone(), self.limits.rows)
                        .merge(part, &mut self.room);
                }
            }
        }
    }

    /// The same polls in a coarser grouping; none where it cannot be derived from the rows.
    pub fn regroup(&self, group: Group) -> Option<Table> {
        let mut table = Table::new(group, None, self.limits);
        let fold = |from: &Rows, to: &mut Rows, room: &mut usize| {
            // Sorted, so that a replay gives the same table.
            let mut rows: Vec<_> = from.rows.iter().collect();
            rows.sort_unstable_by_key(|(key, _)| *key);
            for (key, row) in rows {
                let coarse = key.coarsen(group)?;
                to.entry(coarse, self.limits.rows).merge(row, room);
            }
            Some(())
        };
        fold(&self.all, &mut table.all, &mut table.room)?;
        if let Some(window) = &self.window {
            let mut slices = VecDeque::new();
            for (number, rows) in &window.slices {
                let mut coarse = Rows::default();
                fold(rows, &mut coarse, &mut table.room)?;
                slices.push_back((*number, coarse));
            }
            table.window = Some(Window {
                slice_ns: window.slice_ns,
                count: window.count,
                slices,
            });
        }
        Some(table)
    }

    /// All rows, in no order.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut Aggregate> {
        self.all.rows.values_mut()
    }

    /// One row.
    pub fn get_mut(&mut self, key: &RowKey) -> Option<&mut Aggregate> {
        self.all.rows.get_mut(key)
    }
}

impl Window {
    /// The slice of that number, created if it does not exist.
    fn slice(&mut self, number: u64) -> Option<&mut Rows> {
        let at = self.slices.partition_point(|(n, _)| *n < number);
        if self.slices.get(at).is_none_or(|(n, _)| *n != number) {
            self.slices.insert(at, (number, Rows::default()));
        }
        self.slices.get_mut(at).map(|(_, rows)| rows)
    }
}
