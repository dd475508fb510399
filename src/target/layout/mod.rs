//! Where Tokio keeps the state that says which task poll a thread is in.
//!
//! A [`TokioLayout`] is all that the kernel side needs to know of a Tokio version: offsets, found
//! from the target's debug info or from a version table.

mod behaviour;
mod discovery;
mod dwarf;
mod elf;
mod learn;
mod live;
mod package;
mod scan;
mod search;
mod sections;
mod select;
mod survey;
mod symbols;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod types;
mod versions;

pub use discovery::{Discovery, discover};
pub use live::{ThreadView, Verdict, WorkerState, check};
pub use search::{Found, Search, Waiting};
pub use select::{Shown, holds};

/// Offsets of Tokio's thread-local scheduler state. All offsets are in bytes.
///
/// The chain, as the kernel side follows it at a context switch: thread pointer + `context` is
/// Tokio's `Context`; its `scheduler` field points to the scheduler's context on the worker's own
/// stack; that holds the discriminant of the flavor and the pointer to the worker's `Core`, whose
/// `tick` counts scheduling rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokioLayout {
    /// `CONTEXT` relative to the thread pointer; negative on x86-64.
    pub context: i64,
    /// Fields of `tokio::runtime::context::Context`.
    pub fields: ContextFields,
    /// `tokio::runtime::scheduler::Context`: offset of the discriminant (u64). None with one flavor
    /// compiled in.
    pub flavor: Option<u32>,
    /// The `current_thread` variant, unless compiled out or not known.
    pub current_thread: Option<CoreFields>,
    /// The `multi_thread` variant, unless compiled out or not known.
    pub multi_thread: Option<CoreFields>,
}

impl TokioLayout {
    /// Whether it was learnt from what the fields do: then no order of fields is known.
    pub fn is_learnt(&self) -> bool {
        self.fields.runtime.is_none()
    }
}

/// Offsets in `tokio::runtime::context::Context`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextFields {
    /// `current_task_id`.
    pub task_id: u32,
    /// The id is an `Option<u64>` of 16 bytes (discriminant, value), not a niche of 8.
    pub task_id_wide: bool,
    /// `budget`: a byte that is 1 while a constrained task is polled, then the budget left.
    pub budget: u32,
    /// `scheduler`: pointer to the scheduler's context, null outside a worker.
    pub scheduler: u32,
    /// `runtime`: `EnterRuntime` as a byte, 2 where no runtime is entered. None where
    /// the layout was learnt.
    pub runtime: Option<u32>,
    /// `current`'s handle, an `Option<scheduler::Handle>`: where the pointer to the runtime's
    /// shared `Handle` lies. Equal for all threads of one runtime. None where unknown.
    pub handle: Option<u32>,
}

/// Offsets inside one variant of `scheduler::Context`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreFields {
    /// Value of the discriminant for this variant.
    pub tag: u64,
    /// `core`: the pointer inside `RefCell<Option<Box<Core>>>`, null while the core is elsewhere.
    pub core: u32,
    /// `Core::tick` (u32), from the core's start.
    pub tick: u32,
    /// `worker` in the `multi_thread` context: the pointer to `ArcInner<Worker>`. None where unknown.
    pub worker: Option<u32>,
    /// `Worker::index` (usize) from the start of `ArcInner<Worker>`. None where unknown.
    pub worker_index: Option<u32>,
}
