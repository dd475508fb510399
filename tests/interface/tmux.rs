//! A terminal to run hud in: tmux, with a shell that prints the exit code and the terminal modes that each
//! command leaves behind.

use std::cell::Cell;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testing::target::hud_path;

/// How long anything may take to appear, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The shell's prompt.
const PROMPT: &str = "READY> ";

/// A tmux server of its own with one window and a shell. Ended when dropped.
pub struct Tmux {
    folder: TempDir,
    /// Commands started so far.
    started: Cell<u32>,
}

impl Tmux {
    /// A shell in a terminal of that size.
    pub fn new((width, height): (u16, u16)) -> Tmux {
        let tmux = Tmux {
            folder: tempfile::tempdir().unwrap(),
            started: Cell::new(0),
        };
        let (width, height) = (width.to_string(), height.to_string());
        let folder = tmux.folder().to_str().unwrap().to_owned();
        let prompt = format!("PS1={PROMPT}");
        #[rustfmt::skip]
        let output = tmux.run(&[
            "-u", "-f", "/dev/null", "new-session", "-d", "-c", &folder, "-x", &width, "-y", &height,
            "env", "-u", "NO_COLOR", "-u", "COLORTERM", "-u", "RUST_BACKTRACE", &prompt, "HISTFILE=",
            "bash", "--norc", "--noprofile", "-i",
        ]);
        assert!(output.status.success(), "{output:?}");
        // Otherwise it keeps programs from its clipboard.
        tmux.control(&["set-option", "-s", "set-clipboard", "on"]);
        tmux.wait_for(PROMPT.trim_end());
        tmux
    }

    /// The shell's working directory.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Types hud's command line. Once it has ended, the shell says so, with its number and exit
    /// code, and whether the terminal echoes and reads lines.
    pub fn start_hud(&self, arguments: &str) {
        let hud = hud_path();
        self.start(&format!("{} {arguments}", hud.display()));
    }

    /// As [`Tmux::start_hud`], for any command.
    pub fn start(&self, command: &str) {
        self.started.set(self.started.get() + 1);
        let number = self.started.get();
        // In words that do not stand in the command line itself.
        let then = format!(
            "echo en\"\"ded {number}: $?; stty -a | grep -Eo -- '-?(icanon|echo|isig) ' | paste -sd ' '"
        );
        self.type_in(&format!("clear; {command}; {then}"));
        self.key("Enter");
    }

    /// Types a text.
    pub fn type_in(&self, text: &str) {
        self.control(&["send-keys", "-l", "--", text]);
    }

    /// Presses a key, by tmux's name for it.
    pub fn key(&self, key: &str) {
        self.control(&["send-keys", key]);
    }

    /// A click of the left button, columns and rows counted from 0.
    pub fn click(&self, column: usize, row: usize) {
        let (column, row) = (column + 1, row + 1);
        self.type_in(&format!("\u{1b}[<0;{column};{row}M"));
        self.type_in(&format!("\u{1b}[<0;{column};{row}m"));
    }

    /// Turns the wheel at a column and row.
    pub fn wheel_up(&self, (column, row): (usize, usize)) {
        self.type_in(&format!("\u{1b}[<64;{};{}M", column + 1, row + 1));
    }

    /// As [`Tmux::wheel_up`], towards the user.
    pub fn wheel_down(&self, (column, row): (usize, usize)) {
        self.type_in(&format!("\u{1b}[<65;{};{}M", column + 1, row + 1));
    }

    /// Gives the terminal another size.
    pub fn resize(&self, (width, height): (u16, u16)) {
        let (width, height) = (width.to_string(), height.to_string());
        self.control(&["resize-window", "-x", &width, "-y", &height]);
    }

    /// What stands on the screen.
    pub fn screen(&self) -> String {
        self.control(&["capture-pane", "-p"])
    }

    /// Waits until the screen shows a text; gives the screen.
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_until(text, |screen| screen.contains(text))
    }

    /// Waits until the screen is as wanted; `what` says so where it does not become so.
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.wait(what, wanted, || self.screen())
    }

    fn wait(
        &self,
        what: &str,
        wanted: impl Fn(&str) -> bool,
        screen: impl Fn() -> String,
    ) -> String {
        let begun = Instant::now();
        loop {
            let screen = screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "waited in vain for {what}; there is\n{screen}"
            );
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until the command has ended with this exit code and left the terminal as it was.
    pub fn wait_for_end(&self, code: i32) -> String {
        let screen = self.wait_for(&format!("ended {}: {code}\n", self.started.get()));
        let screen = match screen.contains("icanon") {
            true => screen,
            false => self.wait_for("icanon"),
        };
        assert!(!screen.contains("-icanon"), "still raw:\n{screen}");
        assert!(
            screen.contains("isig") && !screen.contains("-isig"),
            "{screen}"
        );
        assert!(
            screen.contains("echo") && !screen.contains("-echo"),
            "{screen}"
        );
        let modes = "#{alternate_on} #{mouse_any_flag} #{cursor_flag}";
        assert_eq!(
            self.control(&["display-message", "-p", modes]).trim(),
            "0 0 1",
            "alternate screen, mouse, cursor"
        );
        screen
    }

    /// Gives the terminal a background, which it tells programs that ask.
    pub fn set_background(&self, colour: &str) {
        self.control(&["set-option", "-w", "window-style", &format!("bg={colour}")]);
    }

    /// As [`Tmux::wait_until`], over the screen with its colours as escape sequences.
    pub fn wait_until_styled(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        self.wait(what, wanted, || self.control(&["capture-pane", "-e", "-p"]));
    }

    /// What a program has put into the clipboard last.
    pub fn clipboard(&self) -> String {
        self.control(&["show-buffer"])
    }

    /// The number of the process that runs in the window, once it is hud.
    pub fn hud_pid(&self) -> i32 {
        let shell = self.control(&["display-message", "-p", "#{pane_pid}"]);
        let children = format!("/proc/{0}/task/{0}/children", shell.trim());
        let begun = Instant::now();
        loop {
            let children = std::fs::read_to_string(&children).unwrap_or_default();
            let hud = children.split_whitespace().find(|pid| {
                std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == "hud\n")
            });
            if let Some(pid) = hud {
                return pid.parse().unwrap();
            }
            assert!(begun.elapsed() < PATIENCE, "hud does not run");
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Closes the window, as a terminal that is closed.
    pub fn close(&self) {
        self.control(&["kill-session"]);
    }

    fn control(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "tmux {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new("tmux")
            .arg("-S")
            .arg(self.folder().join("socket"))
            .args(arguments)
            .env_remove("TMUX")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .expect("tmux is needed: scripts/setup installs it")
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}
