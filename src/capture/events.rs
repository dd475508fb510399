//! What the kernel side reports, as plain Rust.

use crate::arch::Registers;
use crate::model::{HeldBack, Release};

/// One thing the kernel side reports. Times are nanoseconds on `CLOCK_MONOTONIC`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A stack inside a poll.
    Stack(Box<Capture>),
    /// A sample of all poll time: a stack, and the CPU time inside polls that it represents,
    /// nanoseconds.
    Profile(Box<Capture>, u64),
    /// A slow poll ended.
    PollEnd(Box<PollEnd>),
    /// A worker's thread ended.
    ThreadExit(ThreadExit),
    /// The process replaced itself by another program.
    Exec,
    /// Another thread ended a long wait inside a poll.
    Release(Box<Released>),
    /// Tier 4: the stack of a thread that is not known to be a worker, or of a worker whose loop lies
    /// elsewhere on its stack than known.
    UnknownFrames(Box<Capture>),
}

/// In which situation a stack was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackKind {
    /// Sampled while running.
    Sample,
    /// As the thread fell asleep.
    Blocked,
    /// As the thread lost the CPU.
    Preempted,
}

/// The kernel's facts about a place where a poll sleeps (or, for a sample, runs).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Syscall number, -1 outside a syscall.
    pub syscall: i32,
    /// The thread's previous blocking syscall, for `restart_syscall`.
    pub previous_syscall: i32,
    pub args: [u64; 3],
    /// User stack pointer: with the syscall and its first argument it identifies the place.
    pub sp: u64,
    /// `i_mode` of the awaited file, 0 for none.
    pub fd_mode: u16,
    pub in_iowait: bool,
    /// The thread has child processes.
    pub has_children: bool,
    pub count: u32,
    pub blocked_ns: u64,
}

impl Site {
    /// Whether both are the same place.
    pub fn same_place(&self, other: &Site) -> bool {
        (self.syscall, self.sp, self.args[0]) == (other.syscall, other.sp, other.args[0])
    }
}

/// A poll's identity and its times so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PollTimes {
    /// The poll's number among those of its thread.
    pub sequence: u64,
    /// Tokio's task id, 0 for a root future.
    pub task: u64,
    pub start_ns: u64,
    pub on_cpu_ns: u64,
    /// The part of `on_cpu_ns` before the poll was observed first and after it was observed last.
    pub estimated_ns: u64,
    pub run_queue_ns: u64,
    pub blocked_ns: u64,
    pub stopped_ns: u64,
    /// The part of `run_queue_ns` that is the cost of wake-ups: waits below 1 ms right after a sleep.
    pub wake_delay_ns: u64,
    /// Page faults.
    pub faults: u64,
    pub began_before_attach: bool,
    pub held_back: HeldBack,
    pub slow: bool,
    /// Recognised by its task id alone: the coop budget was not in force.
    pub unconstrained: bool,
}

/// A stack inside a poll.
#[derive(Clone, Debug, PartialEq)]
pub struct Capture {
    pub tid: u32,
    pub at_ns: u64,
    pub kind: StackKind,
    pub poll: PollTimes,
    pub site: Site,
    pub registers: Registers,
    /// Kernel return addresses, leaf first; empty in user mode.
    pub kernel: Vec<u64>,
    /// Address of the first stack byte.
    pub stack_base: u64,
    pub stack: Vec<u8>,
    /// The copy hit its limit before the top of the stack.
    pub cut: bool,
}

/// The end of a slow poll.
#[derive(Clone, Debug, PartialEq)]
pub struct PollEnd {
    pub tid: u32,
    pub end_ns: u64,
    pub poll: PollTimes,
    pub sites: Vec<Site>,
}

/// A long wait inside a slow poll, and the thread of the process that ended it.
#[derive(Clone, Debug, PartialEq)]
pub struct Released {
    /// The thread that waited.
    pub tid: u32,
    /// The poll in which it waited, by its number among the thread's polls.
    pub sequence: u64,
    pub at_ns: u64,
    /// Length of this wait.
    pub wait_ns: u64,
    /// Address of the futex, or the descriptor.
    pub waited_for: u64,
    pub how: Release,
    /// The thread that ended the wait.
    pub waker: u32,
    pub waker_name: String,
    /// Its stack at the wake-up.
    pub at_wake: OtherStack,
    /// Its last stack while the other thread waited.
    pub meanwhile: Option<OtherStack>,
}

/// The innermost part of another thread's stack.
#[derive(Clone, Debug, PartialEq)]
pub struct OtherStack {
    pub registers: Registers,
    /// Syscall number, -1 outside a syscall, and its first argument.
    pub syscall: i32,
    pub arg0: u64,
    /// Address of the first byte.
    pub base: u64,
    pub bytes: Vec<u8>,
}

/// The end of a worker's thread, with its last usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadExit {
    pub tid: u32,
    pub at_ns: u64,
    pub usage: Usage,
}

/// Where a worker's time went, as counted by the kernel side: see [`crate::model::WorkerUsage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub on_cpu_ns: u64,
    pub run_queue_ns: u64,
    pub blocked_ns: u64,
    pub parked_ns: u64,
    pub polls_observed: u64,
    pub longest_poll_ns: u64,
}
