//! The first second: what hud says of workers that park, or begin to hang, while it attaches; and of the
//! future given to `block_on`.

use std::time::Duration;

use testing::attach::{compare_all, to_new_processes, to_one_process};
use testing::compare::Expect;
use testing::fixtures::Build;
use testing::run::Run;

use crate::COMPUTING;

#[test]
fn workers_that_park_while_hud_attaches_are_in_no_poll() {
    let run = Run::new(&Build::Release, "many_parked")
        .arguments(&["--workers", "32"])
        .seconds(0.5);
    let runs = to_one_process(&run, 8).unwrap();
    compare_all(&runs, &Expect::nothing().at_the_edges()).assert();
}

#[test]
fn a_hang_that_begins_while_hud_attaches_is_found() {
    let run = || Run::new(&Build::Release, "hang_soon").seconds(2);
    let (from, to) = (Duration::from_millis(200), Duration::from_millis(1000));
    let runs = to_new_processes(run, 6, from, to).unwrap();
    compare_all(&runs, &Expect::blocking().at_the_edges()).assert();
}

/// On a thread that is no worker, beside workers that do not block.
#[test]
fn root_futures_of_multi_thread_runtimes() {
    for build in [Build::Release, Build::Dev] {
        Run::new(&build, "root_busy,timers")
            .arguments(&COMPUTING)
            .arguments(&["--gap-ms", "50"])
            .seconds(6)
            .check(&Expect::blocking_in(2).with_roots());
    }
}
