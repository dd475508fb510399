//! The vocabulary everything shares: what hud observes and says, as plain data.
//!
//! These types import nothing of hud: not the kernel side, not JSON, not the terminal. A live
//! capture and a replayed trace both produce [`Record`]s of these types, and every view is drawn
//! from them. All times are nanoseconds; points in time are on `CLOCK_MONOTONIC`.

mod census;
mod own;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use census::{Census, CensusThread, Duty, HANG_NS, ThreadWait};
pub use own::{Losses, SelfCost};

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

/// A cause's name that hud does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownCause(pub String);

impl FromStr for Cause {
    type Err = UnknownCause;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Cause::ALL
            .into_iter()
            .find(|cause| cause.as_str() == s)
            .ok_or_else(|| UnknownCause(s.to_owned()))
    }
}

/// Whose code a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// The target's own crates.
    User,
    /// A dependency from a registry or a git checkout.
    ThirdParty,
    /// Tokio itself and the machinery of polling futures.
    Runtime,
    /// std, core, alloc, and the C library.
    Std,
    /// Kernel code.
    Kernel,
    /// No symbol says.
    Unknown,
}

/// One frame of a stack, as shown to people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The readable name: `my_app::handler` for `my_app::handler::{{closure}}`;
    /// `module+0x1234` where there is no symbol: the start of the function, if that is known.
    pub function: String,
    /// The whole demangled name, where it differs from `function`.
    pub raw: Option<String>,
    /// The source position, where the debug info has one.
    pub location: Option<Location>,
    /// File name of the executable or library the code is in.
    pub module: Option<Arc<str>>,
    /// Whose code it is.
    pub origin: Origin,
    /// Inlined into the next frame towards the thread's start.
    pub inlined: bool,
    /// Where the code is, if `function` is no name because no symbol covers it: enough to name it
    /// later.
    pub address: Option<CodeAddress>,
}

impl Frame {
    /// A frame of which no more is known.
    pub fn named(function: impl Into<String>, origin: Origin) -> Frame {
        Frame {
            function: function.into(),
            raw: None,
            location: None,
            module: None,
            origin,
            inlined: false,
            address: None,
        }
    }
}

/// A place in the code of a module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CodeAddress {
    /// As the module's file states it (`p_vaddr`, symbols), wherever the module was mapped.
    pub address: u64,
    /// Of the module, in hexadecimal, where it has one.
    pub build_id: Option<Arc<str>>,
}

/// A position in the source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// Path as the debug info has it.
    pub file: Arc<str>,
    /// Line, counted from 1; 0 where the compiler assigned none.
    pub line: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What the thread was doing while a stack was its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Activity {
    /// Running.
    OnCpu,
    /// Runnable and waiting for a CPU.
    RunQueue,
    /// Asleep in the kernel.
    Blocked,
}

impl Activity {
    /// The name used in reports and in the trace.
    pub fn as_str(self) -> &'static str {
        match self {
            Activity::OnCpu => "on_cpu",
            Activity::RunQueue => "run_queue",
            Activity::Blocked => "blocked",
        }
    }
}

/// One distinct stack inside a slow poll, with its share of the poll's time.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedStack {
    /// Leaf first, thread start last. Inlined frames stand on their own.
    pub frames: Vec<Arc<Frame>>,
    /// What the thread was doing.
    pub activity: Activity,
    /// Why, by the kernel's facts at that moment.
    pub cause: Cause,
    /// How much of the poll's time this stack stands for.
    pub weight_ns: u64,
    /// Whether unwinding reached the thread's start.
    pub complete: bool,
}

/// A poll's wall time by what the scheduler did with the thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeSplit {
    pub on_cpu_ns: u64,
    pub run_queue_ns: u64,
    pub blocked_ns: u64,
}

impl TimeSplit {
    /// The wall time.
    pub fn total_ns(self) -> u64 {
        self.on_cpu_ns
            .saturating_add(self.run_queue_ns)
            .saturating_add(self.blocked_ns)
    }
}

/// The code to look at first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Culprit {
    /// The innermost function of the user's own code inside the poll; where there is none, the
    /// outermost that is not the runtime's.
    pub function: String,
    /// What it called that held the worker: `bcrypt::hash`, `std::thread::sleep`.
    pub calls: Option<String>,
    /// Where, if the debug info says.
    pub location: Option<Location>,
    /// The async chain above it: its callers inside the poll that are not runtime code, from the
    /// culprit's own caller up to the task's future.
    pub chain: Vec<String>,
}

/// How a thread ended another's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Release {
    /// It woke the waiters of the futex: unlocked, sent, notified, unparked.
    Futex,
    /// It ended, and was being joined.
    Exit,
    /// It used the other end of the pipe, socket or eventfd.
    File,
}

impl Release {
    const ALL: [Release; 3] = [Release::Futex, Release::Exit, Release::File];

    /// The name used in the trace.
    pub fn as_str(self) -> &'static str {
        match self {
            Release::Futex => "futex",
            Release::Exit => "exit",
            Release::File => "file",
        }
    }

    /// The way of that name.
    pub fn from_name(name: &str) -> Option<Release> {
        Release::ALL.into_iter().find(|how| how.as_str() == name)
    }
}

/// The other side of a poll's longest wait: the thread of the process that ended it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleasedBy {
    /// Kernel thread id.
    pub tid: u32,
    /// The thread's name (`comm`, at most 15 bytes).
    pub thread: String,
    pub how: Release,
    /// How long the wait was that it ended.
    pub wait_ns: u64,
    /// What that thread was doing: where it let go or, if that has left the stack by then, what it
    /// did while it was waited for.
    pub culprit: Culprit,
    /// The stack that shows it, leaf first: the innermost frames of it.
    pub frames: Vec<Arc<Frame>>,
}

/// What a poll's task is called. None is the root future of a `current_thread` runtime, or a task
/// whose id is not known: Tokio keeps none before 1.22, and none is on a stack (tier 4).
pub fn task_name(task: Option<u64>) -> String {
    task.map_or_else(|| "no task id".to_owned(), |id| format!("task {id}"))
}

/// One poll that held its worker for at least the threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct SlowPoll {
    /// Kernel thread id of the worker.
    pub tid: u32,
    /// Tokio's index of the worker in its runtime, where it could be read.
    pub worker: Option<u32>,
    /// [`Worker::runtime`] of that worker.
    pub runtime: u32,
    /// Tokio's task id; see [`task_name`] for what has none.
    pub task: Option<u64>,
    pub start_ns: u64,
    /// When it ended or, while it runs, up to when it is known to have run.
    pub end_ns: u64,
    /// It has not ended yet.
    pub running: bool,
    /// It was under way when hud attached: `start_ns` is the latest it can have started.
    pub began_before_attach: bool,
    pub split: TimeSplit,
    /// The largest cause of those the code itself is to blame for, if they alone make the poll slow;
    /// otherwise the largest of the others.
    pub cause: Cause,
    /// Time by cause, largest first.
    pub causes: Vec<(Cause, u64)>,
    pub held_back: HeldBack,
    pub culprit: Culprit,
    /// Heaviest first. Empty when every capture was lost (which is counted).
    pub stacks: Vec<WeightedStack>,
    /// Who ended its longest wait, where another thread of the process did and that is certain.
    pub released_by: Option<Arc<ReleasedBy>>,
}

/// What kept a thread that could run from running, beside the threads that had the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldBack {
    /// The CPU bandwidth limit of its cgroup, at least once.
    pub throttled: bool,
    /// The hypervisor, which ran something else on the CPU, or interrupts, for a millisecond or
    /// more.
    pub stolen: bool,
}

impl HeldBack {
    /// In words, if anything did.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            HeldBack {
                throttled: true, ..
            } => Some("throttled by the cgroup's CPU limit"),
            HeldBack { stolen: true, .. } => {
                Some("the hypervisor or interrupts had taken the CPU away")
            }
            _ => None,
        }
    }
}

impl SlowPoll {
    /// How long it has held its worker.
    pub fn held_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// The stack that stands for most of the poll's time.
    pub fn heaviest(&self) -> Option<&WeightedStack> {
        self.stacks.first()
    }
}

/// Which of Tokio's schedulers a worker belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flavor {
    CurrentThread,
    MultiThread,
}

impl Flavor {
    /// The name Tokio gives it.
    pub fn as_str(self) -> &'static str {
        match self {
            Flavor::CurrentThread => "current_thread",
            Flavor::MultiThread => "multi_thread",
        }
    }
}

/// A thread that runs tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    pub tid: u32,
    /// Tokio's index of it in its runtime, where it could be read.
    pub index: Option<u32>,
    /// The runtime, numbered from 0 in the order of discovery.
    pub runtime: u32,
    pub flavor: Flavor,
    /// The thread's name (`comm`, at most 15 bytes).
    pub thread_name: String,
}

/// Where a worker's time went since hud attached. Cumulative, so a lost one costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerUsage {
    pub tid: u32,
    /// When this was read.
    pub at_ns: u64,
    /// On a CPU: polling, scheduling, or driving I/O.
    pub on_cpu_ns: u64,
    /// Runnable, waiting for a CPU.
    pub run_queue_ns: u64,
    /// Asleep inside a poll.
    pub blocked_ns: u64,
    /// Asleep with nothing to do.
    pub parked_ns: u64,
    /// Polls that were seen at a context switch or sample; most short ones never are.
    pub polls_observed: u64,
    /// The longest poll seen, slow or not.
    pub longest_poll_ns: u64,
}

/// Where one worker's CPU time inside polls went, slow polls or not: the samples of a second or so.
#[derive(Clone, Debug, PartialEq)]
pub struct PollTime {
    pub tid: u32,
    /// The time that was sampled.
    pub from_ns: u64,
    pub to_ns: u64,
    /// Heaviest first.
    pub stacks: Vec<ProfiledStack>,
}

impl PollTime {
    /// CPU time inside polls.
    pub fn on_cpu_ns(&self) -> u64 {
        let weights = self.stacks.iter().map(|profiled| profiled.stack.weight_ns);
        weights.fold(0, u64::saturating_add)
    }
}

/// One distinct stack of [`PollTime`].
#[derive(Clone, Debug, PartialEq)]
pub struct ProfiledStack {
    /// Its weight is the CPU time that its samples stand for: what the worker used up to each.
    pub stack: WeightedStack,
    /// The code it is put down to, by the same rule as a slow poll's culprit.
    pub function: String,
    /// What that called, at the time.
    pub calls: Option<String>,
    pub location: Option<Location>,
}

/// How hud knows where polls begin and end: the best that this target allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Field offsets from the target's own debug info.
    DebugInfo,
    /// Tokio's symbol, with offsets from a version table checked against the live process.
    VersionTable,
    /// No symbols: Tokio's state was found by its shape in thread-local memory.
    Scan,
    /// Return addresses on the workers' stacks: where their loops call into polls.
    Frames,
    /// Scheduler latency alone.
    Scheduler,
}

impl Tier {
    /// From 1, the best, to 5.
    pub fn number(self) -> u8 {
        self as u8 + 1
    }

    /// Tier of that number.
    pub fn from_number(n: u8) -> Option<Tier> {
        [
            Tier::DebugInfo,
            Tier::VersionTable,
            Tier::Scan,
            Tier::Frames,
            Tier::Scheduler,
        ]
        .into_iter()
        .find(|tier| tier.number() == n)
    }

    /// What it rests on, in a few words.
    pub fn describe(self) -> &'static str {
        match self {
            Tier::DebugInfo => "exact polls, layout from debug info",
            Tier::VersionTable => "exact polls, layout from the version table, checked live",
            Tier::Scan => "exact polls, layout found by shape",
            Tier::Frames => "polls known by the workers' stacks alone",
            Tier::Scheduler => "scheduler latency only",
        }
    }
}

/// What was recorded, and how: the first record of every session.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub hud_version: String,
    pub pid: u32,
    /// The process's name (`comm`).
    pub process: String,
    /// The command line, arguments separated by spaces.
    pub command: String,
    /// Path of the executable.
    pub executable: String,
    /// Tokio's version, where the binary says.
    pub tokio_version: Option<String>,
    pub tier: Tier,
    pub threshold_ns: u64,
    /// When hud attached, on `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// The same moment as Unix time.
    pub start_unix_ns: u64,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// `--duration` is over.
    Duration,
    /// Ctrl+C, SIGTERM, SIGHUP or `q`.
    Interrupted,
    /// The target exited.
    TargetExited,
}

impl EndReason {
    /// The name used in the trace.
    pub fn as_str(self) -> &'static str {
        match self {
            EndReason::Duration => "duration",
            EndReason::Interrupted => "interrupted",
            EndReason::TargetExited => "target_exited",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<EndReason> {
        [
            EndReason::Duration,
            EndReason::Interrupted,
            EndReason::TargetExited,
        ]
        .into_iter()
        .find(|reason| reason.as_str() == name)
    }
}

/// One thing that happened. A session is the fold of its records, live or replayed.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Always first.
    Header(Box<Header>),
    /// A worker was found, or more became known of it.
    Worker(Worker),
    /// A worker's thread ended.
    WorkerGone {
        tid: u32,
        at_ns: u64,
    },
    /// A poll ended that held its worker for the threshold or longer.
    SlowPoll(Arc<SlowPoll>),
    /// A poll over the threshold that has not ended: replaces the previous one of that thread.
    Running(Arc<SlowPoll>),
    /// A slow poll whose code has no names yet, ended or running: the same comes once more, as one
    /// of the two above, when the target's symbols are read. Not in a trace.
    Unnamed(Arc<SlowPoll>),
    /// Every finding that was [`Record::Unnamed`] has come with its names. Not in a trace.
    NamesKnown,
    Usage(WorkerUsage),
    /// All poll time was switched on or off.
    AllPollTime {
        on: bool,
        at_ns: u64,
    },
    /// Samples of all poll time, while it is on: at most one of these a worker and second.
    PollTime(Arc<PollTime>),
    Losses(Losses),
    Cost(SelfCost),
    /// Poll tracking moved to another tier, and why.
    TierChanged {
        tier: Tier,
        at_ns: u64,
        why: String,
    },
    /// Every thread of the process, as the user asked to see them or as a hang was left.
    Census(Arc<Census>),
    /// Always last, unless the recording was cut short.
    End {
        reason: EndReason,
        at_ns: u64,
    },
}
