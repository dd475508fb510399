//! `hud --replay`, as a user runs it: whole, cut short, damaged, into a pipe that closes, and on a
//! console that has no size.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::FromRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn trace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/trace-v1.json")
}

fn hud() -> Command {
    Command::new(env!("CARGO_BIN_EXE_hud"))
}

/// Replays these bytes; standard output, standard error and the exit code.
fn replay(bytes: &[u8]) -> (String, String, Option<i32>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    fs::write(&path, bytes).unwrap();
    run(hud().arg("--headless").arg("--replay").arg(path))
}

fn run(hud: &mut Command) -> (String, String, Option<i32>) {
    let output = hud.output();
    let Output {
        status,
        stdout,
        stderr,
    } = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(stdout), text(stderr), status.code())
}

#[test]
fn a_whole_recording() {
    let (out, err, code) = replay(&fs::read(trace()).unwrap());
    assert_eq!((err.as_str(), code), ("", Some(0)));
    assert!(
        out.contains("45 slow polls held workers for 1.78 s in total"),
        "{out}"
    );
    assert!(!out.contains('\u{1b}'), "colours in a pipe");
}

#[test]
fn the_threshold_narrows_a_recording() {
    let with = |threshold: &str| {
        let mut hud = hud();
        hud.args(["--headless", "--threshold", threshold, "--replay"]);
        run(hud.arg(trace()))
    };
    let (out, err, code) = with("41");
    assert_eq!((err.as_str(), code), ("", Some(0)));
    assert!(out.contains("held a worker for 41 ms or longer"), "{out}");
    assert!(out.contains("20 slow polls held workers"), "{out}");
    // What was not recorded cannot be shown, and that is said.
    let (out, err, _) = with("1");
    assert!(out.contains("45 slow polls held workers"), "{out}");
    assert!(err.contains("recorded from 5 ms on"), "{err}");
}

#[test]
fn workers_and_directories_that_are_not_there_are_named() {
    let (out, _, _) = run(hud()
        .args(["--headless", "--workers", "nobody", "--replay"])
        .arg(trace()));
    assert!(out.contains("--workers left out"), "{out}");
    let (_, err, code) = run(hud()
        .args(["--headless", "--debug-dir", "/nonexistent", "--replay"])
        .arg(trace()));
    assert!(err.contains("--debug-dir /nonexistent: No such"), "{err}");
    assert_eq!(code, Some(2));
    let (_, err, code) = run(hud().args(["--replay", "/nonexistent"]));
    assert_eq!(err.matches("No such file").count(), 1, "{err}");
    assert_eq!(code, Some(1));
}

#[test]
fn a_recording_cut_short() {
    let bytes = fs::read(trace()).unwrap();
    let (out, err, code) = replay(&bytes[..bytes.len() / 2]);
    assert_eq!(code, Some(0));
    assert!(err.contains("the recording was cut short"), "{err}");
    assert!(out.contains("shop::hash"));
}

#[test]
fn what_cannot_be_replayed_is_named_in_one_line() {
    let text = fs::read_to_string(trace()).unwrap();
    let damaged = text.replacen("\"cause\":\"sleep\"", "\"cause\":\"magic\"", 1);
    let newer = text.replacen("\"format_version\":1", "\"format_version\":9", 1);
    for (bytes, reason) in [
        ("\u{7f}ELF", "no JSON at line 1, column 1"),
        ("{\"traceEvents\":[]}", "not a trace recorded by hud"),
        (&damaged, "damaged at line 11"),
        (&newer, "newer hud"),
        ("", "cut off before it began"),
    ] {
        let (_, err, code) = replay(bytes.as_bytes());
        assert!(err.contains(reason), "{reason}: {err}");
        assert_eq!((err.lines().count(), code), (1, Some(1)), "{err}");
    }
}

#[test]
fn a_closed_pipe_ends_quietly_even_with_standard_error_in_it() {
    let bytes = fs::read(trace()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = hud()
        .arg("--headless")
        .arg("--replay")
        .arg(&path)
        .stdout(Stdio::from(writer.try_clone().unwrap()))
        .stderr(Stdio::from(writer))
        .spawn()
        .unwrap();
    drop(reader);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_console_without_a_size_gets_the_report() {
    let (mut ours, mut theirs) = (0, 0);
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the first two are valid; a null size is one of 0 by 0.
    let opened = unsafe {
        libc::openpty(
            &mut ours,
            &mut theirs,
            null.cast(),
            null.cast(),
            null.cast(),
        )
    };
    assert_eq!(opened, 0);
    // SAFETY: just opened, and owned by nobody else.
    let (mut ours, theirs) = unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) };
    let mut hud = hud();
    hud.arg("--replay").arg(trace()).stdin(Stdio::null());
    hud.stdout(theirs).stderr(Stdio::piped());
    // SAFETY: both calls may be made between fork and exec.
    unsafe {
        hud.pre_exec(|| {
            let own = libc::setsid() >= 0 && libc::ioctl(1, libc::TIOCSCTTY, 0) == 0;
            own.then_some(()).ok_or_else(io::Error::last_os_error)
        });
    }
    let child = hud.spawn().unwrap();
    drop(hud); // and with it the last of our ends that would keep the console open
    let mut out = Vec::new();
    // Its end is an error once nobody has it open.
    let _ = ours.read_to_end(&mut out);
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&out),
        String::from_utf8_lossy(&stderr),
    );
    assert!(status.success(), "{err}");
    assert!(err.contains("does not report its size"), "{err}");
    assert!(out.contains("45 slow polls held workers"), "{out}");
    assert!(!out.contains("\u{1b}[?1049h"), "it took the screen");
    let mut rows = out.lines();
    let row = rows.find(|row| row.contains("shop::hash -> bcrypt::bcrypt") && row.contains("78%"));
    assert!(row.is_some(), "the table is squeezed: {out}");
}
