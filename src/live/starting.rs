//! The start of a live session on a thread of its own, so that the screen answers meanwhile.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};

use crate::live::{Live, Options, Step};
use crate::target::process::Target;

/// A start under way. Dropping it leaves the thread to itself: reading a file of hundreds of
/// megabytes cannot be interrupted, and whoever quits meanwhile does not wait for it.
pub struct Starting {
    steps: Receiver<Step>,
    thread: JoinHandle<Result<Option<Live>>>,
}

impl Starting {
    /// Begins; see [`Live::start`].
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn begin(target: &Target, options: Options, stop: &Arc<AtomicBool>) -> Result<Starting> {
        let (say, steps) = mpsc::channel();
        let (target, stop) = (target.clone(), Arc::clone(stop));
        let thread = thread::Builder::new()
            .name("hud-start".into())
            .spawn(move || {
                Live::start(&target, &options, &stop, |step| {
                    let _ = say.send(step); // nobody listens: nobody waits
                })
            })
            .context("cannot start a thread")?;
        Ok(Starting { steps, thread })
    }

    /// What it has begun to do since the last time this was asked; the newest.
    pub fn step(&self) -> Option<Step> {
        self.steps.try_iter().last()
    }

    /// Whether [`Starting::outcome`] is there.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end of it.
    ///
    /// # Errors
    /// Those of [`Live::start`].
    pub fn outcome(self) -> Result<Option<Live>> {
        self.thread
            .join()
            .unwrap_or_else(|_| Err(anyhow!("hud panicked while it attached")))
    }
}
