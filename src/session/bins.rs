//! Time series in bins of equal width: lanes of workers, the timeline, and trends.

use std::collections::VecDeque;

use crate::model::Cause;

/// What happens when a series exceeds its capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest bins are removed: a view of the recent past.
    DropOldest,
    /// Bins double in width: a view of the whole session.
    Coarsen,
}

/// The content of a bin, which can be merged with that of its neighbour.
pub trait Merge: Clone + Default {
    /// Adds the other.
    fn merge(&mut self, other: &Self);
}

/// A bounded series of bins. Times are nanoseconds on `CLOCK_MONOTONIC`.
#[derive(Clone, Debug)]
pub struct Bins<T> {
    /// Width of a bin, nanoseconds.
    pub width_ns: u64,
    /// Number of the first bin, which starts at `first * width_ns`.
    first: u64,
    bins: VecDeque<T>,
    capacity: usize,
    overflow: Overflow,
}

impl<T: Merge> Bins<T> {
    /// An empty series of at most `capacity` bins.
    pub fn new(width_ns: u64, capacity: usize, overflow: Overflow) -> Self {
        Bins {
            width_ns: width_ns.max(1),
            first: 0,
            bins: VecDeque::new(),
            capacity: capacity.max(2),
            overflow,
        }
    }

    /// When the first bin starts.
    pub fn start_ns(&self) -> u64 {
        self.first.saturating_mul(self.width_ns)
    }

    /// The bins, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        self.bins.iter()
    }

    /// The `n` bins up to and including that of `now_ns`; bins outside the series are empty.
    pub fn last_until(&self, now_ns: u64, n: usize) -> Vec<T> {
        let end = now_ns / self.width_ns + 1;
        (0..n as u64)
            .map(|i| {
                (end + i)
                    .checked_sub(n as u64)
                    .and_then(|bin| bin.checked_sub(self.first))
                    .and_then(|i| self.bins.get(usize::try_from(i).ok()?))
                    .cloned()
                    .unwrap_or_default()
            })
            .collect()
    }

    /// Calls `add(bin, from, to)` for every bin that overlaps `from_ns..to_ns`, with the overlap.
    pub fn spread(&mut self, from_ns: u64, to_ns: u64, mut add: impl FnMut(&mut T, u64, u64)) {
        if to_ns <= from_ns {
            return;
        }
        self.reach(from_ns, to_ns - 1);
        let width = self.width_ns;
        // The time before the first bin has been dropped.
        let mut at = from_ns.max(self.start_ns());
        while at < to_ns {
            let bin = at / width;
            let end = (bin + 1).saturating_mul(width).min(to_ns);
            let slot = usize::try_from(bin - self.first).ok();
            if let Some(slot) = slot.and_then(|i| self.bins.get_mut(i)) {
                add(slot, at, end);
            }
            at = end;
        }
    }

    /// Creates the bins of a span, dropping or coarsening others so that they fit.
    fn reach(&mut self, from_ns: u64, last_ns: u64) {
        if self.bins.is_empty() {
            self.first = from_ns / self.width_ns;
            if self.overflow == Overflow::DropOldest {
                let oldest = (last_ns / self.width_ns + 1).saturating_sub(self.capacity as u64);
                self.first = self.first.max(oldest);
            }
        }
        if self.overflow == Overflow::Coarsen {
            let fits = |bins: &Self| {
                let first = bins.first.min(from_ns / bins.width_ns);
                (last_ns / bins.width_ns).saturating_sub(first) < bins.capacity as u64
            };
            while !fits(self) {
                self.coarsen();
            }
        }
        let last = last_ns / self.width_ns;
        if last >= self.first.saturating_add(2 * self.capacity as u64) {
            // All existing bins would be dropped.
            self.bins.clear();
            self.first = last + 1 - self.capacity as u64;
        }
        while self.first + (self.bins.len() as u64) <= last {
            self.bins.push_back(T::default());
        }
        while self.bins.len() > self.capacity {
            self.bins.pop_front();
            self.first += 1;
        }
        // Bins before the first, as far as capacity allows.
        while self.first > from_ns / self.width_ns && self.bins.len() < self.capacity {
            self.bins.push_front(T::default());
            self.first -= 1;
        }
    }

    fn coarsen(&mut self) {
        let mut coarse: VecDeque<T> = VecDeque::with_capacity(self.bins.len() / 2 + 1);
        for (number, bin) in (self.first..).zip(self.bins.drain(..)) {
            match coarse.back_mut() {
                Some(back) if number % 2 == 1 => back.merge(&bin),
                _ => coarse.push_back(bin),
            }
        }
        self.bins = coarse;
        self.first /= 2;
        self.width_ns = self.width_ns.saturating_mul(2);
    }
}

impl Merge for u64 {
    fn merge(&mut self, other: &u64) {
        *self = self.saturating_add(*other);
    }
}

/// What one worker did in one bin, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    pub on_cpu_ns: u64,
    pub run_queue_ns: u64,
    pub blocked_ns: u64,
    pub parked_ns: u64,
    /// Asleep, inside a poll or not (tier 5).
    pub asleep_ns: u64,
    /// Time inside slow polls that blame code.
    pub slow_ns: u64,
    /// Cause of the slow poll that takes most of the bin, and its time.
    pub slowest: Option<(Cause, u64)>,
}

impl Slice {
    /// Adds `ns` of a slow poll.
    pub fn add_slow(&mut self, cause: Cause, ns: u64) {
        if cause.blames_code() {
            self.slow_ns = self.slow_ns.saturating_add(ns);
        }
        self.take_slowest(Some((cause, ns)));
    }

    /// Time that is accounted for.
    pub fn known_ns(&self) -> u64 {
        self.on_cpu_ns
            .saturating_add(self.run_queue_ns)
            .saturating_add(self.blocked_ns)
            .saturating_add(self.parked_ns)
            .saturating_add(self.asleep_ns)
    }

    /// Time in which it worked, or was kept from working.
    pub fn busy_ns(&self) -> u64 {
        self.known_ns()
            .saturating_sub(self.parked_ns)
            .saturating_sub(self.asleep_ns)
    }

    fn take_slowest(&mut self, other: Option<(Cause, u64)>) {
        self.slowest = match (self.slowest, other) {
            (Some((cause, a)), Some((same, b))) if cause == same => {
                Some((cause, a.saturating_add(b)))
            }
            (Some(a), Some(b)) => Some(if b.1 > a.1 { b } else { a }),
            (a, b) => a.or(b),
        };
    }
}

impl Merge for Slice {
    fn merge(&mut self, other: &Slice) {
        self.on_cpu_ns = self.on_cpu_ns.saturating_add(other.on_cpu_ns);
        self.run_queue_ns = self.run_queue_ns.saturating_add(other.run_queue_ns);
        self.blocked_ns = self.blocked_ns.saturating_add(other.blocked_ns);
        self.parked_ns = self.parked_ns.saturating_add(other.parked_ns);
        self.asleep_ns = self.asleep_ns.saturating_add(other.asleep_ns);
        self.slow_ns = self.slow_ns.saturating_add(other.slow_ns);
        self.take_slowest(other.slowest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(bins: &mut Bins<u64>, from: u64, to: u64) {
        bins.spread(from, to, |bin, a, b| *bin += b - a);
    }

    #[test]
    fn old_bins_are_dropped() {
        let mut bins = Bins::new(10, 3, Overflow::DropOldest);
        add(&mut bins, 5, 25);
        assert_eq!(bins.last_until(25, 3), [5, 10, 5]);
        add(&mut bins, 38, 42);
        assert_eq!(bins.start_ns(), 20);
        assert_eq!(bins.last_until(49, 4), [0, 5, 2, 2]);
        assert_eq!(bins.last_until(59, 3), [2, 2, 0]);
        add(&mut bins, 1_000_000, 1_000_005);
        assert_eq!(bins.iter().len(), 3);
        assert_eq!(bins.last_until(1_000_000, 3), [0, 0, 5]);
    }

    #[test]
    fn late_spans_are_added_while_there_is_room() {
        let mut bins = Bins::new(10, 3, Overflow::DropOldest);
        add(&mut bins, 25, 30);
        add(&mut bins, 11, 15);
        assert_eq!(bins.last_until(29, 3), [0, 4, 5]);
        add(&mut bins, 0, 40);
        assert_eq!(bins.last_until(39, 4), [0, 14, 15, 10]);
    }

    #[test]
    fn a_long_first_span_keeps_its_end() {
        let mut bins = Bins::new(10, 3, Overflow::DropOldest);
        add(&mut bins, 0, 10_000);
        assert_eq!(bins.last_until(9_999, 3), [10, 10, 10]);
    }

    #[test]
    fn everything_fits_by_coarsening_and_nothing_is_lost() {
        let mut bins = Bins::new(10, 4, Overflow::Coarsen);
        for i in 0..100u64 {
            add(&mut bins, 1000 + i * 7, 1000 + i * 7 + 7);
        }
        add(&mut bins, 900, 950);
        assert!(bins.iter().len() <= 4, "{bins:?}");
        assert_eq!(bins.iter().sum::<u64>(), 750);
    }
}
