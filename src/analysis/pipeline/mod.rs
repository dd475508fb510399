//! The analysis thread: takes what the ring thread drained, sends records.
//!
//! Everything slow happens here: unwinding, reading symbol tables, naming. The ring thread never
//! waits for it, and neither does any view.

mod census;
mod findings;
mod poll_time;
mod tracking;
mod usage;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::polls::Polls;
use super::profile::Profile;
use super::release::Releases;
use super::workers::Workers;
use crate::capture::{Drained, Event, Order, SeenThread, ThreadState};
use crate::clock::monotonic_ns;
use crate::model::{Losses, Record};
use crate::stacks::reader::StackReader;
use crate::target::memory::ProcessMemory;
use crate::target::modules::ModuleMap;
use crate::tracking::frames::Frames;
use crate::tracking::{Reacquire, Tracker};

/// How long the thread waits for something to do where nothing else is due.
const IDLE: Duration = Duration::from_secs(3600);

/// What to analyse.
pub struct AnalysisConfig {
    pub pid: u32,
    /// Polls that hold their worker at least this long are slow.
    pub threshold: Duration,
    /// What a page fault costs at least, nanoseconds.
    pub fault_ns: u64,
    pub modules: ModuleMap,
    pub tracker: Tracker,
    /// The way to the ring thread.
    pub orders: Sender<Order>,
    pub status: Arc<Status>,
}

/// What the analysis thread makes known beside its records.
#[derive(Debug, Default)]
pub struct Status {
    /// The symbols are read: no finding waits for them any more.
    pub symbols_read: AtomicBool,
    /// The process has replaced itself by another program.
    pub replaced: AtomicBool,
}

/// Starts the thread. It ends when all senders of `drained` are gone and everything is analysed; the
/// channel of records closes then.
///
/// # Errors
/// When no thread can be started.
pub fn start(
    config: AnalysisConfig,
    drained: Receiver<Drained>,
    records: SyncSender<Record>,
) -> Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("hud-analysis".into())
        .spawn(move || {
            let mut pipeline = Pipeline::new(config, records);
            pipeline.stacks.read_symbols();
            pipeline.status.symbols_read.store(true, Ordering::Relaxed);
            // Without a receiver of the records the session ends.
            let _ = pipeline.run(&drained);
        })
        .context("cannot start a thread")
}

/// The receiver of the records is gone.
struct Unread;

struct Pipeline {
    pid: u32,
    threshold_ns: u64,
    memory: ProcessMemory,
    records: SyncSender<Record>,
    status: Arc<Status>,
    stacks: StackReader,
    polls: Polls,
    profile: Profile,
    profile_reported_at: Instant,
    releases: Releases,
    workers: Workers,
    losses: Losses,
    reported_losses: Losses,
    /// Nanoseconds in hud's BPF programs, where the kernel counts them.
    bpf_ns: Option<u64>,
    /// When usage, losses and cost were reported last; None before the first time, so that the cost
    /// of the start is reported apart from that of the session.
    usage_reported_at: Option<Instant>,
    tracker: Tracker,
    orders: Sender<Order>,
    /// Tier 4.
    frames: Option<Frames>,
    /// The search for another layout.
    search: Option<Reacquire>,
    /// By thread, the poll that was last reported as running.
    running: HashMap<u32, u64>,
    /// The workers as they stood last.
    last_states: Vec<ThreadState>,
    /// A census that waits for the next reading of the workers.
    census: Option<(u64, Vec<SeenThread>)>,
}

impl Pipeline {
    fn new(config: AnalysisConfig, records: SyncSender<Record>) -> Self {
        let threshold_ns = config.threshold.as_nanos() as u64;
        let mut pipeline = Pipeline {
            pid: config.pid,
            threshold_ns,
            memory: ProcessMemory::new(config.pid),
            records,
            status: config.status,
            stacks: StackReader::new(config.modules),
            polls: Polls::new(threshold_ns).with_fault_cost(config.fault_ns),
            profile: Profile::default(),
            profile_reported_at: Instant::now(),
            releases: Releases::default(),
            workers: Workers::default(),
            losses: Losses::default(),
            reported_losses: Losses::default(),
            bpf_ns: None,
            usage_reported_at: None,
            tracker: config.tracker,
            orders: config.orders,
            frames: None,
            search: None,
            running: HashMap::new(),
            last_states: Vec::new(),
            census: None,
        };
        pipeline.start_frames();
        pipeline
    }

    /// Takes everything that is drained, until the channel closes.
    fn run(&mut self, drained: &Receiver<Drained>) -> Result<(), Unread> {
        loop {
            let pause = self.sample_frames();
            match drained.recv_timeout(pause) {
                Ok(drained) => self.take(drained)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.report_poll_time(monotonic_ns())?;
        self.report_losses()
    }

    fn send(&self, record: Record) -> Result<(), Unread> {
        self.records.send(record).map_err(|_| Unread)
    }

    fn take(&mut self, drained: Drained) -> Result<(), Unread> {
        match drained {
            Drained::Event(event) => return self.take_event(event),
            Drained::Profile {
                capture, weight_ns, ..
            } => return self.take_sample(&capture, weight_ns),
            Drained::AllPollTime { on, at_ns } => {
                self.report_poll_time(at_ns)?;
                return self.send(Record::AllPollTime { on, at_ns });
            }
            Drained::Workers { at_ns, states } => {
                self.take_workers(at_ns, &states)?;
                let before = std::mem::replace(&mut self.last_states, states);
                return self.report_census(&before);
            }
            Drained::Loads(loads) => {
                self.take_loads(&loads)?;
                return self.report_census(&[]);
            }
            Drained::Restarted { at_ns, mode } => return self.restart(at_ns, mode),
            Drained::Losses(losses) => self.count_losses(&losses),
            Drained::BpfTime(bpf_ns) => self.bpf_ns = bpf_ns,
            // What a worker does is certain if it does that before and after the census.
            Drained::Census { at_ns, threads } => self.census = Some((at_ns, threads)),
        }
        Ok(())
    }

    fn take_event(&mut self, event: Event) -> Result<(), Unread> {
        match event {
            Event::Stack(capture) => self.take_stack(&capture),
            Event::PollEnd(end) => return self.take_poll_end(&end),
            Event::ThreadExit(exit) => return self.take_thread_exit(&exit),
            Event::Release(released) => self.take_release(&released),
            Event::UnknownFrames(capture) => self.take_unknown_frames(&capture),
            Event::Exec => return self.take_exec(),
            // Arrives as `Drained::Profile`.
            Event::Profile(..) => {}
        }
        Ok(())
    }

    /// All workers as they stand.
    fn take_workers(&mut self, at_ns: u64, states: &[ThreadState]) -> Result<(), Unread> {
        self.identify_workers(states)?;
        for state in states {
            self.report_running(at_ns, state)?;
        }
        self.report_usage(at_ns, states)?;
        self.report_poll_time_if_due(at_ns)?;
        self.check_layout(at_ns, states)?;
        self.check_search(at_ns)
    }

    /// Whether polls on this thread cannot be told apart reliably.
    fn doubts(&self, tid: u32) -> bool {
        self.tracker.doubts(self.workers.get(tid))
    }
}
