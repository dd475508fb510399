//! Runtimes that hang for good, each in a way that a census of their threads shows.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::catalog::Context;
use crate::healthy;
use crate::truth::{self, Label, Timed};

/// The timers that nobody drives expire this long after all workers are blocked.
const LATER: Duration = Duration::from_secs(1);

const fn hang(function: &'static str) -> Label {
    Label {
        function,
        cause: "lock",
    }
}

/// Takes a lock that it already holds. Never returns.
#[inline(never)]
fn deadlock_on_itself(lock: &Mutex<()>) {
    let first = lock.lock();
    let second = lock.lock();
    std::hint::black_box((&first, &second));
}

#[inline(never)]
fn hold_for_good(lock: &Mutex<()>) {
    let guard = lock.lock();
    loop {
        std::thread::sleep(Duration::from_secs(3600));
        std::hint::black_box(&guard);
    }
}

#[inline(never)]
fn wait_for_the_lock(lock: &Mutex<()>) {
    let guard = lock.lock();
    std::hint::black_box(&guard);
}

#[inline(never)]
fn wait_for_a_timer(answers: &Receiver<()>) {
    std::hint::black_box(answers.recv().is_ok());
}

/// Wakes the thread that drives a future by itself.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future on this thread, as many small crates do.
#[inline(never)]
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A future whose answer never comes.
struct Never;

impl Future for Never {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// A task that hangs after some time.
fn spawn(wait: Duration, label: Label, hang: impl FnOnce() + Send + 'static) {
    tokio::spawn(Timed::new(async move {
        tokio::time::sleep(wait).await;
        truth::announce(label);
        hang();
    }));
}

/// A task for each worker that keeps it busy until all of them hang. (A worker that blocks while others
/// are parked may leave them parked for good.)
fn spawn_all<H: FnOnce() + Send + 'static>(context: &Context, label: Label, hang: impl Fn() -> H) {
    let until = Instant::now() + context.options.after;
    for _ in 0..context.workers {
        let hang = hang();
        tokio::spawn(Timed::new(async move {
            while Instant::now() < until {
                tokio::task::yield_now().await;
            }
            truth::announce(label);
            hang();
        }));
    }
}

/// One worker waits for a lock that it holds itself.
pub fn deadlock(context: &Context) -> io::Result<()> {
    static TWICE: Mutex<()> = Mutex::new(());
    healthy::background(context);
    spawn(context.options.after, hang("deadlock_on_itself"), || {
        deadlock_on_itself(&TWICE);
    });
    Ok(())
}

/// One worker waits for a lock that it holds, from a random moment between 0.3 and 0.9 s after the start on.
/// Nothing else runs, so that no other switch of the worker shows it.
pub fn soon(_: &Context) -> io::Result<()> {
    static TWICE: Mutex<()> = Mutex::new(());
    let random = truth::clock_ns(libc::CLOCK_MONOTONIC) % 600;
    let wait = Duration::from_millis(300 + random);
    spawn(wait, hang("deadlock_on_itself"), || {
        deadlock_on_itself(&TWICE);
    });
    Ok(())
}

/// All workers wait for a lock that a plain thread holds.
pub fn all_locked(context: &Context) -> io::Result<()> {
    static HELD: Mutex<()> = Mutex::new(());
    std::thread::Builder::new()
        .name("holder".to_owned())
        .spawn(|| hold_for_good(&HELD))?;
    spawn_all(context, hang("wait_for_the_lock"), || {
        || wait_for_the_lock(&HELD)
    });
    Ok(())
}

/// One worker drives a future by itself that never becomes ready.
pub fn block_on_inside(context: &Context) -> io::Result<()> {
    healthy::background(context);
    spawn(context.options.after, hang("block_on"), || block_on(Never));
    Ok(())
}

/// All workers wait for timers of their own runtime, so that nobody drives its timers.
pub fn no_driver(context: &Context) -> io::Result<()> {
    let late = context.options.after + LATER;
    spawn_all(context, hang("wait_for_a_timer"), || {
        let (answer, answers) = mpsc::channel();
        tokio::spawn(async move {
            tokio::time::sleep(late).await;
            let _ = answer.send(());
        });
        move || wait_for_a_timer(&answers)
    });
    Ok(())
}
