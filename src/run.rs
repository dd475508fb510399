//! Runs hud from a validated configuration to its end: a live session or a replay, in the
//! interactive view or printed.

use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::analysis::late_names::LateNames;
use crate::cli::{Config, Source};
use crate::clock;
use crate::export::{Completeness, TraceWriter, read_trace};
use crate::failure::{Failure, Kind};
use crate::headless::Headless;
use crate::interactive::{Interactive, Turn};
use crate::live::preflight;
use crate::live::starting::Starting;
use crate::live::{Live, Options, Step, open_twin};
use crate::model::{EndReason, Record};
use crate::recorder::Recorder;
use crate::report;
use crate::target::debug_files::DebugFiles;
use crate::target::debuginfod::Debuginfod;
use crate::target::lookup;
use crate::target::process::{PidFd, Target};
use crate::tui::terminal::Screen;

/// Interval at which a printed session checks for its end while no records arrive.
const END_CHECK_EVERY: Duration = Duration::from_millis(100);
/// Records the interactive view applies before it handles keys again.
const RECORDS_PER_TURN: usize = 1024;
/// The shortest interval between two samples of running code.
const MIN_SAMPLE_PERIOD: Duration = Duration::from_millis(1);

/// Runs hud as configured.
///
/// # Errors
/// A [`Failure`] where the user can do something about it; any other error otherwise.
pub fn run(config: &Config) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // A second SIGINT or SIGTERM exits at once, in case hud hangs. Not a second SIGHUP: kernel
        // and shell each send one when the terminal closes.
        let at_once = match signal {
            SIGHUP => Ok(()),
            _ => signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))
                .map(drop),
        };
        at_once
            .and_then(|()| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("cannot handle signals")?;
    }
    if !matches!(config.source, Source::Trace(_)) {
        // Before any process is looked up: without privileges those errors are less clear.
        preflight::system()?;
    }
    let own = std::process::id();
    match &config.source {
        Source::Trace(path) => replay(config, path, &stop),
        Source::Name(name) => watch(config, &lookup::by_name(name, own)?, &stop),
        Source::Pid(pid) => watch(config, &by_pid(*pid, own)?, &stop),
        Source::ContainerPid(pid, name) => {
            let target = lookup::by_container_pid(*pid, name.as_deref(), own)?;
            watch(config, &target, &stop)
        }
    }
}

/// Opens the process of that PID. If there is none, the error hints at a container that has one.
fn by_pid(pid: u32, own: u32) -> Result<Target> {
    Target::open(pid).map_err(|error| {
        let here = Path::new("/proc").join(pid.to_string()).exists();
        let hint = lookup::container_hint(pid, own).filter(|_| !here);
        match (hint, error.downcast::<Failure>()) {
            (Some(hint), Ok(failure)) => failure.hint(hint).into(),
            (None, Ok(failure)) => failure.into(),
            (_, Err(error)) => error,
        }
    })
}

/// Whether there is a terminal to show the interactive view on.
fn interactive(config: &Config) -> bool {
    if config.headless || !std::io::stdout().is_terminal() {
        if config.window.is_some() {
            note(
                config,
                "--window has no effect without the interactive view",
            );
        }
        return false;
    }
    // A serial console reports 0 columns.
    let has_size = Screen::has_size();
    if !has_size {
        note(
            config,
            "this terminal does not report its size, so findings are printed; to get the \
             interactive view, set the size, for example: stty rows 40 cols 120",
        );
    }
    has_size
}

fn replay(config: &Config, path: &Path, stop: &AtomicBool) -> Result<()> {
    if !interactive(config) {
        let mut view = Headless::new(config);
        for what in read(config, path, |record| view.take(&record))? {
            note(config, &what);
        }
        return view.finish();
    }
    // Read before the terminal is taken, so that a file that is no trace is an error in the shell.
    let mut records = Vec::new();
    let notes = read(config, path, |record| {
        records.push(record);
        Ok(())
    })?;
    let mut view = Interactive::new(config)?;
    records.iter().for_each(|record| view.take(record));
    drop(records);
    notes.iter().for_each(|what| view.say(what));
    while !stop.load(Ordering::Relaxed) && view.turn() == Turn::GoOn {}
    Ok(())
}

/// Reads a trace and names the frames that were recorded without symbols. Returns notes for the
/// user.
fn read(
    config: &Config,
    path: &Path,
    mut take: impl FnMut(Record) -> Result<()>,
) -> Result<Vec<String>> {
    let twin = config.symbols.as_deref().map(open_twin).transpose()?;
    let mut names = LateNames::new(twin, debug_files(config)?);
    let mut result = Ok(());
    let asked_ns = config.threshold_given.then(|| nanos(config.threshold));
    let mut recorded_ns = 0;
    let completeness = read_trace(path, |record| {
        if let Record::Header(header) = &record {
            recorded_ns = header.threshold_ns;
        }
        let wanted = match asked_ns {
            Some(asked_ns) => from_threshold(record, asked_ns),
            None => Some(record),
        };
        if let (Some(record), true) = (wanted, result.is_ok()) {
            let named = names.name(record).map_err(anyhow::Error::from);
            result = named.and_then(&mut take);
        }
    });
    result?;
    let completeness = completeness.with_context(|| format!("cannot replay {}", path.display()))?;
    let mut notes = names.notes();
    if asked_ns.is_some_and(|asked_ns| asked_ns < recorded_ns) {
        notes.push(format!(
            "recorded from {} ms on: shorter polls are not in the trace",
            recorded_ns as f64 / 1e6
        ));
    }
    if let Completeness::Truncated { recovered } = completeness {
        notes.push(format!(
            "the recording was cut short: {recovered} records recovered"
        ));
    }
    Ok(notes)
}

/// The record as it would be at this higher threshold; None for a poll that is shorter. Causes are
/// not decided anew.
fn from_threshold(record: Record, threshold_ns: u64) -> Option<Record> {
    match record {
        Record::Header(mut header) => {
            header.threshold_ns = header.threshold_ns.max(threshold_ns);
            Some(Record::Header(header))
        }
        Record::SlowPoll(poll) | Record::Running(poll) if poll.held_ns() < threshold_ns => None,
        other => Some(other),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn watch(config: &Config, target: &Target, stop: &Arc<AtomicBool>) -> Result<()> {
    let options = Options {
        threshold: config.threshold,
        symbols: config.symbols.clone(),
        debug_files: debug_files(config)?,
        all_poll_time: config.all_poll_time,
        worker_names: config.workers_prefix.clone(),
        by_frames: config.by_frames,
    };
    if interactive(config) {
        // The screen is up before the start, which can take seconds; an error restores the terminal.
        let mut view = Interactive::new(config)?;
        view.watches(target);
        view.set_status(Some("starting".to_owned()));
        let starting = Starting::begin(target, options, stop)?;
        return match start_in_view(starting, &mut view, stop)? {
            Some(mut live) => {
                live.notes.extend(threshold_note(config));
                Watch::new(config, target, stop, live)?.interactively(view)
            }
            None => Ok(()),
        };
    }
    let live = Live::start(target, &options, stop, |step| match step {
        Step::WaitingForRuntime | Step::LearningLayout | Step::Debuginfod(_) => {
            note(config, &step.to_string());
        }
        Step::ReadingExecutable { .. } | Step::Attaching => {}
    })?;
    let Some(live) = live else {
        return Ok(()); // stopped while waiting for a runtime
    };
    for what in live.notes.iter().chain(&threshold_note(config)) {
        note(config, what);
    }
    Watch::new(config, target, stop, live)?.headless()
}

/// What a threshold below the sampling period costs.
fn threshold_note(config: &Config) -> Option<String> {
    (config.threshold < MIN_SAMPLE_PERIOD).then(|| {
        "running code is sampled every 1 ms: shorter polls are found only if they sleep".to_owned()
    })
}

/// Draws and handles keys until the session has started. None if the user quit before.
fn start_in_view(
    starting: Starting,
    view: &mut Interactive,
    stop: &AtomicBool,
) -> Result<Option<Live>> {
    while !starting.is_over() {
        if let Some(step) = starting.step() {
            view.set_status(Some(step.to_string()));
        }
        if stop.load(Ordering::Relaxed) || view.turn() == Turn::Quit {
            stop.store(true, Ordering::Relaxed);
            return Ok(None);
        }
    }
    view.set_status(None);
    starting.outcome()
}

/// Where to search for debug files, as configured.
fn debug_files(config: &Config) -> Result<DebugFiles> {
    for dir in &config.debug_dirs {
        let what = match dir.metadata() {
            Ok(found) if found.is_dir() => continue,
            Ok(_) => "it is no directory".to_owned(),
            Err(error) => error.to_string(),
        };
        let what = format!("--debug-dir {}: {what}", dir.display());
        return Err(Failure::new(Kind::Usage, what).into());
    }
    let server = config.debuginfod.then(Debuginfod::from_env).transpose()?;
    Ok(DebugFiles::new(config.debug_dirs.clone(), server))
}

/// A live session and everything that can end it.
struct Watch<'a> {
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
    fn new(
        config: &'a Config,
        target: &'a Target,
        stop: &'a AtomicBool,
        live: Live,
    ) -> Result<Self> {
        let trace = config
            .export
            .as_deref()
            .map(|path| TraceWriter::create(path, &live.header))
            .transpose()?;
        Ok(Watch {
            config,
            target,
            stop,
            deadline: config.duration.map(|duration| Instant::now() + duration),
            pidfd: PidFd::open(target)?,
            live,
            recorder: Recorder::new(trace),
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

    fn headless(mut self) -> Result<()> {
        signal_hook::flag::register(SIGQUIT, Arc::clone(&self.census_requested))
            .context("cannot handle signals")?;
        note(
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

    fn interactively(mut self, mut view: Interactive) -> Result<()> {
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

/// Prints a line about hud's own progress to standard error, unless `--quiet`.
fn note(config: &Config, what: &str) {
    if !config.quiet {
        report::warn(what);
    }
}
