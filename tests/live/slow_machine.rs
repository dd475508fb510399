//! Every cause on a machine of another kernel or processor, which is an emulated one (`scripts/vm`).
//!
//! There hud needs seconds to start, system calls take milliseconds of computing, and the machine
//! stands still at times. So durations are not held, some causes may truly be others, and the
//! verdicts of all scenarios are printed before any of them fails the test.

use crate::compare::{Expect, Verdict, compare};
use crate::program::{Build, Run};

/// Blocks that are long even there.
const BLOCK: [&str; 2] = ["--block-ms", "50"];

const CAUSES: [&str; 10] = [
    "cpu",
    "lock",
    "channel",
    "sleep",
    "file_io",
    "fsync",
    "network",
    "pipe",
    "child_process",
    "page_fault",
];

/// Those controls that do not compute, with a threshold above the machine's own pauses.
const CONTROLS: [&str; 4] = ["idle", "timers", "spawn_blocking", "block_in_place"];
const THRESHOLD: [&str; 2] = ["--threshold", "40"];

fn verdict(run: Run<'_>, expect: &Expect) -> Verdict {
    let (build, scenario) = (run.build, run.scenario);
    let run = run.patient().watch();
    let verdict = compare(&run, expect);
    eprintln!("{build:?} {scenario}: {:?} {verdict}", run.tier());
    verdict
}

#[test]
#[ignore = "for emulated machines: scripts/vm"]
fn blocks_are_found_and_explained_on_a_slow_machine() {
    let blocking = Expect::blocking();
    let mut verdicts = Vec::new();
    for scenario in CAUSES {
        let run = Run::new(&Build::Release, scenario).arguments(&BLOCK);
        verdicts.push((scenario, verdict(run, &blocking)));
    }
    for scenario in ["cpu", "lock"] {
        let run = Run::new(&Build::Dev, scenario).arguments(&BLOCK);
        verdicts.push((scenario, verdict(run, &blocking)));
    }
    for scenario in ["root", "sleep"] {
        let flavor = ["--flavor", "current_thread"];
        let run = Run::new(&Build::Release, scenario).arguments(&BLOCK);
        verdicts.push((scenario, verdict(run.arguments(&flavor), &blocking)));
    }
    for scenario in CONTROLS {
        let run = Run::new(&Build::Release, scenario).arguments(&BLOCK);
        verdicts.push((scenario, verdict(run.hud(&THRESHOLD), &Expect::nothing())));
    }
    for (scenario, verdict) in verdicts {
        verdict.assert_roughly(scenario);
    }
}
