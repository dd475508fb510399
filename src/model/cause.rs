//! Why a worker was held: the list that everything else refers to.

use std::fmt;

use super::named_enum::named_enum;

named_enum! {
    /// Why a worker was held: the answer to "what was it doing instead of polling other tasks?".
    pub enum Cause {
        /// Computing in user mode, or in kernel code that belongs to no other cause.
        Cpu = "cpu",
        /// Waiting for another thread: futex, flock, eventfd.
        Lock = "lock",
        /// Reading, writing or opening files or block devices.
        FileIo = "file_io",
        /// A timed sleep of the thread itself.
        Sleep = "sleep",
        /// A blocking socket call, or name resolution.
        Network = "network",
        /// A pipe between this process and another.
        Pipe = "pipe",
        /// Creating or waiting for a child process.
        ChildProcess = "child_process",
        /// Page faults, or the locks of the address space (mmap, munmap).
        PageFault = "page_fault",
        /// Runnable, but another thread had the CPU or the cgroup was throttled. Not this code's
        /// fault.
        RunQueue = "run_queue",
        /// Stopped by a signal or a debugger.
        Stopped = "stopped",
        /// The kernel's facts match no rule.
        Unknown = "unknown",
    }
}

impl Cause {
    /// Whether the polled code itself held the worker. Run-queue wait and stops are imposed on it.
    pub fn blames_code(self) -> bool {
        !matches!(self, Cause::RunQueue | Cause::Stopped)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
