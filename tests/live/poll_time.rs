//! All poll time: a program that is always busy, and never slow.

use std::sync::Arc;

use hud::model::{PollTime, Record};

use testing::compare::{Expect, compare};
use testing::fixtures::Build;
use testing::run::{Run, Watched};

const FUNCTION: &str = "one_of_a_thousand_cuts";

fn poll_times(run: &Watched) -> Vec<Arc<PollTime>> {
    let times = run.records.iter().filter_map(|record| match record {
        Record::PollTime(time) => Some(Arc::clone(time)),
        _ => None,
    });
    times.collect()
}

/// CPU time in the polls that the program timed itself, while hud watched.
fn truth_ns(run: &Watched) -> u64 {
    let (from, to) = run.span();
    let within = run.truth.iter().filter_map(|truth| {
        let end = truth.end_ns?;
        let wall = end.saturating_sub(truth.start_ns).max(1);
        let inside = end.min(to).saturating_sub(truth.start_ns.max(from));
        Some((truth.on_cpu_ns as u128 * inside as u128 / wall as u128) as u64)
    });
    within.sum()
}

#[test]
fn a_thousand_short_polls_are_seen_where_no_poll_is_slow() {
    for build in [Build::Release, Build::Dev] {
        let run = Run::new(&build, "thousand_cuts")
            // Far longer than its polls last, however busy the machine is; samples of slow polls are
            // rarer then than those of all poll time.
            .hud(&["--all-poll-time", "--threshold", "10"])
            .watch();
        compare(&run, &Expect::nothing()).assert();
        let times = poll_times(&run);
        let stacks = || times.iter().flat_map(|time| &time.stacks);
        let all: u64 = times.iter().map(|time| time.on_cpu_ns()).sum();
        let through = |function: &str| -> u64 {
            let shown = stacks().filter(|profiled| {
                let mut frames = profiled.stack.frames.iter();
                frames.any(|frame| frame.function.ends_with(function))
            });
            shown.map(|profiled| profiled.stack.weight_ns).sum()
        };
        // The program also records the truth in its polls.
        let (named, bookkeeping) = (through(FUNCTION), through("truth::record"));
        let truth = truth_ns(&run);
        eprintln!(
            "{build:?}: {:.2} s in polls, {:.1} % named; the program says {:.2} s",
            all as f64 / 1e9,
            named as f64 * 100.0 / all as f64,
            truth as f64 / 1e9
        );
        let due = (all - bookkeeping) / 10 * 9;
        assert!(named >= due, "{named} of {all} ns named");
        assert!(
            all.abs_diff(truth) <= truth * 15 / 100,
            "{all} ns, not {truth} ns"
        );
        assert!(run.report.contains("All poll time"), "{}", run.report);
    }
}

#[test]
fn all_poll_time_is_off_by_default() {
    let run = Run::new(&Build::Release, "thousand_cuts")
        .seconds(2)
        .watch();
    assert!(poll_times(&run).is_empty());
    assert!(!run.report.contains("All poll time"), "{}", run.report);
}
