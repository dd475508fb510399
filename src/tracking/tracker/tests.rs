//! The state machine fed with observations: two workers of one runtime, and perhaps one of another
//! flavor, in a memory of a few words.

use std::time::Duration;

use super::*;
use crate::capture::{Phase, Runs, SeenAs, Usage};
use crate::model::{Flavor, Role};
use crate::tokio::testing::Words;
use crate::tokio::{BesideTick, ContextFields, FlavorPaths, PollPaths, Source, ThreadLocals};

/// Where the tick of `current_thread` lies, and where the layout in use believes it to.
const RIGHT_TICK: u32 = 16;
const WRONG_TICK: u32 = 48;
/// The words of a worker: its thread-locals, and what they lead to.
const WORKER_BYTES: u64 = 0x1000;
const SCHEDULER: u64 = 0x400;
const CORE: u64 = 0x800;
/// Offset of the budget's flag in Tokio's context.
const BUDGET: u64 = 16;

fn layout(source: Source, tick: u32) -> TokioLayout {
    let paths = |tag, tick| FlavorPaths {
        tag,
        core: 24,
        tick,
        beside_tick: BesideTick::Interval,
        worker: None,
        worker_index: None,
        handle: None,
    };
    TokioLayout {
        locals: ThreadLocals::default(),
        poll: PollPaths {
            source,
            context: ContextFields {
                task_id: None,
                budget: BUDGET as u32,
                scheduler: Some(8),
                runtime: None,
                handle: None,
            },
            flavor_tag: Some(0),
            current_thread: Some(paths(0, tick)),
            multi_thread: Some(paths(1, RIGHT_TICK)),
        },
    }
}

/// A process with so many workers of `multi_thread`, and one of `current_thread` if that is on.
struct Process {
    memory: Words,
    workers: Vec<ThreadState>,
}

impl Process {
    fn new(flavors: &[Flavor]) -> Process {
        let mut process = Process {
            memory: Words::default(),
            workers: Vec::new(),
        };
        flavors.iter().for_each(|flavor| process.start(*flavor));
        process
    }

    fn start(&mut self, flavor: Flavor) {
        let tid = self.workers.len() as u32 + 1;
        let base = u64::from(tid) * WORKER_BYTES;
        let (runs, tag) = match flavor {
            Flavor::CurrentThread => (Runs::CurrentThread, 0),
            Flavor::MultiThread => (Runs::MultiThread, 1),
        };
        let mut word = |at: u64, value: u64| self.memory.put(base + at, value);
        for at in (0..WORKER_BYTES).step_by(8) {
            word(at, 0);
        }
        word(8, base + SCHEDULER);
        word(SCHEDULER, tag);
        word(SCHEDULER + 24, base + CORE);
        // The tick, and `global_queue_interval` after it.
        word(CORE + u64::from(RIGHT_TICK), 7 | 61 << 32);
        self.workers.push(ThreadState {
            slot: tid,
            tid,
            phase: Phase::Idle,
            seen_as: SeenAs::Blocked,
            seen_ns: 0,
            runs,
            scheduler: base + SCHEDULER,
            thread_pointer: base,
            comm: "worker".into(),
            usage: Usage::default(),
            poll: None,
        });
    }

    /// Makes the first worker break a rule of Tokio's.
    fn break_rule(&mut self) {
        self.memory.put(WORKER_BYTES + BUDGET, 6);
    }

    fn mend(&mut self) {
        self.memory.put(WORKER_BYTES + BUDGET, 0);
    }
}

/// A tracker with a clock that goes on by a second with each observation of the workers.
struct Driven {
    tracker: Tracker,
    now: Instant,
}

impl Driven {
    fn new(mode: TrackingMode, has_symbols: bool) -> Driven {
        let discovery = Discovery {
            has_symbols,
            candidates: vec![layout(Source::Table, WRONG_TICK)],
            shapes: vec![
                layout(Source::Scan, WRONG_TICK).poll,
                layout(Source::Scan, RIGHT_TICK).poll,
            ],
            ..Discovery::default()
        };
        let now = Instant::now();
        Driven {
            tracker: Tracker::new(mode, discovery, now),
            now,
        }
    }

    fn state(source: Source, tick: u32) -> Driven {
        Driven::new(TrackingMode::State(layout(source, tick)), false)
    }

    fn workers(&mut self, process: &Process) -> Vec<String> {
        self.now += Duration::from_secs(1);
        let in_doubt = process.workers.iter().any(|state| self.doubts(state));
        let Process { memory, workers } = process;
        let transitions = self
            .tracker
            .observe_workers(workers, in_doubt, memory, self.now);
        told(transitions)
    }

    fn doubts(&self, state: &ThreadState) -> bool {
        let flavor = match state.runs {
            Runs::MultiThread => Flavor::MultiThread,
            Runs::CurrentThread | Runs::RootFuture => Flavor::CurrentThread,
        };
        self.tracker.doubts(Some(&Worker {
            tid: state.tid,
            index: None,
            runtime: 0,
            flavor: Some(flavor),
            role: Role::Worker,
            thread_name: String::new().into(),
        }))
    }

    fn search(&mut self, outcome: SearchOutcome) -> Vec<String> {
        told(self.tracker.observe_search(outcome))
    }

    fn restart(&mut self, mode: TrackingMode) -> Vec<String> {
        told(self.tracker.observe_restart(mode, self.now))
    }
}

/// Transitions, a few words each.
fn told(transitions: Vec<Transition>) -> Vec<String> {
    let tell = |transition| match transition {
        Transition::Tier { tier, why } => format!("{tier:?}: {why}"),
        Transition::DropPolls => "drop polls".to_owned(),
        Transition::Order(Order::Reload(mode)) => format!("reload {:?}", mode.tier()),
        Transition::Order(Order::CoreTicks(layout)) => {
            let tick = layout.poll.current_thread.map(|paths| paths.tick);
            format!("ticks {tick:?}")
        }
        Transition::Order(other) => format!("{other:?}"),
        Transition::Search(_) => "search".to_owned(),
        Transition::EndSearch => "end search".to_owned(),
    };
    transitions.into_iter().map(tell).collect()
}

const NOTHING: [&str; 0] = [];
const LOST: &str = "Scheduler: thread 1: the coop budget's flag is 6; a layout that holds is \
                    searched for; polls are not reported";
const FOUND: &str = "DebugInfo: a layout of Tokio's state that holds was found";

fn two_workers() -> Process {
    Process::new(&[Flavor::MultiThread, Flavor::MultiThread])
}

/// A tracker that has lost its layout.
fn lost() -> (Driven, Process) {
    let mut driven = Driven::state(Source::DebugInfo, RIGHT_TICK);
    let mut process = two_workers();
    assert_eq!(driven.workers(&process), NOTHING);
    process.break_rule();
    assert_eq!(
        driven.workers(&process),
        [LOST, "reload Scheduler", "search"]
    );
    (driven, process)
}

#[test]
fn a_layout_that_holds_changes_nothing() {
    let mut driven = Driven::state(Source::DebugInfo, RIGHT_TICK);
    let process = two_workers();
    for _ in 0..3 {
        assert_eq!(driven.workers(&process), NOTHING);
    }
    assert!(driven.tracker.reports_polls() && driven.tracker.layout().is_some());
}

#[test]
fn the_rules_are_checked_once_a_second() {
    let mut driven = Driven::state(Source::DebugInfo, RIGHT_TICK);
    let mut process = two_workers();
    process.break_rule();
    let now = driven.now + Duration::from_millis(900);
    let (memory, workers) = (&process.memory, &process.workers);
    let transitions = driven.tracker.observe_workers(workers, false, memory, now);
    assert_eq!(told(transitions), NOTHING);
    process.mend();
    assert_eq!(driven.workers(&process), NOTHING);
}

#[test]
fn a_lost_layout_is_left_at_once_and_polls_wait_for_the_restart() {
    let (mut driven, process) = lost();
    assert!(!driven.tracker.reports_polls() && driven.tracker.is_lost());
    assert_eq!(driven.tracker.layout(), None);
    // Nothing more is to be lost.
    assert_eq!(driven.workers(&process), NOTHING);
    assert_eq!(driven.restart(TrackingMode::LoadOnly), ["drop polls"]);
    assert!(!driven.tracker.reports_polls() && !driven.tracker.is_lost());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn with_symbols_polls_are_tracked_by_stacks_meanwhile() {
    let mode = TrackingMode::State(layout(Source::DebugInfo, RIGHT_TICK));
    let mut driven = Driven::new(mode, true);
    let mut process = two_workers();
    process.break_rule();
    let told = driven.workers(&process);
    assert!(told[0].starts_with("Frames: thread 1: "), "{told:?}");
    assert!(told[0].contains("task ids are not known"), "{told:?}");
    assert_eq!(told[1..], ["reload Frames", "search"]);
    assert!(!driven.tracker.reports_polls());
    assert_eq!(driven.restart(TrackingMode::Frames), ["drop polls"]);
    assert!(driven.tracker.reports_polls() && driven.tracker.is_by_frames());
    assert!(!driven.tracker.doubts(None));
}

#[test]
fn a_layout_that_is_found_is_used_after_the_restart() {
    let (mut driven, mut process) = lost();
    driven.restart(TrackingMode::LoadOnly);
    let again = layout(Source::DebugInfo, RIGHT_TICK);
    let found = driven.search(SearchOutcome::Holds(again));
    assert_eq!(found, ["reload DebugInfo"]);
    assert!(!driven.tracker.reports_polls());
    process.mend();
    let mode = TrackingMode::State(again);
    assert_eq!(driven.restart(mode), ["drop polls", FOUND]);
    assert!(driven.tracker.reports_polls());
    assert_eq!(driven.workers(&process), NOTHING);
    // It is checked as the first one was.
    process.break_rule();
    assert_eq!(driven.workers(&process).len(), 3);
}

#[test]
fn a_layout_found_before_the_restart_replaces_the_mode_that_is_pending() {
    let (mut driven, mut process) = lost();
    let again = layout(Source::DebugInfo, RIGHT_TICK);
    driven.search(SearchOutcome::Holds(again));
    process.mend();
    // The first order may have been carried out before the second arrived.
    assert_eq!(driven.restart(TrackingMode::LoadOnly), ["drop polls"]);
    assert!(!driven.tracker.reports_polls());
    let mode = TrackingMode::State(again);
    assert_eq!(driven.restart(mode), ["drop polls", FOUND]);
    assert!(driven.tracker.reports_polls());
    assert_eq!(driven.workers(&process), NOTHING);
}

#[test]
fn a_restart_for_more_room_does_not_bring_a_lost_layout_back() {
    let (mut driven, process) = lost();
    let lost = TrackingMode::State(layout(Source::DebugInfo, RIGHT_TICK));
    assert_eq!(driven.restart(lost), ["drop polls"]);
    assert!(!driven.tracker.reports_polls());
    assert_eq!(driven.workers(&process), NOTHING);
    assert_eq!(driven.restart(TrackingMode::LoadOnly), ["drop polls"]);
    assert!(!driven.tracker.is_lost());
}

#[test]
fn a_search_that_ends_in_nothing_leaves_the_lesser_mode() {
    let why = || SearchOutcome::Nothing("it is idle".to_owned());
    let expected = "Scheduler: no layout of Tokio's state that holds was found: it is idle";
    let (mut driven, _) = lost();
    assert_eq!(driven.search(why()), [expected], "before the restart");
    driven.restart(TrackingMode::LoadOnly);
    assert_eq!(driven.search(why()), [expected]);
}

#[test]
fn a_restart_in_the_same_mode_changes_nothing_but_the_open_polls() {
    let mut driven = Driven::state(Source::Table, WRONG_TICK);
    let mut process = two_workers();
    driven.workers(&process);
    process.start(Flavor::CurrentThread);
    driven.workers(&process);
    driven.workers(&process);
    let in_use = TrackingMode::State(*driven.tracker.layout().unwrap());
    assert_eq!(driven.restart(in_use), ["drop polls"]);
    assert!(!driven.doubts(&process.workers[2]), "still confirmed");
}

#[test]
fn each_loss_searches_more_carefully() {
    let (mut driven, mut process) = lost();
    let mode = TrackingMode::State(layout(Source::DebugInfo, RIGHT_TICK));
    for losses in 2..4 {
        driven.search(SearchOutcome::Holds(layout(Source::DebugInfo, RIGHT_TICK)));
        driven.restart(mode);
        process.break_rule();
        driven.workers(&process);
        assert_eq!(driven.tracker.losses, losses);
    }
}

#[test]
fn a_flavor_that_starts_is_in_doubt_until_it_confirms_its_tick() {
    let mut driven = Driven::state(Source::Table, RIGHT_TICK);
    let mut process = two_workers();
    assert!(driven.doubts(&process.workers[0]), "not seen yet");
    assert_eq!(driven.workers(&process), NOTHING);
    assert!(!driven.doubts(&process.workers[0]));
    process.start(Flavor::CurrentThread);
    assert!(driven.doubts(&process.workers[2]));
    assert_eq!(driven.workers(&process), NOTHING);
    assert!(!driven.doubts(&process.workers[2]));
}

#[test]
fn a_guessed_tick_is_corrected_when_its_flavor_starts() {
    let mut driven = Driven::state(Source::Table, WRONG_TICK);
    let mut process = two_workers();
    assert_eq!(driven.workers(&process), NOTHING);
    process.start(Flavor::CurrentThread);
    assert_eq!(driven.workers(&process), ["ticks Some(16)"]);
    assert!(driven.tracker.reports_polls());
    assert!(driven.doubts(&process.workers[2]), "not confirmed yet");
    assert_eq!(driven.workers(&process), NOTHING);
    assert!(!driven.doubts(&process.workers[2]));
}

#[test]
fn a_tick_that_workers_confirmed_is_not_exchanged() {
    let mut driven = Driven::state(Source::Table, WRONG_TICK);
    let mut process = two_workers();
    driven.workers(&process);
    process.start(Flavor::CurrentThread);
    process.break_rule();
    let told = driven.workers(&process);
    assert_eq!(told[1..], ["reload Scheduler", "search"]);
}

#[test]
fn an_exec_ends_everything() {
    let (mut driven, process) = lost();
    let told = told(driven.tracker.observe_exec());
    assert_eq!(told[..2], ["end search", "drop polls"]);
    assert!(told[2].starts_with("Scheduler: the process replaced itself"));
    assert!(!driven.tracker.reports_polls() && !driven.tracker.is_lost());
    // What was under way finds nothing more to change.
    let mode = TrackingMode::State(layout(Source::DebugInfo, RIGHT_TICK));
    assert_eq!(driven.restart(mode), NOTHING);
    assert_eq!(
        driven.search(SearchOutcome::Nothing(String::new())),
        NOTHING
    );
    let again = layout(Source::DebugInfo, RIGHT_TICK);
    assert_eq!(driven.search(SearchOutcome::Holds(again)), NOTHING);
    assert_eq!(driven.workers(&process), NOTHING);
    assert!(!driven.tracker.reports_polls());
}
