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

enum Message {
    Line(String),
    Flush(SyncSender<()>),
}

struct Log {
    scenario: &'static str,
    /// None where no truth was asked for.
    lines: Option<Sender<Message>>,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Opens the truth file, if one is asked for. A thread of its own writes it, so that no poll
/// waits for the disk.
pub fn open(scenario: &'static str, path: Option<&Path>) -> std::io::Result<()> {
    let lines = match path {
        None => None,
        Some(path) => {
            let mut file = File::create(path)?;
            let (sender, receiver) = mpsc::channel();
            std::thread::spawn(move || {
                // Asks now and then: a sender that had to wake it could block, inside a poll.
                loop {
                    match receiver.try_recv() {
                        Ok(Message::Line(line)) => {
                            if let Err(error) = file.write_all(line.as_bytes()) {
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
            Some(sender)
        }
    };
    let _ = LOG.set(Log { scenario, lines });
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
    let start_ns = STARTED_NS.get();
    record(start_ns, None, None, Some(label), true);
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

fn timed<T>(holds_worker: bool, call: impl FnOnce() -> T) -> T {
    BLOCKED_BY.set(None);
    let cpu_before = clock_ns(libc::CLOCK_THREAD_CPUTIME_ID);
    let start_ns = clock_ns(libc::CLOCK_MONOTONIC);
    STARTED_NS.set(start_ns);
    let result = call();
    let end_ns = clock_ns(libc::CLOCK_MONOTONIC);
    if end_ns - start_ns >= RECORD_FROM_NS {
        let on_cpu_ns = clock_ns(libc::CLOCK_THREAD_CPUTIME_ID) - cpu_before;
        let label = BLOCKED_BY.get();
        record(
            start_ns,
            Some(end_ns),
            Some(on_cpu_ns),
            label,
            holds_worker && label.is_some(),
        );
    }
    result
}

fn record(
    start_ns: u64,
    end_ns: Option<u64>,
    on_cpu_ns: Option<u64>,
    label: Option<Label>,
    holds_worker: bool,
) {
    let Some(log) = LOG.get() else { return };
    // SAFETY: gettid takes nothing and cannot fail.
    let tid = unsafe { libc::syscall(libc::SYS_gettid) };
    let line = serde_json::json!({
        "scenario": log.scenario,
        "tid": tid,
        "start_ns": start_ns,
        "end_ns": end_ns,
        "thread_on_cpu_ns": on_cpu_ns,
        "function": label.map(|label| label.function),
        "cause": label.map(|label| label.cause),
        "holds_worker": holds_worker,
    });
    send(Message::Line(format!("{line}\n")));
}

/// Whether there is anybody to send to.
fn send(message: Message) -> bool {
    let Some(lines) = LOG.get().and_then(|log| log.lines.as_ref()) else {
        return false;
    };
    lines.send(message).is_ok()
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
