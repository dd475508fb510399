//! Selection and checks on this very process: the tests start a Tokio runtime and read it as any
//! target.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::*;
use crate::model::Tier;
use crate::tokio::binary::Version;
use crate::tokio::live::worker_index;
use crate::tokio::table;
use crate::tokio::testing::{Words, memory, multi_thread, own, this_thread};
use crate::tokio::{BesideTick, FlavorPaths, WorkerState};

/// Retries: a thread has started before it runs its worker.
fn state(layout: &TokioLayout, thread: &ThreadView) -> WorkerState {
    for _ in 0..10_000 {
        match check(layout, &memory(), thread) {
            Verdict::Worker(state) => return state,
            Verdict::NotAWorker => std::thread::sleep(Duration::from_millis(1)),
            other => panic!("{other:?}"),
        }
    }
    panic!("not a worker");
}

/// Retries: a worker may not have run yet.
fn chosen(discovery: &Discovery, threads: &[ThreadView]) -> TokioLayout {
    for _ in 0..10_000 {
        match select(discovery, &memory(), threads) {
            Selection::Chosen(layout) => return layout,
            Selection::Undecided => std::thread::sleep(Duration::from_millis(1)),
            refuted => panic!("{refuted:?}"),
        }
    }
    panic!("undecided");
}

/// Runs `look` on a worker's thread while the worker is inside a task's poll.
fn inside_a_poll(runtime: &tokio::runtime::Runtime, look: impl FnOnce(ThreadView, u64)) {
    let (send, receive) = channel();
    let (done, wait): (Sender<()>, _) = channel();
    let task = runtime.spawn(async move {
        let id: u64 = tokio::task::id().to_string().parse().unwrap();
        send.send((this_thread(), id)).unwrap();
        let _ = wait.recv();
    });
    let (thread, id) = receive.recv().unwrap();
    look(thread, id);
    drop(done);
    runtime.block_on(task).unwrap();
}

#[test]
fn the_debug_info_of_this_test_holds_on_its_own_workers() {
    let discovery = own();
    assert!(
        discovery
            .tokio_version()
            .is_some_and(|v| v.starts_with("1."))
    );
    assert_eq!(discovery.debug_info_problem, None);
    let (_runtime, threads) = multi_thread();
    let layout = chosen(&discovery, &threads);
    assert_eq!(layout.tier(), Tier::DebugInfo);
    assert!(holds(&layout, &memory(), &threads).unwrap().total >= 1);
    let states: Vec<WorkerState> = threads.iter().map(|t| state(&layout, t)).collect();
    let mut indices: Vec<_> = states.iter().map(|s| s.worker_index).collect();
    indices.sort_unstable();
    assert_eq!(indices, [Some(0), Some(1)]);
    assert_eq!(states[0].handle, states[1].handle);
    assert_ne!(states[0].scheduler, states[1].scheduler);
}

#[test]
fn the_table_agrees_with_the_debug_info() {
    let discovery = own();
    let table = Discovery {
        exact: Vec::new(),
        ..discovery.clone()
    };
    let (_runtime, threads) = multi_thread();
    let exact = chosen(&discovery, &threads);
    let guess = chosen(&table, &threads);
    assert_eq!(guess.tier(), Tier::VersionTable);
    assert_eq!(guess.locals, exact.locals);
    assert_eq!(guess.poll.context, exact.poll.context);
    assert_eq!(guess.poll.multi_thread, exact.poll.multi_thread);
}

#[test]
fn without_symbols_the_layout_is_found_by_its_shape() {
    let discovery = own();
    let stripped = Discovery {
        exact: Vec::new(),
        candidates: Vec::new(),
        context_symbol: false,
        ..discovery.clone()
    };
    let (_runtime, mut threads) = multi_thread();
    threads.push(this_thread());
    let exact = chosen(&discovery, &threads);
    let found = chosen(&stripped, &threads);
    assert_eq!(found.tier(), Tier::Scan);
    assert_eq!(found.locals, exact.locals);
    assert_eq!(found.poll.context, exact.poll.context);
    assert_eq!(found.poll.multi_thread, exact.poll.multi_thread);
    // A thread whose stack is not known proves nothing.
    for thread in &mut threads {
        thread.stack = None;
    }
    assert_eq!(select(&stripped, &memory(), &threads), Selection::Undecided);
}

#[test]
fn polls_parks_and_blocking_threads_are_distinguished() {
    let (runtime, threads) = multi_thread();
    let layout = chosen(&own(), &threads);
    inside_a_poll(&runtime, |thread, id| {
        let state = state(&layout, &thread);
        assert!(state.in_poll);
        assert_eq!(state.task_id, id);
        assert_eq!(state.runtime, Some(1));
        assert_eq!(state.flavor, Flavor::MultiThread);
        let other = threads.iter().find(|other| other.tid != thread.tid);
        // The other worker may still search for work; it parks soon.
        let parked = || match check(&layout, &memory(), other.unwrap()) {
            Verdict::Worker(state) => !state.in_poll && state.task_id != 0,
            _ => false,
        };
        let soon = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            parked()
        });
        assert!(soon, "the idle worker never parked");
    });
    let blocking = runtime.spawn_blocking(move || {
        let thread = this_thread();
        check(&layout, &memory(), &thread)
    });
    let verdict = runtime.block_on(blocking).unwrap();
    assert_eq!(verdict, Verdict::NotAWorker);
    assert_eq!(
        check(&layout, &memory(), &this_thread()),
        Verdict::NotAWorker,
        "a thread outside"
    );
}

#[test]
fn block_in_place_leaves_the_worker_without_a_core() {
    let (runtime, threads) = multi_thread();
    let layout = chosen(&own(), &threads);
    let task = runtime
        .spawn(async move { tokio::task::block_in_place(|| state(&layout, &this_thread())) });
    let state = runtime.block_on(task).unwrap();
    assert_eq!(state.core, None);
    assert!(!state.in_poll);
}

#[test]
fn a_current_thread_root_future_is_a_poll() {
    let discovery = own();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (layout, thread) = runtime.block_on(async {
        // The tick counts rounds: none has ended yet.
        tokio::spawn(tokio::task::yield_now()).await.unwrap();
        let thread = this_thread();
        (chosen(&discovery, std::slice::from_ref(&thread)), thread)
    });
    runtime.block_on(async {
        let state = state(&layout, &thread);
        assert_eq!(state.flavor, Flavor::CurrentThread);
        assert!(state.in_poll);
        assert_eq!(state.task_id, 0);
        assert!(state.core.is_some());
    });
    let table = Discovery {
        exact: Vec::new(),
        ..discovery
    };
    runtime.block_on(async {
        tokio::spawn(tokio::task::yield_now()).await.unwrap();
        let guess = chosen(&table, std::slice::from_ref(&thread));
        assert_eq!(guess.tier(), Tier::VersionTable);
        assert_eq!(guess.poll.current_thread, layout.poll.current_thread);
    });
}

#[test]
fn a_guessed_tick_is_corrected_when_its_flavor_starts() {
    let discovery = own();
    let (_runtime, mut threads) = multi_thread();
    let exact = chosen(&discovery, &threads);
    let right = exact.poll.current_thread.unwrap().tick;
    // A guess with another tick for the flavor that does not run yet.
    let wrong = *discovery
        .candidates
        .iter()
        .find(|guess| {
            let flavor = guess.poll.current_thread;
            guess.poll.multi_thread == exact.poll.multi_thread
                && flavor.is_some_and(|paths| paths.tick != right)
        })
        .unwrap();
    let seen = holds(&wrong, &memory(), &threads).unwrap();
    assert!(seen.multi_thread && !seen.current_thread);
    assert!(!WorkersSeen::by_source(&wrong).has(Flavor::CurrentThread));
    assert!(WorkersSeen::by_source(&exact).has(Flavor::CurrentThread));

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::spawn(tokio::task::yield_now()).await.unwrap();
        threads.push(this_thread());
        assert!(holds(&wrong, &memory(), &threads).is_err());
        let others = discovery.other_ticks(&wrong);
        let found = others
            .iter()
            .filter(|other| other.poll.multi_thread == exact.poll.multi_thread)
            .find(|other| holds(other, &memory(), &threads).is_ok_and(|seen| seen.current_thread));
        assert_eq!(found.unwrap().poll.current_thread.unwrap().tick, right);
    });
}

#[test]
fn the_first_poll_of_a_root_future_is_enough() {
    let table = Discovery {
        exact: Vec::new(),
        ..own()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let exact = runtime.block_on(async { chosen(&own(), &[this_thread()]) });
    let fresh = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let guess = fresh.block_on(async { chosen(&table, &[this_thread()]) });
    assert_eq!(guess.poll.current_thread, exact.poll.current_thread);
}

#[test]
fn a_wrong_layout_is_never_chosen() {
    let discovery = own();
    let (_runtime, threads) = multi_thread();
    let right = chosen(&discovery, &threads);
    let flavor = right.poll.multi_thread.unwrap();
    let with = |change: &dyn Fn(&mut TokioLayout)| {
        let mut wrong = right;
        change(&mut wrong);
        wrong
    };
    let with_flavor = |paths: FlavorPaths| with(&|wrong| wrong.poll.multi_thread = Some(paths));
    let wrong = [
        with(&|wrong| wrong.locals.context += 8),
        with(&|wrong| wrong.poll.flavor_tag = right.poll.flavor_tag.map(|at| at + 8)),
        with(&|wrong| wrong.poll.context.scheduler = right.poll.context.scheduler.map(|at| at - 8)),
        with_flavor(FlavorPaths {
            core: flavor.core - 8,
            ..flavor
        }),
        with_flavor(FlavorPaths { tick: 0, ..flavor }),
    ];
    for layout in wrong {
        let guess = Discovery {
            exact: Vec::new(),
            candidates: vec![layout],
            ..discovery.clone()
        };
        for _ in 0..20 {
            let selection = select(&guess, &memory(), &threads);
            assert!(
                !matches!(selection, Selection::Chosen(..)),
                "{layout:?} against {right:?}"
            );
        }
    }
}

#[test]
fn without_a_worker_nothing_is_decided() {
    let selection = select(&own(), &memory(), &[this_thread()]);
    assert_eq!(selection, Selection::Undecided);
    assert_eq!(
        select(&Discovery::default(), &memory(), &[this_thread()]),
        Selection::Undecided
    );
}

#[test]
fn the_index_is_found_wherever_rustc_puts_it() {
    let paths = FlavorPaths {
        tag: 1,
        core: 24,
        tick: 104,
        beside_tick: BesideTick::Interval,
        worker: Some(8),
        worker_index: None,
        handle: None,
    };
    for (words, expected) in [
        ([0x5555_0000_1000, 3, 0], Some(3)),
        ([0, 3, 0x5555_0000_1000], Some(3)),
        ([7, 0x5555_0000_1000, 0x5555_0000_2000], Some(7)),
        ([0x5555_0000_1000, 0, 0], Some(0)),
        ([0x5555_0000_1000; 3], None),
    ] {
        let mut memory = Words::default();
        memory.put(0x1008, 0x2000);
        for (offset, word) in [16, 24, 32].into_iter().zip(words) {
            memory.put(0x2000 + offset, word);
        }
        assert_eq!(
            worker_index(&paths, &memory, 0x1000),
            expected,
            "{words:x?}"
        );
    }
}

fn shapes(version: Version) -> Vec<PollPaths> {
    let source = Source::Scan;
    let table = table::candidates(&[version]).into_iter();
    table.map(|paths| PollPaths { source, ..paths }).collect()
}

/// A worker of Tokio 1.28 without symbols: its thread-locals at 0x7000, its stack at 0x9000.
fn old_worker() -> (Words, ThreadView, Discovery) {
    let mut memory = Words::default();
    for at in (0x6f00..0x7000).step_by(8) {
        memory.put(at, 0);
    }
    let (scheduler, worker, core, handle) = (0x9100, 0x2000, 0x3000, 0x4000);
    let context = 0x6f40;
    memory.put(0x6f18, scheduler); // multi_thread::worker::CURRENT
    memory.put(context + 72, handle);
    memory.put(context + 88, 0x0000_0000_0001_0000); // no budget; EnterRuntime::Entered
    for (at, word) in [0, 0, 0, 0, 0, 0, 0, 0].into_iter().enumerate() {
        memory.put(scheduler + 8 * at as u64, word);
    }
    memory.put(scheduler, worker);
    memory.put(scheduler + 16, core);
    for (at, word) in [1, 1, handle, 3, 0].into_iter().enumerate() {
        memory.put(worker + 8 * at as u64, word);
    }
    for at in (core..core + 64).step_by(8) {
        memory.put(at, 0);
    }
    memory.put(core + 32, 77); // the tick, and two flags
    let thread = ThreadView {
        tid: 7,
        thread_pointer: 0x7000,
        stack_pointer: 0x9000,
        stack: Some(0x9000..0xa000),
        parked: None,
    };
    let version = Version {
        major: 1,
        minor: 28,
        patch: 2,
    };
    let discovery = Discovery {
        shapes: shapes(version),
        thread_local_block: Some(-0x100..0),
        ..Discovery::default()
    };
    (memory, thread, discovery)
}

#[test]
fn before_1_29_the_handle_ties_the_thread_locals_together() {
    let (mut memory, thread, discovery) = old_worker();
    let threads = [thread];
    let Selection::Chosen(layout) = select(&discovery, &memory, &threads) else {
        panic!("nothing chosen");
    };
    assert_eq!(layout.tier(), Tier::Scan);
    let locals = ThreadLocals {
        context: 0x6f40 - 0x7000,
        current_thread: None,
        multi_thread: Some(0x6f18 - 0x7000),
    };
    assert_eq!(layout.locals, locals);
    let Verdict::Worker(state) = check(&layout, &memory, &threads[0]) else {
        panic!("no worker");
    };
    assert_eq!((state.worker_index, state.tick), (Some(3), Some(77)));
    // A value that is not a flag of the core refutes it, and so does another handle.
    memory.put(0x3020, 0x0200_0000_004d);
    assert!(!matches!(
        select(&discovery, &memory, &threads),
        Selection::Chosen(..)
    ));
    memory.put(0x3020, 77);
    memory.put(0x6f40 + 72, 0x4008);
    assert_eq!(select(&discovery, &memory, &threads), Selection::Undecided);
}

#[test]
fn a_refuted_layout_is_not_tried_again() {
    let (memory, thread, mut discovery) = old_worker();
    let threads = [thread];
    let Selection::Chosen(layout) = select(&discovery, &memory, &threads) else {
        panic!("nothing chosen");
    };
    discovery.candidates.push(TokioLayout {
        poll: PollPaths {
            source: Source::Table,
            ..layout.poll
        },
        ..layout
    });
    let before = discovery.shapes.len();
    let candidate = discovery.candidates[0];
    discovery.forget(&candidate);
    assert_eq!(discovery.candidates, []);
    assert_eq!(discovery.shapes.len(), before - 1);
    // The shapes left have another tick for the flavor that does not run.
    let other = select(&discovery, &memory, &threads);
    assert!(matches!(other, Selection::Chosen(other) if other != layout));
}
