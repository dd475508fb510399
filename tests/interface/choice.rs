//! How hud finds its process: chosen from the list, by the path of its executable; and a trace that
//! goes to standard output.

use std::fs;
use std::process::Stdio;

use hud::export::{Completeness, read_trace};
use hud::model::Record;
use testing::fixtures::Build;
use testing::target::{Target, hud};

use crate::tmux::Tmux;

#[test]
fn hud_alone_lets_a_tokio_process_be_chosen() {
    let target = Target::scenario(&Build::Release, "sleep");
    let tmux = Tmux::new((110, 32));
    tmux.start_hud("");
    let screen = tmux.wait_for("Watch which one?");
    let pid = target.pid.to_string();
    let line = screen
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some(&pid));
    let line = line.unwrap_or_else(|| panic!("no PID {pid} in {screen}"));
    let number = line.split_whitespace().next().unwrap();
    tmux.type_in(number);
    tmux.key("Enter");
    tmux.wait_for("BLOCKING");
    assert!(tmux.screen().contains(&pid), "another process is watched");
    tmux.key("q");
    tmux.wait_for_end(0);
    // No is an answer, too.
    tmux.start_hud("");
    tmux.wait_for("Watch which one?");
    tmux.type_in("q");
    tmux.key("Enter");
    tmux.wait_for_end(0);
}

#[test]
fn the_path_of_the_executable_finds_the_process_and_the_trace_goes_to_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    // A program of its own: others may run the same scenarios meanwhile.
    let program = folder.path().join("by-path");
    fs::copy(Build::Release.program(), &program).unwrap();
    let target = Target::start(&program, &["--scenario", "sleep", "--duration", "60"]);
    let output = hud(&[
        program.to_str().unwrap(),
        "--duration",
        "2s",
        "--export",
        "-",
    ])
    .stdout(Stdio::piped())
    .output()
    .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let trace = folder.path().join("trace.json");
    fs::write(&trace, output.stdout).unwrap();
    let (mut pid, mut polls) = (0, 0);
    let completeness = read_trace(&trace, |record| match record {
        Record::Header(header) => pid = header.pid,
        Record::SlowPoll(_) => polls += 1,
        _ => {}
    });
    assert_eq!(completeness.unwrap(), Completeness::Whole);
    assert_eq!(pid, target.pid);
    assert!(polls > 0, "{said}");
}
