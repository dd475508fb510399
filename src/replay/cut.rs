//! Cuts a recording to a span of time (`--from`, `--to`).
//!
//! What describes the process (workers, tiers) is kept from before the span. Counters are made to
//! begin at its start. Slow polls that overlap the span are kept whole.

use std::collections::HashMap;

use crate::cli::{Moment, Wall};
use crate::failure::{Failure, Kind};
use crate::model::{EndReason, Header, Losses, Record, WorkerUsage};

/// Passes on the records of a span of time.
pub struct Cut {
    from: Option<Moment>,
    to: Option<Moment>,
    /// The span, on `CLOCK_MONOTONIC`; known once the header was passed.
    from_ns: u64,
    to_ns: u64,
    /// Counters as they were when the span began.
    usage_before: HashMap<u32, WorkerUsage>,
    losses_before: Losses,
    /// The longest poll of each thread that was kept.
    longest: HashMap<u32, u64>,
    /// The latest time that a record named.
    now_ns: u64,
    ended: bool,
}

impl Cut {
    /// From and to these moments; None: from the start, to the end.
    pub fn new(from: Option<Moment>, to: Option<Moment>) -> Cut {
        Cut {
            from,
            to,
            from_ns: 0,
            to_ns: u64::MAX,
            usage_before: HashMap::new(),
            losses_before: Losses::default(),
            longest: HashMap::new(),
            now_ns: 0,
            ended: false,
        }
    }

    /// The record as it belongs to the span; None if it does not.
    ///
    /// # Errors
    /// When the span is empty, or lies outside of the recording.
    pub fn pass(&mut self, record: Record) -> Result<Option<Record>, Failure> {
        if self.from.is_none() && self.to.is_none() {
            return Ok(Some(record));
        }
        if let Record::Header(header) = record {
            return self.begin(header).map(Some);
        }
        Ok(self.within(record))
    }

    /// The end of the span, if the recording went on after it or was cut short itself.
    pub fn finish(&mut self) -> Option<Record> {
        let is_open = !self.ended && self.to.is_some() && self.now_ns > self.to_ns;
        is_open.then_some(Record::End {
            reason: EndReason::Duration,
            at_ns: self.to_ns,
        })
    }

    fn begin(&mut self, mut header: Box<Header>) -> Result<Record, Failure> {
        if let Some(from) = &self.from {
            self.from_ns = monotonic(from, &header)?.max(header.start_ns);
        }
        if let Some(to) = &self.to {
            self.to_ns = monotonic(to, &header)?;
        }
        self.from_ns = self.from_ns.max(header.start_ns);
        if self.to_ns <= self.from_ns {
            let what =
                "the span to replay is empty: --to is not after --from or the recording's start";
            return Err(Failure::new(Kind::Usage, what));
        }
        header.start_unix_ns += self.from_ns - header.start_ns;
        header.start_ns = self.from_ns;
        Ok(Record::Header(header))
    }

    fn within(&mut self, mut record: Record) -> Option<Record> {
        if let Some(at_ns) = moment_of(&record) {
            self.now_ns = self.now_ns.max(at_ns);
        }
        let (from_ns, to_ns) = (self.from_ns, self.to_ns);
        match &mut record {
            Record::SlowPoll(poll) | Record::Running(poll) => {
                if poll.end_ns <= from_ns || poll.start_ns >= to_ns {
                    return None;
                }
                let longest = self.longest.entry(poll.tid).or_default();
                *longest = (*longest).max(poll.held_ns());
            }
            Record::Usage(usage) if usage.at_ns < from_ns => {
                self.usage_before.insert(usage.tid, *usage);
                return None;
            }
            Record::Usage(usage) => {
                if let Some(before) = self.usage_before.get(&usage.tid) {
                    let longest = self.longest.get(&usage.tid).copied().unwrap_or_default();
                    *usage = since(usage, before, longest);
                }
            }
            Record::PollTime(time) if time.to_ns <= from_ns || time.from_ns >= to_ns => {
                return None;
            }
            Record::Losses(losses) if self.now_ns < from_ns => {
                self.losses_before = *losses;
                return None;
            }
            Record::Losses(losses) => *losses = losses_since(losses, &self.losses_before),
            // hud's own cost is counted from its start: of a span nothing is known.
            Record::Cost(_) => return None,
            Record::Census(census) if census.at_ns < from_ns => return None,
            // What was the case when the span began.
            Record::AllPollTime { at_ns, .. } | Record::TierChanged { at_ns, .. } => {
                *at_ns = (*at_ns).max(from_ns);
            }
            Record::End { reason, at_ns } => {
                self.ended = true;
                if *at_ns > to_ns {
                    (*reason, *at_ns) = (EndReason::Duration, to_ns);
                }
                *at_ns = (*at_ns).max(from_ns);
                return Some(record);
            }
            _ => {}
        }
        let is_later = match &record {
            Record::SlowPoll(_) | Record::Running(_) | Record::PollTime(_) => false,
            other => moment_of(other).unwrap_or(self.now_ns) > to_ns,
        };
        (!is_later).then_some(record)
    }
}

/// When a record happened, where it says so.
fn moment_of(record: &Record) -> Option<u64> {
    match record {
        Record::SlowPoll(poll) | Record::Running(poll) => Some(poll.end_ns),
        Record::Usage(usage) => Some(usage.at_ns),
        Record::PollTime(time) => Some(time.to_ns),
        Record::Cost(cost) => Some(cost.at_ns),
        Record::Census(census) => Some(census.at_ns),
        Record::WorkerGone { at_ns, .. }
        | Record::AllPollTime { at_ns, .. }
        | Record::TierChanged { at_ns, .. }
        | Record::End { at_ns, .. } => Some(*at_ns),
        Record::Header(_) | Record::Worker(_) | Record::Losses(_) => None,
    }
}

/// The counters of a worker since `before`. The longest poll before the span is not of it: then it
/// is the longest that was kept.
fn since(usage: &WorkerUsage, before: &WorkerUsage, longest_kept_ns: u64) -> WorkerUsage {
    let grown = usage.longest_poll_ns > before.longest_poll_ns;
    WorkerUsage {
        tid: usage.tid,
        at_ns: usage.at_ns,
        on_cpu_ns: usage.on_cpu_ns.saturating_sub(before.on_cpu_ns),
        run_queue_ns: usage.run_queue_ns.saturating_sub(before.run_queue_ns),
        blocked_ns: usage.blocked_ns.saturating_sub(before.blocked_ns),
        parked_ns: usage.parked_ns.saturating_sub(before.parked_ns),
        asleep_ns: usage.asleep_ns.saturating_sub(before.asleep_ns),
        polls_observed: usage.polls_observed.saturating_sub(before.polls_observed),
        longest_poll_ns: if grown {
            usage.longest_poll_ns
        } else {
            longest_kept_ns
        },
    }
}

/// The losses since those of `before`.
fn losses_since(losses: &Losses, before: &Losses) -> Losses {
    let mut since = *losses;
    for (kind, count) in before.by_kind() {
        if let Some(counter) = since.kind_mut(kind) {
            *counter = counter.saturating_sub(count);
        }
    }
    since
}

/// The moment on `CLOCK_MONOTONIC`.
fn monotonic(moment: &Moment, header: &Header) -> Result<u64, Failure> {
    let unix_ns = match moment {
        Moment::Elapsed(elapsed) => {
            let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
            return Ok(header.start_ns.saturating_add(elapsed));
        }
        Moment::Wall(wall) => unix_ns(*wall, header.start_unix_ns),
    };
    let unix_ns = unix_ns.ok_or_else(|| {
        Failure::new(
            Kind::Usage,
            "the time of --from or --to does not exist in this time zone",
        )
    })?;
    let offset = unix_ns.saturating_sub(i128::from(header.start_unix_ns));
    let at_ns = i128::from(header.start_ns).saturating_add(offset).max(0);
    Ok(u64::try_from(at_ns).unwrap_or(u64::MAX))
}

/// A wall-clock time as Unix time. One without a date is the first after the recording's start.
fn unix_ns(wall: Wall, start_unix_ns: u64) -> Option<i128> {
    let zone = jiff::tz::TimeZone::system();
    let local = |moment: jiff::civil::DateTime| Some(zone.to_zoned(moment).ok()?.timestamp());
    let timestamp = match wall {
        Wall::Timestamp(timestamp) => timestamp,
        Wall::DateTime(moment) => local(moment)?,
        Wall::Time(time) => {
            let start = jiff::Timestamp::from_nanosecond(start_unix_ns.into()).ok()?;
            let date = start.to_zoned(zone.clone()).date();
            let that_day = local(date.to_datetime(time))?;
            match that_day.as_second() < start.as_second() {
                true => local(date.tomorrow().ok()?.to_datetime(time))?,
                false => that_day,
            }
        }
    };
    Some(timestamp.as_nanosecond())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::model::Cause;
    use crate::session::testing::{self, MS, START_NS};

    fn after(ms: u64) -> Option<Moment> {
        Some(Moment::Elapsed(Duration::from_millis(ms)))
    }

    fn poll(from_ms: u64, to_ms: u64) -> Record {
        let poll = testing::poll(0, from_ms, to_ms - from_ms, Cause::Cpu, "f", "g");
        Record::SlowPoll(Arc::new(poll))
    }

    /// What is left of a recording between the two moments.
    fn cut(from: Option<Moment>, to: Option<Moment>, records: &[Record]) -> Vec<Record> {
        let mut cut = Cut::new(from, to);
        let mut kept = Vec::new();
        for record in [testing::header()].iter().chain(records) {
            kept.extend(cut.pass(record.clone()).unwrap());
        }
        kept.extend(cut.finish());
        kept
    }

    #[test]
    fn without_a_span_everything_passes() {
        let records = testing::session();
        assert_eq!(cut(None, None, &records)[1..], records);
    }

    #[test]
    fn polls_that_overlap_the_span_are_kept_whole() {
        let records = [poll(1, 2), poll(2, 4), poll(5, 6), poll(7, 9), poll(8, 9)];
        let kept = cut(after(3), after(8), &records);
        let Record::Header(header) = &kept[0] else {
            panic!("no header: {kept:?}")
        };
        assert_eq!(header.start_ns, START_NS + 3 * MS);
        assert_eq!(header.start_unix_ns, 1_750_000_000_003_000_000);
        let end = Record::End {
            reason: EndReason::Duration,
            at_ns: START_NS + 8 * MS,
        };
        assert_eq!(kept[1..], [poll(2, 4), poll(5, 6), poll(7, 9), end]);
    }

    #[test]
    fn counters_begin_with_the_span() {
        let usage = testing::usage;
        let kept = cut(
            after(3),
            after(8),
            &[usage(0, 1, 1), usage(0, 2, 1), usage(0, 7, 4)],
        );
        let [_, Record::Usage(usage)] = &kept[..] else {
            panic!("{kept:?}")
        };
        assert_eq!((usage.on_cpu_ns, usage.parked_ns), (3 * MS, 2 * MS));
        assert_eq!(usage.polls_observed, 5);
        assert_eq!(usage.longest_poll_ns, 0, "the longest was before the span");
    }

    #[test]
    fn the_process_is_known_although_its_workers_were_found_before() {
        let kept = cut(
            after(3),
            None,
            &[testing::worker(0), poll(1, 2), poll(4, 5)],
        );
        assert_eq!(kept[1..], [testing::worker(0), poll(4, 5)]);
    }

    #[test]
    fn wall_clock_times_are_those_of_the_recording() {
        let at = |text: &str| Some(text.parse::<Moment>().unwrap());
        // 1,750,000,000 is 2025-06-15T15:06:40Z.
        let records = [poll(1000, 2000), poll(5000, 6000)];
        let kept = cut(at("2025-06-15T15:06:43Z"), None, &records);
        assert_eq!(kept[1..], records[1..]);
    }

    #[test]
    fn an_empty_span_is_refused() {
        let mut cut = Cut::new(after(5), after(4));
        let refused = cut.pass(testing::header()).unwrap_err();
        assert_eq!(refused.kind, Kind::Usage);
    }
}
