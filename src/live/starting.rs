//! The start of a live session on a thread of its own, so that the interactive view responds
//! meanwhile.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};

use crate::live::{Live, Options, Step};
use crate::target::process::Target;

/// A start under way. Dropping it detaches the thread: reading a file of hundreds of megabytes cannot
/// be interrupted, and a user who quits does not wait for it.
pub struct Starting {
    steps: Receiver<Step>,
    thread: JoinHandle<Result<Option<Live>>>,
}

impl Starting {
    /// Begins; see [`Live::start`].
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn begin(target: &Target, options: Options, stop: &Arc<AtomicBool>) -> Result<Starting> {
        let (sender, steps) = mpsc::channel();
        let (target, stop) = (target.clone(), Arc::clone(stop));
        let thread = thread::Builder::new()
            .name("hud-start".into())
            .spawn(move || {
                Live::start(&target, &options, &stop, |step| {
                    // The receiver is gone if the user has quit.
                    let _ = sender.send(step);
                })
            })
            .context("cannot start a thread")?;
        Ok(Starting { steps, thread })
    }

    /// The newest step since this was called last.
    pub fn step(&self) -> Option<Step> {
        self.steps.try_iter().last()
    }

    /// Whether [`Starting::outcome`] returns at once.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end of the start.
    ///
    /// # Errors
    /// Those of [`Live::start`].
    pub fn outcome(self) -> Result<Option<Live>> {
        self.thread
            .join()
            .unwrap_or_else(|_| Err(anyhow!("hud panicked while it attached")))
    }
}
