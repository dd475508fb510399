//! Symbols from elsewhere: stripped programs with their debug info in other files.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hud::model::{Cause, SlowPoll};
use tempfile::TempDir;

use testing::fixtures::Build;
use testing::run::{Run, Watched, assert_named_and_placed};
use testing::target::{Target, hud};

/// Runs a tool of the binutils.
fn tool(name: &str, arguments: &[&OsStr]) {
    let status = Command::new(name).args(arguments).status();
    assert!(status.is_ok_and(|status| status.success()), "{name}");
}

/// The scenarios with debug info, stripped of everything, and what was stripped.
struct Stripped {
    _folder: TempDir,
    build: Build,
    program: PathBuf,
    debug: PathBuf,
}

impl Stripped {
    fn new() -> Stripped {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("scenarios");
        let debug = folder.path().join("debug").join("scenarios.debug");
        fs::create_dir(debug.parent().unwrap()).unwrap();
        fs::copy(Build::Dev.program(), &program).unwrap();
        let keep = "--only-keep-debug".as_ref();
        tool("objcopy", &[keep, program.as_ref(), debug.as_ref()]);
        tool("strip", &[program.as_ref()]);
        Stripped {
            build: Build::Other(program.clone()),
            program,
            debug,
            _folder: folder,
        }
    }
}

/// The polls that slept; on a busy machine others may have waited for a CPU.
fn slept(run: &Watched) -> Vec<Arc<SlowPoll>> {
    let mut polls = run.polls();
    polls.retain(|poll| poll.cause == Cause::Sleep);
    assert!(polls.len() >= 10, "{} polls", polls.len());
    polls
}

#[test]
fn a_stripped_program_with_its_debug_file() {
    let stripped = Stripped::new();
    let directory = stripped.debug.parent().unwrap().to_str().unwrap();
    let run = Run::new(&stripped.build, "sleep")
        .seconds(2)
        .hud(&["--debug-dir", directory])
        .watch();
    assert_named_and_placed(&run);
    // The same by the program's own debug link, which names a file beside it.
    let mut option = std::ffi::OsString::from("--add-gnu-debuglink=");
    option.push(&stripped.debug);
    tool("objcopy", &[&option, stripped.program.as_ref()]);
    let beside = stripped.program.with_file_name("scenarios.debug");
    fs::rename(&stripped.debug, &beside).unwrap();
    // Compressed, as distributions ship them.
    let compress = "--compress-debug-sections=zlib".as_ref();
    tool("objcopy", &[compress, beside.as_ref()]);
    let run = Run::new(&stripped.build, "sleep").seconds(2).watch();
    assert_named_and_placed(&run);
}

#[test]
fn a_server_is_asked_for_debug_info_only_if_the_user_says_so() {
    let stripped = Stripped::new();
    let place = format!("/buildid/{}/debuginfo", build_id(&stripped.program));
    let (url, asked) = serve(place, fs::read(&stripped.debug).unwrap());
    fs::remove_file(&stripped.debug).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let target = Target::scenario(&stripped.build, "sleep");
    let report = |more: &[&str]| {
        let output = target
            .hud(&["--duration", "1"])
            .args(more)
            .env("DEBUGINFOD_URLS", &url)
            .env("DEBUGINFOD_CACHE_PATH", cache.path())
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let without = report(&[]);
    assert!(without.contains("scenarios+0x"), "{without}");
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    let with = report(&["--debuginfod"]);
    assert!(
        with.contains("scenarios::blocking::block_on_sleep"),
        "{with}"
    );
    assert!(with.contains("blocking.rs:"), "{with}");
    assert!(with.contains("tier 1"), "{with}");
    assert!(asked.load(Ordering::Relaxed) > 0);
}

/// A debuginfod server on the loopback interface with one file; how often it was asked.
fn serve(place: String, body: Vec<u8>) -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            count.fetch_add(1, Ordering::Relaxed);
            let (status, body) = match request.starts_with(&format!("GET {place} ")) {
                true => ("200 OK", &body[..]),
                false => ("404 Not Found", &b""[..]),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        }
    });
    (url, asked)
}

#[test]
fn a_twin_of_another_build_is_refused_with_both_ids() {
    let stripped = Stripped::new();
    let other = Build::Release.program();
    let target = Target::scenario(&stripped.build, "idle");
    let output = target
        .hud(&["--duration", "1"])
        .args([OsStr::new("--symbols"), other.as_ref()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    for program in [&stripped.program, &other] {
        assert!(errors.contains(&build_id(program)), "{errors}");
    }
}

#[test]
fn a_recording_without_names_is_named_when_it_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("scenarios");
    fs::copy(Build::Release.program(), &program).unwrap();
    tool("strip", &[program.as_ref()]);
    let build = Build::Other(program);
    // Samples lie all over a function that computes; it is one culprit (or what it calls is).
    let computes = Run::new(&build, "cpu").seconds(2).watch().polls();
    let functions: BTreeSet<&str> = computes
        .iter()
        .filter(|poll| poll.cause == Cause::Cpu)
        .map(|poll| poll.culprit.function.as_str())
        .collect();
    assert!(computes.len() >= 5, "{} polls", computes.len());
    assert!(functions.len() <= 3, "{functions:?}");
    let run = Run::new(&build, "sleep").seconds(2).watch();
    let polls = slept(&run);
    for poll in &polls {
        let culprit = &poll.culprit.function;
        assert!(culprit.starts_with("scenarios+0x"), "{culprit}");
    }
    let replay = |option: &str, path: &Path| {
        hud(&["--headless", "--replay", run.trace.to_str().unwrap()])
            .args([OsStr::new(option), path.as_ref()])
            .output()
            .unwrap()
    };
    // Every poll gets the culprit that a live session with symbols names.
    let output = replay("--symbols", &Build::Release.program());
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    let culprit = "scenarios::blocking::block_on_sleep -> std::thread::sleep";
    let findings: Vec<&str> = report
        .lines()
        .filter(|line| line.contains(" ms  sleep  "))
        .collect();
    assert!(findings.len() >= polls.len(), "{report}");
    assert!(
        findings.iter().all(|line| line.ends_with(culprit)),
        "{report}"
    );
    assert!(report.contains(&format!("1. {culprit}: ")), "{report}");
    assert!(!report.contains("scenarios+0x"), "{report}");
    // The same from a directory that has a file of that build.
    let output = replay("--debug-dir", Build::Release.program().parent().unwrap());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), report);
    // Another build names nothing.
    let other = Build::Dev.program();
    let output = replay("--symbols", &other);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    for program in [&Build::Release.program(), &other] {
        assert!(errors.contains(&build_id(program)), "{errors}");
    }
}

/// The build-id as another program reads it.
fn build_id(program: &Path) -> String {
    let output = Command::new("readelf")
        .arg("-n")
        .arg(program)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, id) = text.split_once("Build ID: ").unwrap();
    id.split_whitespace().next().unwrap().to_owned()
}
