//! What really happened, timed from inside: every poll over 1 ms as one JSON line.
//!
//! | field | meaning |
//! |---|---|
//! | `scenario` | the scenario's name |
//! | `tid` | kernel thread id of the thread that polled |
//! | `start_ns`, `end_ns` | on `CLOCK_MONOTONIC`; `end_ns` is null for a poll that will not end |
//! | `thread_on_cpu_ns` | CPU time of the thread in between; null while unknown |
//! | `function` | the function that blocked; null where none did and the thread only lost its CPU |
//! | `cause` | why, in hud's words; null where `function` is |
//! | `holds_worker` | whether the block kept other tasks of a runtime from being polled |

use std::cell::Cell;
use std::fs::File;
use std::future::Future;
use std::io::Write as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender, SyncSender, TryRecvError};
use std::task::{Context, Poll};
use std::time::Duration;

/// Shorter polls are nobody's business.
const RECORD_FROM_NS: u64 = 1_000_000;

/// How often the truth is written.
const WRITE_EVERY: Duration = Duration::from_millis(5);

/// The function that blocks, and why, by the names that a report should give them.
#[derive(Clone, Copy)]
pub struct Label {
    pub function: &'static str,
    pub cause: &'static str,
}

thread_local! {
    /// What blocked in the poll under way on this thread.
    static BLOCKED_BY: Cell<Option<Label>> = const { Cell::new(None) };
    /// When the poll under way on this thread started.
    static STARTED_NS: Cell<u64> = const { Cell::new(0) };
}

/// A poll, as it is written.
struct Timing {
    tid: u32,
    start_ns: u64,
    end_ns: Option<u64>,
    on_cpu_ns: Option<u64>,
    label: Option<Label>,
    holds_worker: bool,
}

enum Message {
    Poll(Timing),
    Flush(SyncSender<()>),
}

/// The way to the writer; not set where no truth was asked for.
static POLLS: OnceLock<Sender<Message>> = OnceLock::new();

/// Opens the truth file, if one is asked for. A thread of its own puts it into words and writes it,
/// so that no poll waits for the disk.
pub fn open(scenario: &'static str, path: Option<&Path>) -> std::io::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut file = File::create(path)?;
    let (polls, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Asks now and then: a sender that had to wake it could block, inside a poll.
        loop {
            match receiver.try_recv() {
                Ok(Message::Poll(timing)) => {
                    if let Err(error) = file.write_all(timing.line(scenario).as_bytes()) {
                        eprintln!("scenarios: cannot write the truth: {error}");
                        std::process::exit(1);
                    }
                }
                Ok(Message::Flush(done)) => drop(done.send(())),
                Err(TryRecvError::Empty) => std::thread::sleep(WRITE_EVERY),
                Err(TryRecvError::Disconnected) => break,
            }
        }
    });
    let _ = POLLS.set(polls);
    Ok(())
}

/// Waits until everything recorded so far is in the file.
pub fn close() {
    let (done, written) = mpsc::sync_channel(1);
    if send(Message::Flush(done)) {
        let _ = written.recv_timeout(Duration::from_secs(1));
    }
}

/// Runs `block`, remembering for the poll under way what blocked it.
pub fn blocking<T>(label: Label, block: impl FnOnce() -> T) -> T {
    BLOCKED_BY.set(Some(label));
    block()
}

/// Records the poll under way before it ends, because it never will.
pub fn announce(label: Label) {
    send(Message::Poll(Timing {
        tid: thread_id(),
        start_ns: STARTED_NS.get(),
        end_ns: None,
        on_cpu_ns: None,
        label: Some(label),
        holds_worker: true,
    }));
}

/// Times a call outside any poll: on a thread that holds no worker.
pub fn timed_call<T>(label: Label, call: impl FnOnce() -> T) -> T {
    timed(false, || blocking(label, call))
}

/// A future that times every poll of the future inside it.
pub struct Timed<F> {
    future: Pin<Box<F>>,
    holds_worker: bool,
}

impl<F: Future> Timed<F> {
    /// For a future whose blocking holds a worker.
    pub fn new(future: F) -> Self {
        Self::with(future, true)
    }

    /// Says whether the future's blocking holds a worker.
    pub fn with(future: F, holds_worker: bool) -> Self {
        Timed {
            future: Box::pin(future),
            holds_worker,
        }
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        timed(self.holds_worker, || self.future.as_mut().poll(cx))
    }
}

/// What it takes to tell of the poll is part of it: as much of that as can be is inside its times.
fn timed<T>(holds_worker: bool, call: impl FnOnce() -> T) -> T {
    let start_ns = clock_ns(libc::CLOCK_MONOTONIC);
    let cpu_before = clock_ns(libc::CLOCK_THREAD_CPUTIME_ID);
    BLOCKED_BY.set(None);
    STARTED_NS.set(start_ns);
    let result = call();
    if clock_ns(libc::CLOCK_MONOTONIC) - start_ns >= RECORD_FROM_NS {
        let label = BLOCKED_BY.get();
        send(Message::Poll(Timing {
            tid: thread_id(),
            start_ns,
            on_cpu_ns: Some(clock_ns(libc::CLOCK_THREAD_CPUTIME_ID) - cpu_before),
            label,
            holds_worker: holds_worker && label.is_some(),
            end_ns: Some(clock_ns(libc::CLOCK_MONOTONIC)),
        }));
    }
    result
}

impl Timing {
    fn line(&self, scenario: &str) -> String {
        let line = serde_json::json!({
            "scenario": scenario,
            "tid": self.tid,
            "start_ns": self.start_ns,
            "end_ns": self.end_ns,
            "thread_on_cpu_ns": self.on_cpu_ns,
            "function": self.label.map(|label| label.function),
            "cause": self.label.map(|label| label.cause),
            "holds_worker": self.holds_worker,
        });
        format!("{line}\n")
    }
}

fn thread_id() -> u32 {
    // SAFETY: gettid takes nothing and cannot fail.
    unsafe { libc::gettid() as u32 }
}

/// Whether there is anybody to send to.
fn send(message: Message) -> bool {
    let polls = POLLS.get();
    polls.is_some_and(|polls| polls.send(message).is_ok())
}

/// The clock's time in nanoseconds.
pub fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec, and both clocks in use always exist on Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
