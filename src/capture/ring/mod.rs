//! The thread that owns the BPF programs: carries out orders, drains the ring buffer, reads the
//! workers' states, and passes both on.
//!
//! It never waits for the receiver: what does not fit into the channel is dropped and counted.

mod outbox;
mod thread_clocks;
mod tick_watch;
mod wakes;
mod worker_reader;

use std::mem::MaybeUninit;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use libbpf_rs::RingBufferBuilder;

use self::outbox::Outbox;
use self::thread_clocks::ThreadClocks;
use self::tick_watch::TickWatch;
use self::wakes::Wakes;
use self::worker_reader::WorkerReader;
use super::decode;
use super::drained::Drained;
use super::orders::{Order, OrderQueue, TrackingMode};
use super::programs::{CaptureConfig, KernelLosses, Programs};
use super::tasks::loads::LoadReader;
use super::tasks::seed::find_worker;
use super::tasks::{TaskReader, TaskState};
use crate::clock::monotonic_ns;
use crate::target::memory::ProcessMemory;

/// Interval of draining the ring buffer while events arrive: a timer, since a wake-up per event would
/// preempt the target. While none arrive, it is drained at each reading of the workers.
const DRAIN_EVERY: Duration = Duration::from_millis(20);
/// Interval of reading the workers' states.
const READ_EVERY: Duration = Duration::from_millis(100);
/// Interval between two attempts to make room for more workers.
const GROW_EVERY: Duration = Duration::from_secs(2);
/// Workers to make room for, at most, where they are found only later.
const MAX_UNKNOWN_WORKERS: usize = 56;

/// A running capture. Dropping it detaches everything.
pub struct RingThread {
    orders: Sender<Order>,
    handle: Option<JoinHandle<Result<()>>>,
}

impl RingThread {
    /// Loads and attaches the programs, then drains until it is stopped. Returns once everything is
    /// attached. `orders` are both ends of the channel that [`Order`]s arrive in.
    ///
    /// # Errors
    /// When the programs cannot be loaded or attached.
    pub fn start(
        config: CaptureConfig,
        (sender, orders): (Sender<Order>, Receiver<Order>),
        out: SyncSender<Drained>,
    ) -> Result<RingThread> {
        let (ready, is_ready) = mpsc::channel();
        let handle = thread::Builder::new()
            .name("hud-ring".into())
            .spawn(move || {
                let ring = Ring {
                    config,
                    orders: OrderQueue::new(orders),
                    outbox: Outbox::new(out),
                    all_poll_time: false,
                    profiling: false,
                };
                ring.run(ready)
            })
            .context("cannot start a thread")?;
        let mut this = RingThread {
            orders: sender,
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

    /// Gives an order.
    pub fn order(&self, order: Order) {
        // A thread that has failed reports that itself: see `has_failed`.
        let _ = self.orders.send(order);
    }

    /// Whether it has ended by an error, which [`RingThread::stop`] returns.
    pub fn has_failed(&self) -> bool {
        self.handle.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Detaches, drains the rest, and waits for the end.
    ///
    /// # Errors
    /// The thread's own error, if it failed.
    pub fn stop(mut self) -> Result<()> {
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        self.order(Order::Stop);
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
struct Ring {
    config: CaptureConfig,
    orders: OrderQueue,
    outbox: Outbox,
    /// Whether all poll time is to be sampled.
    all_poll_time: bool,
    /// Whether it is, and the receiver knows.
    profiling: bool,
}

impl Ring {
    /// Captures until stopped; begins anew at each [`Order::Reload`]. `ready` is signalled once the
    /// first capture is attached.
    fn run(mut self, ready: Sender<()>) -> Result<()> {
        let mut ready = Some(ready);
        loop {
            let next = match self.config.tracking {
                TrackingMode::State(_) | TrackingMode::Frames => self.capture(ready.take())?,
                TrackingMode::LoadOnly => self.read_loads(ready.take())?,
            };
            match next {
                Some(mode) => self.config.tracking = mode,
                None => return Ok(()),
            }
        }
    }

    /// Passes on the scheduler's counters of the threads. Returns the mode of the next capture, if
    /// there is to be one.
    fn read_loads(&mut self, ready: Option<Sender<()>>) -> Result<Option<TrackingMode>> {
        let mut reader = LoadReader::new(self.config.pid, self.config.worker_names.clone())?;
        self.report_begun(ready);
        loop {
            while let Some(order) = self.orders.next() {
                match order {
                    Order::Stop => return Ok(None),
                    Order::Reload(mode) => return Ok(Some(mode)),
                    Order::AllPollTime(on) => self.all_poll_time = on,
                    Order::CoreTicks(_) | Order::Frames(_) => {}
                }
            }
            let loads = reader.read()?;
            self.outbox.report_losses(KernelLosses {
                worker_untracked: loads.left_out,
                ..KernelLosses::default()
            });
            self.outbox.pass(Drained::Loads(loads));
            self.orders.wait(READ_EVERY);
        }
    }

    /// One capture, from loading the programs to detaching them. Returns the mode of the next one, if
    /// there is to be one.
    fn capture(&mut self, ready: Option<Sender<()>>) -> Result<Option<TrackingMode>> {
        let tasks = TaskReader::new(self.config.pid)?;
        let memory = ProcessMemory::new(self.config.pid);
        let room = worker_room(&self.config, &tasks, &memory)?;
        let mut storage = MaybeUninit::uninit();
        let mut programs = Programs::load(&mut storage, &self.config, room)?;
        programs.compare_clocks()?;
        programs.free_all_slots()?;
        if let Some(layout) = self.config.tracking.layout() {
            programs.set_core_ticks(layout);
        }
        programs.attach()?;
        let seeded = match self.config.tracking.layout() {
            Some(layout) => programs.seed(&tasks, layout, &memory)?,
            None => Vec::new(),
        };
        self.report_begun(ready);
        programs.set_profiling(self.profiling)?;

        let outbox = &self.outbox;
        let captures = seeded
            .iter()
            .filter_map(|worker| programs.capture_of(worker));
        captures.for_each(|capture| outbox.stack(capture));
        let mut builder = RingBufferBuilder::new();
        builder.add(&programs.skeleton.maps.events, |bytes| {
            match decode::decode(bytes) {
                Ok(event) => outbox.event(event),
                Err(error) => {
                    log::debug!("{error}");
                    outbox.count_undecodable();
                }
            }
            0
        })?;
        let ring = builder.build().context("cannot map the ring buffer")?;

        let mut reader = WorkerReader::new(self.config.threshold);
        let mut ticks = TickWatch::new(self.config.pid, programs.sampling.period);
        let mut wakes = Wakes::default();
        let mut clocks = ThreadClocks::default();
        let mut next_read = Instant::now();
        let mut next_growth = Instant::now();
        let mut grows = false;
        let next = 'capture: loop {
            while let Some(order) = self.orders.next() {
                match order {
                    Order::Stop => break 'capture None,
                    Order::Reload(mode) => break 'capture Some(mode),
                    Order::AllPollTime(on) => self.all_poll_time = on,
                    Order::CoreTicks(layout) => {
                        programs.set_core_ticks(&layout);
                        // For the next capture in this mode.
                        self.config.tracking = TrackingMode::State(layout);
                    }
                    Order::Frames(order) => programs
                        .apply_frames(order)?
                        .into_iter()
                        .for_each(|capture| outbox.stack(capture)),
                }
            }
            // The workers before the events: a finding names its worker.
            let now = Instant::now();
            if now >= next_read {
                next_read = now + READ_EVERY;
                reader.read(&programs, outbox);
                clocks.update(&mut programs, now);
                if programs.needs_room() && now >= next_growth {
                    next_growth = now + GROW_EVERY;
                    grows = worker_room(&self.config, &tasks, &memory)? > programs.room();
                    if grows {
                        log::info!("beginning anew with room for more workers");
                        break 'capture Some(self.config.tracking);
                    }
                }
                if programs.sampling.tick.is_some() && ticks.is_missing(|| programs.samples()) {
                    log::info!("no ticks while the target computes: sampling by the CPU clock");
                    programs.attach_cpu_clocks()?;
                    programs.set_profiling(self.profiling)?;
                }
            }
            if self.profiling != self.all_poll_time {
                let switched = Drained::AllPollTime {
                    on: self.all_poll_time,
                    at_ns: monotonic_ns(),
                };
                // Tried again in the next cycle if the channel is full.
                if outbox.try_pass(switched).is_some() {
                    self.profiling = self.all_poll_time;
                    programs.set_profiling(self.profiling)?;
                }
            }
            let listen = wakes.should_listen(now, programs.long_waits(), reader.one_sleeps);
            programs.set_wake_listening(listen)?;
            let drained = ring.consume_raw();
            ensure!(drained >= 0, "cannot read the ring buffer: error {drained}");
            self.orders.wait(match drained {
                0 => READ_EVERY,
                _ => DRAIN_EVERY,
            });
        };
        drop(clocks);
        programs.detach();
        ring.consume().context("cannot read the ring buffer")?;
        reader.read(&programs, outbox);
        drop(ring);
        self.outbox.end_capture(&programs, grows);
        Ok(next)
    }

    /// Signals the start to whoever waits for it, or reports that another capture runs.
    fn report_begun(&mut self, ready: Option<Sender<()>>) {
        match ready {
            // The receiver may be gone already, which the loop will see.
            Some(ready) => drop(ready.send(())),
            None => self.report_restart(),
        }
    }

    /// The one thing that must not be dropped. Nothing is drained meanwhile: what the ring buffer has
    /// no room for is counted in the kernel.
    fn report_restart(&mut self) {
        let at_ns = monotonic_ns();
        let mode = self.config.tracking;
        while !self.orders.is_stopped()
            && self
                .outbox
                .try_pass(Drained::Restarted { at_ns, mode })
                .is_none()
        {
            thread::sleep(DRAIN_EVERY);
        }
    }
}

/// How many workers to make room for.
fn worker_room(
    config: &CaptureConfig,
    reader: &TaskReader,
    memory: &ProcessMemory,
) -> Result<usize> {
    let tasks = reader.read()?;
    Ok(match config.tracking.layout() {
        Some(layout) => {
            let is_worker = |task: &&TaskState| find_worker(layout, task, memory).is_some();
            tasks.iter().filter(is_worker).count()
        }
        None => tasks.len().min(MAX_UNKNOWN_WORKERS),
    })
}
