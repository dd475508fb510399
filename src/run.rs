//! What hud does, from a validated configuration to its end: live or replayed, in which view.

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
use crate::target::process::{Lifeline, Target};
use crate::tui::terminal::Screen;

/// How often the end is looked for while no records come.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Records the interactive view takes in before it looks for keys again.
const AT_ONCE: usize = 1024;

/// Does what the configuration says.
///
/// # Errors
/// A [`crate::failure::Failure`] says what is missing and a hint what to do.
pub fn run(config: &Config) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // A second one ends hud at once, should it hang; but a terminal that goes away hangs up
        // more than once, through the kernel and through the shell.
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
        // First of all: without privileges, every look at a process only fails less clearly.
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

/// The process of that number; where there is none, perhaps a container has one.
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
        return false;
    }
    // A serial console calls itself 0 columns wide.
    let has_size = Screen::has_size();
    if !has_size {
        note(
            config,
            "this terminal does not say how large it is, so findings are printed; for the \
             interactive view, say it with, for instance: stty rows 40 cols 120",
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
    // Read first: a file that is no trace is an error in the shell, not a flash of a screen.
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

/// Reads a trace, with names for what was recorded without; gives what the user should know.
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

/// A recorded record as if it had been recorded with this threshold; None for a poll that was
/// shorter. What its cause is stays as it was found.
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
        // The screen is there before anything is known; an error takes it down again.
        let mut view = Interactive::new(config)?;
        view.watches(target);
        view.set_status(Some("starting".to_owned()));
        let starting = Starting::begin(target, options, stop)?;
        return match start_in_view(starting, &mut view, stop)? {
            Some(live) => Watch::new(config, target, stop, live)?.interactively(view),
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
    for what in &live.notes {
        note(config, what);
    }
    Watch::new(config, target, stop, live)?.headless()
}

/// Keeps the screen alive during a start. None if the user did not wait for it.
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

/// Where debug files are looked for.
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

/// A live session with all that can end it.
struct Watch<'a> {
    config: &'a Config,
    target: &'a Target,
    lifeline: Lifeline,
    stop: &'a AtomicBool,
    deadline: Option<Instant>,
    live: Live,
    recorder: Recorder,
    /// Set by SIGQUIT: every thread is to be listed now.
    dump: Arc<AtomicBool>,
}

impl<'a> Watch<'a> {
    /// Begins the trace, if there is to be one.
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
            lifeline: Lifeline::to(target)?,
            live,
            recorder: Recorder::new(trace),
            dump: Arc::default(),
        })
    }

    /// Why to end now, if there is a reason.
    fn over(&self) -> Option<EndReason> {
        if self.stop.load(Ordering::Relaxed) || self.live.has_failed() {
            return Some(EndReason::Interrupted);
        }
        if self.deadline.is_some_and(|at| Instant::now() >= at) {
            return Some(EndReason::Duration);
        }
        let gone = self.live.is_replaced() || !self.lifeline.holds();
        gone.then_some(EndReason::TargetExited)
    }

    /// Detaches, gives the view all that is left, and completes the trace.
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

    /// Asks for a look at every thread, which comes as a record.
    fn census(&self) {
        if let Err(error) = self.live.census() {
            report::warn(format!("{error:#}"));
        }
    }

    fn headless(mut self) -> Result<()> {
        signal_hook::flag::register(SIGQUIT, Arc::clone(&self.dump))
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
            let received = self.live.records.recv_timeout(LOOK_EVERY);
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
                Err(RecvTimeoutError::Disconnected) => break EndReason::Interrupted,
            }
            if result.is_err() || view.is_closed() {
                break EndReason::Interrupted;
            }
            if self.dump.swap(false, Ordering::Relaxed) {
                self.census();
            }
            if let Some(reason) = self.over() {
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
                // What the view cannot show is recorded all the same.
                drop(view);
                if let Err(error) = self.end(EndReason::Interrupted, |_| ()) {
                    report::warn(format!("{error:#}"));
                }
                resume_unwind(panic);
            }
        };
        if reason != EndReason::TargetExited {
            // The shell is back at once; the trace is completed meanwhile.
            drop(view);
            let ended = self.end(reason, |_| ());
            self.live.finish()?;
            return ended;
        }
        // The target is gone, what is known of it stays on the screen.
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

    /// Keeps the view going until there is a reason to end.
    fn watch_in(&mut self, view: &mut Interactive) -> EndReason {
        loop {
            if !self.pass_on(view) {
                return EndReason::Interrupted;
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
            if let Some(reason) = self.over() {
                return reason;
            }
        }
    }

    /// Gives the view what has come, but not so much at once that keys would have to wait. False
    /// once nothing more can come.
    fn pass_on(&mut self, view: &mut Interactive) -> bool {
        for _ in 0..AT_ONCE {
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

/// A line about hud's own progress, on standard error.
fn note(config: &Config, what: &str) {
    if !config.quiet {
        report::warn(what);
    }
}
