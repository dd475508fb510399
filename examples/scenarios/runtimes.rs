//! Blocking code where it is hard to follow: on runtimes inside each other, on threads of their own,
//! short of life, in polls that share a round, and in a program that becomes another one.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, block_in_place, spawn_local};

use crate::blocking::{block_on_cpu, block_on_sleep};
use crate::catalog::{CPU, Context, Jitter, SLEEP, cpu, repeat, sleep};
use crate::healthy;
use crate::truth::{self, Timed};

/// How long each runtime of [`short_lived`] lives.
const LIFE: Duration = Duration::from_millis(400);

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

/// The first runtime stays healthy; the second starts when a quarter of the time is over.
pub fn late(context: &Context) -> io::Result<()> {
    const NAME: &str = "late-worker";
    healthy::background(context);
    let context = context.clone();
    on_a_thread(NAME, move || {
        std::thread::sleep(context.options.duration / 4);
        let runtime = crate::build_runtime(&context.options, Some(NAME))?;
        runtime.block_on(async {
            cpu(&context)?;
            tokio::time::sleep_until(context.deadline.into()).await;
            Ok(())
        })
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
            let runtime = crate::build_runtime(&life.options, Some("mayfly-worker"))?;
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
                block_in_place(|| Handle::current().block_on(Timed::with(blocks, false)));
            }
        });
    }
    Ok(())
}

/// Pairs of tasks that wake each other: one poll follows the other through Tokio's LIFO slot, in one
/// round of the scheduler. Each sleeps, but none for long.
pub fn relay(context: &Context) -> io::Result<()> {
    for number in 0..context.options.workers {
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

/// A worker replaces the program by another one when a quarter of the time is over, in a poll that has
/// been asleep for a while. The other one lasts as long again.
pub fn exec(context: &Context) -> io::Result<()> {
    sleep(context)?;
    let duration = context.options.duration;
    tokio::spawn(Timed::new(async move {
        truth::blocking(SLEEP, || block_on_sleep(LIFE / 10));
        tokio::time::sleep(duration / 4).await;
        block_on_sleep(LIFE);
        let seconds = duration.as_secs_f64().to_string();
        let error = Command::new("sleep").arg(seconds).exec();
        eprintln!("scenarios: cannot start another program: {error}");
        std::process::exit(1);
    }));
    Ok(())
}
