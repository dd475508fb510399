//! Starts a live session: reads the executable, finds out how polls can be tracked, attaches, and
//! starts the threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result};

use super::{Live, Options, Step, preflight, priority};
use crate::analysis::fault_cost;
use crate::analysis::pipeline::{self, AnalysisConfig, Status};
use crate::capture::{CaptureConfig, Order, RingThread, messages};
use crate::clock;
use crate::failure::Failure;
use crate::model::{Header, Record};
use crate::target::debug_files::DebugFile;
use crate::target::mapped_file::root_of;
use crate::target::modules::ModuleMap;
use crate::target::process::Target;
use crate::tokio::{self, Discovery, Waiting};
use crate::tracking::{self, Choice, Tracker};

/// Drained events that may wait for the analysis, each with a stack of up to 16 KiB. It takes none
/// while it reads symbols, for up to a second; what does not fit is dropped and counted.
const DRAINED_ROOM: usize = 4096;
/// Records that may wait for the view.
const RECORDS_ROOM: usize = 4096;

impl Live {
    /// Attaches to the process. Waits for its first runtime if there is none yet, until `stop` is
    /// set. Passes what it is busy with to `on_step`, each step once. None if it was stopped.
    ///
    /// # Errors
    /// A [`Failure`] where the user can do something about it; any other error otherwise.
    pub fn start(
        target: &Target,
        options: &Options,
        stop: &AtomicBool,
        mut on_step: impl FnMut(Step),
    ) -> Result<Option<Live>> {
        messages::to_log();
        priority::raise();
        preflight::process(target)?;
        let modules = modules_of(target, options, &mut on_step)?;
        let discovery = discover(target, options, &modules, &mut on_step)?;
        let mut notes = preflight::program(target, &discovery)?;
        notes.extend(preflight::kernel_names());
        notes.extend(preflight::stopped(target));
        notes.extend(debug_file_note(target, &modules));
        let choice = match options.by_frames {
            true => Some(Choice::frames("as requested")),
            false => choose(target, &discovery, stop, &mut on_step)?,
        };
        let Some(Choice { mode, why }) = choice else {
            return Ok(None);
        };
        on_step(Step::Attaching);
        let tier = mode.tier();
        let (drained_in, drained) = mpsc::sync_channel(DRAINED_ROOM);
        let (records_in, records) = mpsc::sync_channel(RECORDS_ROOM);
        let (orders_in, orders) = mpsc::channel();
        if let Some(why) = why {
            notes.push(format!("tier {}: {why}", tier.number()));
            let at_ns = clock::monotonic_ns();
            // The receiver exists, and there is room.
            let _ = records_in.send(Record::TierChanged { tier, at_ns, why });
        }
        let status = Arc::<Status>::default();
        let symbol_bytes = symbol_bytes(&modules);
        let tokio_version = discovery.tokio_version().map(str::to_owned);
        // Before the programs are loaded, so that it reads symbols meanwhile.
        let analysis = pipeline::start(
            AnalysisConfig {
                pid: target.pid,
                threshold: options.threshold,
                fault_ns: fault_cost::measure(),
                modules,
                tracker: Tracker::new(mode, discovery, Instant::now()),
                orders: orders_in.clone(),
                status: Arc::clone(&status),
            },
            drained,
            records_in,
        )?;
        let config = CaptureConfig {
            pid: target.pid,
            threshold: options.threshold,
            tracking: mode,
            worker_names: options.worker_names.clone(),
        };
        let ring = RingThread::start(config, (orders_in, orders), drained_in.clone())
            .with_context(|| exited_or(target, "cannot attach"))?;
        if options.all_poll_time {
            ring.order(Order::AllPollTime(true));
        }
        let header = Header {
            hud_version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: target.pid,
            process: target.comm.clone(),
            command: target.command.clone(),
            executable: target.executable.display().to_string(),
            tokio_version,
            tier,
            threshold_ns: options.threshold.as_nanos() as u64,
            start_ns: clock::monotonic_ns(),
            start_unix_ns: clock::unix_ns(),
        };
        Ok(Some(Live {
            header,
            records,
            notes,
            status,
            symbol_bytes,
            drained: Some(drained_in),
            ring: Some(ring),
            analysis: Some(analysis),
        }))
    }
}

/// What the executable says of its Tokio, with the help of a file that has its symbols.
fn discover(
    target: &Target,
    options: &Options,
    modules: &ModuleMap,
    on_step: &mut impl FnMut(Step),
) -> Result<Discovery> {
    let executable = PathBuf::from(format!("/proc/{}/exe", target.pid));
    on_step(reading(target, options.symbols.as_deref(), &executable));
    let main = modules.main();
    let found = main.and_then(|main| modules.debug_file(main));
    let found = found.map(DebugFile::open_path);
    // Messages name the file by the path that the user gave.
    let symbols = options.symbols.as_ref().or(found.as_ref());
    tokio::discover(&executable, symbols.map(PathBuf::as_path)).map_err(|error| {
        match error.is::<Failure>() {
            true => error,
            false => error.context(exited_or(target, "cannot read its executable")),
        }
    })
}

/// How polls of the target can be tracked. None if stopped before there was a runtime.
fn choose(
    target: &Target,
    discovery: &Discovery,
    stop: &AtomicBool,
    on_step: &mut impl FnMut(Step),
) -> Result<Option<Choice>> {
    let mut reported = Waiting::Shortly;
    tracking::choose(target.pid, &target.comm, discovery, stop, |waiting| {
        if !target.is_alive() {
            return Err(target.exited().into());
        }
        match waiting {
            _ if waiting == reported => {}
            Waiting::Shortly => {}
            Waiting::Runtime => on_step(Step::WaitingForRuntime),
            Waiting::Polls => on_step(Step::LearningLayout),
        }
        reported = waiting;
        Ok(())
    })
}

/// Which debug file of the executable is used, if one was found.
fn debug_file_note(target: &Target, modules: &ModuleMap) -> Option<String> {
    let found = modules.main()?.debug.as_ref()?;
    // A file in the target's own file system has the path that the target knows.
    let inside = found.path.strip_prefix(root_of(target.pid));
    let path = inside.map_or_else(
        |_| found.path.display().to_string(),
        |path| format!("/{}", path.display()),
    );
    Some(format!("debug info of {}: {path}", target.comm))
}

fn reading(target: &Target, symbols: Option<&Path>, executable: &Path) -> Step {
    let name = symbols.unwrap_or(&target.executable);
    let size = std::fs::metadata(symbols.unwrap_or(executable));
    Step::ReadingExecutable {
        file: name.file_name().map_or_else(
            || target.comm.clone(),
            |file| file.to_string_lossy().into_owned(),
        ),
        bytes: size.map_or(0, |size| size.len()),
    }
}

/// An error's first line: `what` failed, unless the process has exited, which explains everything.
fn exited_or(target: &Target, what: &str) -> String {
    if target.is_alive() {
        format!("PID {} ({}): {what}", target.pid, target.comm)
    } else {
        target.exited().to_string()
    }
}

/// Opens the file that the user gave for the executable's symbols.
///
/// # Errors
/// When it cannot be opened, or is not a regular file.
pub fn open_twin(path: &Path) -> Result<DebugFile> {
    DebugFile::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// Size of the file that has the executable's symbols; 0 where unknown.
fn symbol_bytes(modules: &ModuleMap) -> u64 {
    let main = modules.main();
    let debug = main.and_then(|main| modules.debug_file(main));
    let file = debug.map(|debug| &debug.file);
    let file = file.or_else(|| main?.file.as_ref());
    let metadata = file.and_then(|file| file.metadata().ok());
    metadata.map_or(0, |metadata| metadata.len())
}

fn modules_of(
    target: &Target,
    options: &Options,
    on_step: &mut impl FnMut(Step),
) -> Result<ModuleMap> {
    let debug_files = options.debug_files.clone();
    let mut on_request = |what: &str| on_step(Step::Debuginfod(what.to_owned()));
    let mut modules = ModuleMap::with_debug_files(target.pid, debug_files, &mut on_request)
        .with_context(|| exited_or(target, "cannot read its memory map"))?;
    if let Some(path) = &options.symbols {
        modules.set_symbols(open_twin(path)?);
    }
    Ok(modules)
}
