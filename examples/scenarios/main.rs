//! Programs with a known truth: one scenario per cause of a slow poll, and healthy controls.
//!
//! Each scenario times its own polls from inside and writes what really happened as JSON lines
//! (`--truth FILE`), to compare with what hud says from outside. The program knows nothing of hud: it
//! is an ordinary Tokio program, and needs tokio (1.20 or newer), libc and serde_json only. `--cfg`
//! builds in what else deployed programs use: `actix`, or an `allocator`.
//!
//! `cargo run --release --example scenarios -- --list` names the scenarios.

#[cfg(actix)]
mod actix;
mod blocking;
mod catalog;
mod causes;
mod hangs;
mod healthy;
mod options;
mod roots;
mod runtimes;
mod truth;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use options::{Command, Flavor, Options};

#[cfg(allocator = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
#[cfg(allocator = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long after its end a scenario that hangs still runs before the program exits.
const HANG: Duration = Duration::from_secs(1);
/// How long any other may take to shut down.
const SHUTDOWN: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => print(options::USAGE),
        Ok(Command::List) => print(&catalog::list()),
        Ok(Command::Burn { cpu, duration }) => healthy::burn(cpu, duration),
        Ok(Command::Run(options)) => {
            if let Err(error) = run(options) {
                eprintln!("scenarios: {error}");
                return ExitCode::FAILURE;
            }
        }
        Err(message) => {
            eprintln!("scenarios: {message}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Like `println!`, which panics where the pipe is closed.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

fn run(options: Options) -> Result<(), String> {
    let scenarios = catalog::find(&options.scenario)?;
    let alone = scenarios
        .iter()
        .find(|scenario| scenario.needs_multi_thread);
    if let (Some(scenario), Flavor::CurrentThread) = (alone, options.flavor) {
        return Err(format!("{} needs --flavor multi_thread", scenario.name));
    }
    // Before any other thread starts, so that all of them inherit the signal mask.
    exit_on_sigterm();
    truth::open(&options.scenario, options.truth.as_deref())
        .map_err(|error| format!("cannot write the truth: {error}"))?;

    let workers = scenarios.iter().map(|scenario| scenario.workers);
    let workers = options.workers.or(workers.max()).unwrap_or(1);
    let runtime = build_runtime(options.flavor, workers, None).map_err(|e| e.to_string())?;
    let context = catalog::Context {
        deadline: Instant::now() + options.duration,
        workers,
        options,
    };
    let never_ends = scenarios.iter().any(|scenario| scenario.never_ends);
    exit_if_stuck(context.options.duration, never_ends);
    print(&format!("ready {}", std::process::id()));
    runtime.block_on(async {
        for scenario in &scenarios {
            (scenario.start)(&context)
                .map_err(|error| format!("cannot start {}: {error}", scenario.name))?;
        }
        if let Some(root) = scenarios.iter().find_map(|scenario| scenario.root) {
            root(context.clone()).await;
        }
        tokio::time::sleep_until(context.deadline.into()).await;
        Ok::<(), String>(())
    })?;
    runtime.shutdown_timeout(HANG / 2);
    truth::close();
    Ok(())
}

/// A runtime of that flavor; `thread_name` instead of Tokio's own.
fn build_runtime(
    flavor: Flavor,
    workers: usize,
    thread_name: Option<&str>,
) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match flavor {
        Flavor::MultiThread => tokio::runtime::Builder::new_multi_thread(),
        Flavor::CurrentThread => tokio::runtime::Builder::new_current_thread(),
    };
    if flavor == Flavor::MultiThread {
        builder.worker_threads(workers);
    }
    if let Some(name) = thread_name {
        builder.thread_name(name);
    }
    builder.enable_all().build()
}

/// Lets SIGTERM end the program in good order: with its truth written, and as a success.
fn exit_on_sigterm() {
    // SAFETY: plain system calls on a local set.
    let terminate = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    };
    std::thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: the set is blocked in every thread.
        unsafe { libc::sigwait(&terminate, &mut signal) };
        truth::close();
        std::process::exit(0);
    });
}

/// A poll that never returns keeps `block_on` of a `current_thread` runtime from returning, too.
fn exit_if_stuck(duration: Duration, expected: bool) {
    std::thread::spawn(move || {
        std::thread::sleep(duration + if expected { HANG } else { SHUTDOWN });
        truth::close();
        if !expected {
            eprintln!("scenarios: still running {SHUTDOWN:?} after the end");
        }
        std::process::exit(i32::from(!expected));
    });
}
