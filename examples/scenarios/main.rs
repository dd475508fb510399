//! Programs with a known truth: one scenario per cause of a slow poll, and healthy controls.
//!
//! Each scenario times its own polls from inside and writes what really happened as JSON lines
//! (`--truth FILE`), so that what hud says from outside can be held against it. The program knows
//! nothing of hud: it is an ordinary Tokio program, and needs tokio (1.20 or newer), libc and
//! serde_json only. What else deployed programs are made of is built in by `--cfg`: `actix`, or an
//! `allocator`.
//!
//! `cargo run --release --example scenarios -- --list` names the scenarios.

#[cfg(actix)]
mod actix;
mod blocking;
mod catalog;
mod hangs;
mod healthy;
mod options;
mod runtimes;
mod truth;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use catalog::Root;
use options::{Command, Flavor, Options};

#[cfg(allocator = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
#[cfg(allocator = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long after the scenario's end the program may still hang before it is made to exit.
const GRACE: Duration = Duration::from_secs(1);

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

/// Like `println!`, for which a closed pipe is a panic.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

fn run(options: Options) -> Result<(), String> {
    let scenario = catalog::find(&options.scenario)?;
    if scenario.needs_multi_thread && options.flavor == Flavor::CurrentThread {
        return Err(format!("{} needs --flavor multi_thread", scenario.name));
    }
    truth::open(scenario.name, options.truth.as_deref())
        .map_err(|error| format!("cannot write the truth: {error}"))?;

    let runtime = build_runtime(&options, None).map_err(|error| error.to_string())?;
    let context = catalog::Context {
        deadline: Instant::now() + options.duration,
        options,
    };
    end_if_stuck(context.options.duration, scenario.never_ends);
    print(&format!("ready {}", std::process::id()));
    match scenario.root {
        Root::Waits => runtime.block_on(async {
            (scenario.start)(&context)
                .map_err(|error| format!("cannot start {}: {error}", scenario.name))?;
            tokio::time::sleep_until(context.deadline.into()).await;
            Ok::<(), String>(())
        })?,
        Root::Blocks => runtime.block_on(catalog::root_future(&context)),
    }
    runtime.shutdown_timeout(GRACE / 2);
    truth::close();
    Ok(())
}

/// The runtime that the options describe; `thread_name` where Tokio's own will not do.
fn build_runtime(
    options: &Options,
    thread_name: Option<&str>,
) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match options.flavor {
        Flavor::MultiThread => tokio::runtime::Builder::new_multi_thread(),
        Flavor::CurrentThread => tokio::runtime::Builder::new_current_thread(),
    };
    if options.flavor == Flavor::MultiThread {
        builder.worker_threads(options.workers);
    }
    if let Some(name) = thread_name {
        builder.thread_name(name);
    }
    builder.enable_all().build()
}

/// A poll that never returns keeps `block_on` of a `current_thread` runtime from returning too.
fn end_if_stuck(duration: Duration, expected: bool) {
    std::thread::spawn(move || {
        std::thread::sleep(duration + GRACE);
        truth::close();
        if !expected {
            eprintln!("scenarios: still running {GRACE:?} after the end");
        }
        std::process::exit(i32::from(!expected));
    });
}
