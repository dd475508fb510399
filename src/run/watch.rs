//! A live session at work: passes records to the view and the trace until there is a reason to end,
//! then detaches and completes both.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::SIGQUIT;

use crate::cli::Config;
use crate::clock;
use crate::headless::Headless;
use crate::interactive::{Interactive, Turn};
use crate::live::Live;
use crate::model::{EndReason, Record};
use crate::recorder::Recorder;
use crate::report;
use crate::target::process::{PidFd, Target};

/// Interval at which a printed session checks for its end while no records arrive.
const END_CHECK_EVERY: Duration = Duration::from_millis(100);
/// Records the interactive view applies before it handles keys again.
const RECORDS_PER_TURN: usize = 1024;

/// A live session and everything that can end it.
pub struct Watch<'a> {
    config: &'a Config,
    target: &'a Target,
    pidfd: PidFd,
    stop: &'a AtomicBool,
    deadline: Option<Instant>,
    live: Live,
    recorder: Recorder,
    /// Set by SIGQUIT: requests a census.
    census_requested: Arc<AtomicBool>,
}

impl<'a> Watch<'a> {
    /// Opens the trace file, if one was requested.
    ///
    /// # Errors
    /// When the trace cannot be created, or the process has exited.
    pub fn new(
        config: &'a Config,
        target: &'a Target,
        stop: &'a AtomicBool,
        live: Live,
    ) -> Result<Self> {
        let recorder = Recorder::new(super::destination(config).as_ref(), &live.header)?;
        Ok(Watch {
            config,
            target,
            stop,
            deadline: config.duration.map(|duration| Instant::now() + duration),
            pidfd: PidFd::open(target)?,
            live,
            recorder,
            census_requested: Arc::default(),
        })
    }

    /// The reason to end now, if there is one.
    fn end_reason(&self) -> Option<EndReason> {
        if self.live.has_failed() {
            return Some(EndReason::Failed);
        }
        if self.stop.load(Ordering::Relaxed) {
            return Some(EndReason::Interrupted);
        }
        if self.deadline.is_some_and(|at| Instant::now() >= at) {
            return Some(EndReason::Duration);
        }
        let gone = self.live.is_replaced() || !self.pidfd.is_alive();
        gone.then_some(EndReason::TargetExited)
    }

    /// Detaches, passes the remaining records to the view, and completes the trace.
    fn end(&mut self, reason: EndReason, mut view: impl FnMut(&Record)) -> Result<()> {
        let at_ns = clock::monotonic_ns();
        let stopped = self.live.stop();
        // Nothing is printed here: the screen may still be up.
        let mut failed = None;
        for record in self
            .live
            .records
            .iter()
            .chain([Record::End { reason, at_ns }])
        {
            let failure = self.recorder.pass(&record, &mut view);
            failed = failed.or(failure);
        }
        let complete = self.recorder.finish(view).map_err(|error| match failed {
            Some(failure) => error.context(failure),
            None => error,
        });
        stopped.and(complete)
    }

    /// Takes a census, which arrives as a record.
    fn census(&self) {
        if let Err(error) = self.live.census() {
            report::warn(format!("{error:#}"));
        }
    }

    /// Prints findings until the end, then the summary.
    ///
    /// # Errors
    /// When standard output or the trace cannot be written, or the session failed.
    pub fn headless(mut self) -> Result<()> {
        signal_hook::flag::register(SIGQUIT, Arc::clone(&self.census_requested))
            .context("cannot handle signals")?;
        super::note(
            self.config,
            &format!(
                "watching {} (PID {}), polls of {} ms and more; Ctrl+C ends",
                self.target.comm,
                self.target.pid,
                self.config.threshold.as_secs_f64() * 1e3
            ),
        );
        let mut view = Headless::new(self.config);
        let mut result = view.take(&Record::Header(Box::new(self.live.header.clone())));
        let reason = loop {
            let received = self.live.records.recv_timeout(END_CHECK_EVERY);
            match received {
                Ok(record) => {
                    let failure = self.recorder.pass(&record, |record| {
                        if result.is_ok() {
                            result = view.take(record);
                        }
                    });
                    failure.iter().for_each(report::warn);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break EndReason::Failed,
            }
            if result.is_err() {
                break EndReason::Failed;
            }
            if view.is_closed() {
                break EndReason::Interrupted;
            }
            if self.census_requested.swap(false, Ordering::Relaxed) {
                self.census();
            }
            if let Some(reason) = self.end_reason() {
                break reason;
            }
        };
        if reason != EndReason::TargetExited && (self.config.census || view.sees_a_hang()) {
            self.census();
        }
        let ended = self.end(reason, |record| {
            if result.is_ok() {
                result = view.take(record);
            }
        });
        result?;
        view.finish()?;
        ended?;
        self.live.finish()
    }

    /// Shows the session in the interactive view until its end.
    ///
    /// # Errors
    /// When the trace cannot be written, or the session failed.
    pub fn interactively(mut self, mut view: Interactive) -> Result<()> {
        view.take(&Record::Header(Box::new(self.live.header.clone())));
        if !self.live.notes.is_empty() {
            view.say(&self.live.notes.join("; "));
        }
        let reason = match catch_unwind(AssertUnwindSafe(|| self.watch_in(&mut view))) {
            Ok(reason) => reason,
            Err(panic) => {
                // The trace is completed even though the view failed.
                drop(view);
                if let Err(error) = self.end(EndReason::Failed, |_| ()) {
                    report::warn(format!("{error:#}"));
                }
                resume_unwind(panic);
            }
        };
        if reason != EndReason::TargetExited {
            // Give the terminal back at once; completing the trace may take a moment.
            drop(view);
            let ended = self.end(reason, |_| ());
            self.live.finish()?;
            return ended;
        }
        // The target has exited: keep showing what was recorded until the user quits.
        let ended = self.end(reason, |record| view.take(record));
        let over = |watch: &Self| {
            let late = watch.deadline.is_some_and(|at| Instant::now() >= at);
            late || watch.stop.load(Ordering::Relaxed)
        };
        while !over(&self) && view.turn() == Turn::GoOn {}
        drop(view);
        ended?;
        self.live.finish()
    }

    /// Draws and handles keys until there is a reason to end.
    fn watch_in(&mut self, view: &mut Interactive) -> EndReason {
        loop {
            if !self.pass_on(view) {
                return EndReason::Failed;
            }
            view.set_status(self.live.busy_with());
            if view.turn() == Turn::Quit {
                return EndReason::Interrupted;
            }
            if let Some(on) = view.asked_for_all_poll_time() {
                self.live.set_all_poll_time(on);
            }
            if view.wants_census()
                && let Err(error) = self.live.census()
            {
                view.say(&format!("{error:#}"));
            }
            if let Some(reason) = self.end_reason() {
                return reason;
            }
        }
    }

    /// Passes pending records to the view, at most [`RECORDS_PER_TURN`] so that keys are handled in
    /// time. False once no more records can arrive.
    fn pass_on(&mut self, view: &mut Interactive) -> bool {
        for _ in 0..RECORDS_PER_TURN {
            match self.live.records.try_recv() {
                Ok(record) => {
                    if let Some(failure) = self.recorder.pass(&record, |record| view.take(record)) {
                        view.say(&failure);
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        true
    }
}
