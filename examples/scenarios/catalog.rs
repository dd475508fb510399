//! The scenarios by name, and how the blocking functions become tasks.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::blocking::{self as block, DirectFile, FreshMemory, HeldLock, LatePipe, LateSender};
use crate::options::{Flavor, Options};
use crate::truth::{self, Label, Timed};
use crate::{hangs, healthy, runtimes};

/// What a scenario runs with.
#[derive(Clone)]
pub struct Context {
    pub options: Options,
    pub deadline: Instant,
}

/// What the future given to `block_on` does.
pub enum Root {
    /// Starts tasks and awaits the end.
    Waits,
    /// Blocks.
    Blocks,
}

/// One entry of the catalogue.
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub needs_multi_thread: bool,
    /// Some poll of it never returns.
    pub never_ends: bool,
    pub root: Root,
    pub start: fn(&Context) -> io::Result<()>,
}

const fn scenario(
    name: &'static str,
    about: &'static str,
    start: fn(&Context) -> io::Result<()>,
) -> Scenario {
    Scenario {
        name,
        about,
        needs_multi_thread: false,
        never_ends: false,
        root: Root::Waits,
        start,
    }
}

static SCENARIOS: &[Scenario] = &[
    // Blocking.
    scenario("cpu", "computes", cpu),
    scenario("lock", "waits for a mutex that another thread holds", lock),
    scenario("channel", "receives from std::sync::mpsc", channel),
    scenario("sleep", "std::thread::sleep", sleep),
    scenario("file_io", "reads a file from the disk", file_io),
    scenario("fsync", "writes and syncs a file", fsync),
    scenario("network", "reads from a blocking socket", network),
    scenario("pipe", "reads from a pipe of its own process", pipe),
    scenario("child_process", "std::process::Command::output", child),
    scenario("page_fault", "touches fresh memory", page_fault),
    scenario("mixed", "a task for each of several causes", mixed),
    Scenario {
        never_ends: true,
        ..scenario("exec", "sleep, then another program", runtimes::exec)
    },
    scenario("unconstrained", "cpu, in unconstrained", unconstrained),
    scenario("late_runtime", "cpu, in a second runtime", runtimes::late),
    scenario(
        "short_lived",
        "cpu, in runtimes that come and go",
        runtimes::short_lived,
    ),
    scenario("local_set", "cpu, in a LocalSet", runtimes::local_set),
    #[cfg(actix)]
    scenario("actix", "cpu and sleep, in actix-web", crate::actix::serve),
    scenario(
        "relay",
        "sleeps of 2 ms in tasks that wake each other",
        runtimes::relay,
    ),
    Scenario {
        needs_multi_thread: true,
        ..scenario(
            "nested_runtime",
            "sleep, in a runtime inside block_in_place",
            runtimes::nested_runtime,
        )
    },
    Scenario {
        never_ends: true,
        ..scenario(
            "deadlock",
            "a worker that waits for a lock of its own",
            hangs::deadlock,
        )
    },
    Scenario {
        never_ends: true,
        ..scenario(
            "all_locked",
            "all workers wait for one lock",
            hangs::all_locked,
        )
    },
    Scenario {
        never_ends: true,
        ..scenario(
            "block_on",
            "a future driven by hand inside a poll",
            hangs::block_on_inside,
        )
    },
    Scenario {
        never_ends: true,
        ..scenario(
            "no_driver",
            "all workers wait for their own timers",
            hangs::no_driver,
        )
    },
    Scenario {
        root: Root::Blocks,
        ..scenario("root", "cpu, in the future given to block_on", nothing)
    },
    // Controls.
    Scenario {
        root: Root::Blocks,
        needs_multi_thread: true,
        ..scenario("multi_thread_root", "root, holding no worker", nothing)
    },
    Scenario {
        needs_multi_thread: true,
        ..scenario(
            "block_in_place",
            "blocks in block_in_place",
            healthy::block_in_place,
        )
    },
    scenario(
        "spawn_blocking",
        "blocks in spawn_blocking",
        healthy::spawn_blocking,
    ),
    scenario(
        "healthy_busy",
        "short polls, workers never park",
        healthy::busy,
    ),
    scenario(
        "yields",
        "polls that only yield, workers never park",
        healthy::yields,
    ),
    scenario(
        "thousand_cuts",
        "polls of 2 ms, workers never park",
        healthy::thousand_cuts,
    ),
    Scenario {
        needs_multi_thread: true,
        ..scenario(
            "nested_block_on",
            "block_on inside block_in_place",
            runtimes::nested_block_on,
        )
    },
    scenario("timers", "many timers, short polls", healthy::timers),
    scenario("idle", "does nothing", nothing),
    scenario(
        "stolen",
        "short polls while others hold the CPUs",
        healthy::stolen,
    ),
];

/// The scenario of that name.
pub fn find(name: &str) -> Result<&'static Scenario, String> {
    SCENARIOS
        .iter()
        .find(|scenario| scenario.name == name)
        .ok_or_else(|| format!("no such scenario: {name} (--list names them)"))
}

/// The text of `--list`.
pub fn list() -> String {
    SCENARIOS.iter().fold(String::new(), |mut text, scenario| {
        let _ = writeln!(text, "{:<18} {}", scenario.name, scenario.about);
        text
    })
}

/// Durations that vary, the same way in every run.
pub struct Jitter(u64);

impl Jitter {
    pub fn new(seed: usize) -> Self {
        Jitter(seed as u64 + 1)
    }

    /// `time` multiplied by something in `from..to`.
    pub fn times(&mut self, time: Duration, from: f64, to: f64) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let unit = (self.0 >> 11) as f64 / (1u64 << 53) as f64;
        time.mul_f64(from + unit * (to - from))
    }

    /// How long to block: one to three times what was asked for.
    pub fn block(&mut self, context: &Context) -> Duration {
        self.times(context.options.block, 1.0, 3.0)
    }

    /// How long to leave the worker alone.
    pub fn gap(&mut self, context: &Context) -> Duration {
        self.times(context.options.gap, 0.5, 1.5)
    }
}

/// Blocks again and again, once a poll.
pub async fn repeat(
    context: Context,
    number: usize,
    label: Label,
    mut block: impl FnMut(Duration),
) {
    let mut jitter = Jitter::new(number);
    // The runtime goes away at the deadline, and starting a timer after that is a panic.
    while Instant::now() < context.deadline {
        tokio::time::sleep(jitter.gap(&context)).await;
        let time = jitter.block(&context);
        truth::blocking(label, || block(time));
    }
}

/// A task that blocks.
fn spawn(
    context: &Context,
    number: usize,
    label: Label,
    block: impl FnMut(Duration) + Send + 'static,
) {
    tokio::spawn(Timed::new(repeat(context.clone(), number, label, block)));
}

/// As many tasks as asked for, each with a block of its own, beside some that don't block.
fn spawn_all<B: FnMut(Duration) + Send + 'static>(
    context: &Context,
    label: Label,
    make: impl Fn(usize) -> io::Result<B>,
) -> io::Result<()> {
    healthy::background(context);
    for number in 0..context.options.tasks {
        spawn(context, number, label, make(number)?);
    }
    Ok(())
}

const fn label(function: &'static str, cause: &'static str) -> Label {
    Label { function, cause }
}

pub const CPU: Label = label("block_on_cpu", "cpu");
const LOCK: Label = label("block_on_lock", "lock");
const CHANNEL: Label = label("block_on_channel", "lock");
pub const SLEEP: Label = label("block_on_sleep", "sleep");
const FILE_IO: Label = label("block_on_file_io", "file_io");
const FSYNC: Label = label("block_on_fsync", "file_io");
const NETWORK: Label = label("block_on_network", "network");
const PIPE: Label = label("block_on_pipe", "pipe");
const CHILD: Label = label("block_on_child", "child_process");
const PAGE_FAULT: Label = label("block_on_page_faults", "page_fault");

fn nothing(_: &Context) -> io::Result<()> {
    Ok(())
}

pub fn cpu(context: &Context) -> io::Result<()> {
    spawn_all(context, CPU, |_| Ok(block::block_on_cpu))
}

fn lock(context: &Context) -> io::Result<()> {
    spawn_all(context, LOCK, |_| {
        let held = HeldLock::new();
        Ok(move |time| block::block_on_lock(&held, time))
    })
}

fn channel(context: &Context) -> io::Result<()> {
    spawn_all(context, CHANNEL, |_| {
        let late = LateSender::new();
        Ok(move |time| block::block_on_channel(&late, time))
    })
}

pub fn sleep(context: &Context) -> io::Result<()> {
    spawn_all(context, SLEEP, |_| Ok(block::block_on_sleep))
}

fn file_io(context: &Context) -> io::Result<()> {
    let dir = disk_dir(context)?;
    spawn_all(context, FILE_IO, |number| {
        let mut direct = DirectFile::new(&dir, number)?;
        Ok(move |time| block::block_on_file_io(&mut direct, time))
    })
}

fn fsync(context: &Context) -> io::Result<()> {
    let dir = disk_dir(context)?;
    spawn_all(context, FSYNC, |number| {
        let mut direct = DirectFile::new(&dir, number)?;
        Ok(move |time| block::block_on_fsync(&mut direct, time))
    })
}

/// Where a file is on a disk; the directory for temporary files is often in memory.
fn disk_dir(context: &Context) -> io::Result<PathBuf> {
    if let Some(dir) = &context.options.dir {
        return Ok(dir.clone());
    }
    let program = std::env::current_exe()?;
    Ok(program.parent().map(PathBuf::from).unwrap_or_default())
}

fn network(context: &Context) -> io::Result<()> {
    spawn_all(context, NETWORK, |_| {
        let mut stream = block::late_peer()?;
        Ok(move |time| block::block_on_network(&mut stream, time))
    })
}

fn pipe(context: &Context) -> io::Result<()> {
    spawn_all(context, PIPE, |_| {
        let mut pipe = LatePipe::new()?;
        Ok(move |time| block::block_on_pipe(&mut pipe, time))
    })
}

fn child(context: &Context) -> io::Result<()> {
    spawn_all(context, CHILD, |_| Ok(block::block_on_child))
}

fn page_fault(context: &Context) -> io::Result<()> {
    spawn_all(context, PAGE_FAULT, |_| {
        let memory = FreshMemory::new()?;
        Ok(move |time| block::block_on_page_faults(&memory, time))
    })
}

fn mixed(context: &Context) -> io::Result<()> {
    for start in [cpu, lock, sleep, file_io, network, page_fault] {
        start(context)?;
    }
    Ok(())
}

fn unconstrained(context: &Context) -> io::Result<()> {
    healthy::background(context);
    for number in 0..context.options.tasks {
        let future = repeat(context.clone(), number, CPU, block::block_on_cpu);
        tokio::spawn(tokio::task::unconstrained(Timed::new(future)));
    }
    Ok(())
}

/// The future of `root` and `multi_thread_root`. On a multi_thread runtime its thread is no
/// worker, so it may block.
pub async fn root_future(context: &Context) {
    healthy::background(context);
    let holds_worker = context.options.flavor == Flavor::CurrentThread;
    let future = repeat(context.clone(), 0, CPU, block::block_on_cpu);
    Timed::with(future, holds_worker).await;
}
