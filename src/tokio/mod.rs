//! Where Tokio keeps the state that says which task poll a thread is in.
//!
//! A [`TokioLayout`] is all that the kernel side needs to know of a Tokio version: offsets, found
//! from the target's debug info or from a version table.

mod binary;
pub mod kernel;
mod learn;
mod live;
pub mod names;
mod search;
mod select;
mod table;
#[cfg(test)]
pub(crate) mod testing;

pub use binary::{Discovery, discover, libraries, tokio_in};
pub(crate) use learn::rounds;
pub use live::{ThreadView, Verdict, WorkerState, check};
pub use search::{Found, Search, Waiting};
pub use select::{Shown, holds};

use crate::model::Flavor;

/// Offsets of Tokio's thread-local scheduler state. All offsets are in bytes.
///
/// The chain, as the kernel side follows it at a context switch: thread pointer + `context` is
/// Tokio's `Context`; its `scheduler` field points to the scheduler's context on the worker's own
/// stack; that holds the discriminant of the flavor and the pointer to the worker's `Core`, whose
/// `tick` counts scheduling rounds. Before 1.29 thread-locals of their own lead to the scheduler's
/// context: see [`Scheduler`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokioLayout {
    /// `CONTEXT` relative to the thread pointer; negative on x86-64. Before 1.22, whose `CONTEXT`
    /// holds nothing of interest, the thread-local of the coop budget.
    pub context: i64,
    /// Fields of `tokio::runtime::context::Context`.
    pub fields: ContextFields,
    /// `tokio::runtime::scheduler::Context`: offset of the discriminant (u64). None with one flavor
    /// compiled in, and before 1.29.
    pub flavor: Option<u32>,
    /// The `current_thread` variant, unless compiled out or not known.
    pub current_thread: Option<CoreFields>,
    /// The `multi_thread` variant, unless compiled out or not known.
    pub multi_thread: Option<CoreFields>,
    /// It was learnt from what the fields do: then no order of fields is known.
    pub learnt: bool,
}

impl TokioLayout {
    /// The variant of that flavor; None where it is compiled out or not known.
    pub fn core_of(&self, flavor: Flavor) -> Option<CoreFields> {
        match flavor {
            Flavor::CurrentThread => self.current_thread,
            Flavor::MultiThread => self.multi_thread,
        }
    }
}

/// Offsets in `tokio::runtime::context::Context`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextFields {
    /// `current_task_id`. None before 1.22: then polls that share a tick are told apart by what is
    /// left of their budget.
    pub task_id: Option<u32>,
    /// The id is an `Option<u64>` of 16 bytes (discriminant, value), not a niche of 8.
    pub task_id_wide: bool,
    /// `budget`: a byte that is 1 while a constrained task is polled, then the budget left.
    pub budget: u32,
    /// What leads to the scheduler's context.
    pub scheduler: Scheduler,
    /// `runtime`: `EnterRuntime` as a byte, 2 where no runtime is entered. None where unknown.
    pub runtime: Option<u32>,
    /// `current`'s handle (`handle` before 1.29), an `Option<scheduler::Handle>`: where the pointer
    /// to the runtime's shared `Handle` lies. Equal for all threads of one runtime. None where
    /// unknown.
    pub handle: Option<u32>,
}

/// What leads to the scheduler's context: a pointer that is null where no scheduler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// `Context::scheduler`, in that place of `Context`.
    Field(u32),
    /// Before 1.29: each flavor's own thread-local `CURRENT`.
    Apart(Apart),
}

/// Where each flavor's `CURRENT` lies, relative to the thread pointer. None where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Apart {
    pub current_thread: Option<i64>,
    pub multi_thread: Option<i64>,
}

/// Offsets inside one variant of `scheduler::Context`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreFields {
    /// Value of the discriminant for this variant; 0 where there is none.
    pub tag: u64,
    /// `core`: the pointer inside `RefCell<Option<Box<Core>>>`, null while the core is elsewhere.
    pub core: u32,
    /// `Core::tick` (u32), from the core's start.
    pub tick: u32,
    /// What lies beside the tick.
    pub beside_tick: BesideTick,
    /// `worker` in the `multi_thread` context: the pointer to `ArcInner<Worker>`. None where unknown.
    pub worker: Option<u32>,
    /// `Worker::index` (usize) from the start of `ArcInner<Worker>`. None where unknown.
    pub worker_index: Option<u32>,
    /// Where `Context` has no handle: `current_thread`'s in the scheduler's context, `multi_thread`'s
    /// from the start of `ArcInner<Worker>`.
    pub handle: Option<u32>,
}

/// What lies beside `Core::tick`: a guess must find it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BesideTick {
    /// `global_queue_interval` (u32) follows.
    Interval,
    /// As many flags of a byte each follow.
    Flags(u8),
    /// A flag follows, and before the tick is the queue of tasks, a `VecDeque`.
    Queue,
    /// A flag follows, and before the tick is the runtime's handle.
    Handle,
    Unknown,
}
