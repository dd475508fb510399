//! The layout: where one build of Tokio keeps the state that hud reads.
//!
//! A layout is a set of paths. Each starts at one of Tokio's thread-locals and leads over offsets
//! and pointers to a value. A group of paths says where its offsets came from ([`Source`]); the
//! invariants that it must keep on a live process are in `live`. User space reads along a layout in
//! `live`, and `kernel` gives the same layout to the BPF programs.
//!
//! The paths so far lead to the poll that a thread is in. What a runtime's threads share (queues,
//! blocking pool, driver, task list) is reached from [`ContextFields::handle`] and becomes a group
//! beside [`PollPaths`], with a source of its own and None where nothing is known of it.

use crate::model::{Flavor, Tier};

/// Where offsets came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The types in the target's own debug info.
    DebugInfo,
    /// A row of the version table, at the place that a symbol names.
    Table,
    /// A row of the version table, at the one place in thread-local memory where it fits.
    Scan,
    /// What the fields were seen to do in the live process.
    Learnt,
}

impl Source {
    /// The tier that polls tracked by such a layout are in.
    pub fn tier(self) -> Tier {
        match self {
            Source::DebugInfo => Tier::DebugInfo,
            Source::Table => Tier::VersionTable,
            Source::Scan => Tier::Scan,
            Source::Learnt => Tier::Learnt,
        }
    }

    /// Whether it comes from the version table, which rustc need not have followed: each flavor of
    /// such a layout is believed only once one of its workers confirms it.
    pub fn is_table(self) -> bool {
        matches!(self, Source::Table | Source::Scan)
    }
}

/// All that is known of where a target's Tokio keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokioLayout {
    pub locals: ThreadLocals,
    pub poll: PollPaths,
}

impl TokioLayout {
    /// The tier that polls tracked by this layout are in.
    pub fn tier(&self) -> Tier {
        self.poll.source.tier()
    }
}

/// Where Tokio's thread-locals lie: bytes from the thread pointer, negative on x86-64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadLocals {
    /// `CONTEXT`. Before 1.22, whose `CONTEXT` holds nothing that hud reads, the coop budget.
    pub context: i64,
    /// `CURRENT` of each flavor, before 1.29; None where it is not known.
    pub current_thread: Option<i64>,
    pub multi_thread: Option<i64>,
}

/// The paths from the thread-locals to the poll that a thread is in. All offsets are in bytes.
///
/// Since 1.29 `Context` holds a pointer to the scheduler's context, which lies on the worker's own
/// stack; before, each flavor has a thread-local of its own with that pointer. The scheduler's
/// context holds the discriminant of the flavor and the pointer to the worker's `Core`, whose
/// `tick` counts scheduling rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollPaths {
    pub source: Source,
    pub context: ContextFields,
    /// Offset in `tokio::runtime::scheduler::Context` of the discriminant (u64). None where one
    /// flavor alone is compiled in, and before 1.29.
    pub flavor_tag: Option<u32>,
    /// None where the flavor is compiled out or nothing is known of it.
    pub current_thread: Option<FlavorPaths>,
    pub multi_thread: Option<FlavorPaths>,
}

impl PollPaths {
    /// The paths of that flavor.
    pub fn of(&self, flavor: Flavor) -> Option<FlavorPaths> {
        match flavor {
            Flavor::CurrentThread => self.current_thread,
            Flavor::MultiThread => self.multi_thread,
        }
    }
}

/// Offsets in `tokio::runtime::context::Context`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextFields {
    /// `current_task_id`. None before 1.22: there the budget left tells polls of one tick apart.
    pub task_id: Option<TaskId>,
    /// `budget`: a byte that is 1 while a constrained task is polled, followed by the budget left.
    pub budget: u32,
    /// `scheduler`: the pointer to the scheduler's context, null where no scheduler runs. None
    /// before 1.29.
    pub scheduler: Option<u32>,
    /// `runtime`: `EnterRuntime` as a byte, 2 where no runtime is entered. None where unknown.
    pub runtime: Option<u32>,
    /// `current.handle` (`handle` before 1.29), an `Option<scheduler::Handle>`: offset of the
    /// pointer to the runtime's shared `Handle`, which all its threads have in common. None where
    /// unknown.
    pub handle: Option<u32>,
}

/// The place of a task id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskId {
    pub offset: u32,
    /// An `Option<u64>` of 16 bytes (discriminant, value) instead of 8 bytes with a niche.
    pub wide: bool,
}

impl TaskId {
    /// How many bytes it takes.
    pub fn bytes(self) -> u32 {
        if self.wide { 16 } else { 8 }
    }
}

/// Offsets in one flavor's scheduler context, and in what that points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlavorPaths {
    /// Value of the discriminant for this flavor; 0 where there is none.
    pub tag: u64,
    /// `core`: the pointer inside `RefCell<Option<Box<Core>>>`, null while the core is elsewhere.
    pub core: u32,
    /// `Core::tick` (u32), from the core's start.
    pub tick: u32,
    /// What lies beside the tick: an invariant that only the right tick keeps.
    pub beside_tick: BesideTick,
    /// `worker` of `multi_thread`: the pointer to `ArcInner<Worker>`. None where unknown.
    pub worker: Option<u32>,
    /// `Worker::index` (usize), from the start of `ArcInner<Worker>`. None where unknown.
    pub worker_index: Option<u32>,
    /// The runtime's handle where `Context` has none: of `current_thread` from the scheduler's
    /// context, of `multi_thread` from the start of `ArcInner<Worker>`.
    pub handle: Option<u32>,
}

/// What lies beside `Core::tick`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BesideTick {
    /// `global_queue_interval` (u32) follows.
    Interval,
    /// This many one-byte flags follow.
    Flags(u8),
    /// One flag follows, and the queue of tasks (a `VecDeque`) precedes.
    Queue,
    /// One flag follows, and the runtime's handle precedes.
    Handle,
    Unknown,
}
