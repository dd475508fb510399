//! The command line as a user meets it: the built binary, its texts, exit codes and files. Nothing
//! here attaches to a process.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hud::export::read_trace;
use hud::model::Record;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// 45 slow polls in 6 seconds.
fn trace() -> PathBuf {
    root().join("tests/data/trace-v1.json")
}

/// Standard output, standard error and exit code of hud, with both outputs in pipes.
fn hud<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hud"));
    let output = command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        text(output.stdout),
        text(output.stderr),
        output.status.code().unwrap(),
    )
}

/// A child process that is killed even if the test fails.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where executables can be hard links: a copy may still be open for writing when it is started.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A Tokio program under a name of its own: this test's executable, which has Tokio linked in.
fn tokio_program(directory: &Path, name: &str) -> Guard {
    let path = directory.join(name);
    fs::hard_link(std::env::current_exe().unwrap(), &path).unwrap();
    let child = Command::new(&path)
        .args(["--exact", "sleeps_in_another_process", "--ignored"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Guard(child.unwrap())
}

/// Not a test: what [`tokio_program`] runs.
#[test]
#[ignore = "run by other tests"]
fn sleeps_in_another_process() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async { tokio::task::yield_now().await });
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn the_short_help_fits_a_screen_and_the_long_one_has_everything() {
    let (short, _, code) = hud(["-h"]);
    assert_eq!(code, 0);
    assert!(short.lines().count() <= 23, "{short}");
    let (long, _, code) = hud(["--help"]);
    assert_eq!(code, 0);
    for part in [
        "Examples:",
        "Exit codes:",
        "Environment variables:",
        "Tracking tiers:",
        "What to watch:",
    ] {
        assert!(long.contains(part), "no {part} in {long}");
    }
    assert_eq!(hud(["help"]).0, long);
}

/// Looks for reads of the environment in the source, so that a new variable cannot be forgotten.
#[test]
fn the_help_names_every_environment_variable() {
    let (help, _, _) = hud(["--help"]);
    let section = help.split("Environment variables:").nth(1).unwrap();
    let mut folders = vec![root().join("src")];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.iter().any(|part| part == "tests") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            if !code.contains("from_env") && !code.contains("env::var") {
                continue;
            }
            for quoted in code.split('"').skip(1).step_by(2) {
                let is_name = quoted.len() > 2
                    && !quoted.starts_with("CARGO_")
                    && quoted
                        .chars()
                        .all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit());
                if is_name {
                    found += 1;
                    assert!(section.contains(quoted), "{quoted} of {}", path.display());
                }
            }
        }
    }
    assert!(
        found >= 10,
        "only {found} variables were found in the source"
    );
}

#[test]
fn the_version_says_what_was_built() {
    let (long, _, code) = hud(["--version"]);
    assert_eq!(code, 0);
    let mut lines = long.lines();
    assert_eq!(
        lines.next(),
        Some(concat!("hud ", env!("CARGO_PKG_VERSION")))
    );
    for part in ["commit:", "target:", "features:"] {
        let line = lines.next().unwrap();
        assert!(
            line.starts_with(part) && line.len() > part.len() + 3,
            "{line}"
        );
    }
    let (short, _, _) = hud(["-V"]);
    assert_eq!(short.lines().count(), 1, "{short}");
}

#[test]
fn without_arguments_tokio_processes_are_listed() {
    let directory = directory();
    let child = tokio_program(directory.path(), "listed-server");
    let (out, _, code) = hud::<&str>([]);
    assert_eq!(code, 0);
    let line = out
        .lines()
        .find(|line| line.contains("listed-server"))
        .expect(&out);
    assert!(line.contains(&child.0.id().to_string()), "{out}");
    assert!(!out.contains("which one?"), "it asks in a pipe: {out}");
    for column in ["PID", "NAME", "TOKIO", "TIER", "THREADS", "CPU"] {
        assert!(out.contains(column), "{out}");
    }
}

#[test]
fn only_tokio_processes_are_proposed() {
    let directory = directory();
    let _tokio = tokio_program(directory.path(), "nearbyserver");
    let other = directory.path().join("nearbyservex");
    std::os::unix::fs::symlink("/bin/sleep", &other).unwrap();
    let _other = Guard(Command::new(&other).arg("60").spawn().unwrap());
    let (_, err, code) = hud(["nearby-serverr"]);
    if code == 77 {
        return eprintln!("skipped: needs root");
    }
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("nearbyserver?"), "{err}");
    assert!(!err.contains("nearbyservex"), "{err}");
}

#[test]
fn the_path_of_an_executable_that_does_not_run_is_said() {
    let (_, err, code) = hud(["/bin/true"]);
    if code == 77 {
        return eprintln!("skipped: needs root");
    }
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("no process runs /bin/true"), "{err}");
}

#[test]
fn a_trace_in_place_of_a_name_is_replayed() {
    let trace = trace();
    let named = hud([trace.as_os_str()]);
    assert_eq!(named, hud(["--replay".as_ref(), trace.as_os_str()]));
    assert!(
        named.0.contains("45 slow polls held workers"),
        "{}",
        named.0
    );
}

#[test]
fn options_without_effect_are_refused_or_said() {
    let trace = trace();
    let trace = trace.to_str().unwrap();
    for arguments in [
        &[trace, "--duration", "3"][..],
        &["--replay", trace, "--duration", "3"],
        &["--replay", trace, "--headless", "--window", "3s"],
        &["--pid", "1", "--from", "3s"],
        &[trace, "--export", "-", "--headless"],
    ] {
        let (out, err, code) = hud(arguments);
        assert_eq!((out.len(), code), (0, 2), "{arguments:?}: {err}");
        assert!(err.contains("--"), "{err}");
    }
    let (_, err, code) = hud([trace, "--window", "3s"]);
    assert_eq!(code, 0);
    assert!(err.contains("--window has no effect"), "{err}");
}

/// The slow polls of a trace, as start and end in ms since its start.
fn polls(path: &Path) -> Vec<(u64, u64)> {
    let mut start_ns = 0;
    let mut polls = Vec::new();
    let read = read_trace(path, |record| match record {
        Record::Header(header) => start_ns = header.start_ns,
        Record::SlowPoll(poll) => {
            let ms = |ns: u64| ns.saturating_sub(start_ns) / 1_000_000;
            polls.push((ms(poll.start_ns), ms(poll.end_ns)));
        }
        _ => {}
    });
    read.unwrap();
    polls
}

#[test]
fn an_existing_file_is_overwritten_only_with_force() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy.json");
    let export = |more: &[&str]| {
        let trace = trace();
        let arguments = [
            "--replay",
            trace.to_str().unwrap(),
            "--export",
            copy.to_str().unwrap(),
        ];
        hud([&arguments, more].concat())
    };
    assert_eq!(export(&[]).2, 0);
    assert_eq!(polls(&copy), polls(&trace()));
    let (_, err, code) = export(&[]);
    assert_eq!(code, 2);
    assert!(
        err.contains("exists already") && err.contains("--force"),
        "{err}"
    );
    assert_eq!(export(&["--force", "--threshold", "41ms"]).2, 0);
    assert_eq!(polls(&copy).len(), 20);
    let (_, err, code) = hud([
        copy.as_os_str(),
        "--force".as_ref(),
        "--export".as_ref(),
        copy.as_os_str(),
    ]);
    assert_eq!(code, 2);
    assert!(err.contains("over itself"), "{err}");
    assert_eq!(polls(&copy).len(), 20, "it was damaged");
}

#[test]
fn a_recording_can_be_cut_and_shown() {
    let directory = tempfile::tempdir().unwrap();
    let part = directory.path().join("part.json");
    let trace = trace();
    let (out, err, code) = hud([
        trace.as_os_str(),
        "--from".as_ref(),
        "2s".as_ref(),
        "--to".as_ref(),
        "4s".as_ref(),
        "--export".as_ref(),
        part.as_os_str(),
    ]);
    assert_eq!((out.as_str(), code), ("", 0), "{err}");
    let whole = polls(&trace);
    let expected = whole
        .iter()
        .filter(|(start, end)| *end > 2000 && *start < 4000)
        .count();
    assert!(expected > 0 && expected < whole.len());
    assert_eq!(polls(&part).len(), expected);
    assert!(err.contains(&format!("{expected} slow polls")), "{err}");
    // What was cut replays as a recording of its own.
    let (out, err, code) = hud([part.as_os_str()]);
    assert_eq!((err.as_str(), code), ("", 0));
    assert!(out.contains("watched for 2.00 s"), "{out}");
    assert_eq!(
        out.replace("part.json", ""),
        hud([
            trace.as_os_str(),
            "--from".as_ref(),
            "2s".as_ref(),
            "--to".as_ref(),
            "4s".as_ref()
        ])
        .0
    );
}

#[test]
fn a_dash_is_standard_output() {
    let trace = trace();
    let (out, err, code) = hud([trace.as_os_str(), "--export".as_ref(), "-".as_ref()]);
    assert_eq!((err.as_str(), code), ("", 0));
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy.json");
    fs::write(&copy, out).unwrap();
    assert_eq!(polls(&copy), polls(&trace));
}

#[test]
fn the_time_of_a_span_is_checked() {
    let trace = trace();
    let (_, err, code) = hud([
        trace.as_os_str(),
        "--from".as_ref(),
        "5s".as_ref(),
        "--to".as_ref(),
        "4s".as_ref(),
    ]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("empty"), "{err}");
    let (_, err, code) = hud([trace.as_os_str(), "--from".as_ref(), "25:00".as_ref()]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("14:03:20"), "{err}");
}
