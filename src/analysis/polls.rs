//! Puts slow polls together: which captured stacks belong to which poll, and how much of the
//! poll's time each of them stands for (`shares`).
//!
//! Pure bookkeeping over decoded events; stacks arrive unwound and leave unnamed.

mod shares;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use self::shares::Shares;
use crate::capture::{Capture, OpenPoll, PollEnd, PollTimes, StackKind};
use crate::model::{Cause, ReleasedBy, TimeSplit};

pub use self::shares::{Taken, Weighed};

/// A slow poll with everything but names.
#[derive(Clone, Debug, PartialEq)]
pub struct Assembled {
    pub tid: u32,
    pub times: PollTimes,
    pub end_ns: u64,
    pub running: bool,
    pub split: TimeSplit,
    pub cause: Cause,
    /// Time by cause, largest first.
    pub causes: Vec<(Cause, u64)>,
    /// Heaviest first.
    pub stacks: Vec<Weighed>,
    /// Places with a notable share of the time whose stack is missing.
    pub missing_stacks: u64,
    /// A single sleep in it was as long as the threshold: without a count of polls, nothing else
    /// proves that it was one.
    pub is_one_poll: bool,
    /// Who ended its longest wait.
    pub released_by: Option<Arc<ReleasedBy>>,
}

/// The stacks of the polls that are under way, by thread.
#[derive(Debug, Default)]
pub struct Polls {
    /// By thread and the poll's sequence number: a look at the threads may be ahead of the events,
    /// so a thread's next poll can be known before the end of its last.
    open: BTreeMap<(u32, u64), Open>,
    /// When the last poll of a thread ended: the next one begins no earlier.
    ended_ns: HashMap<u32, u64>,
    threshold_ns: u64,
    /// What a page fault costs at least.
    fault_ns: u64,
}

#[derive(Debug, Default)]
struct Open {
    /// As it was first told: each conversion between the clocks differs by some nanoseconds.
    start_ns: Option<u64>,
    taken: Vec<Taken>,
    released_by: Option<Arc<ReleasedBy>>,
}

/// Two polls of one thread are at least this far apart, nanoseconds: their edges are estimates, and
/// viewers that keep times as doubles must not see them touch.
const GAP_NS: u64 = 1000;

/// A wait that is a smaller part of its poll than one in so many explains little of it.
const TELLING_WAIT: u64 = 4;

/// Stacks kept of one poll: a poll that runs for hours is sampled ever more rarely, so this many
/// are never reached by honest events.
const MAX_TAKEN: usize = 4096;

impl Polls {
    /// Tracks polls that are slow from `threshold_ns` on.
    pub fn new(threshold_ns: u64) -> Self {
        Polls {
            threshold_ns,
            ..Polls::default()
        }
    }

    /// Knows what a page fault costs at least, nanoseconds: few samples may miss most of a storm.
    pub fn with_fault_cost(self, fault_ns: u64) -> Self {
        Polls { fault_ns, ..self }
    }

    /// Whether this stack is news: a sleeping poll's stack is both fetched and, later, sent.
    pub fn wants(&self, capture: &Capture) -> bool {
        let Some(open) = self.open.get(&(capture.tid, capture.poll.sequence)) else {
            return true;
        };
        open.taken.len() < MAX_TAKEN
            && !open.taken.iter().any(|taken| {
                taken.kind == capture.kind
                    && match capture.kind {
                        StackKind::Blocked => taken.site.same_place(&capture.site),
                        _ => taken.on_cpu_ns == capture.poll.on_cpu_ns,
                    }
            })
    }

    /// Takes in a stack of the poll `sequence` of a thread.
    pub fn add(&mut self, tid: u32, sequence: u64, taken: Taken) {
        let open = self.open.entry((tid, sequence)).or_default();
        open.taken.push(taken);
    }

    /// Takes in who ended a wait in the poll `sequence` of a thread.
    pub fn add_release(&mut self, tid: u32, sequence: u64, by: Arc<ReleasedBy>) {
        let open = self.open.entry((tid, sequence)).or_default();
        let longest = open.released_by.as_ref().map_or(0, |by| by.wait_ns);
        if by.wait_ns > longest {
            open.released_by = Some(by);
        }
    }

    /// The poll's start, the same each time it is asked for.
    fn start_ns(&mut self, tid: u32, times: &PollTimes) -> u64 {
        let earliest = self.ended_ns.get(&tid).map_or(0, |end| end + GAP_NS);
        *self
            .open
            .entry((tid, times.sequence))
            .or_default()
            .start_ns
            .get_or_insert(times.start_ns.max(earliest))
    }

    /// The start of the thread's next poll after this one, where that was reported already.
    fn next_start_ns(&self, tid: u32, sequence: u64) -> Option<u64> {
        let later = self.open.range((tid, sequence)..=(tid, u64::MAX));
        later
            .filter(|((_, other), _)| *other > sequence)
            .find_map(|(_, open)| open.start_ns)
    }

    /// The poll as it stands: it has not ended.
    pub fn running(&mut self, tid: u32, now_ns: u64, seen_ns: u64, poll: &OpenPoll) -> Assembled {
        let mut times = poll.times;
        times.start_ns = self.start_ns(tid, &times);
        let mut sites = poll.sites.clone();
        let since = now_ns.saturating_sub(seen_ns);
        match poll.asleep_at.and_then(|at| sites.get_mut(at)) {
            Some(site) => {
                site.blocked_ns = site.blocked_ns.saturating_add(since);
                times.blocked_ns = times.blocked_ns.saturating_add(since);
            }
            None if poll.stopped => times.stopped_ns = times.stopped_ns.saturating_add(since),
            None => times.on_cpu_ns = times.on_cpu_ns.saturating_add(since),
        }
        let end = PollEnd {
            tid,
            end_ns: now_ns,
            poll: times,
            sites,
        };
        self.assemble(&end, true)
    }

    /// The poll that has ended, with all that was kept of it.
    pub fn end(&mut self, end: &PollEnd) -> Assembled {
        let mut end = end.clone();
        end.poll.start_ns = self.start_ns(end.tid, &end.poll);
        if let Some(next) = self.next_start_ns(end.tid, end.poll.sequence) {
            end.end_ns = end.end_ns.min(next.saturating_sub(GAP_NS));
        }
        end.end_ns = end.end_ns.max(end.poll.start_ns);
        let assembled = self.assemble(&end, false);
        // Earlier ones can only be left over from ends that were lost.
        self.open
            .retain(|&(tid, sequence), _| tid != end.tid || sequence > end.poll.sequence);
        self.ended_ns.insert(end.tid, end.end_ns);
        assembled
    }

    /// Polls are numbered anew: none of those that are under way will be heard of again.
    pub fn restart(&mut self) {
        self.open.clear();
    }

    /// Forgets a thread.
    pub fn forget(&mut self, tid: u32) {
        self.open.retain(|&(other, _), _| other != tid);
        self.ended_ns.remove(&tid);
    }

    fn assemble(&self, end: &PollEnd, running: bool) -> Assembled {
        let times = end.poll;
        let open = self.open.get(&(end.tid, times.sequence));
        let taken = open.map_or(&[][..], |open| &open.taken);
        let held_ns = end.end_ns.saturating_sub(times.start_ns);
        let mut shares = Shares::default();
        let faults_ns = times.faults.saturating_mul(self.fault_ns);
        shares.add_running(taken, times.on_cpu_ns, faults_ns);
        let missing_stacks = shares.add_sites(taken, end, held_ns / 10);
        shares.add_waits(taken, &times);

        let (causes, stacks) = shares.sorted();
        Assembled {
            tid: end.tid,
            times,
            end_ns: end.end_ns,
            running,
            split: TimeSplit {
                on_cpu_ns: times.on_cpu_ns,
                run_queue_ns: times.run_queue_ns,
                blocked_ns: times.blocked_ns.saturating_add(times.stopped_ns),
            },
            cause: self.chief_cause(&causes, times.estimated_ns),
            causes,
            stacks,
            missing_stacks,
            is_one_poll: end
                .sites
                .iter()
                .any(|site| site.blocked_ns / u64::from(site.count.max(1)) >= self.threshold_ns),
            released_by: open
                .and_then(|open| open.released_by.clone())
                .filter(|by| by.wait_ns >= held_ns / TELLING_WAIT),
        }
    }

    /// The cause to report: the code's own largest, unless the poll would not have been slow
    /// without what was done to it. Of its own time `estimated_ns` may be another poll's: as for the
    /// poll as a whole, half of the threshold must have been seen.
    fn chief_cause(&self, causes: &[(Cause, u64)], estimated_ns: u64) -> Cause {
        let own_ns: u64 = causes
            .iter()
            .filter(|(cause, _)| cause.blames_code())
            .map(|(_, ns)| ns)
            .sum();
        let own_fault = own_ns >= self.threshold_ns
            && own_ns.saturating_sub(estimated_ns) >= self.threshold_ns / 2;
        causes
            .iter()
            .find(|(cause, _)| cause.blames_code() == own_fault)
            .or(causes.first())
            .map_or(Cause::Unknown, |&(cause, _)| cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Site;
    use crate::stacks::unwind::Unwound;

    const MS: u64 = 1_000_000;

    fn user(address: u64) -> Unwound {
        Unwound {
            addresses: vec![address],
            complete: true,
            ..Unwound::default()
        }
    }

    fn futex(sp: u64, blocked_ns: u64) -> Site {
        Site {
            syscall: libc::SYS_futex as i32,
            previous_syscall: -1,
            sp,
            blocked_ns,
            ..Site::default()
        }
    }

    fn taken(kind: StackKind, site: Site, on_cpu_ns: u64, address: u64) -> Taken {
        Taken {
            kind,
            site,
            on_cpu_ns,
            user: user(address),
            kernel: Vec::new(),
            page_fault: false,
        }
    }

    fn end(poll: PollTimes, held_ns: u64, sites: Vec<Site>) -> PollEnd {
        PollEnd {
            tid: 1,
            end_ns: held_ns,
            poll,
            sites,
        }
    }

    #[test]
    fn samples_share_the_cpu_time_and_sleep_goes_by_place() {
        let mut polls = Polls::new(5 * MS);
        let none = Site {
            syscall: -1,
            ..Site::default()
        };
        polls.add(1, 7, taken(StackKind::Sample, none, 4 * MS, 0xa));
        polls.add(1, 7, taken(StackKind::Sample, none, 8 * MS, 0xb));
        polls.add(1, 7, taken(StackKind::Sample, none, 9 * MS, 0xa));
        polls.add(1, 7, taken(StackKind::Blocked, futex(0x10, 0), 9 * MS, 0xc));
        let assembled = polls.end(&end(
            PollTimes {
                sequence: 7,
                on_cpu_ns: 10 * MS,
                blocked_ns: 30 * MS,
                ..PollTimes::default()
            },
            40 * MS,
            vec![futex(0x10, 30 * MS)],
        ));
        let weights: Vec<(u64, u64)> = assembled
            .stacks
            .iter()
            .map(|stack| (stack.user.addresses[0], stack.weight_ns / MS))
            .collect();
        // 0xa stands for 4 ms at first and for the last 2.
        assert_eq!(weights, [(0xc, 30), (0xa, 6), (0xb, 4)]);
        assert_eq!(assembled.cause, Cause::Lock);
        assert_eq!(
            assembled.causes,
            [(Cause::Lock, 30 * MS), (Cause::Cpu, 10 * MS)]
        );
        assert_eq!(assembled.missing_stacks, 0);
    }

    #[test]
    fn the_faults_of_a_storm_cost_what_they_cost_whatever_the_samples_met() {
        let cause = |faults: u64, met: [bool; 3]| {
            let mut polls = Polls::new(5 * MS).with_fault_cost(2_000);
            for (n, page_fault) in (1..).zip(met) {
                let kernel = if page_fault { vec![1] } else { Vec::new() };
                let outside = Site {
                    syscall: -1,
                    ..Site::default()
                };
                let sample = taken(StackKind::Sample, outside, n * 2 * MS, 0xa);
                let sample = Taken {
                    kernel,
                    page_fault,
                    ..sample
                };
                polls.add(1, 7, sample);
            }
            let times = PollTimes {
                sequence: 7,
                on_cpu_ns: 6 * MS,
                faults,
                ..PollTimes::default()
            };
            let assembled = polls.end(&end(times, 6 * MS, vec![]));
            let sum: u64 = assembled.causes.iter().map(|(_, ns)| ns).sum();
            assert_eq!(sum, 6 * MS);
            assembled.cause
        };
        // 2,000 faults take 4 ms of the 6.
        assert_eq!(cause(2_000, [true, false, false]), Cause::PageFault);
        assert_eq!(cause(2_000, [true, true, false]), Cause::PageFault);
        // Few faults may be dear ones: what samples show is never lowered.
        assert_eq!(cause(10, [true, true, false]), Cause::PageFault);
        assert_eq!(cause(1_000, [true, false, false]), Cause::Cpu);
        // Cheaper ones than are known of: not one was met.
        assert_eq!(cause(2_000, [false, false, false]), Cause::Cpu);
    }

    #[test]
    fn a_poll_that_only_waited_for_a_cpu_is_not_the_codes_fault() {
        let polls = Polls::new(5 * MS);
        let mut times = PollTimes {
            on_cpu_ns: 2 * MS,
            run_queue_ns: 20 * MS,
            ..PollTimes::default()
        };
        assert_eq!(
            polls.assemble(&end(times, 22 * MS, vec![]), false).cause,
            Cause::RunQueue
        );
        // It would have been slow without the wait, too.
        times.on_cpu_ns = 6 * MS;
        assert_eq!(
            polls.assemble(&end(times, 26 * MS, vec![]), false).cause,
            Cause::Cpu
        );
        // It was hardly seen to run: what makes it slow by itself may be another poll's.
        times.estimated_ns = 4 * MS;
        assert_eq!(
            polls.assemble(&end(times, 26 * MS, vec![]), false).cause,
            Cause::RunQueue
        );
    }

    #[test]
    fn the_cost_of_wakes_belongs_to_the_sleep() {
        let polls = Polls::new(5 * MS);
        let times = PollTimes {
            run_queue_ns: 4 * MS,
            wake_delay_ns: 4 * MS,
            blocked_ns: 4 * MS,
            ..PollTimes::default()
        };
        let assembled = polls.assemble(&end(times, 8 * MS, vec![futex(1, 4 * MS)]), false);
        assert_eq!(assembled.causes, [(Cause::Lock, 8 * MS)]);
        assert_eq!(assembled.missing_stacks, 1);
    }

    #[test]
    fn stacks_of_an_earlier_poll_are_not_mixed_in() {
        let mut polls = Polls::new(5 * MS);
        polls.add(1, 1, taken(StackKind::Blocked, futex(1, 0), 0, 0xa));
        polls.add(1, 2, taken(StackKind::Blocked, futex(2, 0), 0, 0xb));
        let times = PollTimes {
            sequence: 2,
            blocked_ns: 9 * MS,
            ..PollTimes::default()
        };
        let sites = vec![futex(1, 3 * MS), futex(2, 6 * MS)];
        let assembled = polls.end(&end(times, 9 * MS, sites));
        assert_eq!(assembled.stacks.len(), 1);
        assert_eq!(assembled.stacks[0].user.addresses, [0xb]);
        assert_eq!(assembled.missing_stacks, 1);
    }

    #[test]
    fn the_next_poll_may_be_known_before_the_last_one_ends() {
        let mut polls = Polls::new(5 * MS);
        polls.add(1, 1, taken(StackKind::Blocked, futex(1, 0), 0, 0xa));
        let next = OpenPoll {
            times: PollTimes {
                sequence: 2,
                ..PollTimes::default()
            },
            sites: vec![],
            asleep_at: None,
            stopped: false,
            capture_waits: false,
        };
        polls.running(1, 30 * MS, 20 * MS, &next);
        let times = PollTimes {
            sequence: 1,
            blocked_ns: 9 * MS,
            ..PollTimes::default()
        };
        let assembled = polls.end(&end(times, 9 * MS, vec![futex(1, 9 * MS)]));
        assert_eq!(assembled.stacks.len(), 1);
    }

    #[test]
    fn polls_of_a_thread_never_touch() {
        let mut polls = Polls::new(5 * MS);
        let at = |sequence, start_ns| PollTimes {
            sequence,
            start_ns,
            ..PollTimes::default()
        };
        let next = OpenPoll {
            times: at(2, 10 * MS),
            sites: vec![],
            asleep_at: None,
            stopped: false,
            capture_waits: false,
        };
        // The next poll is reported first, with a start before the end of this one.
        polls.running(1, 30 * MS, 20 * MS, &next);
        let first = polls.end(&end(at(1, MS), 10 * MS + 41_000, vec![]));
        assert_eq!(first.end_ns, 10 * MS - GAP_NS);
        let second = polls.end(&end(at(2, 10 * MS), 40 * MS, vec![]));
        assert_eq!((second.times.start_ns, second.end_ns), (10 * MS, 40 * MS));
        // Without a report the start gives way.
        let third = polls.end(&end(at(3, 39 * MS), 50 * MS, vec![]));
        assert_eq!(third.times.start_ns, 40 * MS + GAP_NS);
    }

    #[test]
    fn a_sleeping_poll_grows_at_the_place_where_it_sleeps() {
        let mut polls = Polls::new(5 * MS);
        let open = OpenPoll {
            times: PollTimes {
                blocked_ns: MS,
                ..PollTimes::default()
            },
            sites: vec![futex(1, MS)],
            asleep_at: Some(0),
            stopped: false,
            capture_waits: false,
        };
        let assembled = polls.running(1, 12_000 * MS, 2 * MS, &open);
        assert!(assembled.running);
        assert_eq!(assembled.causes, [(Cause::Lock, 11_999 * MS)]);
        assert_eq!(assembled.split.blocked_ns, 11_999 * MS);
    }

    #[test]
    fn a_fetched_stack_is_not_taken_twice() {
        let mut polls = Polls::new(5 * MS);
        let capture = Capture {
            tid: 1,
            at_ns: 0,
            kind: StackKind::Blocked,
            poll: PollTimes {
                sequence: 3,
                ..PollTimes::default()
            },
            site: futex(1, 0),
            registers: Default::default(),
            kernel: vec![],
            stack_base: 0,
            stack: vec![],
            cut: false,
        };
        assert!(polls.wants(&capture));
        polls.add(1, 3, Taken::new(&capture, user(1), false));
        assert!(!polls.wants(&capture));
    }
}
