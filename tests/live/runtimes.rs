//! Runtimes in unusual places: inside each other, on threads of their own, started late, and short-lived.

use testing::compare::Expect;
use testing::fixtures::Build;
use testing::run::Run;

use crate::COMPUTING;

#[test]
fn runtimes_inside_each_other_and_polls_of_one_round() {
    let run = |scenario| Run::new(&Build::Release, scenario);
    run("relay").check(&Expect::nothing());
    run("nested_runtime").check(&Expect::blocking());
    run("nested_block_on").check(&Expect::nothing());
}

#[test]
fn local_sets_and_runtimes_that_come_and_go() {
    let run = |scenario| Run::new(&Build::Release, scenario).arguments(&COMPUTING);
    run("local_set").check(&Expect::blocking());
    // A worker is found when it first leaves the CPU.
    let runtimes = run("short_lived")
        .check(&Expect::blocking().but_for(5))
        .runtimes();
    assert!(runtimes.len() >= 5, "{runtimes:?}");
}

#[test]
fn unconstrained_tasks_and_runtimes_that_start_later() {
    let run = |scenario| Run::new(&Build::Release, scenario).arguments(&COMPUTING);
    // Without the coop budget a poll is known by its task id alone, once the worker has parked in
    // the I/O driver: polls before that are missed.
    run("unconstrained").check(&Expect::blocking().but_for(10));
    let late = run("late_runtime")
        .arguments(&["--after", "1.5"])
        .seconds(5)
        .check(&Expect::blocking());
    assert!(late.workers() > 2, "{} workers", late.workers());
}
