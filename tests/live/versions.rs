//! Tokio before 1.29, whose state lies elsewhere, and runtimes in unusual places.

use hud::model::Tier;

use crate::check;
use crate::compare::{Expect, compare};
use crate::fixtures::{self, Fixture};
use crate::program::{Build, Run};

fn tokio(name: &'static str, version: &'static str) -> Build {
    fixtures::build(&Fixture {
        name,
        tokio: version,
        ..Fixture::default()
    })
}

/// Short, since there are many: blocks of 20 to 60 ms on two workers.
fn check_briefly(build: &Build, scenario: &str, arguments: &[&str], tier: Tier, expect: &Expect) {
    let run = Run::new(build, scenario)
        .arguments(&["--block-ms", "20"])
        .arguments(arguments)
        .seconds(3)
        .watch();
    assert_eq!(run.tier(), tier, "{build:?} {scenario}");
    let verdict = compare(&run, expect);
    eprintln!("{build:?} {scenario}: {verdict}");
    verdict.assert();
}

/// Without task ids, with the budget in a thread-local of its own.
#[test]
fn tokio_1_20() {
    let build = tokio("tokio-1-20", "=1.20.6");
    let stripped = fixtures::stripped(&build);
    let named = Expect::blocking();
    let table = Tier::VersionTable;
    check_briefly(&build, "lock", &[], table, &named);
    let flavor = ["--flavor", "current_thread"];
    check_briefly(&build, "sleep", &flavor, table, &named);
    // Short polls of one round, told apart by what is left of their budget.
    check_briefly(&build, "relay", &[], table, &Expect::nothing());
    let expect = Expect::blocking_without_symbols();
    check_briefly(&stripped, "sleep", &[], Tier::Scan, &expect);
}

/// With task ids; each flavor's scheduler still has a thread-local of its own.
#[test]
fn tokio_1_28() {
    let build = tokio("tokio-1-28", "=1.28.2");
    let stripped = fixtures::stripped(&build);
    let table = Tier::VersionTable;
    check_briefly(&build, "sleep", &[], table, &Expect::blocking());
    check_briefly(&build, "nested_runtime", &[], table, &Expect::blocking());
    let expect = Expect::blocking_without_symbols();
    check_briefly(&stripped, "lock", &[], Tier::Scan, &expect);
    check_briefly(
        &stripped,
        "block_in_place",
        &[],
        Tier::Scan,
        &Expect::nothing(),
    );
}

#[test]
fn runtimes_inside_each_other_and_polls_of_one_round() {
    let build = Build::Release;
    check(&build, "relay", &[], &Expect::nothing());
    check(
        &build,
        "nested_runtime",
        &["--block-ms", "20"],
        &Expect::blocking(),
    );
    check(
        &build,
        "nested_block_on",
        &["--block-ms", "20"],
        &Expect::nothing(),
    );
}

#[test]
fn local_sets_and_runtimes_that_come_and_go() {
    let blocks = ["--block-ms", "50"];
    check(&Build::Release, "local_set", &blocks, &Expect::blocking());
    let run = Run::new(&Build::Release, "short_lived")
        .arguments(&blocks)
        .watch();
    // A worker is found when it first leaves the CPU.
    compare(&run, &Expect::blocking_but(5)).assert();
    let of_blocks = run.polls();
    let runtimes: std::collections::BTreeSet<u32> =
        of_blocks.iter().map(|poll| poll.runtime).collect();
    assert!(runtimes.len() >= 5, "{runtimes:?}");
}
