//! A live session: from a process to a stream of records, the same that a trace gives.

pub mod preflight;
pub mod priority;
mod start;
pub mod starting;
mod step;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use self::step::mebibytes;
use crate::analysis::pipeline::Status;
use crate::capture::{Drained, Order, RingThread, census};
use crate::clock;
use crate::model::{Header, Record};
use crate::target::debug_files::DebugFiles;
use crate::target::memory::{ProcessMemory, read_stack};

pub use self::start::open_twin;
pub use self::step::Step;

/// What to watch for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Polls that hold their worker at least this long are slow.
    pub threshold: Duration,
    /// An unstripped copy of the executable, to take symbols and debug info from.
    pub symbols: Option<PathBuf>,
    /// Where to search for the debug files of all modules.
    pub debug_files: DebugFiles,
    /// Begin with all poll time on.
    pub all_poll_time: bool,
    /// Tier 5: prefix of the workers' thread names.
    pub worker_names: Option<String>,
    /// Track polls by stacks (tier 4) even where Tokio's state can be read.
    pub by_frames: bool,
}

/// A session under way. Dropping it detaches everything.
pub struct Live {
    pub header: Header,
    /// Closes when the session was stopped and everything is analysed.
    pub records: Receiver<Record>,
    /// What the user should know, a line each.
    pub notes: Vec<String>,
    status: Arc<Status>,
    /// Size of the file that the symbols are read from; 0 where unknown.
    symbol_bytes: u64,
    /// The channel to the analysis, for the census; closed when the session is to end.
    drained: Option<SyncSender<Drained>>,
    ring: Option<RingThread>,
    analysis: Option<JoinHandle<()>>,
}

impl Live {
    /// What the analysis is busy with before it can report findings: the symbols of a large binary
    /// take up to a second to read. What is captured meanwhile is reported afterwards.
    pub fn busy_with(&self) -> Option<String> {
        let size = || match self.symbol_bytes {
            0 => String::new(),
            bytes => format!(" ({})", mebibytes(bytes)),
        };
        let is_read = self.status.symbols_read.load(Ordering::Relaxed);
        (!is_read).then(|| format!("reading symbols{}: findings follow", size()))
    }

    /// Whether the process has replaced itself by another program, so that what was watched is gone.
    pub fn is_replaced(&self) -> bool {
        self.status.replaced.load(Ordering::Relaxed)
    }

    /// Whether the capture or the analysis has failed; [`Live::stop`] and [`Live::finish`] return the
    /// error.
    pub fn has_failed(&self) -> bool {
        let is_over = |thread: &JoinHandle<()>| thread.is_finished();
        self.ring.as_ref().is_some_and(RingThread::has_failed)
            || self.analysis.as_ref().is_some_and(is_over)
    }

    /// Samples all of the workers' poll time from now on, or no longer.
    pub fn set_all_poll_time(&self, on: bool) {
        if let Some(ring) = &self.ring {
            ring.order(Order::AllPollTime(on));
        }
    }

    /// Takes a census of the process's threads; a [`Record::Census`] follows.
    ///
    /// # Errors
    /// When the kernel refuses the task iterator, or the channel to the analysis is full.
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

    /// Detaches. The remaining records can still be received; their channel closes after them.
    ///
    /// # Errors
    /// The capture's own error, if it failed.
    pub fn stop(&mut self) -> Result<()> {
        self.drained = None;
        self.ring.take().map_or(Ok(()), RingThread::stop)
    }

    /// Waits for the analysis to end; to be called once the records are received.
    ///
    /// # Errors
    /// When the capture failed, or the analysis panicked.
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
