//! Learning on this very process, whose debug info tells what must come out.

use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::arch;
use crate::model::Tier;
use crate::tokio::Discovery;
use crate::tokio::learn::survey::{OnStack, Sample};
use crate::tokio::live::ThreadView;
use crate::tokio::select::{Selection, select};
use crate::tokio::testing::{memory, multi_thread, own, this_thread};

/// Tasks that block, compute and wait, on all workers, until the end.
fn keep_busy(runtime: &tokio::runtime::Runtime, end: Instant) {
    for task in 0..4u64 {
        runtime.spawn(async move {
            while Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(1 + task)).await;
                thread::sleep(Duration::from_millis(2));
                tokio::task::yield_now().await;
                thread::sleep(Duration::from_millis(1));
            }
        });
    }
}

/// Whether the thread waits in epoll now.
fn parked(tid: u32) -> bool {
    let path = format!("/proc/self/task/{tid}/syscall");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let number = text
        .split_whitespace()
        .next()
        .and_then(|number| number.parse().ok());
    number.is_some_and(arch::is_epoll)
}

/// Where `Context::scheduler` is.
fn field(scheduler: Scheduler) -> u32 {
    match scheduler {
        Scheduler::Field(offset) => offset,
        Scheduler::Apart(_) => panic!("no field"),
    }
}

fn watch(
    survey: &mut Survey,
    threads: &[ThreadView],
    mut enough: impl FnMut(&Survey) -> bool,
) -> bool {
    (0..4000).any(|round| {
        let views: Vec<ThreadView> = threads
            .iter()
            .map(|thread| ThreadView {
                parked: parked(thread.tid),
                ..thread.clone()
            })
            .collect();
        survey.look(&memory(), &views);
        thread::sleep(Duration::from_millis(1));
        round % 200 == 199 && enough(survey)
    })
}

#[test]
fn a_layout_is_learnt_from_what_the_workers_do() {
    let discovery = own();
    let (runtime, mut threads) = multi_thread();
    threads.push(this_thread());
    keep_busy(&runtime, Instant::now() + Duration::from_secs(60));
    let exact = discovery.exact[0];
    let mut survey = Survey::new(discovery.thread_local_block.clone().unwrap());
    let mut learnt = Err("");
    watch(&mut survey, &threads, |survey| {
        learnt = learn(survey, Era::of(u32::MAX));
        learnt.is_ok()
    });
    let learnt = learnt.unwrap();
    let place = |layout: &TokioLayout, offset: u32| layout.context + i64::from(offset);
    for field in [
        |fields: &ContextFields| fields.task_id.unwrap(),
        |fields: &ContextFields| fields.budget,
        |fields: &ContextFields| field(fields.scheduler),
        |fields: &ContextFields| fields.handle.unwrap(),
    ] {
        assert_eq!(
            place(&learnt, field(&learnt.fields)),
            place(&exact, field(&exact.fields)),
            "{learnt:?} for {exact:?}"
        );
    }
    let exact_core = exact.multi_thread.unwrap();
    let core = learnt.multi_thread.unwrap();
    assert_eq!(
        (core.tag, core.core, core.tick, core.worker),
        (
            exact_core.tag,
            exact_core.core,
            exact_core.tick,
            exact_core.worker
        )
    );
    assert_eq!(learnt.flavor, exact.flavor);
    assert_eq!(learnt.current_thread, None, "no such runtime was seen");
    let learnt = Discovery {
        exact: vec![learnt],
        ..discovery
    };
    assert!(matches!(
        select(&learnt, &memory(), &threads),
        Selection::Chosen(_, Tier::DebugInfo)
    ));
}

#[test]
fn the_right_layout_is_seen_at_work_and_wrong_ones_are_not() {
    let (runtime, threads) = multi_thread();
    keep_busy(&runtime, Instant::now() + Duration::from_secs(60));
    let discovery = own();
    let right = discovery.exact[0];
    let mut survey = Survey::new(discovery.thread_local_block.unwrap());
    assert!(watch(&mut survey, &threads, |survey| {
        judge(survey, &right) == Finding::Yes
    }));
    let fields = |change: fn(&mut ContextFields)| {
        let mut wrong = right;
        change(&mut wrong.fields);
        wrong
    };
    let tick = |by: u32| TokioLayout {
        multi_thread: right.multi_thread.map(|core| CoreFields {
            tick: core.tick + by,
            ..core
        }),
        ..right
    };
    // Each is beside something that looks like it at times.
    for wrong in [
        fields(|fields| fields.budget += 1),
        fields(|fields| fields.budget = fields.runtime.unwrap()),
        fields(|fields| fields.budget = fields.task_id.unwrap()),
        fields(|fields| fields.task_id = Some(field(fields.scheduler))),
        fields(|fields| fields.task_id = fields.task_id.map(|at| at - 16)),
        fields(|fields| fields.handle = fields.task_id),
        tick(4),
        tick(8),
    ] {
        let finding = judge(&survey, &wrong);
        assert_ne!(finding, Finding::Yes, "{wrong:?} for {right:?}");
    }
    assert_eq!(
        judge(&survey, &fields(|fields| fields.budget += 1)),
        Finding::No
    );
    assert_eq!(judge(&survey, &tick(4)), Finding::No);
}

#[test]
fn the_start_of_the_last_poll_is_not_taken_for_the_tasks_ids() {
    const IDS: IdPlace = IdPlace { at: 0, wide: false };
    const BUDGET: usize = 8;
    const STARTS: IdPlace = IdPlace {
        at: 16,
        wide: false,
    };
    // A worker in task 7 that polls tasks 20 and 21 in turn, and what a program keeps beside it.
    let sample = |parked: bool, round: u64| {
        let (id, budget) = match parked {
            true => (7, [0, 0]),
            false => (20 + round % 2, [1, 128]),
        };
        let mut block = vec![0; 24];
        block[IDS.at..][..8].copy_from_slice(&u64::to_le_bytes(id));
        block[BUDGET..][..2].copy_from_slice(&budget);
        block[STARTS.at..][..8].copy_from_slice(&u64::to_le_bytes(1_000_000 * round));
        Sample {
            tid: 1,
            parked,
            block,
            contexts: Vec::new(),
        }
    };
    let rounds = (1..20).flat_map(|round| [sample(false, round), sample(true, round)]);
    let samples: Vec<Sample> = rounds.collect();
    let context = OnStack {
        at: 0,
        words: Default::default(),
        pointees: Default::default(),
    };
    let seen = samples.iter().map(|sample| Seen {
        sample,
        context: &context,
        flavor: Flavor::MultiThread,
        worker: None,
    });
    let seen: Vec<Seen<'_>> = seen.collect();
    let candidates = [STARTS, IDS].map(|place| {
        let finding = rule::task_id(&seen, BUDGET, place);
        assert_eq!(finding, Finding::Yes, "{place:?} must be told apart later");
        (place, rule::id_changes(&seen, place))
    });
    assert_eq!(clear_least(candidates.to_vec(), "", ""), Ok(IDS));
}

#[test]
fn nothing_is_learnt_where_nothing_happens() {
    let (_runtime, threads) = multi_thread();
    let mut survey = Survey::new(own().thread_local_block.unwrap());
    for _ in 0..20 {
        survey.look(&memory(), &threads);
    }
    assert!(learn(&survey, Era::of(u32::MAX)).is_err());
    assert_eq!(
        learn(&Survey::new(-64..0), Era::of(u32::MAX)),
        Err(NO_RUNTIME)
    );
}
