//! Tier 4: polls known by the workers' frames alone, on ordinary builds (where the program's truth is
//! the same) and where nothing else is left.

use hud::model::{Record, Tier};

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

/// What tells polls apart is found on the oldest Tokio, too, so that polls that compute are told.
#[test]
fn polls_that_compute_are_known_by_frames_alone_on_the_oldest_tokio() {
    let build = fixtures::build(&Fixture {
        name: "tokio-1-20",
        tokio: "=1.20.6",
        ..Fixture::default()
    });
    let run = Run::new(&build, "cpu")
        .arguments(&["--block-ms", "50"])
        .hud(&["--by-frames"])
        .seconds(7)
        .watch();
    assert_eq!(run.tier(), Tier::Frames);
    let verdict = compare(&run, &Expect::blocking());
    eprintln!("{verdict}");
    // How soon it is found depends on how often the machine lets hud look.
    assert!(verdict.missed.len() * 2 <= verdict.blocks, "{verdict}");
    assert_eq!(verdict.false_findings, Vec::<String>::new());
    assert_eq!(verdict.wrong_function, Vec::<String>::new());
}

/// No table knows where its fields are.
pub fn random_layout() -> Build {
    fixtures::build(&Fixture {
        name: "random-layout",
        tokio: "1",
        rustflags: "-Zrandomize-layout -Zlayout-seed=1",
        ..Fixture::default()
    })
}

/// A `current_thread` runtime alone shows little of itself: its layout is learnt, or its frames have
/// to do.
#[test]
fn a_layout_that_cannot_be_learnt_is_watched_by_frames() {
    let build = random_layout();
    let run = Run::new(&build, "sleep")
        .arguments(&["--block-ms", "20", "--flavor", "current_thread"])
        .seconds(18)
        .watch();
    let tier = run.tier();
    assert!(matches!(tier, Tier::Learnt | Tier::Frames), "{tier:?}");
    compare(&run, &Expect::blocking_but(20)).assert();
}

/// Without names frames tell nothing: all that is left is what the scheduler says, which hud says itself.
#[test]
fn without_symbols_a_layout_that_cannot_be_learnt_leaves_what_the_scheduler_says() {
    let build = fixtures::stripped(&random_layout());
    let run = Run::new(&build, "sleep")
        .arguments(&["--block-ms", "1500", "--flavor", "current_thread"])
        .patient()
        .seconds(2)
        .watch();
    assert_eq!(run.tier(), Tier::Scheduler);
    assert_eq!(run.polls(), []);
    for part in [
        "Polls could not be seen",
        "--symbols",
        "threads named scenarios",
    ] {
        assert!(run.report.contains(part), "no {part:?} in {}", run.report);
    }
    assert!(!run.report.contains("No slow polls"), "{}", run.report);
    // The runtime's thread does nothing but sleep.
    let asleep = run.records.iter().filter_map(|record| match record {
        Record::Usage(usage) => Some(usage.asleep_ns),
        _ => None,
    });
    let most = asleep.max().unwrap_or(0);
    assert!((1_500_000_000..2_500_000_000).contains(&most), "{most}");
}

/// Polls that last for seconds show no rounds to learn a layout from. Which poll is which is then
/// known by the sleeps alone, that of before the start included.
#[test]
fn a_current_thread_runtime_that_cannot_be_learnt_ends_in_tier_4_by_itself() {
    let build = random_layout();
    let run = Run::new(&build, "sleep")
        .arguments(&["--block-ms", "1500", "--flavor", "current_thread"])
        .patient()
        .seconds(9)
        .watch();
    assert_eq!(run.tier(), Tier::Frames);
    let verdict = compare(&run, &Expect::blocking());
    eprintln!("{verdict}");
    assert!(verdict.blocks >= 1, "no block was seen whole");
    assert_eq!(verdict.missed, Vec::<String>::new());
    assert_eq!(verdict.false_findings, Vec::<String>::new());
    let worst = verdict.duration_errors.iter().copied().fold(0.0, f64::max);
    assert!(worst < 0.01, "durations are {:.0} % off", worst * 100.0);
}
