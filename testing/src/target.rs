//! The processes of a test: a program for hud to attach to, and hud itself.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use crate::fixtures::Build;

/// cargo's target directory: a test or benchmark lies in `TARGET/PROFILE/deps`.
pub fn target_dir() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(3).unwrap().to_owned()
}

/// The hud of the profile that the test was built with.
pub fn hud_path() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.ancestors().nth(2).unwrap().join("hud");
    assert!(path.exists(), "{} is not built", path.display());
    path
}

/// A command that runs hud with these arguments. hud needs root.
pub fn hud(arguments: &[&str]) -> Command {
    // SAFETY: no preconditions.
    let user = unsafe { libc::geteuid() };
    assert_eq!(user, 0, "live tests need root: use `make test`");
    let mut command = Command::new(hud_path());
    command.args(arguments);
    command
}

/// A running hud; killed when dropped.
pub struct Hud {
    pid: u32,
    /// Reads what it prints, so that a full pipe never blocks it, and waits for its end.
    output: Option<JoinHandle<io::Result<Output>>>,
}

impl Hud {
    /// Starts it.
    pub fn start(command: &mut Command) -> Hud {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        Hud {
            pid: child.id(),
            output: Some(thread::spawn(|| child.wait_with_output())),
        }
    }

    /// Interrupts it and waits for its end: exit status and all it printed.
    ///
    /// # Errors
    /// When its output cannot be read.
    pub fn detach(mut self) -> io::Result<Output> {
        self.signal(libc::SIGINT);
        let output = self.output.take().unwrap();
        output.join().unwrap()
    }

    fn signal(&self, signal: libc::c_int) {
        let running = self.output.as_ref().filter(|output| !output.is_finished());
        if running.is_some() {
            send_signal(self.pid, signal);
        }
    }
}

impl Drop for Hud {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
    }
}

/// Sends a signal to a child process that has not been waited for.
fn send_signal(pid: u32, signal: libc::c_int) {
    // SAFETY: no preconditions.
    let error = unsafe { libc::kill(pid as libc::pid_t, signal) };
    assert_eq!(error, 0, "{}", io::Error::last_os_error());
}

/// A running target process, killed when dropped.
pub struct Target {
    child: Child,
    pub pid: u32,
}

impl Target {
    /// Starts a program and waits until it prints `ready PID`.
    pub fn start(program: &Path, arguments: &[&str]) -> Target {
        Target::run(Command::new(program).args(arguments))
    }

    /// Starts a scenario with its defaults, for at most a minute.
    pub fn scenario(build: &Build, scenario: &str) -> Target {
        let arguments = ["--scenario", scenario, "--duration", "60"];
        Target::start(&build.program(), &arguments)
    }

    /// [`Target::start`] for a prepared command.
    pub fn run(command: &mut Command) -> Target {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        let pid = child.id();
        assert_eq!(line, format!("ready {pid}\n"));
        // A full pipe would block the target.
        thread::spawn(move || lines.lines().for_each(drop));
        Target { child, pid }
    }

    /// A command that attaches a headless hud to it, with more arguments.
    pub fn hud(&self, arguments: &[&str]) -> Command {
        let mut command = hud(&["--headless", "--pid", &self.pid.to_string()]);
        command.args(arguments);
        command
    }

    /// Asks a scenario to write the rest of its truth and exit, and waits until it has.
    pub fn end(mut self) {
        send_signal(self.pid, libc::SIGTERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the target failed: {status}");
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.kill();
    }
}
