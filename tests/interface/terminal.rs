//! The interactive view in a real terminal: real keys, the screen read back, and the terminal, the
//! trace and the exit code that each way out leaves behind.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hud::export::{Completeness, read_trace};
use hud::model::{EndReason, Record};
use hud::tui::terminal::Screen;

use crate::tmux::Tmux;
use testing::fixtures::Build;
use testing::target::{Target, hud_path};

const USUAL: (u16, u16) = (110, 32);

/// A process whose workers sleep in their polls.
fn sleeper() -> Target {
    Target::scenario(&Build::Release, "sleep")
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
    let target = Target::scenario(&Build::Release, "thousand_cuts");
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
        "▼OWN",
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
    tmux.wait_for("▼OWN");
    // Sorting, by key and by mouse.
    tmux.key("s");
    let screen = tmux.wait_for("▼TOTAL");
    let (row, line) = screen
        .lines()
        .enumerate()
        .find(|(_, l)| l.contains("▼TOTAL"))
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
    // Not every tmux takes OSC 52: the text is written as well.
    tmux.wait_for("hud-1.txt");
    let copied = fs::read_to_string(tmux.folder().join("hud-1.txt")).unwrap();
    assert!(copied.contains("block_on_sleep"), "{copied}");
    assert_eq!(tmux.clipboard(), copied);
    // What was said is taken back by itself.
    tmux.wait_until("no message", |screen| !screen.contains("hud-1.txt"));
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

/// The line of the screen that begins with a text.
fn line<'a>(screen: &'a str, beginning: &str) -> &'a str {
    let mut lines = screen.lines();
    let found = lines.find(|line| line.trim_start().starts_with(beginning));
    found.unwrap_or_else(|| panic!("no {beginning:?} in\n{screen}"))
}

/// Column and row of a text on the screen, counted from 0.
fn place(screen: &str, text: &str) -> (usize, usize) {
    let found = screen.lines().enumerate().find_map(|(row, line)| {
        let at = line.find(text)?;
        Some((line[..at].chars().count(), row))
    });
    found.unwrap_or_else(|| panic!("no {text:?} in\n{screen}"))
}

#[test]
fn a_replay_is_walked_by_keys_and_by_mouse() {
    let tmux = Tmux::new(USUAL);
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/trace-v1.json");
    tmux.start_hud(&format!("--replay {trace}"));
    // The wheel moves the cursor of the table, a click chooses a row, a second one opens it.
    let screen = tmux.wait_for("shop::hash p50");
    let audit = place(&screen, "shop::audit → ");
    tmux.wheel_down(audit);
    tmux.wait_for("shop::hello p50");
    tmux.wheel_up(audit);
    tmux.wait_for("shop::hash p50");
    let retry = place(&screen, "shop::retry → ");
    tmux.click(retry.0, retry.1);
    tmux.wait_for("shop::retry p50");
    tmux.click(retry.0, retry.1);
    let screen = tmux.wait_for("Where the time went");
    assert!(
        screen.contains("shop::retry → std::thread::sleep"),
        "{screen}"
    );
    // A tab by mouse; then to the longest poll, and from poll to poll.
    let tab = place(&screen, "Timeline");
    tmux.click(tab.0, tab.1);
    let whole = tmux.wait_for("Timeline 00:00.000 to 00:10.000");
    let poll = |screen: &str| line(screen, "Slow poll").to_owned();
    tmux.key("L");
    let longest = poll(&tmux.wait_for("Slow poll 79.0 ms"));
    tmux.key("N");
    let before = poll(&tmux.wait_until("another poll", |s| poll(s) != longest));
    assert_ne!(before, longest);
    tmux.key("n");
    tmux.wait_until("the longest poll", |s| poll(s) == longest);
    // Closer and away again, by keys and by the wheel.
    let range = |screen: &str| line(screen, "Timeline").to_owned();
    tmux.key("z");
    tmux.key("z");
    let close = tmux.wait_until("a part", |s| range(s) != range(&whole));
    tmux.key("Z");
    tmux.wait_until("a larger part", |s| range(s) != range(&close));
    tmux.key("0");
    let screen = tmux.wait_for("Timeline 00:00.000 to 00:10.000");
    let lane = place(&screen, "worker 1");
    tmux.wheel_up((lane.0 + 60, lane.1));
    tmux.wheel_up((lane.0 + 60, lane.1));
    tmux.wheel_up((lane.0 + 60, lane.1));
    let middle = tmux.wait_until("a part", |s| range(s) != range(&whole));
    assert!(!range(&middle).contains(" 00:00.000 to"), "{middle}");
    // The scrubber goes to where it is clicked.
    let session = place(&middle, "session");
    tmux.click(session.0 + 16, session.1);
    tmux.wait_for("Timeline 00:00.0");
    tmux.key("q");
    tmux.wait_for_end(0);
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
    let live = tmux.wait_for("▼TOTAL");
    tmux.key("q");
    tmux.wait_for_end(0);
    assert_whole(&tmux.folder().join("trace.json"), EndReason::TargetExited);

    tmux.start_hud("--replay trace.json");
    tmux.wait_for("REPLAY");
    tmux.key("s");
    let replayed = tmux.wait_for("▼TOTAL");
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
    let by_signal = || signal(tmux.hud_pid(), libc::SIGTSTP);
    let ways: [&dyn Fn(); 2] = [&|| tmux.key("C-z"), &by_signal];
    for stop in ways {
        stop();
        // 128 + SIGTSTP: the shell has the terminal.
        tmux.wait_for_end(148);
        tmux.start("fg");
        tmux.wait_for("LIVE");
        tmux.key("Enter");
        tmux.wait_for("Where the time went");
        tmux.key("Escape");
        tmux.wait_for("▼OWN");
    }
    // What nobody can prepare for leaves the shell's own modes behind.
    signal(tmux.hud_pid(), libc::SIGSTOP);
    tmux.wait_for("READY>");
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
    let screen = in_terminal(&tmux, "panics_while_it_has_the_screen", 101);
    assert!(screen.contains("on another thread"), "{screen}");
}

#[test]
fn a_light_terminal_is_known_by_its_own_word_and_typing_goes_on_meanwhile() {
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/trace-v1.json");
    let replay = format!(
        "TERM=screen-256color {} --replay {trace}",
        hud_path().display()
    );
    // Colours of the footer's keys: on light, on dark.
    let (light, dark) = ("38;5;25m", "38;5;117m");
    for (background, expected, other) in [("white", light, dark), ("black", dark, light)] {
        let tmux = Tmux::new(USUAL);
        tmux.set_background(background);
        tmux.start(&replay);
        // Typed before there is a screen, around the answer.
        tmux.type_in("ss");
        tmux.wait_for("▼POLLS");
        tmux.wait_until_styled(expected, |screen| {
            screen.contains(expected) && !screen.contains(other)
        });
        tmux.key("q");
        tmux.wait_for_end(0);
        // Gone before the answer is there.
        tmux.start(&replay);
        tmux.key("q");
        let screen = tmux.wait_for_end(0);
        assert!(!screen.contains("rgb"), "{screen}");
    }
}

/// Runs one of the tests below in a terminal, which ends with this exit code.
fn in_terminal(tmux: &Tmux, test: &str, code: i32) -> String {
    let own = std::env::current_exe().unwrap();
    let own = own.display();
    tmux.start(&format!(
        "{own} --exact terminal::{test} --ignored --nocapture"
    ));
    tmux.wait_for_end(code)
}

#[test]
fn a_panic_while_recording_leaves_a_whole_trace() {
    let target = sleeper();
    for (test, thread, code) in [
        ("panics_in_the_view", "main", 101),
        ("panics_in_the_analysis", "hud-analysis", 1),
    ] {
        let tmux = Tmux::new(USUAL);
        let arguments = format!("--pid {} --export trace.json", target.pid);
        fs::write(tmux.folder().join("arguments"), arguments).unwrap();
        let screen = in_terminal(&tmux, test, code);
        assert!(
            screen.contains(thread) && screen.contains("provoked"),
            "{screen}"
        );
        assert_whole(&tmux.folder().join("trace.json"), EndReason::Failed);
    }
}

/// Panics on one thread where it logs something for the so-many-th time.
struct Panics {
    thread: &'static str,
    message: &'static str,
    times_left: AtomicU32,
}

impl log::Log for Panics {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let here = thread::current().name() == Some(self.thread);
        if here && record.args().to_string().starts_with(self.message) {
            let left = self.times_left.fetch_sub(1, Ordering::Relaxed);
            assert!(left != 1, "provoked");
        }
    }

    fn flush(&self) {}
}

/// hud itself with the arguments from a file, and with such a panic.
fn panic_in_hud(panics: Panics) -> ! {
    log::set_boxed_logger(Box::new(panics)).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let arguments = fs::read_to_string("arguments").unwrap();
    let config = hud::cli::parse_from(["hud"].into_iter().chain(arguments.split(' ')))
        .unwrap_or_else(|error| error.exit());
    // As in hud's own main, with the exit code of a main thread that panics.
    let main = thread::Builder::new().name("main".into());
    let main = main.spawn(move || hud::run::run(&config).is_ok()).unwrap();
    std::process::exit(match main.join() {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(_) => 101,
    });
}

#[test]
#[ignore = "needs a terminal: a_panic_while_recording_leaves_a_whole_trace runs it"]
fn panics_in_the_view() {
    panic_in_hud(Panics {
        thread: "main",
        message: "drawn",
        times_left: AtomicU32::new(30),
    });
}

#[test]
#[ignore = "needs a terminal: a_panic_while_recording_leaves_a_whole_trace runs it"]
fn panics_in_the_analysis() {
    panic_in_hud(Panics {
        thread: "hud-analysis",
        message: "slow poll",
        times_left: AtomicU32::new(20),
    });
}

/// What the test above runs in a terminal.
#[test]
#[ignore = "needs a terminal: a_panic_on_any_thread_gives_the_terminal_back runs it"]
fn panics_while_it_has_the_screen() {
    let mut screen = Screen::enter().unwrap();
    let thread = thread::spawn(|| panic!("on another thread"));
    assert!(thread.join().is_err());
    // Nobody paints over what the panic printed.
    assert!(screen.event().is_err() && screen.wait(Duration::ZERO).is_err());
    std::process::exit(101);
}
