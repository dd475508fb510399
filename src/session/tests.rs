//! Sessions, observed through their snapshots.

use std::sync::Arc;
use std::time::Duration;

use super::testing::{self as t, MS, START_NS};
use super::*;
use crate::model::{Cause, Role, RootPoll, Worker};

fn fold(options: SessionOptions, records: &[Record]) -> Session {
    let mut session = Session::new(options);
    records.iter().for_each(|record| session.apply(record));
    session
}

fn slow(poll: SlowPoll) -> Record {
    Record::SlowPoll(Arc::new(poll))
}

fn hash(at_ms: u64, held_ms: u64) -> SlowPoll {
    t::poll(
        0,
        at_ms,
        held_ms,
        Cause::Cpu,
        "shop::hash",
        "bcrypt::bcrypt",
    )
}

#[test]
fn culprits_add_up_and_run_queue_is_separate() {
    let mut session = fold(SessionOptions::default(), &t::session());
    let snap = session.snapshot(&Query {
        details: 1,
        ..Query::default()
    });
    let labels: Vec<_> = snap.rows.iter().map(|row| row.label.as_str()).collect();
    assert_eq!(labels, ["shop::hash", "shop::retry", "shop::audit"]);
    let row = &snap.rows[0];
    let total = (60..80).sum::<u64>() * MS;
    assert_eq!((row.polls, row.total_ns, row.max_ns), (20, total, 79 * MS));
    assert_eq!(row.p50_ns, 69 * MS);
    assert_eq!(snap.not_code_rows.len(), 1);
    assert_eq!(snap.not_code.held_ns, 5 * 9 * MS);
    let shares: f64 = snap.rows.iter().map(|row| snap.share(row)).sum();
    assert!((shares - 1.0).abs() < 1e-9);
    let detail = &snap.details[0];
    assert_eq!(detail.tree.total_ns(), total);
    assert_eq!(detail.stacks.len(), 1);
    assert_eq!(detail.last.len(), 20);
    assert_eq!(detail.last[0].held_ns(), 79 * MS);
    assert_eq!(snap.elapsed_ns(), 10_000 * MS);
}

#[test]
fn root_futures_have_rows_and_totals_of_their_own() {
    let root = Worker {
        tid: 4001,
        role: Role::RootFuture,
        index: None,
        runtime: 0,
        flavor: None,
        thread_name: "main".into(),
    };
    let mut held = hash(100, 50);
    held.root = Some(RootPoll::BusyStretch);
    let mut stuck = hash(500, 90);
    stuck.root = Some(RootPoll::OnePoll);
    stuck.running = true;
    let records = [
        t::header(),
        Record::Worker(root),
        slow(held),
        slow(hash(200, 60)),
        Record::Running(Arc::new(stuck)),
    ];
    let mut session = fold(SessionOptions::default(), &records);
    let snap = session.snapshot(&Query::default());
    assert_eq!((snap.roots.polls, snap.roots.held_ns), (1, 50 * MS));
    assert_eq!((snap.blocking.polls, snap.blocking.held_ns), (1, 60 * MS));
    assert_eq!((snap.root_rows.len(), snap.rows.len()), (1, 1));
    assert_eq!(snap.share(&snap.root_rows[0]), 1.0);
    assert!(snap.held_runtimes.is_empty(), "a root future is no worker");
}

#[test]
fn the_end_of_a_poll_replaces_it() {
    let mut session = fold(SessionOptions::default(), &[t::header(), t::worker(0)]);
    let mut poll = hash(100, 50);
    poll.running = true;
    session.apply(&Record::Running(Arc::new(poll.clone())));
    let now = Query {
        now_ns: Some(START_NS + 1100 * MS),
        ..Query::default()
    };
    let snap = session.snapshot(&now);
    assert_eq!(snap.held_until_now(&snap.running[0]), 1000 * MS);
    assert_eq!(snap.held_runtimes, [0]);
    assert!(snap.rows.is_empty());
    let lane = snap.workers[0].lane.last_until(snap.now_ns - 1, 10);
    assert_eq!(lane.iter().map(|bin| bin.slow_ns).sum::<u64>(), 1000 * MS);

    session.apply(&slow(hash(100, 1200)));
    let snap = session.snapshot(&now);
    assert!(snap.running.is_empty() && snap.held_runtimes.is_empty());
    assert_eq!(snap.rows[0].total_ns, 1200 * MS);
}

#[test]
fn a_poll_that_never_ends_counts_at_the_end() {
    let mut poll = hash(100, 500);
    poll.running = true;
    let records = [t::header(), Record::Running(Arc::new(poll)), t::end(600)];
    let mut session = fold(SessionOptions::default(), &records);
    let snap = session.snapshot(&Query::default());
    assert_eq!((snap.rows.len(), snap.running.len()), (1, 1));
    assert_eq!(snap.held_until_now(&snap.running[0]), 500 * MS);
    // It is saved once.
    let is_poll = |record: &&Record| matches!(record, Record::SlowPoll(_) | Record::Running(_));
    let kept = session.kept_records();
    assert_eq!(kept.iter().filter(is_poll).count(), 1);
}

#[test]
fn old_polls_leave_the_window_but_not_the_totals() {
    let options = SessionOptions {
        window: Some(Duration::from_secs(6)),
        ..SessionOptions::default()
    };
    let mut session = fold(
        options,
        &[t::header(), slow(hash(0, 50)), slow(hash(5000, 20))],
    );
    let mut at = |scope, ms: u64, group| {
        let snap = session.snapshot(&Query {
            now_ns: Some(START_NS + ms * MS),
            scope,
            group,
            details: 1,
            ..Query::default()
        });
        let tree = snap.details.first().map_or(0, |d| d.tree.total_ns());
        assert_eq!(tree, snap.blocking.held_ns);
        (snap.blocking.polls, snap.blocking.held_ns / MS)
    };
    assert_eq!(at(Scope::Window, 5500, Group::Culprit), (2, 70));
    assert_eq!(at(Scope::Window, 5500, Group::File), (2, 70));
    assert_eq!(at(Scope::Window, 6200, Group::File), (1, 20));
    assert_eq!(at(Scope::Window, 6200, Group::Culprit), (1, 20));
    assert_eq!(at(Scope::Window, 20_000, Group::Culprit), (0, 0));
    assert_eq!(at(Scope::Session, 20_000, Group::Culprit), (2, 70));
}

#[test]
fn grouping_and_filters_keep_the_sums() {
    let mut session = fold(SessionOptions::default(), &t::session());
    let whole = session.snapshot(&Query::default());
    for group in Group::ALL {
        let snap = session.snapshot(&Query {
            group,
            ..Query::default()
        });
        assert_eq!(snap.blocking, whole.blocking, "{group:?}");
        assert_eq!(snap.not_code, whole.not_code, "{group:?}");
        assert_eq!(snap.basis, Basis::All);
    }
    let snap = session.snapshot(&Query {
        filter: Filter {
            min_held_ns: 70 * MS,
            workers: Some([4001].into()),
        },
        ..Query::default()
    });
    assert_eq!((snap.rows.len(), snap.blocking.polls), (1, 10));
    // Later polls are added.
    session.apply(&slow(hash(9990, 75)));
    session.apply(&slow(hash(9990, 65)));
    let snap = session.snapshot(&Query {
        filter: Filter {
            min_held_ns: 70 * MS,
            workers: Some([4001].into()),
        },
        ..Query::default()
    });
    assert_eq!(snap.blocking.polls, 11);
}

/// A session saved by hand replays with the tier it had, not with the one it began with.
#[test]
fn kept_records_include_tier_changes() {
    let mut records = vec![t::header(), t::worker(0), slow(hash(100, 50))];
    for n in 0..KEEP_TIER_CHANGES as u64 + 9 {
        let tier = [Tier::Scheduler, Tier::Frames][n as usize % 2];
        records.push(Record::TierChanged {
            tier,
            at_ns: START_NS + (200 + n) * MS,
            why: format!("change {n}"),
        });
    }
    let mut running = hash(400, 50);
    running.running = true;
    records.push(Record::Running(Arc::new(running)));
    let mut saved = fold(SessionOptions::default(), &records);
    let mut replayed = fold(SessionOptions::default(), &saved.kept_records());
    let (saved, replayed) = (
        saved.snapshot(&Query::default()),
        replayed.snapshot(&Query::default()),
    );
    assert_eq!(saved.tier, Some(Tier::Scheduler));
    assert_eq!(replayed.tier, saved.tier);
    assert_eq!(saved.tier_changes.len(), KEEP_TIER_CHANGES);
    assert_eq!(replayed.tier_changes, saved.tier_changes);
    assert_eq!((replayed.running.len(), saved.running.len()), (1, 1));
}

#[test]
fn a_selection_follows_its_culprit() {
    let mut session = fold(SessionOptions::default(), &t::session());
    let key = session.snapshot(&Query::default()).rows[2].key.clone();
    for _ in 0..100 {
        session.apply(&slow(t::poll(
            1,
            50,
            30,
            Cause::FileIo,
            "shop::audit",
            "std::fs::write",
        )));
    }
    let snap = session.snapshot(&Query {
        selected: Some(key.clone()),
        ..Query::default()
    });
    assert_eq!(snap.rows[0].key, key);
    assert_eq!(snap.selected.unwrap().row.polls, 105);
}

#[test]
fn memory_is_bounded_and_the_rest_is_counted() {
    let options = SessionOptions {
        keep_polls: 10,
        keep_culprits: 5,
        keep_tree_nodes: 20,
        ..SessionOptions::default()
    };
    let mut session = fold(options, &[t::header()]);
    for i in 0..100 {
        let name = format!("shop::f{i}");
        session.apply(&slow(t::poll(
            0,
            i,
            10,
            Cause::Cpu,
            &name,
            "bcrypt::bcrypt",
        )));
    }
    let snap = session.snapshot(&Query {
        recent: 100,
        ..Query::default()
    });
    assert_eq!((snap.rows.len(), snap.recent.len()), (6, 10));
    assert_eq!(snap.blocking.polls, 100);
    assert_eq!(snap.kept.polls_of_other_culprits, 95);
    let nodes: usize = session.all.rows_mut().map(|row| row.tree_nodes()).sum();
    assert!(nodes <= 20, "{nodes}");
    let snap = session.snapshot(&Query {
        group: Group::Task,
        ..Query::default()
    });
    assert!(matches!(snap.basis, Basis::Kept { .. }));
}

#[test]
fn usage_becomes_lanes_that_add_up() {
    let records = [
        t::header(),
        t::worker(0),
        t::usage(0, 1000, 250),
        t::usage(0, 2000, 1250),
    ];
    let snap = fold(SessionOptions::default(), &records).snapshot(&Query::default());
    let worker = &snap.workers[0];
    for bins in [&worker.lane, &worker.timeline] {
        assert_eq!(bins.iter().map(|bin| bin.on_cpu_ns).sum::<u64>(), 1250 * MS);
        assert_eq!(bins.iter().map(|bin| bin.parked_ns).sum::<u64>(), 750 * MS);
    }
    let last = worker.lane.last_until(snap.now_ns - 1, 1)[0];
    assert_eq!((last.on_cpu_ns, last.parked_ns), (100 * MS, 0));
}

#[test]
fn only_workers_with_the_prefix_count() {
    let options = SessionOptions {
        workers_prefix: Some("api-".into()),
        ..SessionOptions::default()
    };
    let snap = fold(options, &t::session()).snapshot(&Query::default());
    assert!(snap.rows.is_empty() && snap.workers.is_empty());
}

#[test]
fn clearing_forgets_polls_and_keeps_workers() {
    let mut session = fold(SessionOptions::default(), &t::session());
    session.clear();
    let snap = session.snapshot(&Query::default());
    assert!(snap.rows.is_empty() && snap.longest.is_empty());
    assert_eq!(snap.workers.len(), 3);
}
