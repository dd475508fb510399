//! Job control: SIGTSTP and SIGCONT from the shell or anywhere else.
//!
//! In raw mode Ctrl+Z arrives as a key; `kill -TSTP` and the shell's `suspend` send a signal. Either
//! way the terminal is restored first. SIGSTOP cannot be caught: after it, SIGCONT says that the
//! terminal has to be set up again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCONT, SIGTSTP};

/// What the signals ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    None,
    /// Restore the terminal and call [`JobControl::stop`].
    Stop,
    /// Stopped by something else and continued.
    Continued,
}

/// Handles both signals while it lives.
#[derive(Debug)]
pub struct JobControl {
    stop_requested: Arc<AtomicBool>,
    continued: Arc<AtomicBool>,
}

impl JobControl {
    /// # Errors
    /// When the signals cannot be handled.
    pub fn begin() -> io::Result<JobControl> {
        let control = JobControl {
            stop_requested: Arc::default(),
            continued: Arc::default(),
        };
        signal_hook::flag::register(SIGTSTP, Arc::clone(&control.stop_requested))?;
        signal_hook::flag::register(SIGCONT, Arc::clone(&control.continued))?;
        Ok(control)
    }

    /// What the signals since the last call ask for.
    pub fn turn(&self) -> Turn {
        let stop = self.stop_requested.swap(false, Ordering::Relaxed);
        let continued = self.continued.swap(false, Ordering::Relaxed);
        match (stop, continued) {
            (true, _) => Turn::Stop,
            (false, true) => Turn::Continued,
            (false, false) => Turn::None,
        }
    }

    /// Stops the process, as SIGTSTP does by default, until SIGCONT.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn stop(&self) -> io::Result<()> {
        let handler = set_action(SIGTSTP, &default_action())?;
        let stopped = signal_hook::low_level::raise(SIGTSTP);
        set_action(SIGTSTP, &handler)?;
        // The SIGCONT that ended the stop needs no further action.
        self.turn();
        stopped
    }
}

impl Drop for JobControl {
    fn drop(&mut self) {
        // The flag is no longer read, so the default action applies again.
        let _ = set_action(SIGTSTP, &default_action());
    }
}

fn default_action() -> libc::sigaction {
    // SAFETY: all zeroes is a valid value: the default action, no flags, an empty mask.
    unsafe { std::mem::zeroed() }
}

/// Sets the action of a signal; returns the previous one.
fn set_action(signal: libc::c_int, action: &libc::sigaction) -> io::Result<libc::sigaction> {
    let mut before = default_action();
    // SAFETY: both pointers are valid; the action is the default one, or one that this call returned.
    match unsafe { libc::sigaction(signal, action, &mut before) } {
        0 => Ok(before),
        _ => Err(io::Error::last_os_error()),
    }
}
