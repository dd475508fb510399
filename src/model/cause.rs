//! Why a worker was held: the list that everything else refers to.

use std::fmt;

/// Why a worker was held: the answer to "what was it doing instead of polling other tasks?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Computing in user mode (or in kernel code that belongs to no other cause).
    Cpu,
    /// Waiting for another thread: futex, flock, eventfd.
    Lock,
    /// Reading, writing or opening files or block devices.
    FileIo,
    /// A timed sleep of the thread itself.
    Sleep,
    /// A socket call that blocks, or name resolution.
    Network,
    /// A pipe between this process and another.
    Pipe,
    /// Creating or waiting for a child process.
    ChildProcess,
    /// Page faults, or the locks of the address space (mmap, munmap).
    PageFault,
    /// Runnable, but another thread had the CPU or the cgroup was throttled: not this code's fault.
    RunQueue,
    /// Stopped by a signal or a debugger.
    Stopped,
    /// The kernel facts fit no rule.
    Unknown,
}

impl Cause {
    /// Every cause, in the order in which tables and legends list them.
    pub const ALL: [Cause; 11] = [
        Cause::Cpu,
        Cause::Lock,
        Cause::FileIo,
        Cause::Sleep,
        Cause::Network,
        Cause::Pipe,
        Cause::ChildProcess,
        Cause::PageFault,
        Cause::RunQueue,
        Cause::Stopped,
        Cause::Unknown,
    ];

    /// The name used in reports and in the trace.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Cpu => "cpu",
            Cause::Lock => "lock",
            Cause::FileIo => "file_io",
            Cause::Sleep => "sleep",
            Cause::Network => "network",
            Cause::Pipe => "pipe",
            Cause::ChildProcess => "child_process",
            Cause::PageFault => "page_fault",
            Cause::RunQueue => "run_queue",
            Cause::Stopped => "stopped",
            Cause::Unknown => "unknown",
        }
    }

    /// The cause of that name.
    pub fn from_name(name: &str) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| cause.as_str() == name)
    }

    /// Whether the polled code itself held the worker. Run-queue wait and stops are done *to* it.
    pub fn blames_code(self) -> bool {
        !matches!(self, Cause::RunQueue | Cause::Stopped)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
