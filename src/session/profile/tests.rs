//! Sums, narrowing, windows and bounds of all poll time.

use super::*;
use crate::session::testing::{self as t, MS, START_NS};

fn times(view: &ProfileView) -> Vec<(&str, u64)> {
    let rows = view.spots.iter();
    rows.map(|row| (row.key.0.as_str(), row.cpu_ns / MS))
        .collect()
}

#[test]
fn time_adds_up_by_code_and_narrows_to_workers() {
    let mut profile = Profile::new(None);
    profile.switch(true, START_NS);
    profile.add(&t::poll_time(
        0,
        1000,
        &[("shop::render", "json::write", 60)],
    ));
    profile.add(&t::poll_time(
        1,
        1000,
        &[
            ("shop::render", "json::write", 20),
            ("shop::parse", "json::read", 30),
        ],
    ));
    let all = profile.view(false, None, START_NS + 1000 * MS);
    assert_eq!(times(&all), [("shop::render", 80), ("shop::parse", 30)]);
    assert_eq!((all.cpu_ns, all.tree.total_ns()), (110 * MS, 110 * MS));
    assert_eq!(all.spots[0].workers, 2);
    assert_eq!(all.spots[0].tree.total_ns(), 80 * MS);
    let one = profile.view(false, Some(&BTreeSet::from([4001])), START_NS);
    assert_eq!(times(&one), [("shop::render", 60)]);
    // What is kept says the same again.
    let mut again = Profile::new(None);
    for record in profile.records(START_NS) {
        match record {
            Record::PollTime(time) => again.add(&time),
            Record::AllPollTime { on, at_ns } => again.switch(on, at_ns),
            other => panic!("{other:?}"),
        }
    }
    assert!(again.is_on());
    assert_eq!(times(&again.view(false, None, 0)), times(&all));
}

#[test]
fn a_window_lets_go() {
    let mut profile = Profile::new(Some(12_000 * MS));
    for second in 0..30 {
        profile.add(&t::poll_time(0, second * 1000, &[("a::b", "c::d", 10)]));
    }
    let now = START_NS + 29_000 * MS;
    let windowed = profile.view(true, None, now).cpu_ns / MS;
    assert!((110..=140).contains(&windowed), "{windowed}");
    assert_eq!(profile.view(false, None, now).cpu_ns, 300 * MS);
    assert_eq!(profile.view(true, None, now + 60_000 * MS).cpu_ns, 0);
}

#[test]
fn what_leaves_the_window_makes_room() {
    let mut profile = Profile::new(Some(1_000 * MS));
    let mut room = Vec::new();
    for second in 0..20 {
        profile.add(&t::poll_time(0, second * 1000, &[("a::b", "c::d", 10)]));
        room.push((profile.room.spots, profile.room.nodes));
    }
    assert_eq!(room[5], room[19]);
}

#[test]
fn memory_is_bounded_and_nothing_is_dropped() {
    let mut profile = Profile::new(None);
    for i in 0..2 * SPOTS as u64 {
        let name = format!("shop::f{i}");
        profile.add(&t::poll_time(0, i, &[(name.as_str(), "json::write", 1)]));
    }
    for worker in 0..2 * WORKERS as u32 {
        profile.add(&t::poll_time(worker, 1, &[("shop::g", "json::write", 1)]));
    }
    let view = profile.view(false, None, START_NS);
    assert_eq!(view.cpu_ns, 2 * (SPOTS + WORKERS) as u64 * MS);
    assert!(view.spots.len() <= SPOTS + 1);
    assert!(view.find(&(OTHER.into(), None)).is_some());
    assert!(profile.all.len() <= WORKERS + 1);
    let nodes: usize = profile
        .all
        .values()
        .flat_map(BTreeMap::values)
        .map(|s| s.tree.len())
        .sum();
    assert!(nodes <= TREE_NODES);
}

#[test]
fn time_counts_while_it_is_on() {
    let mut profile = Profile::new(None);
    profile.switch(true, 10);
    profile.switch(true, 15);
    profile.switch(false, 20);
    profile.switch(false, 30);
    assert_eq!((profile.is_on(), profile.sampled_ns(0, 100)), (false, 10));
    profile.switch(true, 50);
    assert_eq!((profile.is_on(), profile.sampled_ns(0, 100)), (true, 60));
    assert_eq!(profile.sampled_ns(90, 100), 10);
}
