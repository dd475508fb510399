//! A census: what every thread of the process does at one moment, to explain a hang.

use std::sync::Arc;

use super::{Cause, Frame, Name};

/// A poll that lasts this long counts as a hang, nanoseconds.
pub const HANG_NS: u64 = 1_000_000_000;

/// What a thread was doing at the census.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThreadWait {
    /// On a CPU or waiting for one.
    Running,
    Asleep {
        /// The system call's name.
        syscall: String,
        /// Why, by the kernel's facts.
        cause: Cause,
        /// Address of the futex that it waits on.
        lock: Option<u64>,
    },
    /// Stopped by a signal or a debugger.
    Stopped,
}

/// What a thread is to Tokio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// A worker inside a poll; `task` is none for a root future.
    Polling {
        runtime: u32,
        index: Option<u32>,
        task: Option<u64>,
        held_ns: u64,
    },
    /// A worker that is parked, or whose poll has only begun.
    Parked { runtime: u32, index: Option<u32> },
    /// No worker, or one that has given its core away.
    Other,
}

impl Duty {
    /// Runtime and index of a worker.
    pub fn worker(self) -> Option<(u32, Option<u32>)> {
        match self {
            Duty::Polling { runtime, index, .. } | Duty::Parked { runtime, index } => {
                Some((runtime, index))
            }
            Duty::Other => None,
        }
    }
}

/// One thread of the process.
#[derive(Clone, Debug, PartialEq)]
pub struct CensusThread {
    pub tid: u32,
    /// `comm`, at most 15 bytes.
    pub name: Name,
    pub wait: ThreadWait,
    pub duty: Duty,
    /// Leaf first; empty while it runs.
    pub frames: Vec<Arc<Frame>>,
    /// Whether unwinding reached the thread's start.
    pub complete: bool,
}

/// Every thread of the process at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Census {
    pub at_ns: u64,
    /// What is wrong, in sentences, the most important first.
    pub words: Vec<String>,
    pub threads: Vec<CensusThread>,
}
