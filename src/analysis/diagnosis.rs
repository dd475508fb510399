//! Explains a hang from a census.
//!
//! Each rule states a fact about all threads at one moment. It considers only polls that have lasted long
//! enough to be a hang, and says nothing if another explanation is possible.

use std::collections::BTreeMap;

use crate::model::{Census, CensusThread, Duty, Frame, HANG_NS, Origin, ThreadWait};
use crate::stacks::aliases::known_as;
use crate::tokio::names::waits_for_work;

/// How many threads a sentence names, and how many sentences there are of one kind.
const MOST: usize = 3;

/// Public functions that take a lock.
const LOCKS: [&str; 6] = [
    "std::sync::Mutex::lock",
    "std::sync::RwLock::read",
    "std::sync::RwLock::write",
    "parking_lot::Mutex::lock",
    "parking_lot::RwLock::read",
    "parking_lot::RwLock::write",
];

/// The sentences, most important first. Empty if nothing hangs.
pub fn words(threads: &[CensusThread]) -> Vec<String> {
    let mut words = Vec::new();
    words.extend(blocked_in_block_on(threads));
    for (runtime, workers) in &runtimes(threads) {
        let stuck = workers.iter().filter(|worker| hangs(worker)).count();
        let all = match workers.len() {
            1 => format!("the only worker of runtime {runtime}"),
            n => format!("all {n} workers of runtime {runtime}"),
        };
        let all_locked = match stuck == workers.len() && workers.len() > 1 {
            true => all_in_lock(&all, workers, threads),
            false => None,
        };
        match all_locked {
            Some(told) => words.push(told),
            None => words.extend(stuck_in_locks(workers.iter().copied(), threads)),
        }
        // A worker that runs or waits for events will poll the driver.
        if stuck > 0
            && workers
                .iter()
                .all(|worker| hangs(worker) || sleeps_on(worker))
        {
            let who = match (stuck, workers.len()) {
                (1, 1) => format!("{all} is inside a poll"),
                (n, m) if n == m => format!("{all} are inside polls"),
                (n, m) => {
                    format!("{n} of {m} workers hang inside a poll, the others wait for a wake")
                }
            };
            words.push(format!(
                "nobody polls the I/O and timer driver of runtime {runtime}: {who}; timers and \
                 sockets stand still"
            ));
        }
    }
    words
}

/// The name of a thread of a census.
pub fn name(thread: &CensusThread) -> String {
    match thread.duty.worker() {
        Some((runtime, Some(index))) => format!("worker {index} of runtime {runtime}"),
        _ => format!("thread {} ({})", thread.name, thread.tid),
    }
}

fn runtimes(threads: &[CensusThread]) -> BTreeMap<u32, Vec<&CensusThread>> {
    let mut runtimes: BTreeMap<u32, Vec<&CensusThread>> = BTreeMap::new();
    for thread in threads {
        if let Some((runtime, _)) = thread.duty.worker() {
            runtimes.entry(runtime).or_default().push(thread);
        }
    }
    runtimes
}

/// Asleep in a poll that has lasted long enough to be a hang.
fn hangs(thread: &CensusThread) -> bool {
    let long = matches!(thread.duty, Duty::Polling { held_ns, .. } if held_ns >= HANG_NS);
    long && matches!(thread.wait, ThreadWait::Asleep { .. })
}

/// Parked without the driver, so that only another thread can wake it.
fn sleeps_on(thread: &CensusThread) -> bool {
    let parked = matches!(thread.duty, Duty::Parked { .. });
    let on_futex = matches!(&thread.wait, ThreadWait::Asleep { syscall, .. } if syscall == "futex");
    parked && on_futex
}

/// The public name of the lock function that it waits in.
fn locking(thread: &CensusThread) -> Option<&'static str> {
    let inner = thread.frames.iter();
    let mut inner = inner.take_while(|frame| frame.origin != Origin::User);
    inner.find_map(|frame| {
        let public = known_as(&frame.function);
        LOCKS.into_iter().find(|lock| *lock == public)
    })
}

fn lock_address(thread: &CensusThread) -> Option<u64> {
    match thread.wait {
        ThreadWait::Asleep { lock, .. } => lock,
        _ => None,
    }
}

/// Its innermost function of the application.
fn code(thread: &CensusThread) -> &str {
    let own = thread.frames.iter().find(|f| f.origin == Origin::User);
    own.or(thread.frames.first())
        .map_or("unknown code", |frame: &std::sync::Arc<Frame>| {
            &frame.function
        })
}

/// Whether it cannot hold a lock: a worker without a poll, or a pool thread without a job. Any thread
/// in code of the application can.
fn is_idle(thread: &CensusThread) -> bool {
    if let Duty::Parked { .. } = thread.duty {
        return true;
    }
    let mut frames = thread.frames.iter();
    let idle =
        frames.position(|frame| frame.origin == Origin::Runtime && waits_for_work(&frame.function));
    let inside = idle.and_then(|at| thread.frames.get(..at));
    thread.duty == Duty::Other
        && matches!(thread.wait, ThreadWait::Asleep { .. })
        && inside.is_some_and(|frames| frames.iter().all(|f| f.origin != Origin::User))
}

/// Workers that hang in a lock, each with the threads that may hold it. If only the waiter itself can,
/// it deadlocks on itself.
fn stuck_in_locks<'a>(
    workers: impl Iterator<Item = &'a CensusThread>,
    threads: &[CensusThread],
) -> Vec<String> {
    let stuck = workers.filter(|thread| hangs(thread));
    stuck
        .filter_map(|waiter| {
            let lock = locking(waiter)?;
            let holders = may_hold(threads, &[waiter]);
            let who = name(waiter);
            Some(match holders.is_empty() {
                true => format!(
                    "{who} deadlocks on itself: in {} it waits in {lock} for a lock that it must \
                     hold already, since every other thread is idle",
                    code(waiter)
                ),
                false => format!(
                    "{who} waits in {lock} (in {}); it may be held by {}, or by itself",
                    code(waiter),
                    holders.join(", or ")
                ),
            })
        })
        .take(MOST)
        .collect()
}

/// Who may hold the lock that these threads wait for: all threads in code of the application that do
/// not wait for the same lock.
fn may_hold(threads: &[CensusThread], waiters: &[&CensusThread]) -> Vec<String> {
    let locks: Vec<u64> = waiters.iter().filter_map(|w| lock_address(w)).collect();
    let others = threads.iter().filter(|thread| {
        let waits_too = lock_address(thread).is_some_and(|lock| locks.contains(&lock));
        let waiter = waiters.iter().any(|waiter| waiter.tid == thread.tid);
        !is_idle(thread) && !waits_too && !waiter
    });
    others
        .map(|thread| format!("{} in {}", name(thread), code(thread)))
        .take(MOST)
        .collect()
}

fn blocked_in_block_on(threads: &[CensusThread]) -> Vec<String> {
    let stuck = threads.iter().filter(|thread| hangs(thread));
    stuck
        .filter_map(|thread| {
            // Inside the poll: below the runtime's frames.
            let frames = thread.frames.iter();
            let mut inner = frames.take_while(|frame| frame.origin != Origin::Runtime);
            let at = inner.find(|frame| {
                let path = frame.function.split('<').next().unwrap_or_default();
                path.rsplit("::").next() == Some("block_on")
            })?;
            Some(format!(
                "{} sits in {} inside a poll: it waits for a future while it polls nothing else",
                name(thread),
                at.function
            ))
        })
        .collect()
}

/// The sentence for a runtime whose workers all wait for a lock.
fn all_in_lock(all: &str, workers: &[&CensusThread], threads: &[CensusThread]) -> Option<String> {
    let locks: Vec<&str> = workers
        .iter()
        .map(|worker| locking(worker))
        .collect::<Option<_>>()?;
    let lock = locks.first()?;
    if locks.iter().any(|other| other != lock) {
        return None;
    }
    let verb = if workers.len() == 1 { "waits" } else { "wait" };
    let mut places: Vec<&str> = workers.iter().map(|worker| code(worker)).collect();
    places.sort_unstable();
    places.dedup();
    let holders = may_hold(threads, workers);
    let held = match holders.is_empty() {
        true => String::new(),
        false => format!("; it may be held by {}", holders.join(", or ")),
    };
    Some(format!(
        "{all} {verb} in {lock} (in {}){held}",
        places.join(", ")
    ))
}

/// A census with its sentences.
pub fn census(at_ns: u64, threads: Vec<CensusThread>) -> Census {
    Census {
        at_ns,
        words: words(&threads),
        threads,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cause;
    use std::sync::Arc;

    fn thread(tid: u32, duty: Duty, lock: Option<u64>, functions: &[&str]) -> CensusThread {
        let frame = |function: &&str| {
            let origin = match function.split("::").next() {
                Some("app") => Origin::User,
                Some("tokio") => Origin::Runtime,
                _ => Origin::Std,
            };
            Arc::new(Frame::named(*function, origin))
        };
        CensusThread {
            tid,
            name: "tokio-rt-worker".into(),
            wait: ThreadWait::Asleep {
                syscall: "futex".into(),
                cause: Cause::Lock,
                lock,
            },
            duty,
            frames: functions.iter().map(frame).collect(),
            complete: true,
        }
    }

    fn in_epoll(mut thread: CensusThread) -> CensusThread {
        thread.wait = ThreadWait::Asleep {
            syscall: "epoll_wait".into(),
            cause: Cause::Network,
            lock: None,
        };
        thread
    }

    fn polling(index: u32, seconds: u64) -> Duty {
        Duty::Polling {
            runtime: 0,
            index: Some(index),
            task: Some(7),
            held_ns: seconds * 1_000_000_000,
        }
    }

    fn parked(index: u32) -> Duty {
        Duty::Parked {
            runtime: 0,
            index: Some(index),
        }
    }

    const LOCKING: [&str; 3] = [
        "std::sys::sync::mutex::futex::Mutex::lock_contended",
        "app::twice",
        "tokio::runtime::task::raw::poll",
    ];
    const MAIN: [&str; 3] = [
        "std::thread::park",
        "tokio::runtime::park::CachedParkThread::park",
        "app::main",
    ];

    #[test]
    fn a_deadlock_on_itself_needs_every_other_thread_idle() {
        let mut threads = vec![
            thread(1, polling(0, 3), Some(0x10), &LOCKING),
            in_epoll(thread(2, parked(1), None, &[])),
            thread(3, Duty::Other, Some(0x90), &MAIN),
        ];
        let said = words(&threads).join("\n");
        assert!(
            said.starts_with("worker 0 of runtime 0 deadlocks on itself"),
            "{said}"
        );
        assert!(!said.contains("driver"), "{said}");
        // Another thread may hold it.
        threads.push(thread(
            4,
            Duty::Other,
            None,
            &["std::thread::sleep", "app::hold"],
        ));
        let said = words(&threads).join("\n");
        assert_eq!(
            said,
            "worker 0 of runtime 0 waits in std::sync::Mutex::lock (in app::twice); it may be held \
             by thread tokio-rt-worker (4) in app::hold, or by itself"
        );
        // Not a hang yet.
        threads.pop();
        threads[0].duty = polling(0, 0);
        assert!(words(&threads).is_empty());
    }

    #[test]
    fn all_workers_in_a_lock_leave_the_driver_alone() {
        let threads = [
            thread(1, polling(0, 3), Some(0x10), &LOCKING),
            thread(2, polling(1, 3), Some(0x10), &LOCKING),
            thread(4, Duty::Other, None, &["std::thread::sleep", "app::hold"]),
        ];
        let said = words(&threads);
        assert_eq!(
            said[0],
            "all 2 workers of runtime 0 wait in std::sync::Mutex::lock (in app::twice); it may be \
             held by thread tokio-rt-worker (4) in app::hold"
        );
        assert!(said[1].starts_with("nobody polls the I/O and timer driver of runtime 0"));
        assert_eq!(said.len(), 2);
    }

    #[test]
    fn a_parked_worker_comes_to_the_driver_only_if_it_waits_for_events() {
        let hangs = || thread(1, polling(0, 3), None, &["std::thread::sleep", "app::f"]);
        let parked = thread(2, parked(1), Some(0x20), &[]);
        let said = words(&[hangs(), parked.clone()]);
        assert!(
            said[0].contains("1 of 2 workers hang inside a poll"),
            "{said:?}"
        );
        assert!(words(&[hangs(), in_epoll(parked.clone())]).is_empty());
        let mut runs = parked;
        runs.wait = ThreadWait::Running;
        assert!(words(&[hangs(), runs]).is_empty());
    }

    #[test]
    fn block_on_is_named_inside_a_poll_only() {
        let inside = [
            "std::thread::park",
            "app::block_on",
            "tokio::runtime::task::raw::poll",
        ];
        let around = [
            "std::thread::sleep",
            "app::f",
            "tokio::runtime::task::raw::poll",
            "app::block_on",
        ];
        let idle = || in_epoll(thread(9, parked(1), None, &[]));
        let said = words(&[thread(1, polling(0, 2), None, &inside), idle()]);
        assert!(said[0].contains("sits in app::block_on"), "{said:?}");
        assert!(words(&[thread(1, polling(0, 2), None, &around), idle()]).is_empty());
    }
}
