//! The check of a layout against the live process: what a thread's state is by that layout, and
//! whether it breaks any rule that Tokio's state obeys. A layout is never used unchecked.
//!
//! The threads run on while they are read. A state is taken only if the thread's scheduler pointer
//! was the same before and after; a broken rule counts only if it is seen again and again.

use std::fmt;
use std::io;
use std::ops::Range;

use super::{Apart, CoreFields, Scheduler, TokioLayout};
use crate::model::Flavor;
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
    /// It waits in epoll: on a worker that is the park of Tokio's driver.
    pub parked: bool,
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
    /// What is left of the budget; 0 where it is not in force.
    pub budget_left: u8,
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
    /// Tokio's `EnterRuntime` as a byte, where its place is known.
    pub runtime: Option<u8>,
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

/// How often a state that changes while it is read, or breaks a rule, is read again.
const ATTEMPTS: usize = 8;

/// How far above the stack pointer a stack's frames may lie where its extent is unknown, bytes.
const MAX_STACK: u64 = 1 << 30;

/// How far below the stack pointer a frame may lie, bytes: what is known of a thread that runs is
/// from its last entry into the kernel.
const STALE_STACK: u64 = 1 << 20;

/// What Tokio gives a task to spend in one poll.
const MAX_BUDGET: u8 = 128;

/// More workers than any runtime has: a worker's index is below.
const MAX_WORKERS: u64 = 1 << 16;

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
            Err(Obstacle::Moving) => verdict = Verdict::NotAWorker,
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
    let runtime = fields.runtime.map(byte).transpose()?;
    let budget = byte(fields.budget)?;
    let left = byte(fields.budget.saturating_add(1))?;
    if let Some(runtime) = runtime.filter(|runtime| *runtime > 2) {
        return broken(format_args!("the runtime state is {runtime}"));
    }
    if budget > 1 {
        return broken(format_args!("the coop budget's flag is {budget}"));
    }
    if budget == 1 && left > MAX_BUDGET {
        return broken(format_args!("the coop budget is {left}"));
    }
    let Some(current) = current(layout, memory, thread, context)? else {
        return Ok(None);
    };
    let Current {
        pointer,
        scheduler,
        flavor,
        fields: core_fields,
        core,
    } = current;
    let tick = match core {
        0 => None,
        core => match memory.read_u32(core.wrapping_add(u64::from(core_fields.tick))) {
            Ok(tick) => Some(tick),
            Err(error) => return broken(format_args!("no core at {core:#x}: {error}")),
        },
    };
    let task_id = task_id(layout, memory, context)?;
    let handle = match fields.handle {
        Some(offset) => Some(memory.read_u64(at(offset))?),
        None => scheduler_handle(flavor, core_fields, memory, scheduler),
    };
    if let Some(handle) = handle
        && (handle == 0 || !handle.is_multiple_of(8))
    {
        return broken(format_args!("the runtime's handle is {handle:#x}"));
    }
    let state = WorkerState {
        flavor,
        in_poll: budget == 1,
        task_id,
        budget_left: if budget == 1 { left } else { 0 },
        scheduler,
        core: (core != 0).then_some(core),
        tick,
        handle,
        worker_index: worker_index(core_fields, memory, scheduler),
        runtime,
    };
    if memory.read_u64(pointer)? != scheduler {
        return Err(Obstacle::Moving);
    }
    Ok(Some(state))
}

/// The scheduler that runs on a thread.
struct Current<'l> {
    /// Where the pointer to its context is.
    pointer: u64,
    /// Address of its context.
    scheduler: u64,
    flavor: Flavor,
    fields: &'l CoreFields,
    /// 0 while the core is elsewhere.
    core: u64,
}

/// None where no scheduler runs.
fn current<'l>(
    layout: &'l TokioLayout,
    memory: &dyn Memory,
    thread: &ThreadView,
    context: u64,
) -> Result<Option<Current<'l>>, Obstacle> {
    match layout.fields.scheduler {
        Scheduler::Field(offset) => {
            let pointer = context.wrapping_add(u64::from(offset));
            let Some(scheduler) = follow(memory, thread, pointer)? else {
                return Ok(None);
            };
            let (flavor, fields) = flavor(layout, memory, scheduler)?;
            holder(memory, pointer, scheduler, flavor, fields).map(Some)
        }
        Scheduler::Apart(Apart {
            current_thread,
            multi_thread,
        }) => {
            let at = |place: Option<i64>, flavor, fields: &'l Option<CoreFields>| {
                let (Some(place), Some(fields)) = (place, fields) else {
                    return Ok(None);
                };
                let pointer = thread.thread_pointer.wrapping_add_signed(place);
                match follow(memory, thread, pointer)? {
                    Some(scheduler) => holder(memory, pointer, scheduler, flavor, fields).map(Some),
                    None => Ok(None),
                }
            };
            let outer = at(multi_thread, Flavor::MultiThread, &layout.multi_thread)?;
            if outer.as_ref().is_some_and(|outer| outer.core != 0) {
                return Ok(outer);
            }
            // In block_in_place a worker may run another runtime on top.
            let inner = at(
                current_thread,
                Flavor::CurrentThread,
                &layout.current_thread,
            )?;
            Ok(inner.or(outer))
        }
    }
}

/// The scheduler's context that the word at `pointer` points to.
fn follow(memory: &dyn Memory, thread: &ThreadView, pointer: u64) -> Result<Option<u64>, Obstacle> {
    let scheduler = memory.read_u64(pointer)?;
    if scheduler == 0 {
        return Ok(None);
    }
    if !on_stack(scheduler, thread) {
        return broken(format_args!(
            "the scheduler's context at {scheduler:#x} is not on the thread's stack"
        ));
    }
    Ok(Some(scheduler))
}

fn holder<'l>(
    memory: &dyn Memory,
    pointer: u64,
    scheduler: u64,
    flavor: Flavor,
    fields: &'l CoreFields,
) -> Result<Current<'l>, Obstacle> {
    let core = memory.read_u64(scheduler.wrapping_add(u64::from(fields.core)))?;
    if !core.is_multiple_of(8) {
        return broken(format_args!("the core's address is {core:#x}"));
    }
    Ok(Current {
        pointer,
        scheduler,
        flavor,
        fields,
        core,
    })
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
    let Some(offset) = layout.flavor else {
        // An enum with one variant has no discriminant.
        return present
            .next()
            .ok_or_else(|| Obstacle::Broken("the layout has no flavor".into()));
    };
    let tag = memory.read_u64(scheduler.wrapping_add(u64::from(offset)))?;
    present
        .find(|(_, fields)| fields.tag == tag)
        .ok_or_else(|| Obstacle::Broken(format!("the scheduler's flavor is {tag:#x}")))
}

fn task_id(layout: &TokioLayout, memory: &dyn Memory, context: u64) -> Result<u64, Obstacle> {
    let Some(offset) = layout.fields.task_id else {
        return Ok(0);
    };
    let address = context.wrapping_add(u64::from(offset));
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

/// The runtime's handle where `Context` has none: what the scheduler's context leads to.
pub(in crate::tokio) fn scheduler_handle(
    flavor: Flavor,
    fields: &CoreFields,
    memory: &dyn Memory,
    scheduler: u64,
) -> Option<u64> {
    let base = match flavor {
        Flavor::CurrentThread => scheduler,
        Flavor::MultiThread => {
            let worker = scheduler.wrapping_add(u64::from(fields.worker?));
            memory.read_u64(worker).ok()?
        }
    };
    memory
        .read_u64(base.wrapping_add(u64::from(fields.handle?)))
        .ok()
}

/// The worker's index; None for `current_thread`, or where it cannot be told.
pub(in crate::tokio) fn worker_index(
    fields: &CoreFields,
    memory: &dyn Memory,
    scheduler: u64,
) -> Option<u32> {
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
