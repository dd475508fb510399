//! Targets in namespaces of their own, and targets whose executable was replaced or deleted.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use testing::fixtures::Build;
use testing::target::{Target, hud, hud_path};

/// What every report about the scenario `sleep` must contain.
const CULPRIT: &str = "scenarios::blocking::block_on_sleep -> std::thread::sleep";

/// A program in its own mount and PID namespaces: it is PID 1 there, and its file exists only there.
struct Contained {
    unshare: Child,
    /// Its PID here.
    pid: u32,
}

impl Contained {
    fn start(name: &str) -> Contained {
        let script = "mount -t tmpfs none /mnt && cp \"$0\" \"/mnt/$1\" && \
                      exec \"/mnt/$1\" --scenario sleep --duration 30";
        let mut unshare = Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                script,
            ])
            .arg(Build::Release.program())
            .arg(name)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut lines = BufReader::new(unshare.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "ready 1\n");
        let id = unshare.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        Contained {
            unshare,
            pid: children.trim().parse().unwrap(),
        }
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// hud's report of one second.
fn report(arguments: &[&str]) -> String {
    let output = hud(arguments)
        .args(["--headless", "--duration", "1"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_container_is_watched_by_host_pid_name_and_inner_pid() {
    let name = "hud-contained";
    let contained = Contained::start(name);
    assert!(!std::path::Path::new("/mnt").join(name).exists());
    let pid = contained.pid.to_string();
    for arguments in [
        &["--pid", &pid][..],
        &[name],
        // Other containers on this machine have a PID 1 as well.
        &[name, "--container-pid", "1"],
    ] {
        let report = report(arguments);
        assert!(report.contains(&format!("(PID {pid})")), "{report}");
        assert!(report.contains(CULPRIT), "{arguments:?}: {report}");
    }
}

#[test]
fn a_program_that_a_deploy_replaced_is_named_by_its_own_file() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("service");
    fs::copy(Build::Release.program(), &program).unwrap();
    let arguments = ["--scenario", "sleep", "--duration", "30"];
    let target = Target::start(&program, &arguments);
    let pid = target.pid.to_string();
    // Another program at the same path; then none at all.
    let next = folder.path().join("next");
    fs::copy("/bin/sleep", &next).unwrap();
    fs::rename(&next, &program).unwrap();
    let replaced = report(&["--pid", &pid]);
    assert!(replaced.contains(CULPRIT), "{replaced}");
    assert!(replaced.contains("called by scenarios::"), "{replaced}");
    fs::remove_file(&program).unwrap();
    let deleted = report(&["service"]);
    assert!(deleted.contains(CULPRIT), "{deleted}");
}

#[test]
fn hud_in_a_pid_namespace_of_its_own_gives_a_hint() {
    let output = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(hud_path())
        .args(["--pid", "1", "--headless", "--duration", "1"])
        .output()
        .unwrap();
    crate::endings::fails(&output, 1, "--pid=host");
}
