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
use super::decode::{self, Capture, Event};
use super::frames::FrameTable;
use super::loader::{CaptureConfig, KernelLosses, Loaded};
use super::offsets::CoreTicks;
use super::sampling::TickWatch;
use super::seed::FoundWorker;
use super::threads::{OpenPoll, SeenAs, ThreadState};
use super::wakes::Wakes;
use crate::bpf::types::hud_captures;
use crate::clock::monotonic_ns;

/// How often the ring is drained while events come: a timer, since a wakeup per event would preempt
/// the target. While none come, only with each look.
const DRAIN_EVERY: Duration = Duration::from_millis(20);
/// How often the workers' states are read.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the ring thread passes on.
#[derive(Debug)]
pub enum Drained {
    Event(Event),
    /// All workers as they stand.
    Workers {
        at_ns: u64,
        states: Vec<ThreadState>,
    },
    Losses(CaptureLosses),
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
}

/// A running capture. Dropping it detaches everything.
pub struct RingThread {
    stop: Arc<AtomicBool>,
    all_poll_time: Arc<AtomicBool>,
    handle: Option<JoinHandle<Result<()>>>,
}

impl RingThread {
    /// Loads and attaches, then drains until stopped. Returns once everything is attached.
    pub fn start(
        config: CaptureConfig,
        learnt: Learnt,
        workers: Vec<FoundWorker>,
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
                    let switches = (&*stop, &*all_poll_time, &learnt);
                    run(&config, &workers, &out, switches, &ready)
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

    /// Detaches, drains what is left, and waits for the end.
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

fn run(
    config: &CaptureConfig,
    workers: &[FoundWorker],
    out: &SyncSender<Drained>,
    (stop, all_poll_time, learnt): (&AtomicBool, &AtomicBool, &Learnt),
    ready: &mpsc::Sender<()>,
) -> Result<()> {
    let mut storage = MaybeUninit::uninit();
    let mut loaded = Loaded::load(&mut storage, config)?;
    let clock = loaded.compare_clocks()?;
    loaded.seed(workers, clock)?;
    loaded.set_core_ticks(&learnt.core_ticks);
    loaded.attach()?;

    let lost = Lost::default();
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
            Ok(Event::Profile(capture, weight_ns)) => lost.pass_profile(out, capture, weight_ns),
            Ok(event) => lost.pass(out, Drained::Event(event)),
            Err(error) => {
                log::debug!("{error}");
                lost.undecodable.fetch_add(1, Ordering::Relaxed);
            }
        }
        0
    })?;
    let ring = builder.build().context("cannot map the ring buffer")?;
    // The receiver may be gone already, which the loop will see.
    let _ = ready.send(());

    let mut looker = Looker::new(config.threshold);
    let mut ticks = TickWatch::new(config.pid, loaded.sampling.period);
    let mut wakes = Wakes::default();
    let mut profiling = false;
    let mut next_look = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        // The workers first: a finding names its worker.
        if Instant::now() >= next_look {
            next_look = Instant::now() + LOOK_EVERY;
            loaded.set_core_ticks(&learnt.core_ticks);
            looker.look(&loaded, out, &lost);
            if loaded.sampling.tick.is_some() && ticks.is_missing(|| loaded.samples()) {
                log::info!("no ticks while the target computes: sampling by the CPU clock");
                loaded.attach_cpu_clocks()?;
                loaded.set_profiling(profiling)?;
            }
        }
        if config.layout.is_none() {
            for capture in loaded.learn_frames(&learnt.frames)? {
                lost.pass(out, Drained::Event(Event::Stack(Box::new(capture))));
            }
        }
        let wanted = all_poll_time.load(Ordering::Relaxed);
        if wanted != profiling {
            let at_ns = monotonic_ns();
            let switched = Drained::AllPollTime { on: wanted, at_ns };
            // Where there is no room now there will be: it is tried again.
            if out.try_send(switched).is_ok() {
                loaded.set_profiling(wanted)?;
                profiling = wanted;
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
    loaded.detach();
    ring.consume().context("cannot read the ring buffer")?;
    looker.look(&loaded, out, &lost);
    Ok(())
}

/// What user space drops before analysis.
#[derive(Default)]
struct Lost {
    undecodable: AtomicU64,
    unreceived: AtomicU64,
    /// Shared by the samples of all poll time that wait.
    backlog: Arc<()>,
}

impl Lost {
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
                for capture in fetch(loaded, state) {
                    lost.pass(out, Drained::Event(Event::Stack(Box::new(capture))));
                }
            }
        }
        self.fetched
            .retain(|tid, _| states.iter().any(|state| state.tid == *tid));
        lost.pass(out, Drained::Workers { at_ns, states });
        lost.pass(out, Drained::BpfTime(loaded.run_time_ns()));
        lost.pass(
            out,
            Drained::Losses(CaptureLosses {
                kernel: loaded.losses(),
                undecodable: lost.undecodable.load(Ordering::Relaxed),
                unreceived: lost.unreceived.load(Ordering::Relaxed),
            }),
        );
    }

    /// The slow poll in which a worker sleeps.
    fn asleep_too_long<'a>(&self, state: &'a ThreadState, now_ns: u64) -> Option<&'a OpenPoll> {
        let poll = state.poll.as_ref()?;
        let held_ns = now_ns.saturating_sub(poll.times.start_ns);
        (state.seen_as == SeenAs::Blocked && held_ns >= self.threshold_ns).then_some(poll)
    }
}

/// The stacks that wait in a sleeping worker's capture buffers; those of other polls are stale.
fn fetch(loaded: &Loaded<'_>, state: &ThreadState) -> Vec<decode::Capture> {
    let (Some(poll), Some(buffers)) = (&state.poll, loaded.captures(state.slot)) else {
        return Vec::new();
    };
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
