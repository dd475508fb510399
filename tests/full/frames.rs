//! Tier 4: polls known by the workers' frames alone, on more builds, and where nothing else is left.

use hud::model::{Record, Tier};
use testing::compare::{Expect, compare};
use testing::fixtures::{self, Build};
use testing::run::Run;

/// Runs a scenario with hud attached, by frames alone.
fn check_by_frames(build: &Build, scenario: &str, arguments: &[&str], expect: &Expect) {
    let run = Run::new(build, scenario)
        .arguments(arguments)
        .hud(&["--by-frames"])
        .seconds(5)
        .check(expect);
    assert_eq!(run.tier(), Tier::Frames, "{scenario}");
}

/// The first one or two of each function are missed, until it is known.
const BLOCKS: [&str; 2] = ["--block-ms", "20"];

#[test]
fn polls_that_sleep_are_known_by_frames_alone() {
    let expect = Expect::blocking().but_for(20);
    check_by_frames(&Build::Dev, "lock", &BLOCKS, &expect);
    let current_thread = ["--block-ms", "20", "--flavor", "current_thread"];
    check_by_frames(&Build::Release, "sleep", &current_thread, &expect);
}

#[test]
fn healthy_current_thread_programs_give_no_finding_by_frames_alone() {
    let current_thread = ["--flavor", "current_thread"];
    let nothing = Expect::nothing();
    check_by_frames(&Build::Release, "healthy_busy", &current_thread, &nothing);
}

/// With everything inlined only the worker's core shows that the thread is no worker just now.
#[test]
fn block_in_place_without_a_frame_of_its_own() {
    let build = fixtures::build(&fixtures::FAT_LTO);
    check_by_frames(&build, "block_in_place", &[], &Expect::nothing());
    let expect = Expect::blocking().but_for(20);
    check_by_frames(&build, "lock", &BLOCKS, &expect);
}

/// A counter that distinguishes polls is found on the oldest Tokio, too, so that polls that compute are
/// reported.
#[test]
fn polls_that_compute_are_known_by_frames_alone_on_the_oldest_tokio() {
    let build = fixtures::build(&fixtures::OLDEST);
    let run = Run::new(&build, "cpu")
        .arguments(&["--block-ms", "50"])
        .hud(&["--by-frames"])
        .seconds(7)
        .watch();
    assert_eq!(run.tier(), Tier::Frames);
    let verdict = compare(&run, &Expect::blocking());
    eprintln!("{verdict}");
    // How soon it is found depends on how often hud gets to read it.
    assert!(verdict.missed.len() * 2 <= verdict.blocks, "{verdict}");
    assert_eq!(verdict.false_findings, Vec::<String>::new());
    assert_eq!(verdict.wrong_function, Vec::<String>::new());
}

/// A `current_thread` runtime alone shows little of itself: either its layout is learnt, or polls are
/// tracked by frames.
#[test]
fn a_layout_that_cannot_be_learnt_is_watched_by_frames() {
    let build = fixtures::build(&fixtures::RANDOM_LAYOUT);
    let run = Run::new(&build, "sleep")
        .arguments(&["--block-ms", "20", "--flavor", "current_thread"])
        .seconds(18)
        .check(&Expect::blocking().but_for(20));
    let tier = run.tier();
    assert!(matches!(tier, Tier::Learnt | Tier::Frames), "{tier:?}");
}

/// Without symbols frames tell nothing: what is left is the scheduler's account, and hud must say so.
#[test]
fn without_symbols_a_layout_that_cannot_be_learnt_leaves_what_the_scheduler_says() {
    let build = fixtures::stripped(&fixtures::build(&fixtures::RANDOM_LAYOUT));
    let run = Run::new(&build, "sleep")
        .arguments(&["--block-ms", "1500", "--flavor", "current_thread"])
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

/// Polls that last for seconds show too few rounds to learn a layout from. Which poll is which is then
/// known by their sleeps alone, also for the poll that was running at the start.
#[test]
fn a_current_thread_runtime_that_cannot_be_learnt_ends_in_tier_4_by_itself() {
    let build = fixtures::build(&fixtures::RANDOM_LAYOUT);
    let run = Run::new(&build, "sleep")
        .arguments(&["--block-ms", "1500", "--flavor", "current_thread"])
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
