//! A live session: from a process to a stream of records.
//!
//! Finds out where Tokio keeps its state, checks that on the running threads, loads the kernel
//! side and starts the ring and analysis threads. What comes out is the same stream a trace gives.

pub mod preflight;
pub mod priority;
pub mod starting;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::analysis::fault_cost;
use crate::analysis::pipeline::{self, Subject};
use crate::capture::{CaptureConfig, Drained, Learnt, RingThread, Tracking, census, messages};
use crate::clock;
use crate::failure::Failure;
use crate::model::{Header, Record, Tier};
use crate::target::debug_files::{DebugFile, DebugFiles};
use crate::target::mapped_file::root_of;
use crate::target::memory::{ProcessMemory, read_stack};
use crate::target::modules::ModuleMap;
use crate::target::process::Target;
use crate::tokio::{self, Discovery, Progress, TokioLayout, Waiting};
use crate::tracking::{LayoutSearch, frames_tell_polls};

/// Drained events that may wait for the analysis, each with a stack of up to 16 KiB. It takes none
/// while it reads symbols, for a second or so.
const DRAINED_ROOM: usize = 4096;
/// Records that may wait for the view.
const RECORDS_ROOM: usize = 4096;

/// What to watch for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Polls that hold their worker at least this long are slow.
    pub threshold: Duration,
    /// An unstripped twin of the executable, to take symbols and debug info from.
    pub symbols: Option<PathBuf>,
    /// Where the debug files of all modules are looked for.
    pub debug_files: DebugFiles,
    /// Begin with all poll time on.
    pub all_poll_time: bool,
    /// What workers' names begin with, for where nothing else tells who they are.
    pub worker_names: Option<String>,
    /// Know polls by the workers' frames even where Tokio's state could be read: for tests.
    pub by_frames: bool,
}

/// How polls will be known.
struct Chosen {
    tracking: Tracking,
    tier: Tier,
    /// Why not in a better way, and what that costs.
    why: Option<String>,
}

impl Chosen {
    fn state(layout: TokioLayout) -> Chosen {
        Chosen {
            tracking: Tracking::State(layout),
            tier: layout.tier(),
            why: None,
        }
    }

    /// By the workers' frames; why.
    fn frames(why: &str) -> Chosen {
        let why = format!(
            "polls are known by the stacks of the workers alone ({why}): task ids are not known, and \
             polls may be missed or counted as one; hud --help, 'Tracking tiers'"
        );
        Chosen {
            tracking: Tracking::Frames,
            tier: Tier::Frames,
            why: Some(why),
        }
    }

    /// Not at all; why, and what would help.
    fn nothing(why: &str) -> Chosen {
        let why = format!(
            "polls cannot be seen, only how busy threads are: {why}. To see polls give it its \
             symbols: name an unstripped copy with --symbols, or let --debug-dir or --debuginfod find \
             its debug file; or build it with debug = true"
        );
        Chosen {
            tracking: Tracking::Nothing,
            tier: Tier::Scheduler,
            why: Some(why),
        }
    }
}

/// What a start is busy with: it can take seconds, and whoever waits wants to know for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Looking for Tokio's state in the executable and its debug info.
    ReadingExecutable {
        file: String,
        bytes: u64,
    },
    /// Asking a server for debug info, as the user wants; what it is asked, or what went wrong.
    Debuginfod(String),
    /// No thread of the process runs a scheduler yet.
    WaitingForRuntime,
    /// No known layout of Tokio's state fits: it is learnt from what the workers do.
    LearningLayout,
    Attaching,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::ReadingExecutable { file, bytes } => {
                write!(f, "reading {file} ({})", mebibytes(*bytes))
            }
            Step::Debuginfod(what) => f.write_str(what),
            Step::WaitingForRuntime => {
                f.write_str("no Tokio runtime runs in it yet: waiting for one")
            }
            Step::LearningLayout => f.write_str(
                "no known layout of Tokio's state fits: learning it from what the workers do",
            ),
            Step::Attaching => f.write_str("attaching"),
        }
    }
}

/// A file's size, as people say it.
fn mebibytes(bytes: u64) -> String {
    match bytes >> 20 {
        0 => "under 1 MiB".to_owned(),
        mib => format!("{mib} MiB"),
    }
}

/// A session under way. Dropping it detaches everything.
pub struct Live {
    pub header: Header,
    /// Ends when the session was stopped and everything is analysed.
    pub records: Receiver<Record>,
    /// What the user should know although it is no obstacle, a line each.
    pub notes: Vec<String>,
    /// The process has become another program.
    replaced: Arc<AtomicBool>,
    symbols_read: Arc<AtomicBool>,
    /// Size of the file that the symbols are read from; 0 where unknown.
    symbol_bytes: u64,
    /// The way to the analysis for what comes not from the ring; closed when it is to end.
    drained: Option<SyncSender<Drained>>,
    ring: Option<RingThread>,
    analysis: Option<JoinHandle<()>>,
}

impl Live {
    /// Attaches to the process. Waits for its first runtime if there is none yet, until `stop` is
    /// set. What it is busy with is told through `say`, each step once.
    ///
    /// # Errors
    /// A [`Failure`] that names what is missing and a hint what to do; none if it was stopped early.
    pub fn start(
        target: &Target,
        options: &Options,
        stop: &AtomicBool,
        mut say: impl FnMut(Step),
    ) -> Result<Option<Live>> {
        messages::to_log();
        priority::raise();
        preflight::process(target)?;
        let executable = PathBuf::from(format!("/proc/{}/exe", target.pid));
        let modules = modules_of(target, options, &mut say)?;
        say(reading(target, options.symbols.as_deref(), &executable));
        let main = modules.main();
        let found = main.and_then(|main| modules.debug_file(main));
        let found = found.map(DebugFile::open_path);
        // The path that the user gave stands in messages about it.
        let symbols = options.symbols.as_ref().or(found.as_ref());
        let discovery = tokio::discover(&executable, symbols.map(PathBuf::as_path)).map_err(
            |error| match error.is::<Failure>() {
                true => error,
                false => error.context(gone_or(target, "cannot read its executable")),
            },
        )?;
        let mut notes = preflight::program(target, &discovery)?;
        notes.extend(preflight::kernel_names());
        if let Some(found) = modules.main().and_then(|main| main.debug.as_ref()) {
            // In the target's own file system it has the path that the target knows.
            let inside = found.path.strip_prefix(root_of(target.pid));
            let path = inside.map_or_else(
                |_| found.path.display().to_string(),
                |path| format!("/{}", path.display()),
            );
            notes.push(format!("debug info of {}: {path}", target.comm));
        }
        let chosen = match options.by_frames {
            true => Chosen::frames("as asked for"),
            false => match choose(target, &discovery, stop, &mut say)? {
                Some(chosen) => chosen,
                None => return Ok(None),
            },
        };
        say(Step::Attaching);
        let Chosen {
            tracking,
            tier,
            why,
        } = chosen;
        let layout = tracking.layout().copied();
        let (drained_in, drained) = mpsc::sync_channel(DRAINED_ROOM);
        let (records_in, records) = mpsc::sync_channel(RECORDS_ROOM);
        if let Some(why) = why {
            notes.push(format!("tier {}: {why}", tier.number()));
            let at_ns = clock::monotonic_ns();
            // The receiver is here, and there is room.
            let _ = records_in.send(Record::TierChanged { tier, at_ns, why });
        }
        let learnt = Learnt::beside(layout.as_ref());
        let symbols_read = Arc::<AtomicBool>::default();
        let symbol_bytes = symbol_bytes(&modules);
        let replaced = Arc::<AtomicBool>::default();
        let tokio_version = discovery.tokio_version().map(str::to_owned);
        let analysis = pipeline::start(
            Subject {
                pid: target.pid,
                layout,
                other_ticks: layout.map_or(Vec::new(), |layout| discovery.other_ticks(&layout)),
                discovery,
                learnt: learnt.clone(),
                symbols_read: Arc::clone(&symbols_read),
                replaced: Arc::clone(&replaced),
                tier,
                threshold: options.threshold,
                fault_ns: fault_cost::measure(),
                modules,
            },
            drained,
            records_in,
        )?;
        let config = CaptureConfig {
            pid: target.pid,
            threshold: options.threshold,
            tracking,
            worker_names: options.worker_names.clone(),
            all_poll_time: options.all_poll_time,
        };
        let ring = RingThread::start(config, learnt, drained_in.clone())
            .with_context(|| gone_or(target, "cannot attach"))?;
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
            replaced,
            symbols_read,
            symbol_bytes,
            drained: Some(drained_in),
            ring: Some(ring),
            analysis: Some(analysis),
        }))
    }

    /// What the analysis is busy with before it can report findings: the symbols of a large binary
    /// take up to a second to read. What is captured meanwhile is reported afterwards.
    pub fn busy_with(&self) -> Option<String> {
        let size = || match self.symbol_bytes {
            0 => String::new(),
            bytes => format!(" ({})", mebibytes(bytes)),
        };
        let is_read = self.symbols_read.load(Ordering::Relaxed);
        (!is_read).then(|| format!("reading symbols{}: findings follow", size()))
    }

    /// Whether the process has replaced itself by another program: the one that was watched is gone.
    pub fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Relaxed)
    }

    /// Whether nothing is captured any more, by an error that [`Live::stop`] tells.
    pub fn has_failed(&self) -> bool {
        self.ring.as_ref().is_some_and(RingThread::has_failed)
    }

    /// Samples where all of the workers' poll time goes from now on, or no longer.
    pub fn set_all_poll_time(&self, on: bool) {
        if let Some(ring) = &self.ring {
            ring.set_all_poll_time(on);
        }
    }

    /// Looks at every thread of the process; a [`Record::Census`] follows.
    ///
    /// # Errors
    /// When the kernel refuses the look, or the analysis is too far behind to take it.
    pub fn census(&self) -> Result<()> {
        let Some(drained) = &self.drained else {
            return Ok(()); // ending already
        };
        let memory = ProcessMemory::new(self.header.pid);
        let threads = census::take(self.header.pid, |sp| read_stack(&memory, sp))
            .context("cannot look at every thread")?;
        let census = Drained::Census {
            at_ns: clock::monotonic_ns(),
            threads,
        };
        drained
            .try_send(census)
            .map_err(|_| anyhow!("cannot look at every thread: the analysis is too far behind"))
    }

    /// Detaches. The records that are left can still be received; their channel closes after them.
    ///
    /// # Errors
    /// When the ring thread ended with an error of its own.
    pub fn stop(&mut self) -> Result<()> {
        self.drained = None;
        self.ring.take().map_or(Ok(()), RingThread::stop)
    }

    /// Waits for the analysis to end; call it once the records are received.
    ///
    /// # Errors
    /// When the analysis ended by a panic.
    pub fn finish(mut self) -> Result<()> {
        self.stop()?;
        match self.analysis.take() {
            Some(analysis) => analysis
                .join()
                .map_err(|_| anyhow!("the analysis thread panicked")),
            None => Ok(()),
        }
    }
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

/// The error's first line: that the process is gone, if it is, for then nothing else matters.
fn gone_or(target: &Target, what: &str) -> String {
    if target.is_alive() {
        format!("PID {} ({}): {what}", target.pid, target.comm)
    } else {
        target.exited().to_string()
    }
}

/// Opens the file that the user gave for the executable's symbols.
///
/// # Errors
/// When it cannot be opened, or is no ordinary file.
pub fn open_twin(path: &Path) -> Result<DebugFile> {
    DebugFile::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// Size of the file that has the executable's symbols.
fn symbol_bytes(modules: &ModuleMap) -> u64 {
    let main = modules.main();
    let debug = main.and_then(|main| modules.debug_file(main));
    let file = debug.map(|debug| &debug.file);
    let file = file.or_else(|| main?.file.as_ref());
    let metadata = file.and_then(|file| file.metadata().ok());
    metadata.map_or(0, |metadata| metadata.len())
}

fn modules_of(target: &Target, options: &Options, say: &mut impl FnMut(Step)) -> Result<ModuleMap> {
    let debug_files = options.debug_files.clone();
    let mut say = |what: &str| say(Step::Debuginfod(what.to_owned()));
    let mut modules = ModuleMap::with_debug_files(target.pid, debug_files, &mut say)
        .with_context(|| gone_or(target, "cannot read its memory map"))?;
    if let Some(path) = &options.symbols {
        modules.set_symbols(open_twin(path)?);
    }
    Ok(modules)
}

/// How polls will be known: by the layout of the live threads' state, if one is found. None if
/// stopped before there was a runtime.
fn choose(
    target: &Target,
    discovery: &Discovery,
    stop: &AtomicBool,
    say: &mut impl FnMut(Step),
) -> Result<Option<Chosen>> {
    let mut search = LayoutSearch::new(target.pid, discovery)?;
    let mut told = Waiting::Shortly;
    loop {
        match search.step()? {
            Progress::Found(layout) => {
                log::debug!("{layout:?}");
                return Ok(Some(Chosen::state(layout)));
            }
            Progress::Failed(why) if frames_tell_polls(discovery) => {
                return Ok(Some(Chosen::frames(&why)));
            }
            Progress::Failed(why) => {
                return Ok(Some(Chosen::nothing(&format!(
                    "{}'s Tokio ({}) keeps its state differently from what hud knows: {why}",
                    target.comm,
                    discovery.tokio_version().unwrap_or("unknown version")
                ))));
            }
            Progress::Wait(..) if !target.is_alive() => {
                return Err(target.exited().into());
            }
            Progress::Wait(time, waiting) => {
                match waiting {
                    _ if waiting == told => {}
                    Waiting::Shortly => {}
                    Waiting::Runtime => say(Step::WaitingForRuntime),
                    Waiting::Polls => say(Step::LearningLayout),
                }
                told = waiting;
                if stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                thread::sleep(time);
            }
        }
    }
}
