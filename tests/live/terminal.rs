//! The interactive view in a real terminal: real keys, the screen read back, and the terminal, the
//! trace and the exit code that each way out leaves behind.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use hud::export::{Completeness, read_trace};
use hud::model::{EndReason, Record};
use hud::tui::terminal::Screen;

use crate::program::{Build, Target};
use crate::tmux::Tmux;

const USUAL: (u16, u16) = (110, 32);

/// A process whose workers sleep in their polls.
fn sleeper() -> Target {
    let arguments = ["--scenario", "sleep", "--duration", "60"];
    Target::start(&Build::Release.program(), &arguments)
}

/// hud in a terminal, watching the process, with a finding on the screen.
fn watching(target: &Target, arguments: &str) -> Tmux {
    let tmux = Tmux::new(USUAL);
    tmux.start_hud(&format!("--pid {} {arguments}", target.pid));
    tmux.wait_for("BLOCKING");
    tmux
}

/// The trace must be whole, end for this reason, and tell of slow polls.
fn assert_whole(trace: &Path, expected: EndReason) {
    let (mut end, mut polls) = (None, 0);
    let completeness = read_trace(trace, |record| match record {
        Record::End { reason, .. } => end = Some(reason),
        Record::SlowPoll(_) => polls += 1,
        _ => {}
    })
    .unwrap();
    assert_eq!((completeness, end), (Completeness::Whole, Some(expected)));
    assert!(polls > 0, "no slow poll in the trace");
}

/// Whether the process is there and no zombie: its shell is gone, too, and may not have waited.
fn runs(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: no preconditions; hud's own number, which the caller just looked up.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

#[test]
fn all_poll_time_is_switched_on_and_off_by_a_key() {
    let arguments = ["--scenario", "thousand_cuts", "--duration", "60"];
    let target = Target::start(&Build::Release.program(), &arguments);
    let tmux = Tmux::new(USUAL);
    tmux.start_hud(&format!("--pid {} --threshold 20", target.pid));
    tmux.wait_for("2 workers");
    tmux.key("5");
    tmux.wait_for("press x to sample it");
    tmux.key("x");
    tmux.wait_for("of one CPU); on");
    let screen = tmux.wait_for("one_of_a_thousand_cuts");
    assert!(screen.contains("5 Poll time ●"), "{screen}");
    tmux.key("x");
    tmux.wait_for("of one CPU); no longer sampled");
    tmux.key("q");
    tmux.wait_for_end(0);
}

#[test]
fn from_start_to_the_restored_terminal() {
    let target = sleeper();
    let tmux = watching(&target, "");
    let screen = tmux.wait_for("worker 1");
    for part in [
        "LIVE",
        "scenarios",
        "2 workers",
        "worker 1",
        "▼TOTAL",
        "q quit",
        "sleep",
    ] {
        assert!(screen.contains(part), "no {part:?} in\n{screen}");
    }
    // The drill-down, and back.
    tmux.key("Enter");
    let screen = tmux.wait_for("Where the time went");
    assert!(
        screen.contains("block_on_sleep → std::thread::sleep"),
        "{screen}"
    );
    tmux.key("Escape");
    tmux.wait_for("▼TOTAL");
    // Sorting, by key and by mouse.
    tmux.key("s");
    let screen = tmux.wait_for("▼POLLS");
    let (row, line) = screen
        .lines()
        .enumerate()
        .find(|(_, l)| l.contains("▼POLLS"))
        .unwrap();
    let at = line.find("MAX").unwrap();
    tmux.click(line[..at].chars().count(), row);
    tmux.wait_for("▼MAX");
    // A pause freezes the picture, a second one lets it go on.
    tmux.key("Space");
    tmux.wait_for("PAUSED  +");
    tmux.key("Space");
    tmux.wait_for("LIVE");
    // Searching.
    tmux.type_in("/nothing-of-the-kind");
    tmux.wait_for("Nothing matches");
    tmux.key("Escape");
    tmux.wait_for("  100%");
    // The other views, help, and what is copied and saved.
    tmux.key("3");
    tmux.wait_for("all blocking code");
    tmux.key("4");
    tmux.key("L");
    tmux.wait_for("Slow poll");
    tmux.key("1");
    tmux.key("?");
    tmux.wait_for("Esc close");
    tmux.key("q");
    tmux.wait_for("q quit");
    tmux.key("y");
    // tmux passes OSC 52 on only if told to: the text is written as well.
    tmux.wait_for("hud-1.txt");
    let copied = fs::read_to_string(tmux.folder().join("hud-1.txt")).unwrap();
    assert!(copied.contains("block_on_sleep"), "{copied}");
    tmux.key("e");
    tmux.wait_for("save the trace as:");
    tmux.key("Enter");
    tmux.wait_for("saved scenarios.trace.json");
    assert_whole(
        &tmux.folder().join("scenarios.trace.json"),
        EndReason::Interrupted,
    );
    // The picture follows the terminal's size, down to one that is too small.
    tmux.resize((60, 16));
    tmux.wait_until("a footer of 60 columns", |s| {
        s.lines().count() == 16 && s.contains("q quit")
    });
    tmux.resize((10, 5));
    tmux.wait_for(">=60x16");
    tmux.resize(USUAL);
    tmux.wait_for("w workers");
    tmux.key("q");
    let screen = tmux.wait_for_end(0);
    assert!(!screen.contains("BLOCKING"), "{screen}");
}

#[test]
fn every_way_out_restores_the_terminal_and_completes_the_trace() {
    let target = sleeper();
    let tmux = Tmux::new(USUAL);
    let ways: [(&str, &dyn Fn()); 5] = [
        ("q", &|| tmux.key("q")),
        ("ctrl-c", &|| tmux.key("C-c")),
        ("int", &|| signal(tmux.hud_pid(), libc::SIGINT)),
        ("term", &|| signal(tmux.hud_pid(), libc::SIGTERM)),
        ("hup", &|| signal(tmux.hud_pid(), libc::SIGHUP)),
    ];
    for (name, leave) in ways {
        tmux.start_hud(&format!("--pid {} --export {name}.json", target.pid));
        tmux.wait_for("BLOCKING");
        leave();
        tmux.wait_for_end(0);
        assert_whole(
            &tmux.folder().join(format!("{name}.json")),
            EndReason::Interrupted,
        );
    }
    tmux.start_hud(&format!(
        "--pid {} --export over.json --duration 1",
        target.pid
    ));
    tmux.wait_for_end(0);
    assert_whole(&tmux.folder().join("over.json"), EndReason::Duration);
}

#[test]
fn a_terminal_that_is_closed_leaves_a_whole_trace() {
    let target = sleeper();
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let tmux = watching(&target, &format!("--export {}", trace.display()));
    let pid = tmux.hud_pid();
    tmux.close();
    let closed = Instant::now();
    while runs(pid) {
        assert!(closed.elapsed() < Duration::from_secs(10), "hud goes on");
        thread::sleep(Duration::from_millis(20));
    }
    assert_whole(&trace, EndReason::Interrupted);
}

#[test]
fn the_view_of_an_exited_target_stays_and_its_replay_is_the_same() {
    let mut target = sleeper();
    let tmux = watching(&target, "--export trace.json");
    target.kill();
    tmux.wait_for("EXITED");
    // Nothing moves any more.
    tmux.key("s");
    let live = tmux.wait_for("▼POLLS");
    tmux.key("q");
    tmux.wait_for_end(0);
    assert_whole(&tmux.folder().join("trace.json"), EndReason::TargetExited);

    tmux.start_hud("--replay trace.json");
    tmux.wait_for("REPLAY");
    tmux.key("s");
    let replayed = tmux.wait_for("▼POLLS");
    assert_eq!(culprits(&live), culprits(&replayed));
    tmux.key("q");
    tmux.wait_for_end(0);
}

/// The table: everything from its heading to the footer.
fn culprits(screen: &str) -> Vec<&str> {
    let heading = |line: &&str| !line.starts_with("Culprits ");
    let table: Vec<&str> = screen.lines().skip_while(heading).collect();
    assert!(
        table.len() > 3 && table[2].contains("block_on_sleep"),
        "{screen}"
    );
    let rows = table
        .into_iter()
        .take_while(|line| !line.contains("q quit"));
    rows.collect()
}

#[test]
fn suspended_and_back() {
    let target = sleeper();
    let tmux = watching(&target, "");
    tmux.key("C-z");
    // 128 + SIGTSTP: the shell has the terminal.
    tmux.wait_for_end(148);
    tmux.start("fg");
    tmux.wait_for("LIVE");
    tmux.key("Enter");
    tmux.wait_for("Where the time went");
    tmux.key("q");
    tmux.wait_for_end(0);
}

#[test]
fn a_start_that_fails_or_is_not_waited_for_gives_the_terminal_back() {
    let mut sleep = Command::new("sleep").arg("60").spawn().unwrap();
    let tmux = Tmux::new(USUAL);
    tmux.start_hud(&format!("--pid {}", sleep.id()));
    let screen = tmux.wait_for_end(1);
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    assert!(screen.contains("is not a Tokio program"), "{screen}");

    // A Tokio program that has not started a runtime.
    let program = Build::Release.program();
    let mut child = Command::new(program)
        .args(["--burn", "0", "--duration", "60"])
        .spawn()
        .unwrap();
    tmux.start_hud(&format!("--pid {}", child.id()));
    let screen = tmux.wait_for("waiting for one");
    assert!(
        screen.contains("STARTING") && screen.contains("q quit"),
        "{screen}"
    );
    tmux.key("?");
    tmux.wait_for("Esc close");
    tmux.key("q");
    tmux.key("q");
    tmux.wait_for_end(0);
    tmux.start_hud(&format!("--pid {}", child.id()));
    tmux.wait_for("waiting for one");
    child.kill().unwrap();
    child.wait().unwrap();
    let screen = tmux.wait_for_end(1);
    assert!(screen.contains("has exited"), "{screen}");
}

#[test]
fn a_panic_on_any_thread_gives_the_terminal_back() {
    let tmux = Tmux::new(USUAL);
    let own = std::env::current_exe().unwrap();
    let test = "--exact terminal::panics_while_it_has_the_screen --ignored --nocapture";
    tmux.start(&format!("{} {test}", own.display()));
    let screen = tmux.wait_for_end(101);
    assert!(screen.contains("on another thread"), "{screen}");
}

/// What the test above runs in a terminal.
#[test]
#[ignore = "needs a terminal: a_panic_on_any_thread_gives_the_terminal_back runs it"]
fn panics_while_it_has_the_screen() {
    let screen = Screen::enter().unwrap();
    let thread = thread::spawn(|| panic!("on another thread"));
    assert!(thread.join().is_err());
    // Nobody paints over what the panic printed.
    assert!(screen.event().is_err() && screen.wait(Duration::ZERO).is_err());
    std::process::exit(101);
}
