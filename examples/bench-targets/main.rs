//! Targets to measure hud's cost on: each does one thing as often as it can, and counts.
//!
//! Prints one JSON line at the end: `mode`, `ops`, `seconds`, `start_ns` and `end_ns` (on
//! `CLOCK_MONOTONIC`), `cpu_seconds` (of the whole process), and `pid` on a first line once it is
//! running.

mod blocking;
mod compute;
mod http;
#[path = "../load/client.rs"]
mod http_client;
mod long_waits;
mod ping_pong;
mod slow_polls;
mod yield_storm;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// Tasks that only yield: polls per second, workers never park
    Yield,
    /// An HTTP server and its clients, over loopback: requests per second
    Http,
    /// A message bounced between two threads: every op parks one and wakes the other
    PingPong,
    /// The same through pipes, inside polls: every op blocks one worker and wakes the other
    Blocking,
    /// Polls of 6 ms, at a steady rate: slow polls per second
    Slow,
    /// Polls that compute for 20 ms, one after another: operations per second
    Compute,
}

/// Something for hud to watch while its throughput is measured.
#[derive(Parser)]
#[command(name = "bench-targets")]
struct Args {
    mode: Mode,
    /// How long to count
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Worker threads, where the mode has a runtime to size
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Tasks that yield or compute, or HTTP clients
    #[arg(long, default_value_t = 16)]
    tasks: usize,
    /// How often a poll of `blocking` blocks
    #[arg(long, default_value_t = 100)]
    blocks_per_poll: u32,
    /// Microseconds that `blocking` also sleeps each time
    #[arg(long, default_value_t = 0)]
    pause_us: u64,
    /// Slow polls a second, of `slow`
    #[arg(long, default_value_t = 1)]
    rate: u32,
    /// Let a worker beside sleep in a poll now and then
    #[arg(long)]
    long_waits: bool,
    /// Threads that do nothing, beside
    #[arg(long, default_value_t = 0)]
    idle_threads: usize,
    /// Seconds to run before counting: what a start-up costs is not what is measured
    #[arg(long, default_value_t = 0.1)]
    warm_up: f64,
    /// Pin the whole process to this CPU
    #[arg(long)]
    cpu: Option<usize>,
}

/// What the modes count and when they end.
struct Counter {
    ops: AtomicU64,
    stop: AtomicBool,
}

impl Counter {
    /// Counts `n` operations; false once it is time to end.
    fn add(&self, n: u64) -> bool {
        self.ops.fetch_add(n, Ordering::Relaxed);
        !self.stop.load(Ordering::Relaxed)
    }
}

static COUNTER: Counter = Counter {
    ops: AtomicU64::new(0),
    stop: AtomicBool::new(false),
};

fn main() -> ExitCode {
    #[cfg(tokio_console)]
    console_subscriber::init();
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-targets: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let duration = Duration::try_from_secs_f64(args.seconds).context("--seconds")?;
    let warm_up = Duration::try_from_secs_f64(args.warm_up).context("--warm-up")?;
    if let Some(cpu) = args.cpu {
        pin(cpu).with_context(|| format!("cannot run on CPU {cpu}"))?;
    }
    let pause = Duration::from_micros(args.pause_us);
    let running: Box<dyn std::any::Any> = match args.mode {
        Mode::Yield => Box::new(yield_storm::start(args.workers, args.tasks)?),
        Mode::Http => Box::new(http::start(args.workers, args.tasks)?),
        Mode::PingPong => Box::new(ping_pong::start()?),
        Mode::Blocking => Box::new(blocking::start(args.blocks_per_poll, pause)?),
        Mode::Slow => Box::new(slow_polls::start(args.workers, args.rate)?),
        Mode::Compute => Box::new(compute::start(args.workers, args.tasks)?),
    };
    if args.long_waits {
        long_waits::start()?;
    }
    for _ in 0..args.idle_threads {
        let idle = std::thread::Builder::new().stack_size(16 << 10);
        idle.spawn(std::thread::park)?;
    }
    print(&serde_json::json!({ "pid": std::process::id() }));
    std::thread::sleep(warm_up);
    let (ops, start, cpu) = (
        COUNTER.ops.load(Ordering::Relaxed),
        Instant::now(),
        cpu_seconds(),
    );
    let start_ns = monotonic_ns();
    std::thread::sleep(duration);
    let end_ns = monotonic_ns();
    let ops = COUNTER.ops.load(Ordering::Relaxed) - ops;
    let mode = args.mode.to_possible_value();
    print(&serde_json::json!({
        "mode": mode.as_ref().map(|mode| mode.get_name()),
        "ops": ops,
        "seconds": start.elapsed().as_secs_f64(),
        "start_ns": start_ns,
        "end_ns": end_ns,
        "cpu_seconds": cpu_seconds() - cpu,
    }));
    COUNTER.stop.store(true, Ordering::Relaxed);
    drop(running);
    Ok(())
}

/// Like `println!`, for which a closed pipe is a panic.
fn print(line: &serde_json::Value) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A multi_thread runtime of this size.
fn runtime(workers: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.max(1))
        .enable_all()
        .build()
}

/// CPU time of the process so far.
fn cpu_seconds() -> f64 {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID).as_secs_f64()
}

fn monotonic_ns() -> u64 {
    clock(libc::CLOCK_MONOTONIC).as_nanos() as u64
}

fn clock(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec, and these clocks always exist on Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Keeps this process, threads yet to come included, on one CPU.
fn pin(cpu: usize) -> std::io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `CPU_SET` writes inside the set, as the number was checked.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    match done {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
