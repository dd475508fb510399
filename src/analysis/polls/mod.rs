//! Assembles slow polls: which captured stacks belong to a poll, and how much of its time each of
//! them stands for (`shares`).
//!
//! Works on decoded events alone. Stacks arrive unwound and are not symbolised here.

mod shares;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use self::shares::Shares;
use crate::capture::{Capture, OpenPoll, PollEnd, PollTimes, StackKind};
use crate::model::{Cause, ReleasedBy, TimeSplit};

pub use self::shares::{PollStack, WeighedStack};

/// A slow poll without names.
#[derive(Clone, Debug, PartialEq)]
pub struct AssembledPoll {
    pub tid: u32,
    pub times: PollTimes,
    pub end_ns: u64,
    pub running: bool,
    pub split: TimeSplit,
    pub cause: Cause,
    /// Time by cause, largest first.
    pub causes: Vec<(Cause, u64)>,
    /// Heaviest first.
    pub stacks: Vec<WeighedStack>,
    /// Sleeps with a notable share of the time whose stack is missing.
    pub missing_stacks: u64,
    /// A single sleep in it lasted for the threshold. Where polls are not counted, only this proves
    /// that it was one poll.
    pub is_one_poll: bool,
    /// Who ended its longest wait.
    pub released_by: Option<Arc<ReleasedBy>>,
}

/// The polls that have not ended, with their stacks.
#[derive(Debug, Default)]
pub struct Polls {
    /// By thread and the poll's sequence number. Worker states may be ahead of the events, so a
    /// thread's next poll can be known before its last one ends.
    open: BTreeMap<(u32, u64), Open>,
    /// When the last poll of a thread ended. The next one begins later.
    ended_ns: HashMap<u32, u64>,
    threshold_ns: u64,
    /// The minimal CPU time of a page fault.
    fault_ns: u64,
}

#[derive(Debug, Default)]
struct Open {
    /// As first reported. Each conversion between the clocks differs by some nanoseconds.
    start_ns: Option<u64>,
    stacks: Vec<PollStack>,
    released_by: Option<Arc<ReleasedBy>>,
}

/// Two polls of one thread are at least this far apart, nanoseconds: their edges are estimates, and
/// viewers that keep times as doubles must not see them touch.
const GAP_NS: u64 = 1000;

/// A wait explains a poll if it takes at least this fraction of it: one in so many.
const TELLING_WAIT: u64 = 4;

/// Stacks kept per poll. The longer a poll runs the more rarely it is sampled, so only invalid events
/// exceed this.
const MAX_STACKS: usize = 4096;

impl Polls {
    /// No polls. Those of at least `threshold_ns` are slow.
    pub fn new(threshold_ns: u64) -> Self {
        Polls {
            threshold_ns,
            ..Polls::default()
        }
    }

    /// Sets the minimal CPU time of a page fault, since few samples may miss most of many faults.
    pub fn with_fault_cost(self, fault_ns: u64) -> Self {
        Polls { fault_ns, ..self }
    }

    /// Whether this stack is new. The stack of a sleeping poll is both fetched and, later, sent.
    pub fn needs(&self, capture: &Capture) -> bool {
        let Some(open) = self.open.get(&(capture.tid, capture.poll.sequence)) else {
            return true;
        };
        open.stacks.len() < MAX_STACKS
            && !open.stacks.iter().any(|stack| {
                stack.kind == capture.kind
                    && match capture.kind {
                        StackKind::Blocked => stack.site.same_place(&capture.site),
                        _ => stack.on_cpu_ns == capture.poll.on_cpu_ns,
                    }
            })
    }

    /// Adds a stack of the poll `sequence` of a thread.
    pub fn add(&mut self, tid: u32, sequence: u64, stack: PollStack) {
        let open = self.open.entry((tid, sequence)).or_default();
        open.stacks.push(stack);
    }

    /// Adds who ended a wait in the poll `sequence` of a thread.
    pub fn add_release(&mut self, tid: u32, sequence: u64, by: Arc<ReleasedBy>) {
        let open = self.open.entry((tid, sequence)).or_default();
        let longest = open.released_by.as_ref().map_or(0, |by| by.wait_ns);
        if by.wait_ns > longest {
            open.released_by = Some(by);
        }
    }

    /// The poll's start, the same in every call.
    fn start_ns(&mut self, tid: u32, times: &PollTimes) -> u64 {
        let earliest = self.ended_ns.get(&tid).map_or(0, |end| end + GAP_NS);
        *self
            .open
            .entry((tid, times.sequence))
            .or_default()
            .start_ns
            .get_or_insert(times.start_ns.max(earliest))
    }

    /// The start of the thread's next poll, if that was reported already.
    fn next_start_ns(&self, tid: u32, sequence: u64) -> Option<u64> {
        let later = self.open.range((tid, sequence)..=(tid, u64::MAX));
        later
            .filter(|((_, other), _)| *other > sequence)
            .find_map(|(_, open)| open.start_ns)
    }

    /// The poll as it is now, before its end.
    pub fn running(
        &mut self,
        tid: u32,
        now_ns: u64,
        seen_ns: u64,
        poll: &OpenPoll,
    ) -> AssembledPoll {
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

    /// The poll that has ended, with all its stacks.
    pub fn end(&mut self, end: &PollEnd) -> AssembledPoll {
        let mut end = end.clone();
        end.poll.start_ns = self.start_ns(end.tid, &end.poll);
        if let Some(next) = self.next_start_ns(end.tid, end.poll.sequence) {
            end.end_ns = end.end_ns.min(next.saturating_sub(GAP_NS));
        }
        end.end_ns = end.end_ns.max(end.poll.start_ns);
        let assembled = self.assemble(&end, false);
        // Earlier polls remain only where the event of their end was lost.
        self.open
            .retain(|&(tid, sequence), _| tid != end.tid || sequence > end.poll.sequence);
        self.ended_ns.insert(end.tid, end.end_ns);
        assembled
    }

    /// Discards all polls: the kernel side restarts and numbers polls from 0 again.
    pub fn restart(&mut self) {
        self.open.clear();
    }

    /// Forgets a thread.
    pub fn forget(&mut self, tid: u32) {
        self.open.retain(|&(other, _), _| other != tid);
        self.ended_ns.remove(&tid);
    }

    fn assemble(&self, end: &PollEnd, running: bool) -> AssembledPoll {
        let times = end.poll;
        let open = self.open.get(&(end.tid, times.sequence));
        let captured = open.map_or(&[][..], |open| &open.stacks);
        let held_ns = end.end_ns.saturating_sub(times.start_ns);
        let mut shares = Shares::default();
        let faults_ns = times.faults.saturating_mul(self.fault_ns);
        shares.add_running(captured, times.on_cpu_ns, faults_ns);
        let missing_stacks = shares.add_sites(captured, end, held_ns / 10);
        shares.add_waits(captured, &times);

        let (causes, stacks) = shares.sorted();
        AssembledPoll {
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

    /// The cause to report: the largest that blames the code, unless the poll would not have been slow
    /// without waits imposed on it. `estimated_ns` of the code's own time may belong to another poll,
    /// so half of the threshold must have been observed.
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
