//! Runs hud from a validated configuration to its end: a live session or a replay, in the
//! interactive view or printed.

mod watch;

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::watch::Watch;
use crate::analysis::late_names::LateNames;
use crate::capture::MIN_SAMPLE_PERIOD;
use crate::cli::{Config, Export, Source};
use crate::failure::{Failure, Kind};
use crate::headless::Headless;
use crate::interactive::{Interactive, Turn};
use crate::live::preflight;
use crate::live::starting::Starting;
use crate::live::{Live, Options, Step, open_twin};
use crate::model::Record;
use crate::processes::{self, is_tokio};
use crate::recorder::{Destination, Recorder};
use crate::replay;
use crate::report;
use crate::target::debug_files::DebugFiles;
use crate::target::debuginfod::Debuginfod;
use crate::target::lookup;
use crate::target::process::Target;
use crate::text;
use crate::tui::terminal::Screen;

/// Runs hud as configured.
///
/// # Errors
/// A [`Failure`] where the user can do something about it; any other error otherwise.
pub fn run(config: &Config) -> Result<()> {
    if let Some(destination) = destination(config) {
        destination.check()?;
    }
    if let Source::Trace(path) = &config.source {
        let stop = stop_on_signals()?;
        return match config.export {
            Some(_) => convert(config, path),
            None => show_trace(config, path, &stop),
        };
    }
    let own = std::process::id();
    // Asked for before signals are handled: Ctrl+C at the question ends hud.
    let chosen = match config.source {
        Source::Choice => match choose(config, own)? {
            Some(target) => Some(target),
            None => return Ok(()),
        },
        _ => None,
    };
    let stop = stop_on_signals()?;
    // Before any process is looked up: without privileges those errors are less clear.
    preflight::system()?;
    let target = match (&config.source, chosen) {
        (_, Some(target)) => target,
        (Source::Name(name), _) => lookup::by_name(name, own, is_tokio)?,
        (Source::Executable(path), _) => lookup::by_executable(path, own)?,
        (Source::Pid(pid), _) => by_pid(*pid, own)?,
        (Source::ContainerPid(pid, name), _) => {
            lookup::by_container_pid(*pid, name.as_deref(), own)?
        }
        (Source::Choice | Source::Trace(_), None) => return Ok(()),
    };
    watch(config, &target, &stop)
}

/// A flag that is set once a signal asks hud to end.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
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
    Ok(stop)
}

/// Lists the Tokio processes. In a terminal, the user chooses one; otherwise None.
fn choose(config: &Config, own: u32) -> Result<Option<Target>> {
    let listing = processes::list(own)?;
    if listing.processes.is_empty() {
        return Err(listing.nothing_found().into());
    }
    if let Some(what) = listing.note() {
        note(config, &what);
    }
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    if !stdin.is_terminal() || !stdout.is_terminal() {
        report::print(&listing.table(false))?;
        return Ok(None);
    }
    let chosen = listing.choose(stdin.lock(), stdout.lock())?;
    chosen.map(|process| Target::open(process.pid)).transpose()
}

/// Where to record, as configured.
fn destination(config: &Config) -> Option<Destination> {
    config.export.clone().map(|export| Destination {
        export,
        overwrite: config.force,
    })
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
    let taken = config.export == Some(Export::Stdout);
    if config.headless || taken || !std::io::stdout().is_terminal() {
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

/// Shows a recorded trace.
fn show_trace(config: &Config, path: &Path, stop: &AtomicBool) -> Result<()> {
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

/// Writes a recorded trace anew: cut, and with the names that can be found now.
fn convert(config: &Config, path: &Path) -> Result<()> {
    let destination = destination(config);
    if let Some(Export::File(to)) = &config.export
        && let (Ok(from), Ok(to)) = (path.canonicalize(), to.canonicalize())
        && from == to
    {
        let what = "a trace cannot be written over itself";
        return Err(Failure::new(Kind::Usage, what).into());
    }
    let mut recorder = None;
    let mut slow_polls = 0_u64;
    let notes = read(config, path, |record| {
        if let Record::Header(header) = &record {
            recorder = Some(Recorder::new(destination.as_ref(), header)?);
        }
        slow_polls += u64::from(matches!(record, Record::SlowPoll(_)));
        let failure = recorder
            .as_mut()
            .and_then(|recorder| recorder.pass(&record, |_| ()));
        failure.map_or(Ok(()), |failure| Err(anyhow::anyhow!(failure)))
    })?;
    if let Some(mut recorder) = recorder {
        recorder.finish(|_| ())?;
    }
    notes.iter().for_each(|what| note(config, what));
    if let Some(Export::File(to)) = &config.export {
        let written = text::counted(slow_polls, "slow poll");
        note(config, &format!("wrote {} with {written}", to.display()));
    }
    Ok(())
}

/// Reads a trace as configured. Returns notes for the user.
fn read(
    config: &Config,
    path: &Path,
    take: impl FnMut(Record) -> Result<()>,
) -> Result<Vec<String>> {
    let symbols = config.symbols.as_deref().map(open_twin).transpose()?;
    let names = LateNames::new(symbols, debug_files(config)?);
    replay::read(config, path, names, take)
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
        let period = text::setting(MIN_SAMPLE_PERIOD.as_nanos() as u64);
        format!(
            "running code is sampled every {period}: shorter polls are found only if they sleep"
        )
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

/// Prints a line about hud's own progress to standard error, unless `--quiet`.
fn note(config: &Config, what: &str) {
    if !config.quiet {
        report::warn(what);
    }
}
