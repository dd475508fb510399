//! How hud starts and ends: a clear message for every wrong target, a complete trace after every end.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hud::export::{Completeness, read_trace};
use hud::model::{EndReason, Record};

use testing::fixtures::Build;
use testing::run::Run;
use testing::target::{Target, hud};

fn target(scenario: &str) -> Target {
    Target::scenario(&Build::Release, scenario)
}

/// hud must fail with this exit code and this word, and must not panic.
pub fn fails(output: &Output, code: i32, word: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert!(errors.contains(word), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
}

fn end_of(trace: &Path) -> (Completeness, Option<EndReason>, usize) {
    let mut end = None;
    let mut polls = 0;
    let completeness = read_trace(trace, |record| match record {
        Record::End { reason, .. } => end = Some(reason),
        Record::SlowPoll(_) => polls += 1,
        _ => {}
    })
    .unwrap();
    (completeness, end, polls)
}

#[test]
fn wrong_targets_get_a_clear_message() {
    fails(
        &hud(&["--pid", "4194303"]).output().unwrap(),
        1,
        "no process",
    );
    fails(&hud(&["--pid", "2"]).output().unwrap(), 1, "kernel thread");
    fails(
        &hud(&["no-such-program-anywhere"]).output().unwrap(),
        1,
        "no-such-program",
    );
    let mut sleeper = Command::new("sleep").arg("20").spawn().unwrap();
    let pid = sleeper.id().to_string();
    let output = hud(&["--pid", &pid, "--headless", "--duration", "1"])
        .output()
        .unwrap();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    fails(&output, 1, "Tokio");
}

#[test]
fn a_name_of_several_processes_lists_them() {
    let (one, two) = (target("idle"), target("idle"));
    let output = hud(&["scenarios", "--headless"]).output().unwrap();
    fails(&output, 2, &one.pid.to_string());
    fails(&output, 2, &two.pid.to_string());
}

#[test]
fn every_end_leaves_a_complete_trace() {
    let folder = tempfile::tempdir().unwrap();
    for (signal, reason) in [
        (Some(libc::SIGINT), EndReason::Interrupted),
        (Some(libc::SIGTERM), EndReason::Interrupted),
        (None, EndReason::TargetExited),
    ] {
        let mut sleeps = target("sleep");
        let trace = folder.path().join("trace.json");
        let mut child = sleeps
            .hud(&["--force", "--export", trace.to_str().unwrap()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        thread::sleep(Duration::from_millis(500));
        match signal {
            // SAFETY: our own child, which is alive or a zombie.
            Some(signal) => assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0),
            None => sleeps.kill(),
        }
        let asked = Instant::now();
        lines.read_to_string(&mut line).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(asked.elapsed() < Duration::from_secs(3));
        let (completeness, end, polls) = end_of(&trace);
        assert_eq!((completeness, end), (Completeness::Whole, Some(reason)));
        assert!(polls > 0);
        assert!(line.contains("block_on_sleep"), "{line}");
    }
}

#[test]
fn the_trace_of_a_killed_hud_replays() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let sleeps = target("sleep");
    let mut child = sleeps
        .hud(&["--export", trace.to_str().unwrap()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_secs(4));
    child.kill().unwrap();
    child.wait().unwrap();
    let (_, end, polls) = end_of(&trace);
    assert_eq!(end, None);
    assert!(polls > 10, "{polls}");
}

#[test]
fn a_replay_prints_the_report_of_its_recording() {
    let run = Run::new(&Build::Release, "sleep").seconds(2).watch();
    let replay = hud(&["--replay", run.trace.to_str().unwrap(), "--headless"])
        .output()
        .unwrap();
    assert!(replay.status.success());
    assert_eq!(String::from_utf8(replay.stdout).unwrap(), run.report);
    // Cut anywhere, it still replays; garbage does not, and says so.
    let bytes = fs::read(&run.trace).unwrap();
    let cut = run.trace.with_extension("cut");
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let replay = hud(&["--replay", cut.to_str().unwrap(), "--headless"])
        .output()
        .unwrap();
    assert!(replay.status.success());
    assert!(String::from_utf8_lossy(&replay.stderr).contains("cut short"));
    fs::write(&cut, b"{]").unwrap();
    let replay = hud(&["--replay", cut.to_str().unwrap(), "--headless"])
        .output()
        .unwrap();
    fails(&replay, 1, "cannot replay");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let sleeps = target("sleep");
    let mut child = sleeps
        .hud(&["--quiet"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    lines.read_line(&mut String::new()).unwrap();
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn polls_that_never_end_are_reported_while_they_hang() {
    let hangs = target("deadlock");
    thread::sleep(Duration::from_secs(2));
    let output = hangs.hud(&["--duration", "3"]).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let first = report.lines().next().unwrap_or("");
    assert!(first.contains("stuck for"), "{report}");
    assert!(first.contains("deadlock_on_itself"), "{report}");
    assert!(first.contains(" lock "), "{report}");
}
