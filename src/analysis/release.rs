//! Releasers: from the thread that ended a wait to the code that made others wait.
//!
//! The kernel side proves that a thread ended the wait. To find the function to blame takes two stacks.
//! The stack at the wake-up is certain, but locks are often released by a tail call, so that the
//! function that held the lock is no longer on it. The thread's last stack before may still show that
//! function; it counts only if it was captured inside the function that released the waiter.

use std::collections::HashMap;
use std::sync::Arc;

use crate::capture::Released;
use crate::model::{Culprit, Frame, Origin, Release, ReleasedBy};
use crate::stacks::culprit::culprit;

/// Ended waits that are kept, to distinguish a holder from threads in the same queue.
const MAX_KEPT: usize = 4096;

/// The end of a thread's last wait.
struct Ended {
    at_ns: u64,
    waited_for: u64,
    by: Arc<ReleasedBy>,
}

/// Names who ended waits.
#[derive(Default)]
pub struct Releases {
    /// By the thread that waited.
    ended: HashMap<u32, Ended>,
}

impl Releases {
    /// Who ended a wait. The stacks are those of the event, with names. None if they show no more of the
    /// thread than its start.
    pub fn name(
        &mut self,
        event: &Released,
        at_wake: Vec<Arc<Frame>>,
        meanwhile: Option<Vec<Arc<Frame>>>,
    ) -> Option<Arc<ReleasedBy>> {
        let by = match self.first_in_queue(event) {
            Some(holder) => Arc::new(ReleasedBy {
                wait_ns: event.wait_ns,
                ..(*holder).clone()
            }),
            None => {
                let meanwhile = meanwhile.filter(|_| !waited_too(event));
                let frames = telling(event.how, at_wake, meanwhile);
                if shows_only_start(&frames) {
                    return None;
                }
                let culprit = holder(&frames)?;
                Arc::new(ReleasedBy {
                    tid: event.waker,
                    thread: event.waker_name.as_str().into(),
                    how: event.how,
                    wait_ns: event.wait_ns,
                    culprit,
                    frames,
                })
            }
        };
        if self.ended.len() >= MAX_KEPT {
            self.ended.clear();
        }
        self.ended.insert(
            event.tid,
            Ended {
                at_ns: event.at_ns,
                waited_for: event.waited_for,
                by: Arc::clone(&by),
            },
        );
        Some(by)
    }

    /// Who held the lock before, if the waker itself waited for it most of that time.
    fn first_in_queue(&self, event: &Released) -> Option<Arc<ReleasedBy>> {
        let ended = self.ended.get(&event.waker)?;
        let since = event.at_ns.checked_sub(ended.at_ns)?;
        let queued = event.how == Release::Futex
            && ended.waited_for == event.waited_for
            && since < event.wait_ns / 2
            && ended.by.tid != event.tid;
        queued.then(|| Arc::clone(&ended.by))
    }
}

/// Whether the waker spent the time waiting for the same lock.
fn waited_too(event: &Released) -> bool {
    event.how == Release::Futex
        && event.meanwhile.as_ref().is_some_and(|stack| {
            i64::from(stack.syscall) == libc::SYS_futex && stack.arg0 == event.waited_for
        })
}

/// The stack that shows the culprit.
fn telling(
    how: Release,
    at_wake: Vec<Arc<Frame>>,
    meanwhile: Option<Vec<Arc<Frame>>>,
) -> Vec<Arc<Frame>> {
    match meanwhile {
        Some(meanwhile) if tells_more(how, &at_wake, &meanwhile) => meanwhile,
        _ => at_wake,
    }
}

/// The function of std that runs a thread's closure.
const STARTED: &str = "::__rust_begin_short_backtrace";

/// Whether the stack shows only how the thread was started, after a release by a tail call.
fn shows_only_start(frames: &[Arc<Frame>]) -> bool {
    let mut rust = frames.iter().filter(|frame| frame.function.contains("::"));
    let innermost = rust.next();
    innermost.is_some_and(|frame| frame.function.ends_with(STARTED))
        && !frames.iter().any(|frame| names_code(frame))
}

/// The code to look at first in the stack of a thread that ended a wait.
pub(super) fn holder(frames: &[Arc<Frame>]) -> Option<Culprit> {
    let from = match frames.iter().any(|frame| names_code(frame)) {
        true => 0,
        // Only std: its first Rust function says more than the system call.
        false => frames
            .iter()
            .position(|frame| frame.function.contains("::"))
            .unwrap_or(0),
    };
    culprit(frames.get(from..).unwrap_or_default())
}

/// Whether the earlier stack was captured inside the function that released the waiter.
fn tells_more(how: Release, at_wake: &[Arc<Frame>], meanwhile: &[Arc<Frame>]) -> bool {
    let is_own = |frame: &&Arc<Frame>| frame.origin == Origin::User;
    let inside = |frame: &Arc<Frame>| {
        let same = |other: &Arc<Frame>| other.function == frame.function;
        let at = meanwhile.iter().position(same)?;
        meanwhile.get(..at)
    };
    let own_inside = |frame| inside(frame).is_some_and(|frames| frames.iter().any(|f| is_own(&f)));
    match at_wake.iter().find(is_own) {
        Some(function) => inside(function).is_some(),
        // A thread that ends has returned from its code.
        None if how == Release::Exit => meanwhile.iter().any(|frame| is_own(&frame)),
        // The thread's start or a library called the holder.
        None => at_wake.iter().any(own_inside),
    }
}

fn names_code(frame: &Frame) -> bool {
    matches!(
        frame.origin,
        Origin::User | Origin::ThirdParty | Origin::Runtime | Origin::Unknown
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Registers;
    use crate::capture::OtherStack;

    const MS: u64 = 1_000_000;

    fn frames(functions: &[&str]) -> Vec<Arc<Frame>> {
        let frame = |function: &&str| {
            let origin = match function.split("::").next() {
                Some("app") => Origin::User,
                _ => Origin::Std,
            };
            Arc::new(Frame::named(*function, origin))
        };
        functions.iter().map(frame).collect()
    }

    fn event(tid: u32, waker: u32, at_ms: u64, wait_ms: u64) -> Released {
        Released {
            tid,
            sequence: 1,
            at_ns: at_ms * MS,
            wait_ns: wait_ms * MS,
            waited_for: 0x1000,
            how: Release::Futex,
            waker,
            waker_name: format!("thread-{waker}"),
            at_wake: stack(libc::SYS_futex as i32, 0x1000),
            meanwhile: Some(stack(libc::SYS_nanosleep as i32, 0x7000)),
        }
    }

    fn stack(syscall: i32, arg0: u64) -> OtherStack {
        OtherStack {
            registers: Registers::default(),
            syscall,
            arg0,
            base: 0,
            bytes: Vec::new(),
        }
    }

    fn named(event: &Released, at_wake: &[&str], meanwhile: &[&str]) -> String {
        let by = Releases::default().name(event, frames(at_wake), Some(frames(meanwhile)));
        by.unwrap().culprit.function.to_string()
    }

    #[test]
    fn a_holder_behind_a_tail_call_is_found_in_its_last_stack() {
        let function = named(
            &event(1, 2, 100, 30),
            &["syscall", "app::serve", "std::thread::start"],
            &[
                "syscall",
                "std::condvar",
                "app::hold",
                "app::serve",
                "std::thread::start",
            ],
        );
        assert_eq!(function, "app::hold");
    }

    #[test]
    fn unrelated_work_of_the_waker_is_not_blamed() {
        let function = named(
            &event(1, 2, 100, 30),
            &["syscall", "app::send", "app::serve"],
            &["nanosleep", "app::idle", "app::main"],
        );
        assert_eq!(function, "app::send");
        // It waited for the same lock, so it did not hold it.
        let mut fellow = event(1, 2, 100, 30);
        fellow.meanwhile = Some(stack(libc::SYS_futex as i32, 0x1000));
        let function = named(
            &fellow,
            &["syscall", "app::run"],
            &["syscall", "app::wait", "app::run"],
        );
        assert_eq!(function, "app::run");
    }

    #[test]
    fn a_holder_inlined_into_the_start_of_its_thread_is_found_too() {
        let function = named(
            &event(1, 2, 100, 30),
            &["syscall", "std::thread::start", "clone3"],
            &["syscall", "app::hold", "std::thread::start", "clone3"],
        );
        assert_eq!(function, "app::hold");
        // Neither stack shows code of the application.
        let function = named(
            &event(1, 2, 100, 30),
            &["syscall", "std::mpsc::send", "std::thread::start"],
            &["syscall", "std::mpsc::recv", "std::thread::start"],
        );
        assert_eq!(function, "std::mpsc::send");
    }

    #[test]
    fn the_start_of_a_thread_is_not_blamed() {
        let start = "std::sys::backtrace::__rust_begin_short_backtrace";
        let at_wake = frames(&["syscall", start, "std::thread::start", "clone3"]);
        let mut releases = Releases::default();
        assert!(
            releases
                .name(&event(1, 2, 100, 30), at_wake.clone(), None)
                .is_none()
        );
        let idle = frames(&["nanosleep", start, "std::thread::start", "clone3"]);
        assert!(
            releases
                .name(&event(1, 2, 200, 30), at_wake, Some(idle))
                .is_none()
        );
    }

    #[test]
    fn a_thread_that_ended_is_named_by_what_it_did_before() {
        let mut exit = event(1, 2, 100, 30);
        exit.how = Release::Exit;
        let function = named(
            &exit,
            &["start_thread", "clone3"],
            &["nanosleep", "app::work", "std::thread::start"],
        );
        assert_eq!(function, "app::work");
    }

    #[test]
    fn waiters_in_a_queue_name_who_held_the_lock_first() {
        let mut releases = Releases::default();
        let holds = frames(&["syscall", "app::hold"]);
        let mut name = |event, stack| releases.name(&event, stack, None).unwrap();
        let first = name(event(2, 9, 100, 40), holds);
        assert_eq!(
            (first.tid, first.culprit.function.as_str()),
            (9, "app::hold")
        );
        // Thread 2 had it for 1 ms of the 41 that thread 3 waited.
        let queued = frames(&["syscall", "app::brief"]);
        let second = name(event(3, 2, 101, 41), queued.clone());
        assert_eq!(second.tid, 9);
        assert_eq!(second.wait_ns, 41 * MS);
        // Thread 2 had it for most of the time that thread 4 waited.
        let third = name(event(4, 2, 150, 60), queued);
        assert_eq!(
            (third.tid, third.culprit.function.as_str()),
            (2, "app::brief")
        );
    }
}
