//! The check of a layout against the live process: what a thread's state is by that layout, and
//! whether it breaks any rule that Tokio's state obeys. A layout is never used unchecked.
//!
//! The threads run on while they are read. A state is taken only if the thread's scheduler pointer
//! was the same before and after; a broken rule counts only if it is seen again and again.

use std::fmt;
use std::io;
use std::ops::Range;

use super::{CoreFields, Discovery, TokioLayout};
use crate::model::{Flavor, Tier};
use crate::target::memory::Memory;

/// What must be known of a thread to look at its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadView {
    pub tid: u32,
    /// 0 where the thread has none.
    pub thread_pointer: u64,
    /// At any moment not long ago; 0 where unknown.
    pub stack_pointer: u64,
    /// Addresses of the thread's stack, where known.
    pub stack: Option<Range<u64>>,
}

/// What a worker's thread-local state says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerState {
    pub flavor: Flavor,
    /// Polling a task or a root future (the coop budget is in force).
    pub in_poll: bool,
    /// The current task's id, 0 for none. While a `multi_thread` worker is parked this is the id of
    /// the blocking task the worker itself runs in.
    pub task_id: u64,
    /// Address of the scheduler's context on the worker's stack.
    pub scheduler: u64,
    /// Address of the worker's core, None while another thread or `block_in_place` has it.
    pub core: Option<u64>,
    /// The core's scheduling rounds.
    pub tick: Option<u32>,
    /// Address of the runtime's shared handle: equal for all threads of one runtime.
    pub handle: Option<u64>,
    /// The worker's index in its runtime.
    pub worker_index: Option<u32>,
    /// Tokio's `EnterRuntime` as a byte.
    pub runtime: u8,
}

/// A thread by a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No scheduler runs on this thread, or it is just ending.
    NotAWorker,
    Worker(WorkerState),
    /// The layout is wrong: the rule that does not hold.
    Violated(String),
}

/// What [`select`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// This layout holds on every thread, at least one worker among them.
    Chosen(TokioLayout, Tier),
    /// No thread has a scheduler yet, or none that shows enough: try again later.
    Undecided,
    /// No layout holds; why the likeliest does not.
    Refuted(String),
}

/// How often a state that changes while it is read, or breaks a rule, is read again.
const ATTEMPTS: usize = 8;

/// How far above the stack pointer a stack's frames may lie where its extent is unknown, bytes.
const MAX_STACK: u64 = 1 << 30;

/// How far below the stack pointer a frame may lie, bytes: what is known of a thread that runs is
/// from its last entry into the kernel.
const STALE_STACK: u64 = 1 << 20;

/// `current_thread`'s `global_queue_interval` unless its user sets another.
const CURRENT_THREAD_INTERVAL: u32 = 31;

/// More workers than any runtime has: a worker's index is below.
const MAX_WORKERS: u64 = 1 << 16;

/// The largest `global_queue_interval` believed after a guessed tick: first what Tokio itself
/// chooses, then what its users may reasonably set.
const INTERVALS: [u32; 2] = [127, 4096];

/// Why a state could not be taken.
enum Obstacle {
    /// It changed meanwhile, or the thread is ending.
    Moving,
    Broken(String),
}

impl From<io::Error> for Obstacle {
    fn from(_: io::Error) -> Self {
        Obstacle::Moving
    }
}

fn broken<T>(why: impl fmt::Display) -> Result<T, Obstacle> {
    Err(Obstacle::Broken(why.to_string()))
}

/// What the thread is by this layout.
pub fn check(layout: &TokioLayout, memory: &dyn Memory, thread: &ThreadView) -> Verdict {
    let mut verdict = Verdict::NotAWorker;
    for _ in 0..ATTEMPTS {
        match observe(layout, memory, thread) {
            Ok(Some(state)) => return Verdict::Worker(state),
            Ok(None) => return Verdict::NotAWorker,
            Err(Obstacle::Broken(why)) => verdict = Verdict::Violated(why),
            Err(Obstacle::Moving) => {}
        }
    }
    verdict
}

/// One attempt: None for a thread without a scheduler.
fn observe(
    layout: &TokioLayout,
    memory: &dyn Memory,
    thread: &ThreadView,
) -> Result<Option<WorkerState>, Obstacle> {
    if thread.thread_pointer == 0 {
        return Ok(None);
    }
    let context = thread.thread_pointer.wrapping_add_signed(layout.context);
    let at = |offset: u32| context.wrapping_add(u64::from(offset));
    let byte = |offset: u32| -> io::Result<u8> {
        let mut byte = [0; 1];
        memory.read(at(offset), &mut byte)?;
        Ok(byte[0])
    };
    let fields = &layout.fields;
    let scheduler = memory.read_u64(at(fields.scheduler))?;
    let runtime = byte(fields.runtime)?;
    let budget = byte(fields.budget)?;
    if runtime > 2 {
        return broken(format_args!("the runtime state is {runtime}"));
    }
    if budget > 1 {
        return broken(format_args!("the coop budget's flag is {budget}"));
    }
    if scheduler == 0 {
        return Ok(None);
    }
    if !on_stack(scheduler, thread) {
        return broken(format_args!(
            "the scheduler's context at {scheduler:#x} is not on the thread's stack"
        ));
    }
    let (flavor, core_fields) = flavor(layout, memory, scheduler)?;
    let core = memory.read_u64(scheduler.wrapping_add(u64::from(core_fields.core)))?;
    if !core.is_multiple_of(8) {
        return broken(format_args!("the core's address is {core:#x}"));
    }
    let tick = match core {
        0 => None,
        core => match memory.read_u32(core.wrapping_add(u64::from(core_fields.tick))) {
            Ok(tick) => Some(tick),
            Err(error) => return broken(format_args!("no core at {core:#x}: {error}")),
        },
    };
    let task_id = task_id(layout, memory, context)?;
    let handle = match fields.handle {
        Some(offset) => {
            let handle = memory.read_u64(at(offset))?;
            if handle == 0 || !handle.is_multiple_of(8) {
                return broken(format_args!("the runtime's handle is {handle:#x}"));
            }
            Some(handle)
        }
        None => None,
    };
    let state = WorkerState {
        flavor,
        in_poll: budget == 1,
        task_id,
        scheduler,
        core: (core != 0).then_some(core),
        tick,
        handle,
        worker_index: worker_index(core_fields, memory, scheduler),
        runtime,
    };
    if memory.read_u64(at(fields.scheduler))? != scheduler {
        return Err(Obstacle::Moving);
    }
    Ok(Some(state))
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

/// Which flavor the scheduler's context is of, and that flavor's fields.
fn flavor<'l>(
    layout: &'l TokioLayout,
    memory: &dyn Memory,
    scheduler: u64,
) -> Result<(Flavor, &'l CoreFields), Obstacle> {
    let flavors = [
        (Flavor::CurrentThread, layout.current_thread.as_ref()),
        (Flavor::MultiThread, layout.multi_thread.as_ref()),
    ];
    let mut present = flavors
        .into_iter()
        .filter_map(|(flavor, fields)| Some((flavor, fields?)));
    if !layout.has_flavor_tag() {
        // An enum with one variant has no discriminant.
        return present
            .next()
            .ok_or_else(|| Obstacle::Broken("the layout has no flavor".into()));
    }
    let tag = memory.read_u64(scheduler.wrapping_add(u64::from(layout.flavor)))?;
    present
        .find(|(_, fields)| fields.tag == tag)
        .ok_or_else(|| Obstacle::Broken(format!("the scheduler's flavor is {tag:#x}")))
}

fn task_id(layout: &TokioLayout, memory: &dyn Memory, context: u64) -> Result<u64, Obstacle> {
    let address = context.wrapping_add(u64::from(layout.fields.task_id));
    let word = memory.read_u64(address)?;
    if !layout.fields.task_id_wide {
        return Ok(word);
    }
    match word {
        0 => Ok(0),
        1 => Ok(memory.read_u64(address.wrapping_add(8))?),
        other => broken(format_args!("the task id's discriminant is {other:#x}")),
    }
}

/// The worker's index; None for `current_thread`, or where it cannot be told.
fn worker_index(fields: &CoreFields, memory: &dyn Memory, scheduler: u64) -> Option<u32> {
    let arc = memory
        .read_u64(scheduler.wrapping_add(u64::from(fields.worker?)))
        .ok()?;
    let index = match fields.worker_index {
        Some(offset) => memory.read_u64(arc.wrapping_add(u64::from(offset))).ok()?,
        None => {
            // `Worker` is the handle, the index and the core (null while the worker has it), in
            // whatever order rustc chose, after the two counts: only the index can be small and
            // not null.
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

/// The layout that holds on all these threads: the exact ones first, then the candidates.
pub fn select(discovery: &Discovery, memory: &dyn Memory, threads: &[ThreadView]) -> Selection {
    let mut undecided = false;
    let mut refuted = None;
    let exact = discovery.exact.iter().map(|layout| (layout, None));
    let table = INTERVALS.into_iter().flat_map(|interval| {
        let candidates = discovery.candidates.iter();
        candidates.map(move |layout| (layout, Some(interval)))
    });
    for (layout, interval) in exact.chain(table) {
        match workers(layout, interval, memory, threads) {
            Ok(0) => undecided = true,
            Ok(_) if interval.is_none() => return Selection::Chosen(*layout, Tier::DebugInfo),
            Ok(_) => return Selection::Chosen(*layout, Tier::VersionTable),
            Err(why) => {
                refuted.get_or_insert(why);
            }
        }
    }
    match refuted {
        Some(why) if !undecided => Selection::Refuted(why),
        _ => Selection::Undecided,
    }
}

/// The number of workers that a layout in use holds on: the check to repeat when threads or
/// runtimes appear. A guessed tick of a flavor is proven only once a worker of that flavor runs.
///
/// # Errors
/// The first rule that a thread breaks: the layout must not be used any longer.
pub fn holds(
    layout: &TokioLayout,
    tier: Tier,
    memory: &dyn Memory,
    threads: &[ThreadView],
) -> Result<usize, String> {
    let believed = (tier != Tier::DebugInfo).then_some(INTERVALS[1]);
    workers(layout, believed, memory, threads)
}

/// See [`holds`]. A guess comes with the largest `global_queue_interval` that is believed.
fn workers(
    layout: &TokioLayout,
    interval: Option<u32>,
    memory: &dyn Memory,
    threads: &[ThreadView],
) -> Result<usize, String> {
    let mut workers = 0;
    for thread in threads {
        match check(layout, memory, thread) {
            Verdict::NotAWorker => {}
            Verdict::Violated(why) => return Err(format!("thread {}: {why}", thread.tid)),
            Verdict::Worker(state) => {
                let shown = match interval {
                    None => state.core.is_some(),
                    Some(interval) => shape(layout, interval, memory, &state)
                        .map_err(|why| format!("thread {}: {why}", thread.tid))?,
                };
                workers += usize::from(shown);
            }
        }
    }
    Ok(workers)
}

/// For layouts that are only guesses: what a worker's memory must look like beyond [`check`].
/// False when the worker shows nothing at the moment (its core is elsewhere, or has not run).
///
/// # Errors
/// The rule that does not hold.
fn shape(
    layout: &TokioLayout,
    max_interval: u32,
    memory: &dyn Memory,
    state: &WorkerState,
) -> Result<bool, String> {
    let fields = match state.flavor {
        Flavor::CurrentThread => layout.current_thread,
        Flavor::MultiThread => layout.multi_thread,
    };
    let (Some(fields), Some(core)) = (fields, state.core) else {
        return Ok(false);
    };
    // `core` is a RefCell's value, right after its borrow flag.
    let flag = state
        .scheduler
        .wrapping_add(u64::from(fields.core))
        .wrapping_sub(8);
    let unreadable = |error: io::Error| format!("unreadable: {error}");
    let flag = memory.read_u64(flag).map_err(unreadable)? as i64;
    if !(-1..=1).contains(&flag) {
        return Err(format!("the core's borrow flag is {flag}"));
    }
    let tick = core.wrapping_add(u64::from(fields.tick));
    let interval = memory.read_u32(tick.wrapping_add(4)).map_err(unreadable)?;
    if !(1..=max_interval).contains(&interval) {
        return Err(format!("the global queue interval is {interval}"));
    }
    if fields.worker.is_some() && state.worker_index.is_none() {
        return Err("the worker has no index".into());
    }
    // The first poll of a `current_thread` root comes before the first round, and may take forever.
    let first_poll = state.flavor == Flavor::CurrentThread && interval == CURRENT_THREAD_INTERVAL;
    Ok(first_poll || state.tick.is_some_and(|tick| tick != 0))
}

#[cfg(test)]
mod tests;
