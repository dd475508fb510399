//! Runs hud in a pseudo-terminal and reads its screen.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Fails if an expected text takes longer to appear.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A program and its terminal. Dropping it kills the program.
pub struct Screen {
    child: Child,
    keys: File,
    output: Receiver<(Instant, Vec<u8>)>,
    parser: vt100::Parser,
}

impl Screen {
    /// Starts a program in a new terminal.
    ///
    /// # Errors
    /// When no terminal can be opened, or the program cannot be run.
    pub fn start(mut command: Command, (columns, rows): (u16, u16)) -> Result<Screen> {
        let size = libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let (mut ours, mut theirs) = (-1, -1);
        // SAFETY: writes two descriptors; the size lives throughout.
        let opened = unsafe {
            libc::openpty(
                &mut ours,
                &mut theirs,
                std::ptr::null_mut(),
                std::ptr::null(),
                &size,
            )
        };
        ensure!(
            opened == 0,
            "no terminal: {}",
            std::io::Error::last_os_error()
        );
        // SAFETY: both were opened just now and are owned by nothing else.
        let (keys, slave) = unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) };
        command
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR");
        // SAFETY: both calls are safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                let taken = libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0;
                taken
                    .then_some(())
                    .ok_or_else(std::io::Error::last_os_error)
            });
        }
        let child = command.spawn().context("cannot run hud")?;
        // The terminal closes once only hud holds its side.
        drop(command);
        let (send, output) = mpsc::channel();
        let mut from = keys.try_clone()?;
        thread::spawn(move || {
            let mut bytes = [0; 1 << 16];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                if send
                    .send((Instant::now(), bytes[..count].to_vec()))
                    .is_err()
                {
                    return;
                }
            }
        });
        Ok(Screen {
            child,
            keys,
            output,
            parser: vt100::Parser::new(rows, columns, 0),
        })
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types keys; returns when.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn type_in(&mut self, keys: &str) -> Result<Instant> {
        let at = Instant::now();
        self.keys.write_all(keys.as_bytes())?;
        Ok(at)
    }

    /// Waits until the screen shows a text (`there`) or no longer shows it; returns when it did.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub fn wait_for(&mut self, text: &str, there: bool) -> Result<Instant> {
        let begun = Instant::now();
        let mut at = begun;
        while self.parser.screen().contents().contains(text) != there {
            let left = TIMEOUT.saturating_sub(begun.elapsed());
            let (came, bytes) = self.output.recv_timeout(left).with_context(|| {
                let screen = self.parser.screen().contents();
                format!("{text:?} did not appear on\n{screen}")
            })?;
            self.parser.process(&bytes);
            at = came;
        }
        Ok(at)
    }

    /// Reads the screen for a time.
    pub fn rest(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok((_, bytes)) = self
            .output
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            self.parser.process(&bytes);
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
