//! Tier 4: polls known by the workers' frames alone, on ordinary builds (where the program's truth is
//! the same) and where nothing else is left.

use hud::model::Tier;

use crate::compare::{Expect, compare};
use crate::fixtures::{self, Fixture};
use crate::program::{Build, Run};

/// Watches a scenario by frames alone.
fn check_by_frames(build: &Build, scenario: &str, arguments: &[&str], expect: &Expect) {
    let run = Run::new(build, scenario)
        .arguments(arguments)
        .hud(&["--by-frames"])
        .seconds(5)
        .watch();
    assert_eq!(run.tier(), Tier::Frames, "{scenario}");
    let verdict = compare(&run, expect);
    eprintln!("{build:?} {scenario} {arguments:?}: {verdict}");
    verdict.assert();
}

/// What is learnt first is missed once or twice.
const BLOCKS: [&str; 2] = ["--block-ms", "20"];

#[test]
fn polls_that_sleep_are_known_by_frames_alone() {
    for scenario in ["lock", "sleep"] {
        check_by_frames(
            &Build::Release,
            scenario,
            &BLOCKS,
            &Expect::blocking_but(20),
        );
    }
    check_by_frames(&Build::Dev, "lock", &BLOCKS, &Expect::blocking_but(20));
    let current_thread = ["--block-ms", "20", "--flavor", "current_thread"];
    let expect = Expect::blocking_but(20);
    check_by_frames(&Build::Release, "sleep", &current_thread, &expect);
}

#[test]
fn healthy_programs_give_no_finding_by_frames_alone() {
    for scenario in ["healthy_busy", "block_in_place", "spawn_blocking", "timers"] {
        check_by_frames(&Build::Release, scenario, &[], &Expect::nothing());
    }
    let current_thread = ["--flavor", "current_thread"];
    let nothing = Expect::nothing();
    check_by_frames(&Build::Release, "healthy_busy", &current_thread, &nothing);
}

/// With everything inlined nothing but the worker's core shows that it is no worker just now.
#[test]
fn block_in_place_without_a_frame_of_its_own() {
    let build = fixtures::build(&Fixture {
        name: "fat-lto",
        tokio: "1",
        profile: "lto = \"fat\"\ncodegen-units = 1",
        ..Fixture::default()
    });
    check_by_frames(&build, "block_in_place", &[], &Expect::nothing());
    check_by_frames(&build, "lock", &BLOCKS, &Expect::blocking_but(20));
}

/// A `current_thread` runtime alone shows little of itself: its layout is learnt, or its frames have
/// to do.
#[test]
fn a_layout_that_cannot_be_learnt_is_watched_by_frames() {
    let build = fixtures::build(&Fixture {
        name: "random-layout",
        tokio: "1",
        rustflags: "-Zrandomize-layout -Zlayout-seed=1",
        ..Fixture::default()
    });
    let run = Run::new(&build, "sleep")
        .arguments(&["--block-ms", "20", "--flavor", "current_thread"])
        .seconds(18)
        .watch();
    let tier = run.tier();
    assert!(matches!(tier, Tier::Scan | Tier::Frames), "{tier:?}");
    compare(&run, &Expect::blocking_but(20)).assert();
}
