//! Recognises a number that counts a worker's scheduling rounds (Tokio's `Core::tick`) by how it
//! changes from one observation of the worker to the next.
//!
//! Layout learning (tier 3) and tracking by frames (tier 4) both look for such a number. They
//! differ in how they know what the worker did in between, so each names that as a [`Change`], and
//! each has its own threshold for what a [`Tally`] proves.

use std::ops::AddAssign;

use crate::model::Flavor;

/// One observation in this many may contradict what a field does: threads run on while they are
/// read.
pub const TOLERANCE: usize = 5;

/// No worker makes more scheduling rounds between two observations.
const MAX_ROUNDS: u32 = 1 << 22;

/// What a worker did from one observation to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// From one poll to another. Polls from the LIFO slot share a round.
    PollToPoll,
    PollToPark,
    /// The root future of `current_thread` is polled in the round of the park before it.
    ParkToPoll,
    /// A wake-up without work does not always begin a round.
    ParkToPark,
    /// It may still be in the same poll or park.
    Unknown,
}

impl Change {
    /// Every change that ends a poll or a park.
    pub const KNOWN: [Change; 4] = [
        Change::PollToPoll,
        Change::PollToPark,
        Change::ParkToPoll,
        Change::ParkToPark,
    ];

    /// Those that always begin a round in a scheduler of this flavor.
    pub fn certain(flavor: Flavor) -> &'static [Change] {
        match flavor {
            Flavor::CurrentThread => &[Change::PollToPark],
            Flavor::MultiThread => &[Change::PollToPark, Change::ParkToPoll],
        }
    }
}

/// How often a number grew, did not change, and went back or jumped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    pub grew: usize,
    pub stood: usize,
    pub fell: usize,
}

impl Outcomes {
    /// How many observations there are.
    pub fn all(self) -> usize {
        self.grew + self.stood + self.fell
    }

    /// How often the number did not count the round.
    pub fn missed(self) -> usize {
        self.stood + self.fell
    }
}

/// How one number changed, by what the worker did meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([[u32; 3]; 5]);

impl Tally {
    /// Counts an observation of the number.
    pub fn add(&mut self, change: Change, before: u32, after: u32) {
        let [grew, stood, fell] = &mut self.0[change as usize];
        match after.wrapping_sub(before) {
            0 => *stood += 1,
            1..=MAX_ROUNDS => *grew += 1,
            _ => *fell += 1,
        }
    }

    /// The outcomes of these changes together.
    pub fn of(&self, changes: &[Change]) -> Outcomes {
        let mut sum = Outcomes::default();
        for change in changes {
            let [grew, stood, fell] = self.0[*change as usize];
            sum.grew += grew as usize;
            sum.stood += stood as usize;
            sum.fell += fell as usize;
        }
        sum
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        let counts = self.0.iter_mut().flatten();
        for (sum, count) in counts.zip(other.0.into_iter().flatten()) {
            *sum += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_counted_apart() {
        let mut tally = Tally::default();
        tally.add(Change::PollToPark, 7, 8);
        tally.add(Change::PollToPark, 8, 8);
        tally.add(Change::ParkToPoll, u32::MAX, 2);
        tally.add(Change::ParkToPoll, 2, 1);
        tally.add(Change::Unknown, 0, MAX_ROUNDS + 1);
        let outcomes = |grew, stood, fell| Outcomes { grew, stood, fell };
        assert_eq!(tally.of(&[Change::PollToPark]), outcomes(1, 1, 0));
        assert_eq!(tally.of(&[Change::ParkToPoll]), outcomes(1, 0, 1));
        assert_eq!(tally.of(&Change::KNOWN), outcomes(2, 1, 1));
        assert_eq!(tally.of(&[Change::Unknown]), outcomes(0, 0, 1));
        let mut sum = tally;
        sum += tally;
        assert_eq!(sum.of(&Change::KNOWN).all(), 8);
        assert_eq!(sum.of(&Change::KNOWN).missed(), 4);
    }
}
