//! The distribution of durations in bounded memory: exact while there are few, then a histogram.

use hdrhistogram::Histogram;

/// Up to this many durations are kept exactly.
const EXACT: usize = 64;

/// Upper ends of the bars of a distribution, nanoseconds: 1-2-5 steps from 1 ms to 500 s.
const STEPS_NS: [u64; 18] = {
    let mut steps = [0; 18];
    let mut decade = 1_000_000;
    let mut i = 0;
    while i < 18 {
        steps[i] = decade;
        steps[i + 1] = decade * 2;
        steps[i + 2] = decade * 5;
        decade *= 10;
        i += 3;
    }
    steps
};

/// A multiset of durations.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    few: Vec<u64>,
    /// In microseconds with two significant digits; used once `few` is full.
    many: Option<Box<Histogram<u32>>>,
}

/// One bar of a distribution: durations from `from_ns` up to, not including, `to_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    pub from_ns: u64,
    /// `u64::MAX` for the last, open one.
    pub to_ns: u64,
    pub polls: u64,
}

impl Durations {
    /// Adds a duration.
    pub fn record(&mut self, ns: u64) {
        if self.many.is_none() {
            if self.few.len() < EXACT {
                self.few.push(ns);
                return;
            }
            self.many = new_histogram();
            for ns in std::mem::take(&mut self.few) {
                self.record_many(ns, 1);
            }
        }
        self.record_many(ns, 1);
    }

    fn record_many(&mut self, ns: u64, count: u32) {
        if let Some(many) = &mut self.many {
            // The histogram resizes itself. Only a value from a damaged trace can be too large.
            let longest = 1 << 40;
            let _ = many.record_n((ns / 1000).clamp(1, longest), count);
        }
    }

    /// Adds all durations of the other.
    pub fn merge(&mut self, other: &Durations) {
        for &ns in &other.few {
            self.record(ns);
        }
        let Some(theirs) = &other.many else { return };
        if self.many.is_none() {
            self.many = new_histogram();
            for ns in std::mem::take(&mut self.few) {
                self.record_many(ns, 1);
            }
        }
        for step in theirs.iter_recorded() {
            let ns = step.value_iterated_to().saturating_mul(1000);
            self.record_many(ns, step.count_at_value());
        }
    }

    /// The quantile `q` (0 to 1) in nanoseconds: exact for up to 64 durations, within 1 % beyond. 0 if
    /// there are none.
    pub fn quantile(&self, q: f64) -> u64 {
        if let Some(many) = &self.many {
            return many.value_at_quantile(q).saturating_mul(1000);
        }
        let mut sorted = self.few.clone();
        sorted.sort_unstable();
        let rank = (q.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// The distribution in 1-2-5 steps, from the first non-empty bar to the last.
    pub fn bars(&self) -> Vec<Bar> {
        let mut counts = [0u64; STEPS_NS.len() + 1];
        let mut add = |ns: u64, count: u64| {
            let bar = STEPS_NS.partition_point(|&step| step <= ns);
            if let Some(slot) = counts.get_mut(bar) {
                *slot += count;
            }
        };
        self.few.iter().for_each(|&ns| add(ns, 1));
        for step in self.many.iter().flat_map(|many| many.iter_recorded()) {
            let ns = step.value_iterated_to().saturating_mul(1000);
            add(ns, step.count_at_value().into());
        }
        let bars = counts.iter().enumerate().map(|(i, &polls)| Bar {
            from_ns: i.checked_sub(1).map_or(0, |i| STEPS_NS[i]),
            to_ns: STEPS_NS.get(i).copied().unwrap_or(u64::MAX),
            polls,
        });
        let first = counts.iter().position(|&n| n > 0).unwrap_or(counts.len());
        let end = counts.iter().rposition(|&n| n > 0).map_or(0, |i| i + 1);
        bars.take(end).skip(first).collect()
    }
}

fn new_histogram() -> Option<Box<Histogram<u32>>> {
    // Cannot fail: two significant digits are supported.
    let mut histogram = Histogram::new(2).ok()?;
    histogram.auto(true);
    Some(Box::new(histogram))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_exact_and_many_within_one_percent() {
        let mut d = Durations::default();
        assert_eq!(d.quantile(0.5), 0);
        for ms in 1..=50u64 {
            d.record(ms * 1_000_000);
        }
        assert_eq!(d.quantile(0.5), 25_000_000);
        assert_eq!(d.quantile(1.0), 50_000_000);
        for ms in 51..=1000u64 {
            d.record(ms * 1_000_000);
        }
        let p99 = d.quantile(0.99) as f64;
        assert!((p99 / 990e6 - 1.0).abs() < 0.011, "{p99}");
    }

    #[test]
    fn merging_equals_recording_all() {
        let mut all = Durations::default();
        let mut parts = [Durations::default(), Durations::default()];
        for i in 1..=300u64 {
            let ns = i * 7_000_000;
            all.record(ns);
            parts[usize::from(i > 20)].record(ns);
        }
        let [mut few, many] = parts;
        few.merge(&many);
        assert_eq!(few.bars().iter().map(|b| b.polls).sum::<u64>(), 300);
        let (a, b) = (few.quantile(0.5) as f64, all.quantile(0.5) as f64);
        assert!((a / b - 1.0).abs() < 0.02);
    }

    #[test]
    fn bars_cover_every_duration() {
        let mut d = Durations::default();
        for ns in [0, 999_999, 1_000_000, 6_000_000, 3_600_000_000_000] {
            d.record(ns);
        }
        let bars = d.bars();
        assert_eq!(bars.first().map(|b| (b.from_ns, b.polls)), Some((0, 2)));
        assert_eq!(bars.last().map(|b| (b.to_ns, b.polls)), Some((u64::MAX, 1)));
    }
}
