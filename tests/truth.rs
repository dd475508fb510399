//! The scenarios themselves: the truth that they write must be well-formed, in hud's words, and not empty.
//! hud takes no part in these tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use hud::model::Cause;
use serde_json::Value;

/// Scenarios in which nothing is held up.
const HEALTHY: [&str; 14] = [
    "block_in_place",
    "foreign_busy",
    "healthy_busy",
    "idle",
    "many_parked",
    "nested_block_on",
    "root_many_short",
    "root_waits",
    "spawn_blocking",
    "starved",
    "stolen",
    "thousand_cuts",
    "timers",
    "yields",
];

/// Functions that never return.
const HANGS: [&str; 4] = [
    "block_on",
    "deadlock_on_itself",
    "wait_for_a_timer",
    "wait_for_the_lock",
];

/// Examples are built beside the programs, by the same `cargo test`.
fn program() -> PathBuf {
    let hud = Path::new(env!("CARGO_BIN_EXE_hud"));
    hud.with_file_name("examples").join("scenarios")
}

fn names() -> Vec<String> {
    let output = Command::new(program()).arg("--list").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

/// Runs a scenario briefly and reads its truth.
fn run(name: &str, flavor: &str) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let truth = dir.path().join("truth.jsonl");
    let output = Command::new(program())
        .args(["--scenario", name, "--flavor", flavor])
        .args(["--duration", "1", "--after", "0.2", "--truth"])
        .arg(&truth)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    assert_eq!(errors, "", "{name}");
    assert!(output.stdout.starts_with(b"ready "), "{name}");
    let text = std::fs::read_to_string(truth).unwrap();
    let lines = text.lines().map(serde_json::from_str::<Value>);
    lines.collect::<Result<_, _>>().unwrap()
}

fn check(name: &str, flavor: &str) {
    let polls = run(name, flavor);
    for poll in &polls {
        assert_eq!(poll["scenario"], name);
        assert!(poll["tid"].as_u64().unwrap() > 0);
        let number = |field: &str| poll[field].as_u64().unwrap();
        if poll["end_ns"].is_null() {
            let function = poll["function"].as_str().unwrap();
            assert!(HANGS.contains(&function), "{name}: {poll}");
        } else {
            let wall = number("end_ns") - number("start_ns");
            assert!(wall >= 1_000_000, "{name}: {poll}");
            // The other clocks are read just inside the wall clock, but tick apart from it.
            let runnable = number("on_cpu_ns") + number("run_queue_ns");
            assert!(runnable < wall + 1_000_000, "{name}: {poll}");
            if number("sleeps") == 0 && poll["cause"] == "sleep" {
                panic!("{name}: {poll}");
            }
        }
        match poll["cause"].as_str() {
            None => assert!(poll["holds"].is_null(), "{name}: {poll}"),
            Some(cause) => assert!(Cause::from_name(cause).is_some(), "{name}: {poll}"),
        }
    }
    // Of a `multi_thread` runtime the root future is on no worker.
    let root = ["root", "root_busy"].contains(&name) && flavor == "multi_thread";
    let expected = match (HEALTHY.contains(&name), root) {
        (true, _) => None,
        (false, true) => Some("root"),
        (false, false) => Some("worker"),
    };
    let mut held = polls.iter().filter_map(|poll| poll["holds"].as_str());
    let first = held.next();
    assert_eq!(first, expected, "{name} on {flavor}");
    assert!(held.all(|holds| Some(holds) == first), "{name} on {flavor}");
}

/// Where others take the CPUs, the truth must say so.
#[test]
fn a_starved_program_knows_that_it_is() {
    let polls = run("starved", "multi_thread");
    let sum = |field: &str| -> u64 { polls.iter().map(|poll| poll[field].as_u64().unwrap()).sum() };
    assert!(sum("run_queue_ns") > 2 * sum("on_cpu_ns"), "{polls:?}");
}

#[test]
fn every_healthy_name_is_a_scenario() {
    let names = names();
    for name in HEALTHY {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}

#[test]
fn every_scenario_tells_the_truth_on_multi_thread() {
    for name in names() {
        check(&name, "multi_thread");
    }
}

#[test]
fn every_scenario_tells_the_truth_on_current_thread() {
    let multi_thread_only = [
        "block_in_place",
        "root_busy",
        "nested_block_on",
        "nested_runtime",
    ];
    for name in names() {
        if !multi_thread_only.contains(&name.as_str()) {
            check(&name, "current_thread");
        }
    }
}

#[test]
fn several_scenarios_run_side_by_side() {
    let polls = run("lock,sleep", "multi_thread");
    for function in ["block_on_lock", "block_on_sleep"] {
        assert!(polls.iter().any(|poll| poll["function"] == function));
    }
}

#[test]
fn misuse_is_an_error() {
    for args in [
        &["--scenario", "nonsense"][..],
        &["--scenario", "sleep,nonsense"],
        &["--scenario", "block_in_place", "--flavor", "current_thread"],
        &["--workers", "0"],
        &["--nonsense", "1"],
        &[],
    ] {
        let output = Command::new(program()).args(args).output().unwrap();
        assert!(!output.status.success(), "{args:?}");
        assert!(output.stderr.starts_with(b"scenarios: "), "{args:?}");
    }
}
