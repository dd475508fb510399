//! Tier 4: polls tracked by the frames on the workers' stacks, where Tokio's state cannot be read.
//!
//! Samples the target's threads and learns from their unwound stacks which of them are workers and
//! by which calls their loops enter polls. The kernel side follows those by its [`FrameOrder`]s. The
//! stacks that it captures are judged: a poll counts only if a stack of it lies inside a poll.

mod counters;
mod judge;
mod observe;
mod paths;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use self::counters::{Activity, Counters, ENOUGH};
use self::judge::Judged;
use self::observe::frame_below;
use self::paths::{FramePaths, find};
use crate::capture::{
    Capture, FoundWorker, FrameBases, FrameOrder, Runs, SleepingPoll, TaskReader, TaskState,
};
use crate::stacks::reader::StackReader;
use crate::stacks::unwind::Step;
use crate::target::memory::{ProcessMemory, read_stack};

pub use self::judge::Judgement;

/// Interval of sampling the threads: while paths or counters are learnt, and otherwise.
const LEARN_EVERY: Duration = Duration::from_millis(10);
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// The same for processes with more threads than this.
const MANY_THREADS: usize = 256;
const SAMPLE_MANY_EVERY: Duration = Duration::from_secs(1);

/// A thread's stack is read again after this time: it may have become a worker, or ceased to be one.
/// Sooner while paths or counters are learnt.
const REREAD_AFTER: Duration = Duration::from_secs(1);
const REREAD_SOON: Duration = Duration::from_millis(100);

/// A worker.
#[derive(Debug)]
struct KnownWorker {
    bases: FrameBases,
    read_at: Instant,
}

/// Tracking by frames in one process.
pub struct Frames {
    pid: u32,
    /// Opened when the threads are sampled first.
    reader: Option<TaskReader>,
    memory: ProcessMemory,
    /// For the ring thread, not taken yet.
    orders: Vec<FrameOrder>,
    paths: FramePaths,
    /// By path.
    counters: Vec<Counters>,
    /// By path: where copies of the pointers to the cores are, bytes above the base.
    cores: Vec<Vec<u32>>,
    workers: HashMap<u32, KnownWorker>,
    /// Threads that are no workers, and when that was seen last.
    others: HashMap<u32, Instant>,
    next_sample: Instant,
    judged: Judged,
}

impl Frames {
    /// Nothing is known yet of the process `pid`.
    pub fn new(pid: u32) -> Self {
        Frames {
            pid,
            reader: None,
            memory: ProcessMemory::new(pid),
            orders: Vec::new(),
            paths: FramePaths::default(),
            counters: Vec::new(),
            cores: Vec::new(),
            workers: HashMap::new(),
            others: HashMap::new(),
            next_sample: Instant::now(),
            judged: Judged::default(),
        }
    }

    /// The orders since this was called last.
    pub fn take_orders(&mut self) -> Vec<FrameOrder> {
        std::mem::take(&mut self.orders)
    }

    fn order_paths(&mut self) {
        self.orders.push(FrameOrder::Paths(self.paths.all.clone()));
    }

    fn read_tasks(&mut self) -> Result<Vec<TaskState>> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => TaskReader::new(self.pid)?,
        };
        self.reader.insert(reader).read()
    }

    /// How long [`Frames::sample`] may wait.
    pub fn pause(&self) -> Duration {
        self.next_sample.saturating_duration_since(Instant::now())
    }

    /// Samples the threads, if that is due.
    ///
    /// # Errors
    /// When the kernel refuses the task iterator.
    pub fn sample(&mut self, stacks: &mut StackReader) -> Result<()> {
        if Instant::now() < self.next_sample {
            return Ok(());
        }
        self.next_sample = Instant::now() + SAMPLE_EVERY;
        let tasks = self.read_tasks()?;
        let mut observations = Vec::new();
        let mut sleepers = Vec::new();
        for task in &tasks {
            let bases = self.workers.get(&task.tid).map(|known| known.bases);
            for (path, base) in bases.iter().flatten().enumerate() {
                if *base != 0
                    && self.is_unsettled(path)
                    && let Some(observation) = self.read_loop(task, path, *base)
                {
                    let polls = observation.activity == Activity::Poll;
                    let stack = polls.then(|| read_stack(&self.memory, task.registers.sp));
                    if polls || !task.on_cpu {
                        observations.push((task, (path, *base), observation, stack));
                    }
                }
            }
            if !task.on_cpu && self.is_due(task.tid) {
                sleepers.push((task, read_stack(&self.memory, task.registers.sp)));
            }
        }
        let after = self.read_tasks()?;
        let after: HashMap<u32, TaskState> =
            after.into_iter().map(|task| (task.tid, task)).collect();
        let stood_still = |before: &TaskState| {
            let after = after.get(&before.tid);
            after.is_some_and(|after| after.stood_still_since(before))
        };
        for (task, (path, base), mut observation, stack) in observations {
            if !task.on_cpu && !stood_still(task) {
                continue;
            }
            observation.frame = stack.and_then(|(stack_base, bytes)| {
                let steps = stacks.walk(&task.registers, stack_base, &bytes);
                frame_below(&steps, base, stack_base, &bytes).map(<[u8]>::to_vec)
            });
            // While it runs, its registers are those of the last interrupt, a few ms old. In a poll
            // that computes, the frames around the poll are still the same.
            if task.on_cpu && observation.frame.is_none() {
                continue;
            }
            if let Some(counters) = self.counters.get_mut(path) {
                counters.take(task.tid, observation);
            }
        }
        for (task, (stack_base, bytes)) in sleepers.iter().filter(|(task, _)| stood_still(task)) {
            let steps = stacks.walk(&task.registers, *stack_base, bytes);
            self.take_stack(task, &steps, (*stack_base, bytes), stacks);
        }
        self.settle();
        self.others.retain(|tid, _| after.contains_key(tid));
        let pause = match () {
            () if tasks.len() > MANY_THREADS => SAMPLE_MANY_EVERY,
            () if self.is_learning() => LEARN_EVERY,
            () => SAMPLE_EVERY,
        };
        self.next_sample = Instant::now() + pause;
        Ok(())
    }

    /// Takes the stack of a thread that the kernel side does not know to be a worker, or of a worker
    /// whose loop lies elsewhere than known.
    ///
    /// # Errors
    /// When the kernel refuses the task iterator.
    pub fn take_unknown(&mut self, capture: &Capture, stacks: &mut StackReader) -> Result<()> {
        let is_known = self.workers.contains_key(&capture.tid);
        if !is_known && !self.is_due(capture.tid) {
            return Ok(());
        }
        let steps = stacks.walk(&capture.registers, capture.stack_base, &capture.stack);
        let tasks = self.read_tasks()?;
        if let Some(task) = tasks.into_iter().find(|task| task.tid == capture.tid) {
            // It has run since: what it does now is not known.
            let task = TaskState {
                state: 0,
                on_cpu: true,
                ..task
            };
            self.take_stack(&task, &steps, (0, &[]), stacks);
        }
        Ok(())
    }

    /// Forgets a thread that has ended.
    pub fn forget(&mut self, tid: u32) {
        self.workers.remove(&tid);
        self.others.remove(&tid);
        self.judged.forget(tid);
        for counters in &mut self.counters {
            counters.forget(tid);
        }
    }

    /// Takes a thread's stack: learns paths from it, adopts the thread if it is a worker, and notices a
    /// worker whose loop lies elsewhere on its stack than before.
    fn take_stack(
        &mut self,
        task: &TaskState,
        steps: &[Step],
        (stack_base, stack): (u64, &[u8]),
        stacks: &mut StackReader,
    ) {
        let mut name = |address| stacks.frames(&[address]);
        if let Some((_, true)) = find(steps, &mut name).and_then(|found| self.paths.learn(&found)) {
            for path in self.paths.all.iter().skip(self.counters.len()) {
                let [_, loop_at, _] = path.slots;
                self.counters
                    .push(Counters::new(path.multi_thread, loop_at));
            }
            self.cores.resize_with(self.paths.all.len(), Vec::new);
            log::debug!("paths into polls: {:x?}", self.paths.all);
            self.order_paths();
            // Threads that were no workers may be some by the new path.
            self.others.clear();
        }
        let now = Instant::now();
        let bases = self.paths.bases(steps);
        let nowhere = bases == FrameBases::default();
        if let Some(known) = self.workers.get_mut(&task.tid) {
            known.read_at = now;
            if known.bases != bases && !nowhere {
                let paths = known.bases.iter().zip(&bases).zip(&mut self.counters);
                for (_, counters) in paths.filter(|((before, now), _)| before != now) {
                    counters.forget(task.tid);
                }
                known.bases = bases;
                self.orders.push(FrameOrder::Moved {
                    tid: task.tid,
                    bases,
                });
            }
            if self.paths.learn_park(steps, &bases, name) {
                log::debug!("a park: {:x?}", self.paths.all);
                self.order_paths();
            }
            return;
        }
        if nowhere {
            self.others.insert(task.tid, now);
            return;
        }
        self.others.remove(&task.tid);
        let polls = self.paths.polls(steps, &bases);
        let taken = bases.iter().zip(&self.paths.all).find(|(at, _)| **at != 0);
        let (base, multi_thread) = taken.map_or((0, false), |(at, path)| (*at, path.multi_thread));
        let worker = FoundWorker {
            task: task.clone(),
            scheduler: base,
            runs: match multi_thread {
                true => Runs::MultiThread,
                false => Runs::CurrentThread,
            },
            poll: polls.filter(|_| task.is_asleep()).map(|path| SleepingPoll {
                core: bases.get(path).copied().unwrap_or(0),
                // The poll ends with its sleep: nothing that the kernel side observes has this tick.
                tick: 0,
                task: 0,
                budget_left: 0,
                stack_base,
                stack: stack.to_vec(),
            }),
            frame_bases: bases,
        };
        self.orders.push(FrameOrder::Adopt(Box::new(worker)));
        let known = KnownWorker {
            bases,
            read_at: now,
        };
        self.workers.insert(task.tid, known);
    }

    /// Whether the thread's stack is to be read again.
    fn is_due(&self, tid: u32) -> bool {
        let again_after = match self.is_learning() {
            true => REREAD_SOON,
            false => REREAD_AFTER,
        };
        let known = self.workers.get(&tid).map(|known| known.read_at);
        known
            .or_else(|| self.others.get(&tid).copied())
            .is_none_or(|at| at.elapsed() >= again_after)
    }

    /// Whether the counters of a path are still learnt.
    fn is_unsettled(&self, path: usize) -> bool {
        let counters = self.counters.get(path);
        counters.is_some_and(|counters| counters.rounds() < ENOUGH)
    }

    fn is_learning(&self) -> bool {
        self.paths.all.is_empty() || (0..self.paths.all.len()).any(|path| self.is_unsettled(path))
    }

    /// Passes on the counters that are known by now.
    fn settle(&mut self) {
        let mut changed = false;
        let learnt = self.counters.iter_mut().zip(&mut self.cores);
        let paths = self.paths.all.iter_mut().zip(&self.paths.inlined);
        for ((counters, cores), (path, inlined)) in learnt.zip(paths) {
            let rounds = counters.rounds();
            let [_, loop_at, _] = path.slots;
            let learnt = counters.learn();
            if path.counters != learnt.counters {
                log::debug!("after {rounds} rounds: {learnt:?}");
                path.counters.clone_from(&learnt.counters);
                changed = true;
            }
            // Those in the frames of the loop and its callers, which do not change during a poll.
            let standing = learnt.cores.iter().filter(|at| **at > loop_at);
            cores.clear();
            // Where they alone show `block_in_place`, a guess does not suffice.
            cores.extend(standing.filter(|_| learnt.sure || !inlined));
        }
        if changed {
            self.order_paths();
        }
    }
}
