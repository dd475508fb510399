//! The kernel side as seen from user space: load, attach, drain, decode.
//!
//! What leaves this module is plain Rust ([`Event`], [`ThreadState`], [`TaskState`]); libbpf and the
//! generated types stay inside.

pub mod census;
mod closely;
mod decode;
mod events;
mod frames;
mod loader;
mod loads;
pub mod messages;
mod ring;
mod sampling;
mod seed;
mod seqlock;
mod tasks;
mod threads;
mod tracking;
mod wakes;

pub use crate::tokio::kernel::CoreTicks;
pub use census::SeenThread;
pub use events::{
    Capture, Event, OtherStack, PollEnd, PollTimes, Released, SavedRegisters, Site, StackKind,
    ThreadExit, Usage,
};
pub use frames::{
    Counter, FrameTable, MAX_WAYS, Places, WAY_COUNTERS, WAY_LEVELS, WAY_RETURNS, Way,
};
pub use loader::{CaptureConfig, KernelLosses};
pub use loads::{Loads, ThreadLoad};
pub use ring::{CaptureLosses, Drained, Learnt, RingThread};
pub use seed::{FoundWorker, SleepingPoll};
pub use tasks::{TaskReader, TaskState};
pub use threads::{OpenPoll, Phase, SeenAs, ThreadState};
pub use tracking::{Change, Tracking};
