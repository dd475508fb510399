//! The slow polls that are kept whole: the newest, and the longest of the session.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::model::SlowPoll;

/// How many of the longest polls are kept.
const KEEP_LONGEST: usize = 256;

/// A bounded store of whole polls.
#[derive(Clone, Debug)]
pub struct KeptPolls {
    /// How many of the newest are kept.
    capacity: usize,
    newest: VecDeque<Arc<SlowPoll>>,
    /// Longest first.
    longest: Vec<Arc<SlowPoll>>,
    /// All polls that were ever added.
    seen: u64,
}

impl KeptPolls {
    /// Empty; keeps up to `capacity` of the newest polls.
    pub fn new(capacity: usize) -> Self {
        KeptPolls {
            capacity,
            newest: VecDeque::new(),
            longest: Vec::new(),
            seen: 0,
        }
    }

    /// Adds a poll that has ended.
    pub fn add(&mut self, poll: &Arc<SlowPoll>) {
        self.seen += 1;
        self.newest.push_back(poll.clone());
        if self.newest.len() > self.capacity {
            self.newest.pop_front();
        }
        let held = poll.held_ns();
        let at = self.longest.partition_point(|p| p.held_ns() >= held);
        if at < KEEP_LONGEST {
            self.longest.insert(at, poll.clone());
            self.longest.truncate(KEEP_LONGEST);
        }
    }

    /// Removes all polls, and forgets that any were added.
    pub fn clear(&mut self) {
        *self = KeptPolls::new(self.capacity);
    }

    /// How many polls were added.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The newest polls, oldest first.
    pub fn newest(&self) -> impl DoubleEndedIterator<Item = &Arc<SlowPoll>> {
        self.newest.iter()
    }

    /// The longest polls, longest first.
    pub fn longest(&self) -> &[Arc<SlowPoll>] {
        &self.longest
    }

    /// Since when the newest polls are complete; none if they are all polls.
    pub fn incomplete_since_ns(&self) -> Option<u64> {
        let is_complete = self.seen == self.newest.len() as u64;
        let oldest = self.newest.front().map_or(0, |poll| poll.end_ns);
        (!is_complete).then_some(oldest)
    }

    /// The kept polls that overlap a span, by start.
    pub fn in_span(&self, (from_ns, to_ns): (u64, u64)) -> Vec<Arc<SlowPoll>> {
        let overlaps = |p: &&Arc<SlowPoll>| p.start_ns < to_ns && p.end_ns > from_ns;
        let mut polls: Vec<_> = self.newest.iter().filter(overlaps).cloned().collect();
        if self.seen > self.newest.len() as u64 {
            let known: BTreeSet<_> = polls.iter().map(Arc::as_ptr).collect();
            let older = self.longest.iter().filter(overlaps);
            let older = older.filter(|poll| !known.contains(&Arc::as_ptr(poll)));
            polls.extend(older.cloned());
        }
        polls.sort_by_key(|poll| (poll.start_ns, poll.tid));
        polls
    }

    /// How many polls ended at or after `from_ns`. Polls arrive nearly in the order of their ends.
    pub fn ended_since(&self, from_ns: u64) -> usize {
        let newest = self.newest.iter().rev();
        newest.take_while(|poll| poll.end_ns >= from_ns).count()
    }
}
