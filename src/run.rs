//! What hud does, from a validated configuration to its end: live or replayed, in which view.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam_channel::RecvTimeoutError;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::{Config, Source};
use crate::clock;
use crate::export::{Completeness, TraceWriter, read_trace};
use crate::headless::Headless;
use crate::live::{Live, Options};
use crate::model::{EndReason, Record};
use crate::report;
use crate::target::preflight;
use crate::target::process::{self, Target};

/// How often the end is looked for while no records come.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Does what the configuration says.
///
/// # Errors
/// A [`crate::failure::Failure`] says what is missing and what mends it.
pub fn run(config: &Config) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // A second one ends hud at once, should it hang.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("cannot handle signals")?;
    }
    if !matches!(config.source, Source::Trace(_)) {
        // First of all: without privileges, every look at a process only fails less clearly.
        preflight::system()?;
    }
    match &config.source {
        Source::Trace(path) => replay(config, path),
        Source::Name(name) => watch(config, &process::find(name, std::process::id())?, &stop),
        Source::Pid(pid) => watch(config, &Target::open(*pid)?, &stop),
    }
}

fn replay(config: &Config, path: &Path) -> Result<()> {
    let mut view = Headless::new(config, None);
    let mut result = Ok(());
    let completeness = read_trace(path, |record| {
        if result.is_ok() {
            result = view.take(&record);
        }
    })
    .with_context(|| format!("cannot replay {}", path.display()))?;
    result?;
    if let Completeness::Truncated { recovered } = completeness {
        note(
            config,
            &format!("the recording was cut short: {recovered} records recovered"),
        );
    }
    view.finish(None)
}

fn watch(config: &Config, target: &Target, stop: &AtomicBool) -> Result<()> {
    let options = Options {
        threshold: config.threshold,
        symbols: config.symbols.clone(),
    };
    let live = Live::start(target, &options, stop, |what| note(config, what))?;
    let Some(mut live) = live else {
        return Ok(()); // stopped while waiting for a runtime
    };
    for what in &live.notes {
        note(config, what);
    }
    let trace = config
        .export
        .as_deref()
        .map(|path| TraceWriter::create(path, &live.header))
        .transpose()?;
    note(
        config,
        &format!(
            "watching {} (PID {}), polls of {} ms and more; Ctrl+C ends",
            target.comm,
            target.pid,
            config.threshold.as_secs_f64() * 1e3
        ),
    );
    let mut view = Headless::new(config, trace);
    view.take(&Record::Header(Box::new(live.header.clone())))?;

    let deadline = config.duration.map(|duration| Instant::now() + duration);
    let reason = loop {
        match live.records.recv_timeout(LOOK_EVERY) {
            Ok(record) => view.take(&record)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break EndReason::Interrupted,
        }
        if stop.load(Ordering::Relaxed) || view.is_closed() {
            break EndReason::Interrupted;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break EndReason::Duration;
        }
        if !target.is_alive() {
            break EndReason::TargetExited;
        }
    };
    let ended_ns = clock::monotonic_ns();
    let stopped = live.stop();
    for record in live.records.clone() {
        view.take(&record)?;
    }
    view.finish(Some((reason, ended_ns)))?;
    stopped?;
    live.finish()
}

/// A line about hud's own progress, on standard error.
fn note(config: &Config, what: &str) {
    if !config.quiet {
        report::warn(what);
    }
}
