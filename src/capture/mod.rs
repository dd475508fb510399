//! The kernel side as seen from user space: load, attach, seed, drain, decode.
//!
//! What leaves this module is plain Rust ([`Drained`]); libbpf and the generated types stay inside.
//! What enters it while a capture runs is an [`Order`].

mod decode;
mod drained;
mod events;
mod frames;
mod orders;
mod programs;
mod ring;
mod seqlock;
mod tasks;
mod threads;

pub use drained::{CaptureLosses, Drained};
pub use events::{
    Capture, Event, OtherStack, PollEnd, PollTimes, Released, Site, StackKind, ThreadExit, Usage,
};
pub use frames::{
    Counter, FrameBases, FrameOrder, FramePath, MAX_PATHS, PATH_COUNTERS, PATH_LEVELS,
    PATH_VARIANTS,
};
pub use orders::{Order, TrackingMode};
pub use programs::{CaptureConfig, KernelLosses, MIN_SAMPLE_PERIOD, messages};
pub use ring::RingThread;
pub use tasks::census::{self, SeenThread};
pub use tasks::loads::{Loads, ThreadLoad};
pub use tasks::seed::{FoundWorker, SleepingPoll};
pub use tasks::{TaskReader, TaskState};
pub use threads::{OpenPoll, Phase, Runs, SeenAs, ThreadState};
