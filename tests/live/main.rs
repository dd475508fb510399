//! hud against programs that know what blocked them: real processes, real BPF, the real kernel.
//!
//! These tests load BPF and need root; `make test` sees to that. They measure time, so they run one
//! after the other (`RUST_TEST_THREADS=1`).

mod census;
mod compare;
mod containers;
mod endings;
mod fixtures;
mod frames;
mod lost;
mod poll_time;
mod privileges;
mod program;
mod recorded;
mod release;
mod seqlock;
mod slow_machine;
mod symbols;
mod terminal;
mod throttled;
mod tmux;
mod versions;

use compare::{Expect, compare};
use fixtures::Fixture;
use hud::model::Tier;
use program::{Build, Run};

/// Every cause, from blocks between 20 and 60 ms, and from 50 ms on where their edges are
/// estimated from samples.
const CAUSES: [(&str, &str); 10] = [
    ("cpu", "50"),
    ("lock", "20"),
    ("channel", "20"),
    ("sleep", "20"),
    ("file_io", "20"),
    ("fsync", "20"),
    ("network", "20"),
    ("pipe", "20"),
    ("child_process", "20"),
    ("page_fault", "50"),
];

const CONTROLS: [&str; 7] = [
    "healthy_busy",
    "spawn_blocking",
    "block_in_place",
    "idle",
    "stolen",
    "multi_thread_root",
    "timers",
];

/// A cause of each kind, for builds that differ in how polls are found and not in what is seen.
const FEW_CAUSES: [(&str, &str); 3] = [("cpu", "50"), ("lock", "20"), ("sleep", "20")];

fn check(build: &Build, scenario: &str, arguments: &[&str], expect: &Expect) {
    let run = Run::new(build, scenario).arguments(arguments).watch();
    let verdict = compare(&run, expect);
    eprintln!("{build:?} {scenario}: {verdict}");
    verdict.assert();
}

#[test]
fn every_cause_in_a_plain_release_build() {
    for (scenario, block_ms) in CAUSES {
        let arguments = ["--block-ms", block_ms];
        check(&Build::Release, scenario, &arguments, &Expect::blocking());
    }
}

#[test]
fn every_cause_in_a_dev_build() {
    for (scenario, block_ms) in CAUSES {
        let arguments = ["--block-ms", block_ms];
        check(&Build::Dev, scenario, &arguments, &Expect::blocking());
    }
}

#[test]
fn healthy_programs_give_no_finding() {
    for build in [Build::Release, Build::Dev] {
        for scenario in CONTROLS {
            check(&build, scenario, &[], &Expect::nothing());
        }
    }
}

/// Workers that wait for a CPU between polls too short to be seen, each preempted inside some poll.
#[test]
fn healthy_programs_with_more_workers_than_cpus_give_no_finding() {
    for workers in ["8", "64"] {
        let run = Run::new(&Build::Release, "yields")
            .arguments(&["--workers", workers])
            .watch();
        // Those that stand preempted where they stood refute no layout.
        assert_eq!(run.tier(), Tier::VersionTable);
        compare(&run, &Expect::nothing()).assert();
    }
}

/// Each call hands the worker to another thread, in a blocking task of another id.
#[test]
fn workers_that_change_threads_all_the_time_refute_no_layout() {
    let run = Run::new(&Build::Release, "block_in_place")
        .arguments(&["--block-ms", "2", "--gap-ms", "5"])
        .watch();
    assert_eq!(run.tier(), Tier::VersionTable);
    compare(&run, &Expect::nothing()).assert();
}

#[test]
fn current_thread_runtimes_and_their_root_future() {
    let flavor = ["--flavor", "current_thread", "--block-ms", "50"];
    for scenario in ["root", "sleep", "cpu"] {
        check(&Build::Release, scenario, &flavor, &Expect::blocking());
    }
    let flavor = ["--flavor", "current_thread"];
    for scenario in ["healthy_busy", "idle", "spawn_blocking"] {
        check(&Build::Release, scenario, &flavor, &Expect::nothing());
    }
}

/// The worker never leaves the CPU between them: nothing but samples tells where one ends.
#[test]
fn polls_that_compute_one_after_another_have_true_durations() {
    let run = Run::new(&Build::Release, "cpu")
        .arguments(&["--flavor", "current_thread", "--block-ms", "50"])
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
fn unconstrained_tasks_and_runtimes_that_start_later() {
    let blocks = ["--block-ms", "50"];
    // Without the coop budget a poll is known by its task id alone, once the worker has parked in
    // the I/O driver: what comes before is missed.
    let most = Expect::blocking_but(10);
    check(&Build::Release, "unconstrained", &blocks, &most);
    // The second runtime starts after some seconds.
    let run = Run::new(&Build::Release, "late_runtime")
        .arguments(&blocks)
        .seconds(6)
        .watch();
    compare(&run, &Expect::blocking()).assert();
    let runtimes: std::collections::BTreeSet<u32> =
        run.polls().iter().map(|poll| poll.runtime).collect();
    assert!(!runtimes.is_empty());
    assert!(run.workers() >= 2, "{} workers", run.workers());
}

#[test]
fn old_and_optimised_builds() {
    let fat = "lto = \"fat\"\ncodegen-units = 1";
    for (name, tokio, profile) in [
        ("tokio-1-44", "=1.44.2", ""),
        ("fat-lto", "1", fat),
        ("debug-info", "=1.47.1", "debug = 2"),
    ] {
        let build = fixtures::build(&Fixture {
            name,
            tokio,
            profile,
            ..Fixture::default()
        });
        for (scenario, block_ms) in FEW_CAUSES {
            let arguments = ["--block-ms", block_ms];
            check(&build, scenario, &arguments, &Expect::blocking());
        }
        check(&build, "healthy_busy", &[], &Expect::nothing());
    }
}

#[test]
fn other_allocators() {
    for (name, dependencies, rustflags) in [
        (
            "jemalloc",
            "tikv-jemallocator = \"0.6\"\n",
            "--cfg allocator=\"jemalloc\"",
        ),
        (
            "mimalloc",
            "mimalloc = \"0.1\"\n",
            "--cfg allocator=\"mimalloc\"",
        ),
    ] {
        let build = fixtures::build(&Fixture {
            name,
            tokio: "1",
            dependencies,
            rustflags,
            ..Fixture::default()
        });
        let stripped = fixtures::stripped(&build);
        let block = ["--block-ms", "20"];
        check(&build, "lock", &block, &Expect::blocking());
        let unnamed = Expect::blocking_without_symbols();
        check(&stripped, "lock", &block, &unnamed);
        check(&stripped, "healthy_busy", &[], &Expect::nothing());
    }
}

#[test]
fn a_stripped_build() {
    let build = fixtures::stripped(&Build::Release);
    for (scenario, block_ms) in FEW_CAUSES {
        let arguments = ["--block-ms", block_ms];
        let expect = Expect::blocking_without_symbols();
        check(&build, scenario, &arguments, &expect);
    }
    for scenario in ["healthy_busy", "block_in_place"] {
        check(&build, scenario, &[], &Expect::nothing());
    }
    // Without block_on's tasks only the root future shows where the state is.
    let flavor = ["--flavor", "current_thread", "--block-ms", "50"];
    let expect = Expect::blocking_without_symbols();
    check(&build, "root", &flavor, &expect);
}

#[test]
fn a_layout_that_no_table_knows() {
    let build = frames::random_layout();
    let stripped = fixtures::stripped(&build);
    for (build, expect) in [
        (&build, Expect::blocking()),
        (&stripped, Expect::blocking_without_symbols()),
    ] {
        let run = Run::new(build, "sleep")
            .arguments(&["--block-ms", "20"])
            .watch();
        assert_eq!(run.tier(), Tier::Learnt);
        compare(&run, &expect).assert();
    }
}
