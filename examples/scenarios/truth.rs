//! What really happened, timed from inside: every poll over 1 ms as one JSON line.
//!
//! | field | meaning |
//! |---|---|
//! | `scenario` | what `--scenario` said |
//! | `tid` | kernel thread id of the thread that polled |
//! | `start_ns`, `end_ns` | on `CLOCK_MONOTONIC`; `end_ns` is null for a poll that will not end |
//! | `on_cpu_ns` | CPU time of the thread in between; null while unknown |
//! | `run_queue_ns` | time in between that the thread waited for a CPU; null while unknown |
//! | `sleeps` | how often the thread went to sleep in between; null while unknown |
//! | `function` | the function that blocked; null where none did |
//! | `cause` | why, in hud's words; null where `function` is |
//! | `holds` | what could not run meanwhile: `worker` (a worker, and with it other tasks), `root` (the rest of a root future), or null where nothing was held up |

use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::future::Future;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender, SyncSender, TryRecvError};
use std::task::{Context, Poll};
use std::time::Duration;

/// Shorter polls are not recorded.
const RECORD_FROM_NS: u64 = 1_000_000;

/// How often the truth is written.
const WRITE_EVERY: Duration = Duration::from_millis(5);

/// The function that blocks, and why, by the names that a report should give them.
#[derive(Clone, Copy)]
pub struct Label {
    pub function: &'static str,
    pub cause: &'static str,
}

/// What a blocking poll holds up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// A worker, and with it every task that it could run.
    Worker,
    /// The rest of the root future of a `multi_thread` runtime.
    Root,
    Nothing,
}

impl Holds {
    fn name(self) -> Option<&'static str> {
        match self {
            Holds::Worker => Some("worker"),
            Holds::Root => Some("root"),
            Holds::Nothing => None,
        }
    }
}

thread_local! {
    /// What blocked in this thread's current poll.
    static BLOCKED_BY: Cell<Option<Label>> = const { Cell::new(None) };
    /// When this thread's current poll started.
    static STARTED_NS: Cell<u64> = const { Cell::new(0) };
    /// The last result of [`Scheduled::now`].
    static SCHEDULED: Cell<Scheduled> = const { Cell::new(Scheduled::NONE) };
    /// The scheduler's statistics of this thread, where the kernel keeps them.
    static SCHEDSTAT: OnceCell<Option<File>> = const { OnceCell::new() };
}

/// What the scheduler has done with the calling thread so far.
#[derive(Clone, Copy)]
struct Scheduled {
    /// Switches away from the thread because it slept, and because it lost its CPU.
    slept: u64,
    preempted: u64,
    run_queue_ns: u64,
}

impl Scheduled {
    const NONE: Scheduled = Scheduled {
        slept: 0,
        preempted: 0,
        run_queue_ns: 0,
    };

    fn now() -> Scheduled {
        // SAFETY: `rusage` is integers only, so zeroes are a valid value; the kernel fills it in.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
            usage
        };
        let (slept, preempted) = (usage.ru_nvcsw as u64, usage.ru_nivcsw as u64);
        let known = SCHEDULED.get();
        if (known.slept, known.preempted) == (slept, preempted) {
            // Only a thread that was switched away waits for a CPU. This saves most polls a read.
            return known;
        }
        let now = Scheduled {
            slept,
            preempted,
            run_queue_ns: run_queue_ns().unwrap_or(0),
        };
        SCHEDULED.set(now);
        now
    }
}

/// How long the calling thread has waited for a CPU since it started.
fn run_queue_ns() -> Option<u64> {
    SCHEDSTAT.with(|file| {
        let open = || File::open("/proc/thread-self/schedstat").ok();
        let file = file.get_or_init(open).as_ref()?;
        let mut text = [0; 64];
        let length = file.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..length]).ok()?;
        text.split_ascii_whitespace().nth(1)?.parse().ok()
    })
}

/// One poll to record.
struct Timing {
    tid: u32,
    start_ns: u64,
    /// Its end and what is known by then.
    ended: Option<Ended>,
    label: Option<Label>,
    holds: Holds,
}

struct Ended {
    end_ns: u64,
    on_cpu_ns: u64,
    run_queue_ns: u64,
    sleeps: u64,
}

enum Message {
    Poll(Timing),
    Flush(SyncSender<()>),
}

/// To the writer thread; not set without `--truth`.
static POLLS: OnceLock<Sender<Message>> = OnceLock::new();

/// Opens the truth file, if one is asked for. A thread of its own formats and writes the lines, so that
/// no poll waits for the disk.
pub fn open(scenario: &str, path: Option<&Path>) -> std::io::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let scenario = scenario.to_owned();
    let mut file = File::create(path)?;
    let (polls, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // It polls the channel: a sender that had to wake it could block, inside a poll.
        loop {
            match receiver.try_recv() {
                Ok(Message::Poll(timing)) => {
                    if let Err(error) = file.write_all(timing.line(&scenario).as_bytes()) {
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

/// Runs `block`, and records it as what blocks the current poll.
pub fn blocking<T>(label: Label, block: impl FnOnce() -> T) -> T {
    BLOCKED_BY.set(Some(label));
    block()
}

/// Records the current poll of a worker before its end, because it never ends.
pub fn announce(label: Label) {
    send(Message::Poll(Timing {
        tid: thread_id(),
        start_ns: STARTED_NS.get(),
        ended: None,
        label: Some(label),
        holds: Holds::Worker,
    }));
}

/// Times a call outside any poll: on a thread that is no worker.
pub fn timed_call<T>(label: Label, call: impl FnOnce() -> T) -> T {
    timed(Holds::Nothing, || blocking(label, call))
}

/// A future that times every poll of the future inside it.
pub struct Timed<F> {
    future: Pin<Box<F>>,
    holds: Holds,
}

impl<F: Future> Timed<F> {
    /// For a task: when it blocks, it holds a worker.
    pub fn new(future: F) -> Self {
        Self::with(future, Holds::Worker)
    }

    /// For a future that holds up something else when it blocks.
    pub fn with(future: F, holds: Holds) -> Self {
        Timed {
            future: Box::pin(future),
            holds,
        }
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        timed(self.holds, || self.future.as_mut().poll(cx))
    }
}

/// Recording takes time, too: as much of it as possible is inside the recorded times.
fn timed<T>(holds: Holds, call: impl FnOnce() -> T) -> T {
    let start_ns = clock_ns(libc::CLOCK_MONOTONIC);
    let cpu_before = clock_ns(libc::CLOCK_THREAD_CPUTIME_ID);
    let before = Scheduled::now();
    BLOCKED_BY.set(None);
    STARTED_NS.set(start_ns);
    let result = call();
    if clock_ns(libc::CLOCK_MONOTONIC) - start_ns >= RECORD_FROM_NS {
        let label = BLOCKED_BY.get();
        let after = Scheduled::now();
        send(Message::Poll(Timing {
            tid: thread_id(),
            start_ns,
            label,
            holds: match label {
                Some(_) => holds,
                None => Holds::Nothing,
            },
            ended: Some(Ended {
                sleeps: after.slept - before.slept,
                run_queue_ns: after.run_queue_ns - before.run_queue_ns,
                on_cpu_ns: clock_ns(libc::CLOCK_THREAD_CPUTIME_ID) - cpu_before,
                end_ns: clock_ns(libc::CLOCK_MONOTONIC),
            }),
        }));
    }
    result
}

impl Timing {
    fn line(&self, scenario: &str) -> String {
        let ended = self.ended.as_ref();
        let line = serde_json::json!({
            "scenario": scenario,
            "tid": self.tid,
            "start_ns": self.start_ns,
            "end_ns": ended.map(|ended| ended.end_ns),
            "on_cpu_ns": ended.map(|ended| ended.on_cpu_ns),
            "run_queue_ns": ended.map(|ended| ended.run_queue_ns),
            "sleeps": ended.map(|ended| ended.sleeps),
            "function": self.label.map(|label| label.function),
            "cause": self.label.map(|label| label.cause),
            "holds": self.holds.name(),
        });
        format!("{line}\n")
    }
}

fn thread_id() -> u32 {
    // SAFETY: gettid takes nothing and cannot fail.
    unsafe { libc::gettid() as u32 }
}

/// Whether there is a writer to send to.
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
