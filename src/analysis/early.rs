//! What can be told while the target's symbols are still being read: which worker was held, when,
//! for how long and why, without the code. Reading them takes seconds where there are gigabytes.
//!
//! Runs on a thread of its own and keeps what it takes: the analysis proper goes over all of that
//! as soon as it can name things, and what is told here is replaced by that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::naming;
use super::pipeline::{REPORT_EVERY, Subject};
use super::polls::{Assembled, Polls, Taken};
use super::warm::Warm;
use super::workers::Workers;
use crate::capture::{Capture, Drained, Event, StackKind, ThreadState};
use crate::model::Record;
use crate::stacks::unwind::Unwound;
use crate::target::memory::ProcessMemory;
use crate::tracking::trust::Trust;

/// How often it looks whether the symbols are read.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Events kept at most, each with a stack of some 16 KiB; more wait where they are, and are counted
/// where they find no room.
const KEEP: usize = 2048;

/// What is left for the analysis proper.
pub struct Left {
    /// Where more comes from.
    pub drained: Receiver<Drained>,
    /// What came meanwhile, in order.
    pub kept: VecDeque<Drained>,
    pub workers: Workers,
    pub trust: Trust,
}

/// Begins on a thread of its own; it ends when the symbols are read.
///
/// # Errors
/// When the system has no thread to give.
pub fn begin(
    subject: &Subject,
    drained: Receiver<Drained>,
    records: SyncSender<Record>,
    symbols: Warm,
) -> Result<JoinHandle<Left>> {
    let mut early = Early::new(subject, records);
    thread::Builder::new()
        .name("hud-early".into())
        .spawn(move || {
            while !symbols.is_done() && early.kept.len() < KEEP {
                match drained.recv_timeout(LOOK_EVERY) {
                    Ok(event) => early.take(event),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            early.kept.extend(early.last_look);
            Left {
                drained,
                kept: early.kept,
                workers: early.workers,
                trust: early.trust,
            }
        })
        .context("cannot start a thread")
}

struct Early {
    trust: Trust,
    threshold_ns: u64,
    memory: ProcessMemory,
    polls: Polls,
    workers: Workers,
    kept: VecDeque<Drained>,
    /// Only the newest look says anything once names are known.
    last_look: Option<Drained>,
    reported_at: Instant,
    records: SyncSender<Record>,
}

impl Early {
    fn new(subject: &Subject, records: SyncSender<Record>) -> Early {
        let threshold_ns = subject.threshold.as_nanos() as u64;
        Early {
            trust: Trust::new(subject),
            threshold_ns,
            memory: ProcessMemory::new(subject.pid),
            polls: Polls::new(threshold_ns).with_fault_cost(subject.fault_ns),
            workers: Workers::default(),
            kept: VecDeque::new(),
            last_look: None,
            reported_at: Instant::now(),
            records,
        }
    }

    fn take(&mut self, drained: Drained) {
        match &drained {
            Drained::Workers { at_ns, states } => {
                self.look(*at_ns, states);
                self.last_look = Some(drained);
                return;
            }
            Drained::Event(Event::Stack(capture)) if self.polls.wants(capture) => {
                let taken = Taken::new(capture, Unwound::default(), in_page_fault(capture));
                self.polls.add(capture.tid, capture.poll.sequence, taken);
            }
            Drained::Event(Event::PollEnd(end)) => {
                let assembled = self.polls.end(end);
                self.tell(assembled);
            }
            Drained::Event(Event::ThreadExit(exit)) => self.polls.forget(exit.tid),
            _ => {}
        }
        self.kept.push_back(drained);
    }

    fn look(&mut self, at_ns: u64, states: &[ThreadState]) {
        for state in states {
            let layout = self.trust.layout();
            let found = self.workers.identify(state, layout, &self.memory);
            if let Some(worker) = found {
                self.send(Record::Worker(worker));
            }
        }
        let doubts = |state: &ThreadState| self.trust.doubts(self.workers.get(state.tid));
        if states.iter().any(doubts)
            && let Err(why) = self.trust.check(states, &self.memory)
        {
            // The analysis proper draws the conclusions.
            log::debug!("{why}");
        }
        let report = self.reported_at.elapsed() >= REPORT_EVERY;
        if report {
            self.reported_at = Instant::now();
        }
        for state in states {
            if report && let Some(usage) = self.workers.usage(state, at_ns) {
                self.send(Record::Usage(usage));
            }
            let open = state.poll.as_ref();
            let long = |start_ns: u64| at_ns.saturating_sub(start_ns) >= self.threshold_ns;
            if let Some(poll) = open.filter(|poll| long(poll.times.start_ns)) {
                let assembled = self.polls.running(state.tid, at_ns, state.seen_ns, poll);
                self.tell(assembled);
            }
        }
    }

    /// Tells of a poll, unless names may show that it is none.
    fn tell(&self, poll: Assembled) {
        let worker = self.workers.get(poll.tid);
        if self.trust.knows_polls(worker) && !poll.times.unconstrained {
            let unnamed = naming::without_names(poll, worker);
            self.send(Record::Unnamed(Arc::new(unnamed)));
        }
    }

    /// Nobody reads the records any more: the analysis proper will notice.
    fn send(&self, record: Record) {
        let _ = self.records.send(record);
    }
}

/// As far as that is known without the kernel's symbols.
fn in_page_fault(capture: &Capture) -> bool {
    capture.kind == StackKind::Sample
        && !capture.kernel.is_empty()
        && naming::faults_without_names(capture.site.syscall)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::capture::{Learnt, OpenPoll, Phase, PollEnd, PollTimes, SeenAs, Site, Usage};
    use crate::model::{Cause, SlowPoll, Tier};
    use crate::target::modules::ModuleMap;
    use crate::tokio::testing;

    const MS: u64 = 1_000_000;
    const THRESHOLD: Duration = Duration::from_millis(5);

    fn subject(tier: Tier) -> Subject {
        let layout = testing::own().candidates[0];
        Subject {
            pid: std::process::id(),
            layout: Some(layout),
            other_ticks: Vec::new(),
            discovery: testing::own(),
            learnt: Learnt::beside(Some(&layout)),
            replaced: Arc::default(),
            tier,
            threshold: THRESHOLD,
            fault_ns: 0,
            modules: ModuleMap::read(std::process::id()).unwrap(),
        }
    }

    fn asleep(sequence: u64, start_ms: u64, slept_ms: u64) -> (PollTimes, Vec<Site>) {
        let times = PollTimes {
            sequence,
            task: 9,
            start_ns: start_ms * MS,
            blocked_ns: slept_ms * MS,
            ..PollTimes::default()
        };
        let site = Site {
            syscall: libc::SYS_nanosleep as i32,
            previous_syscall: -1,
            blocked_ns: slept_ms * MS,
            ..Site::default()
        };
        (times, vec![site])
    }

    fn end(sequence: u64, start_ms: u64, held_ms: u64) -> Drained {
        let (poll, sites) = asleep(sequence, start_ms, held_ms);
        Drained::Event(Event::PollEnd(Box::new(PollEnd {
            tid: 7,
            end_ns: (start_ms + held_ms) * MS,
            poll,
            sites,
        })))
    }

    /// A look at a worker that sleeps in a poll since `start_ms`.
    fn look(at_ms: u64, start_ms: u64) -> Drained {
        let (times, sites) = asleep(2, start_ms, 0);
        let state = ThreadState {
            slot: 0,
            tid: 7,
            phase: Phase::Poll,
            seen_as: SeenAs::Blocked,
            seen_ns: start_ms * MS,
            multi_thread: true,
            scheduler: 0,
            thread_pointer: 0,
            comm: "worker".into(),
            usage: Usage::default(),
            poll: Some(OpenPoll {
                times,
                sites,
                asleep_at: Some(0),
                capture_waits: false,
            }),
        };
        Drained::Workers {
            at_ns: at_ms * MS,
            states: vec![state],
        }
    }

    fn unnamed(records: &Receiver<Record>) -> Vec<Arc<SlowPoll>> {
        let polls = records.try_iter().filter_map(|record| match record {
            Record::Unnamed(poll) => Some(poll),
            Record::SlowPoll(_) | Record::Running(_) => panic!("with names: {record:?}"),
            _ => None,
        });
        polls.collect()
    }

    #[test]
    fn polls_are_told_at_once_without_names_and_kept_for_their_names() {
        let (records_in, records) = mpsc::sync_channel(100);
        let mut early = Early::new(&subject(Tier::DebugInfo), records_in);
        early.take(end(1, 100, 20));
        early.take(look(203, 200)); // not slow yet
        early.take(look(230, 200));
        let told = unnamed(&records);
        let facts = |poll: &Arc<SlowPoll>| {
            let times = (poll.start_ns / MS, poll.held_ns() / MS);
            (times, poll.running, poll.cause, poll.split.blocked_ns / MS)
        };
        assert_eq!(
            told.iter().map(facts).collect::<Vec<_>>(),
            [
                ((100, 20), false, Cause::Sleep, 20),
                ((200, 30), true, Cause::Sleep, 30)
            ]
        );
        for poll in &told {
            assert_eq!(poll.culprit.function, naming::NAMING);
            assert!(poll.stacks.is_empty() && poll.task == Some(9));
        }
        // The event itself, and of the looks the newest.
        assert!(matches!(
            early.kept.make_contiguous(),
            [Drained::Event(Event::PollEnd(_))]
        ));
        assert!(
            matches!(early.last_look, Some(Drained::Workers { at_ns, .. }) if at_ns == 230 * MS)
        );
    }

    #[test]
    fn what_names_may_show_to_be_no_poll_waits_for_them() {
        let (records_in, records) = mpsc::sync_channel(100);
        let mut early = Early::new(&subject(Tier::DebugInfo), records_in);
        let Drained::Event(Event::PollEnd(mut parked)) = end(1, 100, 20) else {
            panic!("no end");
        };
        parked.poll.unconstrained = true;
        early.take(Drained::Event(Event::PollEnd(parked)));
        assert_eq!(unnamed(&records), []);
        assert_eq!(early.kept.len(), 1);
    }

    #[test]
    fn it_ends_with_the_symbols_read_and_gives_back_all_it_took() {
        let (records_in, records) = mpsc::sync_channel(100);
        let (drained_in, drained) = mpsc::sync_channel(100);
        let symbols = Warm::default();
        let early = begin(
            &subject(Tier::DebugInfo),
            drained,
            records_in,
            symbols.clone(),
        )
        .unwrap();
        drained_in.send(end(1, 100, 20)).unwrap();
        let first = records.recv_timeout(Duration::from_secs(10));
        assert!(matches!(first, Ok(Record::Unnamed(_))), "{first:?}");
        drained_in.send(look(230, 200)).unwrap();
        let second = records.recv_timeout(Duration::from_secs(10));
        assert!(matches!(second, Ok(Record::Unnamed(_))), "{second:?}");
        symbols.set_done();
        let left = early.join().unwrap();
        assert_eq!(left.kept.len(), 2);
        drained_in.send(end(2, 200, 40)).unwrap();
        assert!(left.drained.try_recv().is_ok(), "what comes later is there");
    }
}
