//! Learning on this very process, whose debug info says what must come out.

use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::arch;
use crate::model::Tier;
use crate::tokio::Discovery;
use crate::tokio::learn::survey::{OnStack, Sample};
use crate::tokio::live::ThreadView;
use crate::tokio::select::{Selection, select};
use crate::tokio::table;
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

/// See [`ThreadView::parked`].
fn parked(tid: u32) -> Option<u64> {
    let read = |file: &str| {
        std::fs::read_to_string(format!("/proc/self/task/{tid}/{file}")).unwrap_or_default()
    };
    let syscall = read("syscall");
    let number = syscall.split_whitespace().next()?.parse().ok()?;
    let status = read("status");
    let switches = status.lines().filter(|line| line.contains("ctxt_switches"));
    let switches = switches.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok());
    arch::is_epoll(number).then(|| switches.sum())
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
        survey.sample(&memory(), &views);
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
        learnt = learn(survey, table::row(None));
        learnt.is_ok()
    });
    let learnt = learnt.unwrap();
    assert_eq!(learnt.tier(), Tier::Learnt);
    for field in [
        |fields: &ContextFields| fields.task_id.unwrap().offset,
        |fields: &ContextFields| fields.budget,
        |fields: &ContextFields| fields.scheduler.unwrap(),
        |fields: &ContextFields| fields.handle.unwrap(),
    ] {
        let place =
            |layout: &TokioLayout| layout.locals.context + i64::from(field(&layout.poll.context));
        assert_eq!(place(&learnt), place(&exact), "{learnt:?} for {exact:?}");
    }
    let paths = |layout: &TokioLayout| {
        let paths = layout.poll.multi_thread.unwrap();
        (paths.tag, paths.core, paths.tick, paths.worker)
    };
    assert_eq!(paths(&learnt), paths(&exact));
    assert_eq!(learnt.poll.flavor_tag, exact.poll.flavor_tag);
    assert_eq!(learnt.poll.current_thread, None, "no such runtime was seen");
    let discovery = Discovery {
        exact: vec![learnt],
        ..discovery
    };
    let selection = select(&discovery, &memory(), &threads);
    assert_eq!(selection, Selection::Chosen(learnt));
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
        change(&mut wrong.poll.context);
        wrong
    };
    let id = |at: u32| {
        let mut wrong = right;
        wrong.poll.context.task_id = Some(TaskId {
            offset: at,
            wide: false,
        });
        wrong
    };
    let tick = |by: u32| {
        let mut wrong = right;
        let paths = wrong.poll.multi_thread.as_mut().unwrap();
        paths.tick += by;
        wrong
    };
    let context = right.poll.context;
    let id_offset = context.task_id.unwrap().offset;
    // Each of these places holds something that resembles the field at times.
    for wrong in [
        fields(|fields| fields.budget += 1),
        fields(|fields| fields.budget = fields.runtime.unwrap()),
        fields(|fields| fields.budget = fields.task_id.unwrap().offset),
        id(context.scheduler.unwrap()),
        id(id_offset - 16),
        fields(|fields| fields.handle = Some(fields.task_id.unwrap().offset)),
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
fn the_start_of_the_last_poll_is_not_mistaken_for_the_tasks_ids() {
    const IDS: IdPlace = IdPlace { at: 0, wide: false };
    const BUDGET: usize = 8;
    const STARTS: IdPlace = IdPlace {
        at: 16,
        wide: false,
    };
    // A worker in task 7 that polls tasks 20 and 21 in turn, and a start time that the program keeps.
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
        assert_eq!(finding, Finding::Yes, "{place:?} must be ruled out later");
        (place, rule::id_changes(&seen, place))
    });
    assert_eq!(clear_least(candidates.to_vec(), "", ""), Ok(IDS));
}

#[test]
fn nothing_is_learnt_where_nothing_happens() {
    let (_runtime, threads) = multi_thread();
    let mut survey = Survey::new(own().thread_local_block.unwrap());
    for _ in 0..20 {
        survey.sample(&memory(), &threads);
    }
    assert!(learn(&survey, table::row(None)).is_err());
    assert_eq!(
        learn(&Survey::new(-64..0), table::row(None)),
        Err(NO_RUNTIME)
    );
}

#[test]
fn before_1_29_the_flavors_are_learnt_apart_and_merged() {
    let poll = table::candidates(&[])
        .into_iter()
        .find(|paths| paths.context.scheduler.is_none() && paths.multi_thread.is_some());
    let both = TokioLayout {
        locals: ThreadLocals {
            context: -64,
            current_thread: Some(-8),
            multi_thread: Some(-16),
        },
        poll: poll.unwrap(),
    };
    let mut current_thread = both;
    current_thread.locals.multi_thread = None;
    current_thread.poll.multi_thread = None;
    let mut multi_thread = both;
    multi_thread.locals.current_thread = None;
    multi_thread.poll.current_thread = None;
    assert_eq!(both_flavors(&current_thread, &multi_thread), Some(both));
    assert_eq!(
        both_flavors(&multi_thread, &multi_thread),
        None,
        "one flavor"
    );
    multi_thread.locals.context = -72;
    assert_eq!(both_flavors(&current_thread, &multi_thread), None);
}
