//! hud compared with programs that know what blocked them: real processes, real BPF, the real kernel.
//!
//! These tests load BPF and need root, and they measure time, so they run one after the other
//! (`RUST_TEST_THREADS=1`): `make test` does both. Several causes share a run where they do not disturb
//! each other. `tests/full` has more builds and versions of Tokio.

mod attach;
mod census;
mod frames;
mod lost;
mod poll_time;
mod release;
mod runtimes;
mod seqlock;
mod slow_machine;
mod throttled;

use hud::model::Tier;
use testing::compare::{Expect, compare};
use testing::fixtures::{self, Build};
use testing::run::{Run, Watched};

/// Blocks of 50 ms to 150 ms, where their edges are estimated from samples.
const COMPUTING: [&str; 2] = ["--block-ms", "50"];

/// Every cause: those that compute in one run, those that sleep in another, which also names whom they waited
/// for.
fn every_cause(build: &Build) {
    Run::new(build, "cpu,page_fault")
        .arguments(&COMPUTING)
        .arguments(&["--tasks", "1"])
        .seconds(6)
        .check(&Expect::blocking_in(2));
    let sleeping = "lock,channel,sleep,file_io,fsync,network,pipe,child_process";
    let run = Run::new(build, sleeping)
        .arguments(&["--block-ms", "20", "--tasks", "1", "--workers", "8"])
        .seconds(6)
        .check(&Expect::blocking_in(8));
    release::check(&run);
}

#[test]
fn every_cause_in_a_plain_release_build() {
    every_cause(&Build::Release);
}

#[test]
fn every_cause_in_a_dev_build() {
    every_cause(&Build::Dev);
}

/// A cause of each kind, for builds that differ in how polls and functions are found.
fn few_causes(build: &Build, expect: Expect) -> Watched {
    Run::new(build, "cpu,lock,sleep")
        .arguments(&COMPUTING)
        .arguments(&["--tasks", "1", "--workers", "4"])
        .seconds(5)
        .check(&expect)
}

#[test]
fn healthy_programs_give_no_finding() {
    for build in [Build::Release, Build::Dev] {
        for scenario in [
            "healthy_busy",
            "timers,spawn_blocking,block_in_place",
            "stolen",
            "root_many_short,timers",
            "root_waits",
        ] {
            Run::new(&build, scenario).check(&Expect::nothing());
        }
        Run::new(&build, "idle").seconds(2).check(&Expect::idle());
    }
}

/// Workers that wait for a CPU between polls too short to be seen, each preempted inside some poll.
#[test]
fn healthy_programs_with_more_workers_than_cpus_give_no_finding() {
    for workers in ["8", "64"] {
        let run = Run::new(&Build::Release, "yields")
            .arguments(&["--workers", workers])
            .check(&Expect::nothing());
        // A worker that stays preempted does not refute the layout.
        assert_eq!(run.tier(), Tier::VersionTable);
    }
}

/// Each call hands the worker to another thread, in a blocking task of another id.
#[test]
fn workers_that_change_threads_all_the_time_refute_no_layout() {
    let run = Run::new(&Build::Release, "block_in_place")
        .arguments(&["--block-ms", "2", "--gap-ms", "5"])
        .check(&Expect::nothing());
    assert_eq!(run.tier(), Tier::VersionTable);
}

const CURRENT_THREAD: [&str; 2] = ["--flavor", "current_thread"];

#[test]
fn current_thread_runtimes_and_their_root_future() {
    Run::new(&Build::Release, "root,sleep")
        .arguments(&CURRENT_THREAD)
        .arguments(&COMPUTING)
        .arguments(&["--tasks", "1", "--gap-ms", "100"])
        .seconds(5)
        .check(&Expect::blocking_in(2));
    for scenario in ["healthy_busy", "timers,spawn_blocking", "root_many_short"] {
        Run::new(&Build::Release, scenario)
            .arguments(&CURRENT_THREAD)
            .check(&Expect::nothing());
    }
    Run::new(&Build::Release, "idle")
        .arguments(&CURRENT_THREAD)
        .seconds(2)
        .check(&Expect::idle());
}

/// The worker never leaves the CPU between them: only samples tell where one ends.
#[test]
fn polls_that_compute_one_after_another_have_true_durations() {
    let run = Run::new(&Build::Release, "cpu")
        .arguments(&CURRENT_THREAD)
        .arguments(&COMPUTING)
        .seconds(6)
        .watch();
    let mut verdict = compare(&run, &Expect::blocking());
    verdict.assert();
    let errors = &mut verdict.duration_errors;
    errors.sort_by(f64::total_cmp);
    let median = errors[errors.len() / 2];
    assert!(median <= 0.01, "the median duration is {median:.4} off");
}

#[test]
fn a_stripped_build() {
    let build = fixtures::stripped(&Build::Release);
    few_causes(&build, Expect::blocking_in(3).without_symbols());
    Run::new(&build, "healthy_busy,block_in_place").check(&Expect::nothing());
    // Without block_on's tasks only the root future shows where the state is.
    Run::new(&build, "root")
        .arguments(&CURRENT_THREAD)
        .arguments(&COMPUTING)
        .check(&Expect::blocking().without_symbols());
}

#[test]
fn a_layout_that_no_table_knows() {
    let build = fixtures::build(&fixtures::RANDOM_LAYOUT);
    let stripped = fixtures::stripped(&build);
    let named = Expect::blocking();
    for (build, expect) in [(&build, named), (&stripped, named.without_symbols())] {
        let run = Run::new(build, "sleep").check(&expect);
        assert_eq!(run.tier(), Tier::Learnt);
    }
}

/// Without task ids, with the budget in a thread-local of its own.
#[test]
fn the_oldest_tokio() {
    let build = fixtures::build(&fixtures::OLDEST);
    let run = few_causes(&build, Expect::blocking_in(3));
    assert_eq!(run.tier(), Tier::VersionTable);
    let run = Run::new(&build, "sleep")
        .arguments(&CURRENT_THREAD)
        .check(&Expect::blocking());
    assert_eq!(run.tier(), Tier::VersionTable);
    // Short polls of one scheduler round, which differ in what is left of their budget.
    let run = Run::new(&build, "relay").check(&Expect::nothing());
    assert_eq!(run.tier(), Tier::VersionTable);
    let stripped = fixtures::stripped(&build);
    let run = Run::new(&stripped, "sleep").check(&Expect::blocking().without_symbols());
    assert_eq!(run.tier(), Tier::Learnt);
}
