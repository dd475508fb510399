//! Every cause on another kernel or processor, in an emulated machine (`scripts/vm`).
//!
//! There hud needs seconds to start, system calls compute for milliseconds, and the machine pauses at
//! times. So durations are not compared, some causes may truly be others, and the verdicts of all scenarios
//! are printed before any of them fails the test.

use testing::compare::{Expect, Verdict, compare};
use testing::fixtures::Build;
use testing::run::Run;

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
    let run = run.watch();
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
