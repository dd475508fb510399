//! Blocking code where it is hard to follow: in runtimes inside each other, in runtimes that start late or
//! end soon, in polls of one scheduler round, and in a program that executes another.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, block_in_place, spawn_local};

use crate::blocking::{block_on_cpu, block_on_sleep};
use crate::catalog::Context;
use crate::causes::{CPU, Jitter, SLEEP, cpu, repeat, sleep};
use crate::healthy;
use crate::options::Flavor;
use crate::truth::{self, Holds, Timed};

/// How long each runtime of [`short_lived`] lives.
const LIFE: Duration = Duration::from_millis(400);
/// Workers of [`thread_burst`].
const BURST: usize = 300;

fn current_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Runs `body` on a thread of its own; the program ends if it fails.
pub fn on_a_thread(
    name: &str,
    body: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let owned = name.to_owned();
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(move || {
        if let Err(error) = body() {
            eprintln!("scenarios: {owned}: {error}");
            std::process::exit(1);
        }
    })?;
    Ok(())
}

/// Runs a second runtime beside the healthy first one, from `--after` on.
fn late_runtime(
    context: &Context,
    name: &'static str,
    (flavor, workers): (Flavor, usize),
    start: fn(&Context) -> io::Result<()>,
) -> io::Result<()> {
    healthy::background(context);
    let context = context.clone();
    on_a_thread(name, move || {
        std::thread::sleep(context.options.after);
        let runtime = crate::build_runtime(flavor, workers, Some(name))?;
        runtime.block_on(async {
            start(&context)?;
            tokio::time::sleep_until(context.deadline.into()).await;
            Ok(())
        })
    })
}

/// The second runtime computes.
pub fn late(context: &Context) -> io::Result<()> {
    let kind = (context.options.flavor, context.workers);
    late_runtime(context, "late-worker", kind, cpu)
}

/// The second runtime is `current_thread`, and its first polls are slow already.
pub fn late_current_thread(context: &Context) -> io::Result<()> {
    late_runtime(
        context,
        "late-current",
        (Flavor::CurrentThread, 1),
        |context| {
            for number in 0..context.options.tasks {
                let context = context.clone();
                tokio::spawn(Timed::new(async move {
                    truth::blocking(SLEEP, || block_on_sleep(context.options.block));
                    repeat(context, number, SLEEP, block_on_sleep).await;
                }));
            }
            Ok(())
        },
    )
}

/// The second runtime has many workers, and keeps all of them asleep in polls.
pub fn thread_burst(context: &Context) -> io::Result<()> {
    let kind = (Flavor::MultiThread, BURST);
    late_runtime(context, "burst-worker", kind, |context| {
        for number in 0..BURST {
            let task = repeat(context.clone(), number, SLEEP, block_on_sleep);
            tokio::spawn(Timed::new(task));
        }
        Ok(())
    })
}

/// One runtime after the other is started, blocks, and is dropped.
pub fn short_lived(context: &Context) -> io::Result<()> {
    healthy::background(context);
    let context = context.clone();
    on_a_thread("mayfly", move || {
        while Instant::now() + LIFE < context.deadline {
            let life = Context {
                deadline: Instant::now() + LIFE,
                ..context.clone()
            };
            let flavor = life.options.flavor;
            let runtime = crate::build_runtime(flavor, life.workers, Some("mayfly-worker"))?;
            runtime.block_on(async {
                cpu(&life)?;
                tokio::time::sleep_until(life.deadline.into()).await;
                io::Result::Ok(())
            })?;
            // Waits for polls under way.
            drop(runtime);
        }
        Ok(())
    })
}

/// Tasks of a `LocalSet`, which are polled inside polls of a root future.
pub fn local_set(context: &Context) -> io::Result<()> {
    healthy::background(context);
    let context = context.clone();
    on_a_thread("local", move || {
        LocalSet::new().block_on(&current_thread()?, async {
            for number in 0..context.options.tasks {
                let future = repeat(context.clone(), number, CPU, block_on_cpu);
                spawn_local(Timed::new(future));
            }
            tokio::time::sleep_until(context.deadline.into()).await;
        });
        Ok(())
    })
}

/// A runtime of its own inside `block_in_place`: its root future blocks that runtime, and not the
/// worker that was handed over.
pub fn nested_runtime(context: &Context) -> io::Result<()> {
    healthy::background(context);
    for number in 0..context.options.tasks {
        let context = context.clone();
        // Never dropped: in a task that is a panic.
        let inner: &Runtime = Box::leak(Box::new(current_thread()?));
        tokio::spawn(async move {
            let mut jitter = Jitter::new(number);
            while Instant::now() < context.deadline {
                tokio::time::sleep(jitter.gap(&context)).await;
                let time = jitter.block(&context);
                block_in_place(|| {
                    inner.block_on(Timed::new(async {
                        truth::blocking(SLEEP, || block_on_sleep(time));
                    }));
                });
            }
        });
    }
    Ok(())
}

/// The runtime's own `block_on` inside `block_in_place`: it holds no worker.
pub fn nested_block_on(context: &Context) -> io::Result<()> {
    healthy::background(context);
    for number in 0..context.options.tasks {
        let context = context.clone();
        tokio::spawn(async move {
            let mut jitter = Jitter::new(number);
            while Instant::now() < context.deadline {
                tokio::time::sleep(jitter.gap(&context)).await;
                let time = jitter.block(&context);
                let blocks = async {
                    truth::blocking(SLEEP, || block_on_sleep(time));
                };
                block_in_place(|| Handle::current().block_on(Timed::with(blocks, Holds::Nothing)));
            }
        });
    }
    Ok(())
}

/// Pairs of tasks that wake each other: one poll follows the other through Tokio's LIFO slot, in one
/// round of the scheduler. Each sleeps, but none for long.
pub fn relay(context: &Context) -> io::Result<()> {
    for number in 0..context.workers {
        let (left, from_left) = mpsc::channel(1);
        let (right, from_right) = mpsc::channel(1);
        left.try_send(()).expect("there is room for one");
        run_with_the_baton(context, 2 * number, from_left, right);
        run_with_the_baton(context, 2 * number + 1, from_right, left);
    }
    Ok(())
}

fn run_with_the_baton(
    context: &Context,
    number: usize,
    mut from: mpsc::Receiver<()>,
    to: mpsc::Sender<()>,
) {
    let deadline = context.deadline;
    let mut jitter = Jitter::new(number);
    tokio::spawn(Timed::new(async move {
        while Instant::now() < deadline && from.recv().await.is_some() {
            let time = jitter.times(Duration::from_millis(2), 0.6, 1.1);
            truth::blocking(SLEEP, || block_on_sleep(time));
            if to.send(()).await.is_err() {
                break;
            }
        }
    }));
}

/// A worker executes another program after some time, in a poll that has been asleep for a while. The other
/// program lasts for `--duration`.
pub fn exec(context: &Context) -> io::Result<()> {
    sleep(context)?;
    let (duration, after) = (context.options.duration, context.options.after);
    tokio::spawn(Timed::new(async move {
        truth::blocking(SLEEP, || block_on_sleep(LIFE / 10));
        tokio::time::sleep(after).await;
        block_on_sleep(LIFE);
        let seconds = duration.as_secs_f64().to_string();
        let error = Command::new("sleep").arg(seconds).exec();
        eprintln!("scenarios: cannot start another program: {error}");
        std::process::exit(1);
    }));
    Ok(())
}
