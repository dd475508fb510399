//! Reads a live thread's state by a layout, and checks the invariants of every path it follows. No
//! layout is used unchecked.
//!
//! Threads run on while they are read, so a single read proves nothing: a state counts only if the
//! pointer to the scheduler's context was the same before and after, and an invariant counts as
//! violated only if every attempt violates it.

mod proof;

use std::fmt;
use std::io;
use std::ops::Range;

pub(super) use proof::proves;

use super::{FlavorPaths, TaskId, TokioLayout};
use crate::model::Flavor;
use crate::target::memory::Memory;

/// What must be known of a thread to read its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadView {
    pub tid: u32,
    /// 0 where the thread has none.
    pub thread_pointer: u64,
    /// At some recent moment; 0 where unknown.
    pub stack_pointer: u64,
    /// Addresses of the thread's stack, where known.
    pub stack: Option<Range<u64>>,
    /// If it waits in epoll, which on a worker is the park of Tokio's driver: how many context
    /// switches it has made. The same number later means that it has not run meanwhile.
    pub parked: Option<u64>,
}

impl ThreadView {
    /// The address that offsets of thread-locals count from; None where the thread has none.
    pub(super) fn tls_base(&self) -> Option<u64> {
        (self.thread_pointer != 0).then_some(self.thread_pointer)
    }
}

/// What a worker's thread-local state says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerState {
    pub flavor: Flavor,
    /// Polling a task or a root future (the coop budget is in force).
    pub in_poll: bool,
    /// The current task's id, 0 for none. While a `multi_thread` worker is parked this is the id of
    /// the blocking task that the worker itself runs in.
    pub task_id: u64,
    /// What is left of the budget; 0 where it is not in force.
    pub budget_left: u8,
    /// Address of the scheduler's context on the worker's stack.
    pub scheduler: u64,
    /// Address of the worker's core, None while another thread or `block_in_place` has it.
    pub core: Option<u64>,
    /// The core's count of scheduling rounds.
    pub tick: Option<u32>,
    /// Address of the runtime's shared handle, which all threads of the runtime have in common.
    pub handle: Option<u64>,
    /// The worker's index in its runtime.
    pub worker_index: Option<u32>,
    /// Tokio's `EnterRuntime` as a byte, where its place is known.
    pub runtime: Option<u8>,
}

/// What a thread's state says that runs `block_on` outside of the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootState {
    /// Address of the runtime's shared handle.
    pub handle: u64,
    /// What is left of the budget while the root future is polled, None while it waits.
    pub budget_left: Option<u8>,
}

/// What a thread is by a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No runtime is entered on this thread, or it is about to end.
    NotAWorker,
    Worker(WorkerState),
    Root(RootState),
    /// The layout is wrong: the invariant that does not hold.
    Violated(String),
}

/// How often a state is read again that changes meanwhile, or violates an invariant.
const ATTEMPTS: usize = 8;

/// How far above the stack pointer a frame may lie where the stack's extent is unknown, bytes.
const MAX_STACK: u64 = 1 << 30;

/// How far below the stack pointer a frame may lie, bytes: that of a running thread dates from its
/// last entry into the kernel.
const STALE_STACK: u64 = 1 << 20;

/// The budget that Tokio gives a task for one poll.
pub(super) const MAX_BUDGET: u8 = 128;

/// `EnterRuntime` as a byte where no runtime is entered: its largest value.
const NOT_ENTERED: u8 = 2;

/// A worker's index is below this: no runtime has so many workers.
const MAX_WORKERS: u64 = 1 << 16;

/// Why a state could not be read.
enum Obstacle {
    /// It changed meanwhile, or the thread is about to end.
    Moving,
    Violated(String),
}

impl From<io::Error> for Obstacle {
    fn from(_: io::Error) -> Self {
        Obstacle::Moving
    }
}

fn violated<T>(why: impl fmt::Display) -> Result<T, Obstacle> {
    Err(Obstacle::Violated(why.to_string()))
}

/// What the thread is by this layout.
pub fn check(layout: &TokioLayout, memory: &dyn Memory, thread: &ThreadView) -> Verdict {
    let mut verdict = Verdict::NotAWorker;
    for _ in 0..ATTEMPTS {
        match read(layout, memory, thread) {
            Ok(verdict) => return verdict,
            Err(Obstacle::Violated(why)) => verdict = Verdict::Violated(why),
            Err(Obstacle::Moving) => verdict = Verdict::NotAWorker,
        }
    }
    verdict
}

/// One attempt.
fn read(
    layout: &TokioLayout,
    memory: &dyn Memory,
    thread: &ThreadView,
) -> Result<Verdict, Obstacle> {
    let Some(base) = thread.tls_base() else {
        return Ok(Verdict::NotAWorker);
    };
    let fields = &layout.poll.context;
    let context = base.wrapping_add_signed(layout.locals.context);
    let at = |offset: u32| context.wrapping_add(u64::from(offset));
    let runtime = fields
        .runtime
        .map(|offset| runtime(memory, at(offset)))
        .transpose()?;
    let budget_left = budget(memory, at(fields.budget))?;
    let Some(current) = current_scheduler(layout, memory, thread, base, context)? else {
        let handle = fields.handle.filter(|_| fields.scheduler.is_some());
        let handle = handle.map(|offset| memory.read_u64(at(offset)));
        return Ok(match (runtime, handle.transpose()?) {
            (Some(runtime), Some(handle)) if runtime < NOT_ENTERED && handle != 0 => {
                Verdict::Root(RootState {
                    handle,
                    budget_left,
                })
            }
            _ => Verdict::NotAWorker,
        });
    };
    let Current {
        pointer,
        scheduler,
        flavor,
        paths,
        core,
    } = current;
    let tick = match core {
        0 => None,
        core => match memory.read_u32(core.wrapping_add(u64::from(paths.tick))) {
            Ok(tick) => Some(tick),
            Err(error) => return violated(format_args!("no core at {core:#x}: {error}")),
        },
    };
    let task_id = match fields.task_id {
        Some(place) => task_id(memory, at(place.offset), place)?,
        None => 0,
    };
    let handle = match fields.handle {
        Some(offset) => Some(memory.read_u64(at(offset))?),
        None => scheduler_handle(flavor, &paths, memory, scheduler),
    };
    if let Some(handle) = handle
        && (handle == 0 || !handle.is_multiple_of(8))
    {
        return violated(format_args!("the runtime's handle is {handle:#x}"));
    }
    let state = WorkerState {
        flavor,
        in_poll: budget_left.is_some(),
        task_id,
        budget_left: budget_left.unwrap_or(0),
        scheduler,
        core: (core != 0).then_some(core),
        tick,
        handle,
        worker_index: worker_index(&paths, memory, scheduler),
        runtime,
    };
    if memory.read_u64(pointer)? != scheduler {
        return Err(Obstacle::Moving);
    }
    Ok(Verdict::Worker(state))
}

fn byte(memory: &dyn Memory, address: u64) -> io::Result<u8> {
    let mut byte = [0; 1];
    memory.read(address, &mut byte)?;
    Ok(byte[0])
}

fn runtime(memory: &dyn Memory, address: u64) -> Result<u8, Obstacle> {
    match byte(memory, address)? {
        state if state > NOT_ENTERED => violated(format_args!("the runtime state is {state}")),
        state => Ok(state),
    }
}

/// What is left of the coop budget; None where it is not in force.
fn budget(memory: &dyn Memory, address: u64) -> Result<Option<u8>, Obstacle> {
    let flag = byte(memory, address)?;
    let left = byte(memory, address.wrapping_add(1))?;
    match flag {
        0 => Ok(None),
        1 if left <= MAX_BUDGET => Ok(Some(left)),
        1 => violated(format_args!("the coop budget is {left}")),
        _ => violated(format_args!("the coop budget's flag is {flag}")),
    }
}

fn task_id(memory: &dyn Memory, address: u64, place: TaskId) -> Result<u64, Obstacle> {
    let word = memory.read_u64(address)?;
    if !place.wide {
        return Ok(word);
    }
    match word {
        0 => Ok(0),
        1 => Ok(memory.read_u64(address.wrapping_add(8))?),
        other => violated(format_args!("the task id's discriminant is {other:#x}")),
    }
}

/// The scheduler that runs on a thread.
struct Current {
    /// Where the pointer to its context is.
    pointer: u64,
    /// Address of its context.
    scheduler: u64,
    flavor: Flavor,
    paths: FlavorPaths,
    /// 0 while the core is elsewhere.
    core: u64,
}

impl Current {
    fn read(
        memory: &dyn Memory,
        pointer: u64,
        scheduler: u64,
        (flavor, paths): (Flavor, FlavorPaths),
    ) -> Result<Current, Obstacle> {
        let core = memory.read_u64(scheduler.wrapping_add(u64::from(paths.core)))?;
        if !core.is_multiple_of(8) {
            return violated(format_args!("the core's address is {core:#x}"));
        }
        Ok(Current {
            pointer,
            scheduler,
            flavor,
            paths,
            core,
        })
    }
}

/// None where no scheduler runs.
fn current_scheduler(
    layout: &TokioLayout,
    memory: &dyn Memory,
    thread: &ThreadView,
    base: u64,
    context: u64,
) -> Result<Option<Current>, Obstacle> {
    if let Some(offset) = layout.poll.context.scheduler {
        let pointer = context.wrapping_add(u64::from(offset));
        let Some(scheduler) = scheduler_at(memory, thread, pointer)? else {
            return Ok(None);
        };
        let flavor = flavor(layout, memory, scheduler)?;
        return Current::read(memory, pointer, scheduler, flavor).map(Some);
    }
    // Before 1.29: each flavor's own thread-local.
    let of = |local: Option<i64>, flavor| {
        let (Some(local), Some(paths)) = (local, layout.poll.of(flavor)) else {
            return Ok(None);
        };
        let pointer = base.wrapping_add_signed(local);
        match scheduler_at(memory, thread, pointer)? {
            Some(scheduler) => Current::read(memory, pointer, scheduler, (flavor, paths)).map(Some),
            None => Ok(None),
        }
    };
    let outer = of(layout.locals.multi_thread, Flavor::MultiThread)?;
    if outer.as_ref().is_some_and(|outer| outer.core != 0) {
        return Ok(outer);
    }
    // In block_in_place a worker may run another runtime on top.
    let inner = of(layout.locals.current_thread, Flavor::CurrentThread)?;
    Ok(inner.or(outer))
}

/// The scheduler's context that the word at `pointer` points to; None for a null pointer.
fn scheduler_at(
    memory: &dyn Memory,
    thread: &ThreadView,
    pointer: u64,
) -> Result<Option<u64>, Obstacle> {
    let scheduler = memory.read_u64(pointer)?;
    if scheduler == 0 {
        return Ok(None);
    }
    if !on_stack(scheduler, thread) {
        return violated(format_args!(
            "the scheduler's context at {scheduler:#x} is not on the thread's stack"
        ));
    }
    Ok(Some(scheduler))
}

fn on_stack(address: u64, thread: &ThreadView) -> bool {
    if !address.is_multiple_of(8) {
        return false;
    }
    match &thread.stack {
        Some(stack) => stack.contains(&address),
        None => {
            thread.stack_pointer == 0
                || (thread.stack_pointer.saturating_sub(STALE_STACK)
                    ..thread.stack_pointer.saturating_add(MAX_STACK))
                    .contains(&address)
        }
    }
}

/// The flavor that the scheduler's context is of.
fn flavor(
    layout: &TokioLayout,
    memory: &dyn Memory,
    scheduler: u64,
) -> Result<(Flavor, FlavorPaths), Obstacle> {
    let flavors = [Flavor::CurrentThread, Flavor::MultiThread].into_iter();
    let mut known = flavors.filter_map(|flavor| Some((flavor, layout.poll.of(flavor)?)));
    let Some(offset) = layout.poll.flavor_tag else {
        // An enum with one variant has no discriminant.
        return known
            .next()
            .ok_or_else(|| Obstacle::Violated("the layout has no flavor".into()));
    };
    let tag = memory.read_u64(scheduler.wrapping_add(u64::from(offset)))?;
    known
        .find(|(_, paths)| paths.tag == tag)
        .ok_or_else(|| Obstacle::Violated(format!("the scheduler's flavor is {tag:#x}")))
}

/// The runtime's handle where `Context` has none: what the scheduler's context leads to.
pub(super) fn scheduler_handle(
    flavor: Flavor,
    paths: &FlavorPaths,
    memory: &dyn Memory,
    scheduler: u64,
) -> Option<u64> {
    let base = match flavor {
        Flavor::CurrentThread => scheduler,
        Flavor::MultiThread => {
            let worker = scheduler.wrapping_add(u64::from(paths.worker?));
            memory.read_u64(worker).ok()?
        }
    };
    memory
        .read_u64(base.wrapping_add(u64::from(paths.handle?)))
        .ok()
}

/// The worker's index; None for `current_thread`, or where it cannot be read.
pub(super) fn worker_index(
    paths: &FlavorPaths,
    memory: &dyn Memory,
    scheduler: u64,
) -> Option<u32> {
    let arc = memory
        .read_u64(scheduler.wrapping_add(u64::from(paths.worker?)))
        .ok()?;
    let index = match paths.worker_index {
        Some(offset) => memory.read_u64(arc.wrapping_add(u64::from(offset))).ok()?,
        None => {
            // After the two counts of the Arc, `Worker` is the handle, the index and the core (null
            // while the worker has it), in the order that rustc chose: only the index can be small
            // and not null.
            let words = [16, 24, 32].map(|offset| memory.read_u64(arc.wrapping_add(offset)).ok());
            words
                .into_iter()
                .flatten()
                .filter(|word| *word < MAX_WORKERS)
                .max()?
        }
    };
    (index < MAX_WORKERS).then_some(index as u32)
}
