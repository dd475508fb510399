//! The scenarios themselves: what they write as the truth must be well-formed, in hud's words,
//! and there must be some of it. hud takes no part in these tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use hud::model::Cause;
use serde_json::Value;

/// Scenarios with nothing to report.
const CONTROLS: [&str; 10] = [
    "block_in_place",
    "healthy_busy",
    "idle",
    "multi_thread_root",
    "nested_block_on",
    "spawn_blocking",
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
        .args(["--scenario", name, "--flavor", flavor, "--duration", "0.8"])
        .arg("--truth")
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
        let start = poll["start_ns"].as_u64().unwrap();
        if poll["end_ns"].is_null() {
            let function = poll["function"].as_str().unwrap();
            assert!(HANGS.contains(&function), "{name}: {poll}");
        } else {
            let wall = poll["end_ns"].as_u64().unwrap() - start;
            assert!(wall >= 1_000_000, "{name}: {poll}");
            // The CPU clock is read just outside the wall clock.
            let on_cpu = poll["thread_on_cpu_ns"].as_u64().unwrap();
            assert!(on_cpu < wall + 1_000_000, "{name}: {poll}");
        }
        match poll["cause"].as_str() {
            None => assert_eq!(poll["holds_worker"], false, "{name}: {poll}"),
            Some(cause) => assert!(Cause::from_name(cause).is_some(), "{name}: {poll}"),
        }
    }
    let holds = polls.iter().any(|poll| poll["holds_worker"] == true);
    let root_beside_workers = name == "root" && flavor == "multi_thread";
    let expected = !CONTROLS.contains(&name) && !root_beside_workers;
    assert_eq!(holds, expected, "{name} on {flavor}");
}

#[test]
fn every_control_is_a_scenario() {
    let names = names();
    for control in CONTROLS {
        assert!(names.iter().any(|name| name == control), "{control}");
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
        "multi_thread_root",
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
fn misuse_is_an_error() {
    for args in [
        &["--scenario", "nonsense"][..],
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
