//! Tokio before 1.29, whose state lies elsewhere; runtimes in unusual places; Tokio in a shared library.

use std::process::{Command, Stdio};

use hud::model::Tier;

use crate::check;
use crate::compare::{Expect, compare};
use crate::fixtures::{self, Fixture};
use crate::program::{Build, Run, hud, target_dir};

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
    check_briefly(&stripped, "sleep", &[], Tier::Learnt, &expect);
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

/// A runtime of its own for each worker, and requests polled inside their connection's task.
#[test]
fn actix_web() {
    let build = fixtures::build(&Fixture {
        name: "actix",
        tokio: "1",
        dependencies: "actix-web = { version = \"4\", default-features = false }\n",
        rustflags: "--cfg actix",
        ..Fixture::default()
    });
    let run = Run::new(&build, "actix")
        .arguments(&["--block-ms", "50", "--workers", "4"])
        .watch();
    compare(&run, &Expect::blocking()).assert();
    let runtimes: std::collections::BTreeSet<u32> =
        run.polls().iter().map(|poll| poll.runtime).collect();
    assert_eq!(runtimes.len(), 4, "{runtimes:?}");
}

#[test]
fn tokio_in_a_shared_library_is_named() {
    let library = target_dir().join("release/examples/libplugin.so");
    assert!(library.exists(), "{} is not built", library.display());
    let mut host = Command::new("sleep")
        .arg("60")
        .env("LD_PRELOAD", &library)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // hud looks at the process as it is: the library must have been loaded.
    let maps = format!("/proc/{}/maps", host.id());
    let loaded = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::read_to_string(&maps).is_ok_and(|maps| maps.contains("libplugin.so"))
    });
    let output = hud(&[
        "--headless",
        "--duration",
        "1",
        "--pid",
        &host.id().to_string(),
    ])
    .output()
    .unwrap();
    let _ = host.kill();
    let _ = host.wait();
    assert!(loaded, "the library was not loaded");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{errors}");
    for part in [
        "Tokio 1.",
        "libplugin.so",
        "shared library",
        "linked into the executable",
    ] {
        assert!(errors.contains(part), "no {part:?} in {errors}");
    }
}
