//! hud as an ordinary user, with some capabilities and without.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::endings::fails;
use testing::fixtures::Build;
use testing::target::{Target, hud_path};

/// The capabilities that hud is documented to need.
const NEEDED: &str = "-all,+bpf,+perfmon,+sys_ptrace";

/// A copy that every user may run; the build directory may be closed to others.
fn copy_for_all(program: &Path, folder: &TempDir, name: &str) -> std::path::PathBuf {
    let copy = folder.path().join(name);
    fs::copy(program, &copy).unwrap();
    for path in [folder.path(), copy.as_path()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    copy
}

/// hud as nobody with these capabilities, as `setcap` on its file would give them.
fn as_nobody(hud: &Path, capabilities: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(format!("--inh-caps={capabilities}"))
        .arg(format!("--ambient-caps={capabilities}"))
        .arg(format!("--bounding-set={capabilities}"))
        .arg(hud)
        .args(["--headless", "--duration", "1"]);
    command
}

#[test]
fn three_capabilities_suffice_for_all_but_kernel_names() {
    let folder = tempfile::tempdir().unwrap();
    let hud = copy_for_all(&hud_path(), &folder, "hud");
    let program = copy_for_all(&Build::Release.program(), &folder, "scenarios");
    let sleeps = Target::start(&program, &["--scenario", "sleep", "--duration", "20"]);
    let pid = sleeps.pid.to_string();
    let output = as_nobody(&hud, NEEDED)
        .args(["--pid", &pid])
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{notes}");
    // Culprit, cause, whole stack and the workers' utilisation, of a process that is root's.
    for part in [
        "scenarios::blocking::block_on_sleep -> std::thread::sleep",
        "clock_nanosleep",
        "called by scenarios::",
        "Runtime 0: multi_thread, 2 workers",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    assert!(!report.contains("stack_unreadable"), "{report}");
    // Kernel frames: a note, where root sees their addresses at all.
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let hidden_from_root = symbols.starts_with("0000000000000000");
    assert!(notes.contains("CAP_SYSLOG"), "{notes}");
    if !hidden_from_root {
        let named = as_nobody(&hud, &format!("{NEEDED},+syslog"))
            .args(["--pid", &pid, "--stacks", "all"])
            .output()
            .unwrap();
        let notes = String::from_utf8_lossy(&named.stderr);
        assert!(named.status.success(), "{notes}");
        assert!(!notes.contains("CAP_SYSLOG"), "{notes}");
        let report = String::from_utf8_lossy(&named.stdout);
        assert!(report.contains("hrtimer_nanosleep"), "{report}");
    }
}

#[test]
fn stacks_are_complete_after_an_update_replaced_a_library() {
    let folder = tempfile::tempdir().unwrap();
    let hud = copy_for_all(&hud_path(), &folder, "hud");
    let libc = loaded_libc();
    let copy = copy_for_all(&libc, &folder, "libc.so.6");
    let mut command = Command::new(Build::Release.program());
    command
        .args(["--scenario", "sleep", "--duration", "20"])
        .env("LD_LIBRARY_PATH", folder.path());
    let sleeps = Target::run(&mut command);
    fs::remove_file(&copy).unwrap();
    let maps = fs::read_to_string(format!("/proc/{}/maps", sleeps.pid)).unwrap();
    assert!(maps.contains("libc.so.6 (deleted)"), "{maps}");
    // Only CAP_CHECKPOINT_RESTORE would open the deleted file.
    let output = as_nobody(&hud, NEEDED)
        .args(["--pid", &sleeps.pid.to_string()])
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    for part in [
        "scenarios::blocking::block_on_sleep",
        "called by scenarios::",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    assert!(!report.contains("stack_incomplete"), "{report}");
}

/// The C library that programs here are linked to.
fn loaded_libc() -> std::path::PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("/libc.so.6"));
    let path = line.and_then(|line| line.find('/').map(|at| &line[at..]));
    path.unwrap().into()
}

#[test]
fn without_privileges_hud_names_the_missing_ones() {
    let folder = tempfile::tempdir().unwrap();
    let hud = copy_for_all(&hud_path(), &folder, "hud");
    let idle = Target::scenario(&Build::Release, "idle");
    let pid = idle.pid.to_string();
    let output = as_nobody(&hud, "-all")
        .args(["--pid", &pid])
        .output()
        .unwrap();
    fails(&output, 77, "CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE");
    // Of several, only those that are missing are named.
    let output = as_nobody(&hud, "-all,+bpf,+perfmon")
        .args(["--pid", &pid])
        .output()
        .unwrap();
    fails(&output, 77, "hud lacks CAP_SYS_PTRACE");
}
