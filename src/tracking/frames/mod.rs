//! Tier 4: polls known by the frames on the workers' stacks, where Tokio's state cannot be read.
//!
//! Looks at the target's threads now and then, learns from their unwound stacks which of them are
//! workers and how their loops lead into polls, and tells the kernel side. It also judges the stacks
//! that come back: a poll counts only if a stack of it was seen to be inside one.

mod counters;
mod ways;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use self::counters::{Counters, Doing, ENOUGH, Look, POINTEE, REGION};
use self::ways::{Ways, find};
use crate::capture::{
    Capture, FoundWorker, FrameOrder, Places, Runs, SleepingPoll, TaskReader, TaskState,
};
use crate::stacks::reader::StackReader;
use crate::stacks::unwind::Step;
use crate::target::memory::{Memory, ProcessMemory, read_stack};
use crate::tokio::names;

/// How often threads are looked at: while there is something to learn, and otherwise.
const LEARN_EVERY: Duration = Duration::from_millis(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The same for processes with more threads than this.
const MANY_THREADS: usize = 256;
const LOOK_AT_MANY_EVERY: Duration = Duration::from_secs(1);

/// A thread is looked at again after so long: it may have become a worker, or ceased to be one.
/// Sooner while there is something to learn.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(100);

/// Polls whose judgement is remembered: more are never open at once.
const MAX_JUDGED: usize = 1 << 14;

/// Pointers into a stack lie this close to its stack pointer, bytes; none lies below this address.
const STACK_REACH: u64 = 1 << 20;
const LOWEST_POINTER: u64 = 1 << 16;

/// A worker.
#[derive(Debug)]
struct Known {
    places: Places,
    looked_at: Instant,
}

/// What a stack says of the poll it was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is inside of a poll.
    Poll,
    /// It is not: the poll is none.
    NoPoll,
    /// It does not reach that far.
    Unknown,
}

/// All that is known of workers by their frames.
pub struct Frames {
    pid: u32,
    /// Opened at the first look.
    reader: Option<TaskReader>,
    memory: ProcessMemory,
    /// For the ring thread, not taken yet.
    orders: Vec<FrameOrder>,
    ways: Ways,
    /// By way.
    counters: Vec<Counters>,
    /// By way: where copies of the pointers to the cores are.
    cores: Vec<Vec<u32>>,
    workers: HashMap<u32, Known>,
    /// Threads that are none, and since when that is known.
    strangers: HashMap<u32, Instant>,
    next_look: Instant,
    /// By thread and the poll's number: whether a stack showed a poll, and none showed otherwise.
    judged: HashMap<(u32, u64), bool>,
}

impl Frames {
    /// Of the process `pid`.
    pub fn new(pid: u32) -> Self {
        Frames {
            pid,
            reader: None,
            memory: ProcessMemory::new(pid),
            orders: Vec::new(),
            ways: Ways::default(),
            counters: Vec::new(),
            cores: Vec::new(),
            workers: HashMap::new(),
            strangers: HashMap::new(),
            next_look: Instant::now(),
            judged: HashMap::new(),
        }
    }

    /// What the ring thread is to do since this was asked last.
    pub fn take_orders(&mut self) -> Vec<FrameOrder> {
        std::mem::take(&mut self.orders)
    }

    fn read_tasks(&mut self) -> Result<Vec<TaskState>> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => TaskReader::new(self.pid)?,
        };
        self.reader.insert(reader).read()
    }

    /// How long [`Frames::look`] may wait.
    pub fn pause(&self) -> Duration {
        self.next_look.saturating_duration_since(Instant::now())
    }

    /// Looks at the threads, if it is time to.
    ///
    /// # Errors
    /// When the kernel refuses the task iterator.
    pub fn look(&mut self, stacks: &mut StackReader) -> Result<()> {
        if Instant::now() < self.next_look {
            return Ok(());
        }
        self.next_look = Instant::now() + LOOK_EVERY;
        let tasks = self.read_tasks()?;
        let mut looks = Vec::new();
        let mut sleepers = Vec::new();
        for task in &tasks {
            let places = self.workers.get(&task.tid).map(|known| known.places);
            for (way, lowest) in places.iter().flatten().enumerate() {
                if *lowest != 0
                    && self.is_watched(way)
                    && let Some(look) = self.watch(task, way, *lowest)
                {
                    let polls = look.doing == Doing::Poll;
                    let stack = polls.then(|| read_stack(&self.memory, task.registers.sp));
                    if polls || !task.on_cpu {
                        looks.push((task, (way, *lowest), look, stack));
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
        for (task, (way, lowest), mut look, stack) in looks {
            if !task.on_cpu && !stood_still(task) {
                continue;
            }
            look.frame = stack.and_then(|(base, bytes)| {
                let steps = stacks.walk(&task.registers, base, &bytes);
                frame_below(&steps, lowest, base, &bytes).map(<[u8]>::to_vec)
            });
            // While it runs, its registers are those of the last interrupt: a few ms old. In a poll
            // that computes, the frames around the poll stand as they stood then.
            if task.on_cpu && look.frame.is_none() {
                continue;
            }
            if let Some(counters) = self.counters.get_mut(way) {
                counters.take(task.tid, look);
            }
        }
        for (task, (base, bytes)) in sleepers.iter().filter(|(task, _)| stood_still(task)) {
            let steps = stacks.walk(&task.registers, *base, bytes);
            self.meet(task, &steps, (*base, bytes), stacks);
        }
        self.settle();
        self.strangers.retain(|tid, _| after.contains_key(tid));
        let pause = match () {
            () if tasks.len() > MANY_THREADS => LOOK_AT_MANY_EVERY,
            () if self.is_learning() => LEARN_EVERY,
            () => LOOK_EVERY,
        };
        self.next_look = Instant::now() + pause;
        Ok(())
    }

    /// Takes in a stack of a thread that the kernel side does not know, or in a place that it does
    /// not know.
    ///
    /// # Errors
    /// When the kernel refuses the task iterator.
    pub fn stranger(&mut self, capture: &Capture, stacks: &mut StackReader) -> Result<()> {
        let is_known = self.workers.contains_key(&capture.tid);
        if !is_known && !self.is_due(capture.tid) {
            return Ok(());
        }
        let steps = stacks.walk(&capture.registers, capture.stack_base, &capture.stack);
        let tasks = self.read_tasks()?;
        if let Some(task) = tasks.into_iter().find(|task| task.tid == capture.tid) {
            // It has run on since: what it is doing now is not known.
            let task = TaskState {
                state: 0,
                on_cpu: true,
                ..task
            };
            self.meet(&task, &steps, (0, &[]), stacks);
        }
        Ok(())
    }

    /// Forgets a thread that has ended.
    pub fn forget(&mut self, tid: u32) {
        self.workers.remove(&tid);
        self.strangers.remove(&tid);
        self.judged.retain(|(other, _), _| *other != tid);
        for counters in &mut self.counters {
            counters.forget(tid);
        }
    }

    /// Judges a stack taken inside a poll, and by it the poll `sequence` of that thread, if any.
    pub fn judge(
        &mut self,
        sequence: Option<u64>,
        capture: &Capture,
        stacks: &mut StackReader,
    ) -> Judgement {
        let steps = stacks.walk(&capture.registers, capture.stack_base, &capture.stack);
        let word = |address: u64| {
            let at = usize::try_from(address.checked_sub(capture.stack_base)?).ok()?;
            let bytes = capture.stack.get(at..at.checked_add(8)?)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let judgement = self.judge_stack(capture.tid, &steps, word, stacks);
        if self.judged.len() >= MAX_JUDGED {
            self.judged.clear();
        }
        let poll = sequence.map(|sequence| (capture.tid, sequence));
        match (judgement, poll) {
            (Judgement::Unknown, _) | (_, None) => {}
            (Judgement::Poll, Some(poll)) => {
                self.judged.entry(poll).or_insert(true);
            }
            (Judgement::NoPoll, Some(poll)) => {
                self.judged.insert(poll, false);
            }
        }
        judgement
    }

    /// Whether stacks of that poll showed that it is one.
    pub fn is_confirmed(&self, tid: u32, sequence: u64) -> Option<bool> {
        self.judged.get(&(tid, sequence)).copied()
    }

    /// The poll has ended.
    pub fn ended(&mut self, tid: u32, sequence: u64) {
        self.judged
            .retain(|(other, number), _| *other != tid || *number > sequence);
    }

    fn judge_stack(
        &mut self,
        tid: u32,
        steps: &[Step],
        word: impl Fn(u64) -> Option<u64>,
        stacks: &mut StackReader,
    ) -> Judgement {
        let Some(Known { places, .. }) = self.workers.get(&tid) else {
            return Judgement::Unknown;
        };
        let polls = self.ways.polls(steps, places);
        let Some((index, lowest)) = polls.and_then(|way| Some((way, *places.get(way)?))) else {
            // A stack that ends below the loop says nothing.
            return match self.ways.places(steps) != Places::default() {
                true => Judgement::NoPoll,
                false => Judgement::Unknown,
            };
        };
        let inside = steps.iter().take_while(|step| step.place < lowest);
        for step in inside {
            let frames = stacks.frames(&[step.address]);
            let leaves = |name: &str| names::is_park_or_wait(name) || names::leaves_worker(name);
            if frames.iter().any(|frame| leaves(&frame.function)) {
                return Judgement::NoPoll;
            }
        }
        // `block_in_place` has taken the core out of its place; inlined, nothing else shows it.
        let Some(way) = self.ways.all.get_mut(index).filter(|way| way.multi_thread) else {
            return Judgement::Poll;
        };
        let copies = self.cores.get(index).map_or(&[][..], Vec::as_slice);
        if copies.is_empty() && self.ways.inlined.get(index) == Some(&true) {
            // Nothing would show that it is in `block_in_place`.
            return Judgement::Unknown;
        }
        let taken = copies
            .iter()
            .find(|at| word(lowest.wrapping_add((**at).into())) == Some(0));
        match taken {
            Some(at) => {
                log::debug!("the core is kept {at} bytes above {lowest:#x}");
                if way.core != Some(*at) {
                    way.core = Some(*at);
                    self.orders.push(FrameOrder::Ways(self.ways.all.clone()));
                }
                Judgement::NoPoll
            }
            None => Judgement::Poll,
        }
    }

    /// A thread that is not known: takes it in if it is a worker. And a worker's loop may run
    /// elsewhere on its stack than it did.
    fn meet(
        &mut self,
        task: &TaskState,
        steps: &[Step],
        (stack_base, stack): (u64, &[u8]),
        stacks: &mut StackReader,
    ) {
        let mut name = |address| stacks.frames(&[address]);
        if let Some((_, true)) = find(steps, &mut name).and_then(|found| self.ways.learn(&found)) {
            for way in self.ways.all.iter().skip(self.counters.len()) {
                let [_, loop_at, _] = way.places;
                self.counters.push(Counters::new(way.multi_thread, loop_at));
            }
            self.cores.resize_with(self.ways.all.len(), Vec::new);
            log::debug!("ways into polls: {:x?}", self.ways.all);
            self.orders.push(FrameOrder::Ways(self.ways.all.clone()));
            // Who was none may be one by the new way.
            self.strangers.clear();
        }
        let now = Instant::now();
        let places = self.ways.places(steps);
        let nowhere = places == Places::default();
        if let Some(known) = self.workers.get_mut(&task.tid) {
            known.looked_at = now;
            if known.places != places && !nowhere {
                let ways = known.places.iter().zip(&places).zip(&mut self.counters);
                for (_, counters) in ways.filter(|((before, now), _)| before != now) {
                    counters.forget(task.tid);
                }
                known.places = places;
                self.orders.push(FrameOrder::Moved {
                    tid: task.tid,
                    places,
                });
            }
            if self.ways.learn_park(steps, &places, name) {
                log::debug!("a park: {:x?}", self.ways.all);
                self.orders.push(FrameOrder::Ways(self.ways.all.clone()));
            }
            return;
        }
        if nowhere {
            self.strangers.insert(task.tid, now);
            return;
        }
        self.strangers.remove(&task.tid);
        let polls = self.ways.polls(steps, &places);
        let taken = places.iter().zip(&self.ways.all).find(|(at, _)| **at != 0);
        let (lowest, multi_thread) = taken.map_or((0, false), |(at, way)| (*at, way.multi_thread));
        let worker = FoundWorker {
            task: task.clone(),
            scheduler: lowest,
            runs: match multi_thread {
                true => Runs::MultiThread,
                false => Runs::CurrentThread,
            },
            poll: polls.filter(|_| task.is_asleep()).map(|way| SleepingPoll {
                core: places.get(way).copied().unwrap_or(0),
                // It ends with its sleep: no observation of the kernel side has this number.
                tick: 0,
                task: 0,
                budget_left: 0,
                stack_base,
                stack: stack.to_vec(),
            }),
            ways: places,
        };
        self.orders.push(FrameOrder::Adopt(Box::new(worker)));
        let known = Known {
            places,
            looked_at: now,
        };
        self.workers.insert(task.tid, known);
    }

    /// Whether it is time to look at the thread's stack.
    fn is_due(&self, tid: u32) -> bool {
        let again_after = match self.is_learning() {
            true => SOON,
            false => AGAIN_AFTER,
        };
        let known = self.workers.get(&tid).map(|known| known.looked_at);
        known
            .or_else(|| self.strangers.get(&tid).copied())
            .is_none_or(|at| at.elapsed() >= again_after)
    }

    fn is_watched(&self, way: usize) -> bool {
        let counters = self.counters.get(way);
        counters.is_some_and(|counters| counters.rounds() < ENOUGH)
    }

    fn is_learning(&self) -> bool {
        self.ways.all.is_empty() || (0..self.ways.all.len()).any(|way| self.is_watched(way))
    }

    /// What a worker's loop holds and leads to, while it sleeps.
    fn watch(&self, task: &TaskState, way: usize, lowest: u64) -> Option<Look> {
        let way = self.ways.all.get(way)?;
        // Less where the stack ends before.
        let bytes = [REGION, REGION / 2, REGION / 4]
            .into_iter()
            .find_map(|size| {
                let mut bytes = vec![0; size];
                self.memory.read(lowest, &mut bytes).ok().map(|()| bytes)
            })?;
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)))
            .collect();
        let own = task.registers.sp.saturating_sub(STACK_REACH)
            ..task.registers.sp.saturating_add(STACK_REACH);
        let is_pointer =
            |word: &&u64| **word >= LOWEST_POINTER && word.is_multiple_of(8) && !own.contains(word);
        let mut pointees = HashMap::new();
        for pointer in words.iter().filter(is_pointer) {
            let mut bytes = vec![0; POINTEE];
            if !pointees.contains_key(pointer) && self.memory.read(*pointer, &mut bytes).is_ok() {
                pointees.insert(*pointer, bytes);
            }
        }
        let returns_to = |at: &u32, returns: &[u64]| {
            let word = words.get(*at as usize / size_of::<u64>());
            task.registers.sp <= lowest && word.is_some_and(|word| returns.contains(word))
        };
        // All of them: a park may leave the lowest one from the poll before it, in a gap of its own
        // frames.
        let mut levels = way.places.iter().zip(&way.returns);
        let in_poll = levels.all(|(at, returns)| returns_to(at, returns));
        // Until one was seen, any sleep outside of polls is taken for a park.
        let [_, loop_at, _] = &way.places;
        let in_park = task.is_asleep() && (way.parks.is_empty() || returns_to(loop_at, &way.parks));
        Some(Look {
            switches: task.switches,
            running: task.on_cpu,
            doing: match in_poll {
                true => Doing::Poll,
                false if in_park => Doing::Park,
                false => Doing::Between,
            },
            frame: None,
            words,
            pointees,
        })
    }

    /// Tells the kernel side which counters are known by now.
    fn settle(&mut self) {
        let mut changed = false;
        let learnt = self.counters.iter_mut().zip(&mut self.cores);
        let ways = self.ways.all.iter_mut().zip(&self.ways.inlined);
        for ((counters, cores), (way, inlined)) in learnt.zip(ways) {
            let rounds = counters.rounds();
            let [_, loop_at, _] = way.places;
            let learnt = counters.learn();
            if way.counters != learnt.counters {
                log::debug!("after {rounds} rounds: {learnt:?}");
                way.counters.clone_from(&learnt.counters);
                changed = true;
            }
            // Inside the frames of the loop and of its callers, which stand still during a poll.
            let standing = learnt.cores.iter().filter(|at| **at > loop_at);
            cores.clear();
            // Where they alone show `block_in_place` a guess will not do.
            cores.extend(standing.filter(|_| learnt.sure || !inlined));
        }
        if changed {
            self.orders.push(FrameOrder::Ways(self.ways.all.clone()));
        }
    }
}

/// What the frame holds whose caller's return address lies at `place`. None for the leaf, which
/// does not stand still.
fn frame_below<'b>(steps: &[Step], place: u64, base: u64, bytes: &'b [u8]) -> Option<&'b [u8]> {
    let caller = steps.iter().position(|step| step.place == place)?;
    let below = steps.get(caller.checked_sub(1)?)?.place;
    let offset = |address: u64| usize::try_from(address.checked_sub(base)?).ok();
    let start = offset(below.checked_add(8).filter(|_| below != 0)?)?;
    bytes.get(start..offset(place)?)
}
