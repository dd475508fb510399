//! Stopping and going on at the shell's word: SIGTSTP and SIGCONT, wherever they come from.
//!
//! Ctrl+Z is a key while hud has the terminal; `kill -TSTP` and the shell's own `suspend` are
//! signals. Either way the terminal is given back first. After a SIGSTOP, which nobody can catch,
//! the SIGCONT tells that the terminal has to be taken anew.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCONT, SIGTSTP};

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    None,
    /// Give the terminal back and call [`JobControl::stop`].
    Stop,
    /// Stopped by something else, and going on.
    Continued,
}

/// Takes both signals as long as it lives.
#[derive(Debug)]
pub struct JobControl {
    told_to_stop: Arc<AtomicBool>,
    continued: Arc<AtomicBool>,
}

impl JobControl {
    /// # Errors
    /// When the signals cannot be handled.
    pub fn begin() -> io::Result<JobControl> {
        let control = JobControl {
            told_to_stop: Arc::default(),
            continued: Arc::default(),
        };
        signal_hook::flag::register(SIGTSTP, Arc::clone(&control.told_to_stop))?;
        signal_hook::flag::register(SIGCONT, Arc::clone(&control.continued))?;
        Ok(control)
    }

    /// What the signals since the last call ask for.
    pub fn turn(&self) -> Turn {
        let stop = self.told_to_stop.swap(false, Ordering::Relaxed);
        let continued = self.continued.swap(false, Ordering::Relaxed);
        match (stop, continued) {
            (true, _) => Turn::Stop,
            (false, true) => Turn::Continued,
            (false, false) => Turn::None,
        }
    }

    /// Stops, as SIGTSTP does by itself, until somebody says to go on.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn stop(&self) -> io::Result<()> {
        let handler = set_action(SIGTSTP, &default_action())?;
        let stopped = signal_hook::low_level::raise(SIGTSTP);
        set_action(SIGTSTP, &handler)?;
        // The SIGCONT that ended the stop is answered by this very return.
        self.turn();
        stopped
    }
}

impl Drop for JobControl {
    fn drop(&mut self) {
        // Nobody looks at the flag any more: stopping is the kernel's business again.
        let _ = set_action(SIGTSTP, &default_action());
    }
}

fn default_action() -> libc::sigaction {
    // SAFETY: all zeroes is a valid value: the default action, no flags, an empty mask.
    unsafe { std::mem::zeroed() }
}

/// Sets what a signal does; gives what it did before.
fn set_action(signal: libc::c_int, action: &libc::sigaction) -> io::Result<libc::sigaction> {
    let mut before = default_action();
    // SAFETY: both point to values that live throughout; the action is the default one, or one that
    // the same call gave.
    match unsafe { libc::sigaction(signal, action, &mut before) } {
        0 => Ok(before),
        _ => Err(io::Error::last_os_error()),
    }
}
