//! Which code ended the waits of a row's polls, summed up by that code.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::snapshot::{Releaser, Tally};
use crate::model::{Name, ReleasedBy, SlowPoll};

/// Distinct code per row.
const MOST: usize = 32;

/// Sums by the releasing code: its function, and what that called.
#[derive(Clone, Debug, Default)]
pub struct Releasers {
    known: BTreeMap<(Name, Option<Name>), Releaser>,
}

impl Releasers {
    /// Adds a poll's longest wait, if it is known who ended it.
    pub fn add(&mut self, poll: &SlowPoll) {
        let Some(by) = &poll.released_by else { return };
        self.put(
            by,
            &Tally {
                polls: 1,
                total_ns: by.wait_ns,
                max_ns: by.wait_ns,
                last_seen_ns: poll.end_ns,
            },
        );
    }

    /// Adds all sums of the other.
    pub fn merge(&mut self, other: &Releasers) {
        for releaser in other.known.values() {
            self.put(&releaser.longest, &releaser.tally);
        }
    }

    fn put(&mut self, by: &Arc<ReleasedBy>, tally: &Tally) {
        let key = (by.culprit.function.clone(), by.culprit.calls.clone());
        if let Some(known) = self.known.get_mut(&key) {
            if by.wait_ns > known.longest.wait_ns {
                known.longest = Arc::clone(by);
            }
            known.tally.merge(tally);
        } else if self.known.len() < MOST {
            let releaser = Releaser {
                tally: *tally,
                longest: Arc::clone(by),
            };
            self.known.insert(key, releaser);
        }
    }

    /// All entries, most waiting time first.
    pub fn sorted(&self) -> Vec<Releaser> {
        let mut all: Vec<Releaser> = self.known.values().cloned().collect();
        all.sort_by_key(|releaser| std::cmp::Reverse(releaser.tally.total_ns));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cause;
    use crate::session::testing as t;

    #[test]
    fn the_same_code_is_one_entry_and_most_waiting_comes_first() {
        let mut releasers = Releasers::default();
        for (held_ms, function) in [
            (9, "shop::a"),
            (20, "shop::b"),
            (8, "shop::a"),
            (7, "shop::a"),
        ] {
            let poll = t::poll(0, 0, held_ms, Cause::Lock, "shop::wait", "std::lock");
            releasers.add(&t::released(poll, 7, function));
        }
        let mut other = Releasers::default();
        other.merge(&releasers);
        let sums: Vec<_> = other
            .sorted()
            .iter()
            .map(|r| {
                (
                    r.longest.culprit.function.clone(),
                    r.tally.polls,
                    r.tally.total_ns / t::MS,
                )
            })
            .collect();
        assert_eq!(sums, [("shop::a".into(), 3, 24), ("shop::b".into(), 1, 20)]);
        assert_eq!(other.sorted()[0].longest.wait_ns, 9 * t::MS);
    }
}
