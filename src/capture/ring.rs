//! The thread that owns the BPF programs: drains the ring, looks at the workers, passes both on.
//!
//! It never waits for whoever receives: what finds no room is dropped and counted.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use libbpf_rs::RingBufferBuilder;

use super::census::SeenThread;
use super::closely::Closely;
use super::decode;
use super::events::{Capture, Event};
use super::frames::FrameTable;
use super::loader::{CaptureConfig, KernelLosses, Loaded};
use super::loads::{LoadReader, Loads};
use super::sampling::TickWatch;
use super::seed::{FoundWorker, find_workers};
use super::tasks::TaskReader;
use super::threads::{OpenPoll, SeenAs, ThreadState};
use super::tracking::{Change, Tracking};
use super::wakes::Wakes;
use crate::bpf::types::hud_captures;
use crate::clock::monotonic_ns;
use crate::target::memory::ProcessMemory;
use crate::tokio::TokioLayout;
use crate::tokio::kernel::CoreTicks;

/// How often the ring is drained while events come: a timer, since a wakeup per event would preempt
/// the target. While none come, only with each look.
const DRAIN_EVERY: Duration = Duration::from_millis(20);
/// How often the workers' states are read.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Workers that there is room for at most where they are met only later.
const MANY_WORKERS: usize = 56;

/// What the ring thread passes on.
#[derive(Debug)]
pub enum Drained {
    Event(Event),
    /// All workers as they stand.
    Workers {
        at_ns: u64,
        states: Vec<ThreadState>,
    },
    /// What the scheduler says of the threads, where polls cannot be known.
    Loads(Loads),
    Losses(CaptureLosses),
    /// Polls are known in another way, as [`Change`] ordered: what came before is of polls that
    /// are not followed to their ends, and what follows begins with nothing known.
    Anew {
        at_ns: u64,
    },
    /// Nanoseconds spent in hud's BPF programs, where the kernel counts them.
    BpfTime(Option<u64>),
    /// A sample of all poll time; see [`Event::Profile`].
    Profile {
        capture: Box<Capture>,
        weight_ns: u64,
        /// Held as long as the sample waits, which is how those that wait are counted.
        backlog: Arc<()>,
    },
    /// All poll time was switched on or off.
    AllPollTime {
        on: bool,
        at_ns: u64,
    },
    /// Every thread of the process, not from the ring: so that it comes in order.
    Census {
        at_ns: u64,
        threads: Vec<SeenThread>,
    },
}

/// Samples of all poll time that may wait for the receiver: what they tell is worth less than a
/// slow poll, which finds room whatever they do.
const PROFILE_BACKLOG: usize = 512;

/// Everything lost up to and including the ring thread. Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureLosses {
    pub kernel: KernelLosses,
    pub undecodable: u64,
    /// The receiver had no room.
    pub unreceived: u64,
}

/// What the analysis learns while hud runs, for the kernel side.
#[derive(Clone, Debug)]
pub struct Learnt {
    pub core_ticks: CoreTicks,
    pub frames: FrameTable,
    /// That polls must be known in another way.
    pub change: Change,
}

impl Learnt {
    /// What goes with a capture that begins with this layout.
    pub fn beside(layout: Option<&TokioLayout>) -> Self {
        Learnt {
            core_ticks: CoreTicks::new(layout),
            frames: FrameTable::default(),
            change: Change::default(),
        }
    }
}

/// A running capture. Dropping it detaches everything.
pub struct RingThread {
    stop: Arc<AtomicBool>,
    all_poll_time: Arc<AtomicBool>,
    handle: Option<JoinHandle<Result<()>>>,
}

impl RingThread {
    /// Loads and attaches, then drains until stopped. Returns once everything is attached.
    ///
    /// # Errors
    /// When the kernel refuses the programs, or the process has exited.
    pub fn start(
        config: CaptureConfig,
        learnt: Learnt,
        out: SyncSender<Drained>,
    ) -> Result<RingThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let all_poll_time = Arc::new(AtomicBool::new(config.all_poll_time));
        let (ready, is_ready) = mpsc::channel();
        let handle = thread::Builder::new()
            .name("hud-ring".into())
            .spawn({
                let (stop, all_poll_time) = (Arc::clone(&stop), Arc::clone(&all_poll_time));
                move || {
                    let ring = Ring {
                        out: &out,
                        stop: &stop,
                        all_poll_time: &all_poll_time,
                        learnt: &learnt,
                        lost: Lost::default(),
                        profiling: false,
                    };
                    ring.run(config, ready)
                }
            })
            .context("cannot start a thread")?;
        let mut this = RingThread {
            stop,
            all_poll_time,
            handle: Some(handle),
        };
        match is_ready.recv() {
            Ok(()) => Ok(this),
            // It ended before it was ready: its own error says why.
            Err(_) => Err(this
                .join()
                .err()
                .unwrap_or_else(|| anyhow!("the ring thread ended early"))),
        }
    }

    /// Samples all poll time from now on, or no longer. What comes of it follows in the stream.
    pub fn set_all_poll_time(&self, on: bool) {
        self.all_poll_time.store(on, Ordering::Relaxed);
    }

    /// Whether it has ended by itself, which it does only by an error; [`RingThread::stop`] tells it.
    pub fn has_failed(&self) -> bool {
        self.handle.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Detaches, drains what is left, and waits for the end.
    ///
    /// # Errors
    /// The error that ended the thread early, if one did.
    pub fn stop(mut self) -> Result<()> {
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.handle.take() {
            Some(handle) => handle
                .join()
                .unwrap_or_else(|_| Err(anyhow!("the ring thread panicked"))),
            None => Ok(()),
        }
    }
}

impl Drop for RingThread {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            log::error!("{error:#}");
        }
    }
}

/// What stays from one capture to the next.
struct Ring<'a> {
    out: &'a SyncSender<Drained>,
    stop: &'a AtomicBool,
    all_poll_time: &'a AtomicBool,
    learnt: &'a Learnt,
    lost: Lost,
    /// All poll time is on, and the receiver knows.
    profiling: bool,
}

impl Ring<'_> {
    /// Captures until stopped, anew whenever polls must be known in another way.
    fn run(mut self, mut config: CaptureConfig, ready: mpsc::Sender<()>) -> Result<()> {
        let mut ready = Some(ready);
        loop {
            let next = match config.tracking {
                Tracking::State(_) | Tracking::Frames => self.capture(&config, ready.take())?,
                Tracking::Nothing => self.watch_loads(&config, ready.take())?,
            };
            match next {
                Some(tracking) => config.tracking = tracking,
                None => return Ok(()),
            }
        }
    }

    /// What the scheduler says of the threads, until polls can be known.
    fn watch_loads(
        &mut self,
        config: &CaptureConfig,
        ready: Option<mpsc::Sender<()>>,
    ) -> Result<Option<Tracking>> {
        let mut reader = LoadReader::new(config.pid, config.worker_names.clone())?;
        self.tell_begun(ready);
        while !self.stop.load(Ordering::Relaxed) {
            if let Some(tracking) = self.learnt.change.take() {
                return Ok(Some(tracking));
            }
            let loads = reader.read()?;
            let kernel = KernelLosses {
                worker_untracked: loads.left_out,
                ..KernelLosses::default()
            };
            self.lost.tell(self.out, self.lost.before.and(kernel));
            self.lost.pass(self.out, Drained::Loads(loads));
            thread::sleep(LOOK_EVERY);
        }
        Ok(None)
    }

    /// One capture, from loading the programs to their end. How polls are to be known in the next
    /// one, unless it was the last. `ready` is told once the first one is attached.
    fn capture(
        &mut self,
        config: &CaptureConfig,
        ready: Option<mpsc::Sender<()>>,
    ) -> Result<Option<Tracking>> {
        let (workers, room) = workers(config)?;
        let mut storage = MaybeUninit::uninit();
        let mut loaded = Loaded::load(&mut storage, config, room)?;
        let clock = loaded.compare_clocks()?;
        loaded.seed(&workers, clock)?;
        loaded.set_core_ticks(&self.learnt.core_ticks);
        loaded.attach()?;
        self.tell_begun(ready);
        loaded.set_profiling(self.profiling)?;

        let (lost, out) = (&self.lost, self.out);
        let offset = loaded.mono_minus_clock().unwrap_or(0);
        for capture in workers
            .iter()
            .filter_map(|worker| worker.capture(clock, offset))
        {
            lost.pass(out, Drained::Event(Event::Stack(Box::new(capture))));
        }
        let mut builder = RingBufferBuilder::new();
        builder.add(&loaded.skeleton.maps.events, |bytes| {
            match decode::decode(bytes) {
                Ok(Event::Profile(capture, weight_ns)) => {
                    lost.pass_profile(out, capture, weight_ns);
                }
                Ok(event) => lost.pass(out, Drained::Event(event)),
                Err(error) => {
                    log::debug!("{error}");
                    lost.undecodable.fetch_add(1, Ordering::Relaxed);
                }
            }
            0
        })?;
        let ring = builder.build().context("cannot map the ring buffer")?;

        let mut looker = Looker::new(config.threshold);
        let mut ticks = TickWatch::new(config.pid, loaded.sampling.period);
        let mut wakes = Wakes::default();
        let mut closely = Closely::default();
        let mut next_look = Instant::now();
        let mut change = None;
        while !self.stop.load(Ordering::Relaxed) {
            change = self.learnt.change.take();
            if change.is_some() {
                break;
            }
            // The workers first: a finding names its worker.
            if Instant::now() >= next_look {
                next_look = Instant::now() + LOOK_EVERY;
                loaded.set_core_ticks(&self.learnt.core_ticks);
                looker.look(&loaded, out, lost);
                closely.look(&mut loaded, Instant::now());
                if loaded.sampling.tick.is_some() && ticks.is_missing(|| loaded.samples()) {
                    log::info!("no ticks while the target computes: sampling by the CPU clock");
                    loaded.attach_cpu_clocks()?;
                    loaded.set_profiling(self.profiling)?;
                }
            }
            if config.tracking == Tracking::Frames {
                for capture in loaded.learn_frames(&self.learnt.frames)? {
                    lost.pass(out, Drained::Event(Event::Stack(Box::new(capture))));
                }
            }
            let wanted = self.all_poll_time.load(Ordering::Relaxed);
            if wanted != self.profiling {
                let at_ns = monotonic_ns();
                let switched = Drained::AllPollTime { on: wanted, at_ns };
                // Where there is no room now there will be: it is tried again.
                if out.try_send(switched).is_ok() {
                    loaded.set_profiling(wanted)?;
                    self.profiling = wanted;
                }
            }
            let hears = wakes.are_wanted(Instant::now(), loaded.long_waits(), looker.one_sleeps);
            loaded.set_hears_wakes(hears)?;
            let drained = ring.consume_raw();
            ensure!(drained >= 0, "cannot read the ring buffer: error {drained}");
            thread::sleep(if drained == 0 {
                LOOK_EVERY
            } else {
                DRAIN_EVERY
            });
        }
        drop(closely);
        loaded.detach();
        ring.consume().context("cannot read the ring buffer")?;
        looker.look(&loaded, out, lost);
        drop(ring);
        self.lost.before = self.lost.kernel(&loaded);
        self.lost.before_ns = self.lost.bpf_ns(&loaded);
        Ok(change)
    }

    /// Tells whoever waits for the start, or the receiver that another capture begins.
    fn tell_begun(&self, ready: Option<mpsc::Sender<()>>) {
        match ready {
            // The receiver may be gone already, which the loop will see.
            Some(ready) => drop(ready.send(())),
            None => self.tell_anew(),
        }
    }

    /// The one thing that must not be lost. Nothing is drained meanwhile, which is what full rings
    /// are counted for.
    fn tell_anew(&self) {
        let at_ns = monotonic_ns();
        while !self.stop.load(Ordering::Relaxed) {
            match self.out.try_send(Drained::Anew { at_ns }) {
                Err(TrySendError::Full(_)) => thread::sleep(DRAIN_EVERY),
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }
}

/// The workers as they stand, where their state tells, and for how many there must be room.
fn workers(config: &CaptureConfig) -> Result<(Vec<FoundWorker>, usize)> {
    let tasks = TaskReader::new(config.pid)?.read()?;
    Ok(match config.tracking.layout() {
        Some(layout) => {
            let workers = find_workers(layout, &tasks, &ProcessMemory::new(config.pid));
            let room = workers.len();
            (workers, room)
        }
        None => (Vec::new(), tasks.len().min(MANY_WORKERS)),
    })
}

/// What user space drops before analysis.
#[derive(Default)]
struct Lost {
    undecodable: AtomicU64,
    unreceived: AtomicU64,
    /// Shared by the samples of all poll time that wait.
    backlog: Arc<()>,
    /// What earlier captures lost in the kernel, and the time they spent there.
    before: KernelLosses,
    before_ns: Option<u64>,
}

impl Lost {
    /// What the kernel side lost so far, in all captures.
    fn kernel(&self, loaded: &Loaded<'_>) -> KernelLosses {
        loaded.losses().and(self.before)
    }

    /// As [`Loaded::run_time_ns`], of all captures.
    fn bpf_ns(&self, loaded: &Loaded<'_>) -> Option<u64> {
        let now = loaded.run_time_ns();
        now.map_or(self.before_ns, |now| {
            Some(now + self.before_ns.unwrap_or(0))
        })
    }

    fn pass_profile(&self, out: &SyncSender<Drained>, capture: Box<Capture>, weight_ns: u64) {
        if Arc::strong_count(&self.backlog) > PROFILE_BACKLOG {
            self.unreceived.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let backlog = Arc::clone(&self.backlog);
        let sample = Drained::Profile {
            capture,
            weight_ns,
            backlog,
        };
        self.pass(out, sample);
    }

    /// Tells what was lost so far, that much of it in the kernel.
    fn tell(&self, out: &SyncSender<Drained>, kernel: KernelLosses) {
        let losses = CaptureLosses {
            kernel,
            undecodable: self.undecodable.load(Ordering::Relaxed),
            unreceived: self.unreceived.load(Ordering::Relaxed),
        };
        self.pass(out, Drained::Losses(losses));
    }

    fn pass(&self, out: &SyncSender<Drained>, what: Drained) {
        if let Err(TrySendError::Full(_)) = out.try_send(what) {
            self.unreceived.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Looks at the workers now and then; fetches the stacks of those that sleep past the threshold,
/// since the kernel side sends them only when they wake.
struct Looker {
    threshold_ns: u64,
    /// Per thread: the poll and the place in it whose stack was fetched.
    fetched: HashMap<u32, (u64, Option<usize>)>,
    /// A worker slept past the threshold when last looked at.
    one_sleeps: bool,
}

impl Looker {
    fn new(threshold: Duration) -> Self {
        Looker {
            threshold_ns: threshold.as_nanos() as u64,
            fetched: HashMap::new(),
            one_sleeps: false,
        }
    }

    fn look(&mut self, loaded: &Loaded<'_>, out: &SyncSender<Drained>, lost: &Lost) {
        let Some(offset) = loaded.mono_minus_clock() else {
            return;
        };
        let states = loaded.threads.read(offset);
        let at_ns = monotonic_ns();
        self.one_sleeps = false;
        for state in &states {
            let Some(poll) = self.asleep_too_long(state, at_ns) else {
                continue;
            };
            self.one_sleeps = true;
            let key = (poll.times.sequence, poll.asleep_at);
            if poll.capture_waits && self.fetched.insert(state.tid, key) != Some(key) {
                for capture in fetch(loaded, state, offset) {
                    lost.pass(out, Drained::Event(Event::Stack(Box::new(capture))));
                }
            }
        }
        self.fetched
            .retain(|tid, _| states.iter().any(|state| state.tid == *tid));
        lost.pass(out, Drained::Workers { at_ns, states });
        lost.pass(out, Drained::BpfTime(lost.bpf_ns(loaded)));
        lost.tell(out, lost.kernel(loaded));
    }

    /// The slow poll in which a worker sleeps.
    fn asleep_too_long<'a>(&self, state: &'a ThreadState, now_ns: u64) -> Option<&'a OpenPoll> {
        let poll = state.poll.as_ref()?;
        let held_ns = now_ns.saturating_sub(poll.times.start_ns);
        (state.seen_as == SeenAs::Blocked && held_ns >= self.threshold_ns).then_some(poll)
    }
}

/// The stacks that wait in a sleeping worker's capture buffers; those of other polls are stale. None
/// if the worker runs meanwhile: its buffers may be half written, and the kernel side sends them.
fn fetch(loaded: &Loaded<'_>, state: &ThreadState, offset: i64) -> Vec<Capture> {
    let (Some(poll), Some(buffers)) = (&state.poll, loaded.captures(state.slot)) else {
        return Vec::new();
    };
    if !loaded.threads.is_unchanged(state, offset) {
        return Vec::new();
    }
    let hud_captures { blocked, sample } = &*buffers;
    blocked
        .iter()
        .chain([sample])
        .filter_map(|event| {
            // SAFETY: the event's own bytes.
            let bytes = unsafe {
                std::slice::from_raw_parts(
                    std::ptr::from_ref(event).cast::<u8>(),
                    size_of_val(event),
                )
            };
            decode::stack(bytes).ok()
        })
        .filter(|capture| capture.tid == state.tid && capture.poll.sequence == poll.times.sequence)
        .collect()
}
