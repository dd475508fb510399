//! Tier 4: polls known by the workers' frames alone, on ordinary builds. More of it in `tests/full`.

use hud::model::Tier;
use testing::compare::Expect;
use testing::fixtures::Build;
use testing::run::Run;

/// Runs a scenario with hud attached, by frames alone.
fn check_by_frames(scenario: &str, arguments: &[&str], expect: &Expect) {
    let run = Run::new(&Build::Release, scenario)
        .arguments(arguments)
        .hud(&["--by-frames"])
        .seconds(5)
        .check(expect);
    assert_eq!(run.tier(), Tier::Frames, "{scenario}");
}

#[test]
fn polls_that_sleep_are_known_by_frames_alone() {
    let arguments = ["--block-ms", "20", "--workers", "4"];
    // The first one or two of each function are missed, until it is known.
    let expect = Expect::blocking_in(2).but_for(20);
    check_by_frames("lock,sleep", &arguments, &expect);
}

#[test]
fn healthy_programs_give_no_finding_by_frames_alone() {
    for scenario in ["healthy_busy", "block_in_place,spawn_blocking,timers"] {
        check_by_frames(scenario, &[], &Expect::nothing());
    }
}
