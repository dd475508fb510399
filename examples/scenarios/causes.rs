//! A scenario for each cause of a slow poll: tasks that call a blocking function again and again.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::blocking::{self as block, DirectFile, FreshMemory, HeldLock, LatePipe, LateSender};
use crate::catalog::Context;
use crate::healthy;
use crate::truth::{self, Label, Timed};

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
        match jitter.gap(&context) {
            Duration::ZERO => tokio::task::yield_now().await,
            gap => tokio::time::sleep(gap).await,
        }
        let time = jitter.block(&context);
        truth::blocking(label, || block(time));
    }
}

/// As many tasks as asked for, each with a block of its own, beside some that don't block.
fn spawn_all<B: FnMut(Duration) + Send + 'static>(
    context: &Context,
    label: Label,
    make: impl Fn(usize) -> io::Result<B>,
) -> io::Result<()> {
    healthy::background(context);
    for number in 0..context.options.tasks {
        let task = repeat(context.clone(), number, label, make(number)?);
        tokio::spawn(Timed::new(task));
    }
    Ok(())
}

pub fn cpu(context: &Context) -> io::Result<()> {
    spawn_all(context, CPU, |_| Ok(block::block_on_cpu))
}

pub fn lock(context: &Context) -> io::Result<()> {
    spawn_all(context, LOCK, |_| {
        let held = HeldLock::new();
        Ok(move |time| block::block_on_lock(&held, time))
    })
}

pub fn channel(context: &Context) -> io::Result<()> {
    spawn_all(context, CHANNEL, |_| {
        let late = LateSender::new();
        Ok(move |time| block::block_on_channel(&late, time))
    })
}

pub fn sleep(context: &Context) -> io::Result<()> {
    spawn_all(context, SLEEP, |_| Ok(block::block_on_sleep))
}

pub fn file_io(context: &Context) -> io::Result<()> {
    let dir = disk_dir(context)?;
    spawn_all(context, FILE_IO, |number| {
        let mut direct = DirectFile::new(&dir, number)?;
        Ok(move |time| block::block_on_file_io(&mut direct, time))
    })
}

pub fn fsync(context: &Context) -> io::Result<()> {
    let dir = disk_dir(context)?;
    spawn_all(context, FSYNC, |number| {
        let mut direct = DirectFile::new(&dir, number)?;
        Ok(move |time| block::block_on_fsync(&mut direct, time))
    })
}

/// A folder on a disk; the one for temporary files is often in memory.
fn disk_dir(context: &Context) -> io::Result<PathBuf> {
    if let Some(dir) = &context.options.dir {
        return Ok(dir.clone());
    }
    let program = std::env::current_exe()?;
    Ok(program.parent().map(PathBuf::from).unwrap_or_default())
}

pub fn network(context: &Context) -> io::Result<()> {
    spawn_all(context, NETWORK, |_| {
        let mut stream = block::late_peer()?;
        Ok(move |time| block::block_on_network(&mut stream, time))
    })
}

pub fn pipe(context: &Context) -> io::Result<()> {
    spawn_all(context, PIPE, |_| {
        let mut pipe = LatePipe::new()?;
        Ok(move |time| block::block_on_pipe(&mut pipe, time))
    })
}

pub fn child(context: &Context) -> io::Result<()> {
    spawn_all(context, CHILD, |_| Ok(block::block_on_child))
}

pub fn page_fault(context: &Context) -> io::Result<()> {
    spawn_all(context, PAGE_FAULT, |_| {
        let memory = FreshMemory::new()?;
        Ok(move |time| block::block_on_page_faults(&memory, time))
    })
}

pub fn unconstrained(context: &Context) -> io::Result<()> {
    healthy::background(context);
    for number in 0..context.options.tasks {
        let task = repeat(context.clone(), number, CPU, block::block_on_cpu);
        tokio::spawn(tokio::task::unconstrained(Timed::new(task)));
    }
    Ok(())
}
