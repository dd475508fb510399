//! Slow polls that are known but not named yet, because the target's symbols are still being read.
//!
//! They are shown at once and never stored: their own records, with names, take their place. So
//! nothing is counted twice, and a session whose names have come is the same as its recording.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::query::Filter;
use super::table::Table;
use crate::model::SlowPoll;

/// Those kept at most; the others are first seen when they have names.
const MAX: usize = 10_000;

/// What waits for its names.
#[derive(Clone, Debug, Default)]
pub struct Unnamed {
    /// By thread and start: the polls of a thread follow each other.
    ended: BTreeMap<(u32, u64), Arc<SlowPoll>>,
    /// By thread.
    running: BTreeMap<u32, Arc<SlowPoll>>,
}

impl Unnamed {
    /// Takes in a poll without names, as it stands.
    pub fn take(&mut self, poll: &Arc<SlowPoll>) {
        if poll.running {
            self.running.insert(poll.tid, poll.clone());
            return;
        }
        self.running.remove(&poll.tid);
        if self.ended.len() < MAX {
            self.ended.insert((poll.tid, poll.start_ns), poll.clone());
        }
    }

    /// A poll came with names. Those of a thread come in order: all of it that began before its end
    /// are this one, or turned out to be no findings.
    pub fn named(&mut self, poll: &SlowPoll) {
        if self.is_empty() {
            return;
        }
        let until = (poll.tid, poll.end_ns.max(poll.start_ns.saturating_add(1)));
        let earlier = self.ended.range((poll.tid, 0)..until);
        let earlier: Vec<_> = earlier.map(|(key, _)| *key).collect();
        for key in earlier {
            self.ended.remove(&key);
        }
        if self
            .running
            .get(&poll.tid)
            .is_some_and(|running| running.start_ns < until.1)
        {
            self.running.remove(&poll.tid);
        }
    }

    /// A thread ended.
    pub fn gone(&mut self, tid: u32) {
        self.running.remove(&tid);
    }

    /// All names have come.
    pub fn clear(&mut self) {
        *self = Unnamed::default();
    }

    fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.running.is_empty()
    }

    /// The polls that have ended.
    pub fn ended(&self) -> impl DoubleEndedIterator<Item = &Arc<SlowPoll>> {
        self.ended.values()
    }

    /// Those of one thread.
    pub fn ended_on(&self, tid: u32) -> impl Iterator<Item = &Arc<SlowPoll>> {
        self.ended
            .range((tid, 0)..=(tid, u64::MAX))
            .map(|(_, poll)| poll)
    }

    /// How many have ended.
    pub fn count(&self) -> u64 {
        self.ended.len() as u64
    }

    /// The polls that have not, by thread.
    pub fn running(&self) -> &BTreeMap<u32, Arc<SlowPoll>> {
        &self.running
    }

    /// The table with those that the filter admits; none where that changes nothing.
    pub fn in_table(&self, table: &Table, filter: &Filter) -> Option<Table> {
        if self.ended.is_empty() {
            return None;
        }
        let mut with = table.clone();
        let admitted = self.ended().filter(|poll| filter.admits(poll));
        admitted.for_each(|poll| with.add(poll));
        Some(with)
    }
}
