//! From a stack to the code to look at first.
//!
//! A worker's stack has three parts: what the task did, the frames that poll the task, and the
//! worker's own loop. The culprit is the innermost function of the user's own code in the first
//! part. Works on named frames alone, so it is the same for live and replayed stacks.

use std::sync::Arc;

use super::names;
use crate::model::{Culprit, Frame, Origin};

/// The functions of Tokio that call a task's or a root future's `poll`. Which of them are left on
/// the stack depends on inlining, so any one is enough.
const POLL_MARKERS: [&str; 16] = [
    "tokio::runtime::task::harness::Harness::poll",
    "tokio::runtime::task::harness::poll_future",
    "tokio::runtime::task::core::Core::poll",
    "tokio::runtime::task::raw::poll",
    "tokio::runtime::task::raw::RawTask::poll",
    "tokio::runtime::task::LocalNotified::run",
    "tokio::runtime::coop::budget",
    "tokio::runtime::coop::with_budget",
    "tokio::task::coop::budget",
    "tokio::task::coop::with_budget",
    "tokio::runtime::scheduler::multi_thread::worker::Context::run_task",
    "tokio::runtime::scheduler::current_thread::CoreGuard::block_on",
    "tokio::runtime::scheduler::current_thread::CoreGuard::enter",
    "tokio::runtime::scheduler::current_thread::CurrentThread::block_on",
    "tokio::runtime::scheduler::current_thread::Context::run_task",
    "tokio::runtime::park::CachedParkThread::block_on",
];

/// Paths whose functions only hand a call on.
const WRAPPERS: [&str; 27] = [
    "core::ops::function::",
    "core::future::",
    "core::pin::",
    "core::task::",
    "core::iter::",
    "core::option::",
    "core::result::",
    "core::cell::",
    "core::array::",
    "core::slice::iter::",
    "core::ops::try_trait::",
    "core::ops::control_flow::",
    "core::panic::unwind_safe::",
    "core::convert::",
    "core::mem::",
    "alloc::boxed::",
    "alloc::rc::",
    "alloc::sync::",
    "std::panic::",
    "std::panicking::",
    "std::thread::local::",
    "std::sys::backtrace::",
    "std::sys::pal::unix::cvt",
    "std::sync::once::",
    "std::sync::poison::once::",
    "std::sync::once_lock::",
    "std::sync::lazy_lock::",
];

/// Inner functions of std and of common crates, by the start of their path, and the function of
/// the public interface that people call. Longer paths first where one contains the other.
const KNOWN_AS: [(&str, &str); 27] = [
    ("std::sys::sync::mutex::", "std::sync::Mutex::lock"),
    ("std::sync::mutex::Mutex::lock", "std::sync::Mutex::lock"),
    ("std::sync::mutex::futex::", "std::sync::Mutex::lock"),
    (
        "std::sync::poison::mutex::Mutex::lock",
        "std::sync::Mutex::lock",
    ),
    (
        "std::sys::sync::rwlock::futex::RwLock::read",
        "std::sync::RwLock::read",
    ),
    (
        "std::sys::sync::rwlock::futex::RwLock::write",
        "std::sync::RwLock::write",
    ),
    (
        "std::sync::poison::rwlock::RwLock::read",
        "std::sync::RwLock::read",
    ),
    (
        "std::sync::poison::rwlock::RwLock::write",
        "std::sync::RwLock::write",
    ),
    ("std::sys::sync::condvar::", "std::sync::Condvar::wait"),
    (
        "std::sync::poison::condvar::Condvar::",
        "std::sync::Condvar::wait",
    ),
    ("std::sys::sync::once::", "std::sync::Once::call_once"),
    ("std::sync::mpmc::", "std::sync::mpsc::Receiver::recv"),
    (
        "std::sync::barrier::Barrier::wait",
        "std::sync::Barrier::wait",
    ),
    ("std::thread::functions::sleep", "std::thread::sleep"),
    ("std::sys::thread::unix::sleep", "std::thread::sleep"),
    (
        "std::sys::pal::unix::thread::Thread::sleep",
        "std::thread::sleep",
    ),
    (
        "std::sys::thread::unix::Thread::join",
        "std::thread::JoinHandle::join",
    ),
    (
        "std::thread::lifecycle::JoinInner::join",
        "std::thread::JoinHandle::join",
    ),
    (
        "std::thread::JoinInner::join",
        "std::thread::JoinHandle::join",
    ),
    ("std::thread::functions::park", "std::thread::park"),
    (
        "std::net::socket_addr::",
        "std::net::ToSocketAddrs::to_socket_addrs",
    ),
    ("std::net::tcp::", "std::net::TcpStream::"),
    ("std::net::udp::", "std::net::UdpSocket::"),
    ("std::sys::fs::", "std::fs::"),
    (
        "parking_lot::raw_mutex::RawMutex::",
        "parking_lot::Mutex::lock",
    ),
    (
        "parking_lot::raw_rwlock::RawRwLock::lock_shared",
        "parking_lot::RwLock::read",
    ),
    (
        "parking_lot::raw_rwlock::RawRwLock::lock_exclusive",
        "parking_lot::RwLock::write",
    ),
];

/// Methods through which combinators and middleware pass a poll on.
const COMBINATOR_METHODS: [&str; 12] = [
    "poll",
    "poll_inner",
    "poll_next",
    "poll_ready",
    "try_poll",
    "call",
    "call_once",
    "call_mut",
    "with",
    "map",
    "next",
    "in_scope",
];

/// The code to look at first in a stack, leaf first, that held a worker.
pub fn culprit(stack: &[Arc<Frame>]) -> Culprit {
    let boundary = stack.iter().position(|frame| is_marker(frame));
    let poll = stack
        .get(..boundary.unwrap_or(stack.len()))
        .unwrap_or(stack);
    if let Some(at) = poll.iter().position(|frame| frame.origin == Origin::User) {
        return at_frame(poll, at);
    }
    // The compiler inlined the user's code into the frames that poll it: v0 mangling still names
    // the future there.
    let inside = poll
        .iter()
        .rposition(|frame| is_foreign(frame) && !is_wrapper(frame));
    if let Some(future) = stack
        .get(boundary.unwrap_or(stack.len())..)
        .and_then(polled_future)
    {
        return Culprit {
            function: future,
            calls: inside
                .and_then(|at| poll.get(at))
                .map(|frame| known_as(&frame.function)),
            location: None,
            chain: Vec::new(),
        };
    }
    match inside.or_else(|| poll.iter().rposition(|frame| is_foreign(frame))) {
        Some(at) => at_frame(poll, at),
        None => Culprit {
            function: stack
                .first()
                .map_or_else(String::new, |leaf| leaf.function.clone()),
            calls: None,
            location: stack.first().and_then(|leaf| leaf.location.clone()),
            chain: Vec::new(),
        },
    }
}

/// The culprit is this frame of the poll.
fn at_frame(poll: &[Arc<Frame>], at: usize) -> Culprit {
    let (below, rest) = poll.split_at(at);
    let (frame, above) = match rest.split_first() {
        Some((frame, above)) => (frame, above),
        None => return culprit_named(String::new()),
    };
    let function = match frame.origin {
        Origin::User => frame.function.clone(),
        _ => known_as(&frame.function),
    };
    // The outermost of the calls below is the one in the user's source.
    let calls = below
        .iter()
        .rev()
        .filter(|_| frame.origin == Origin::User)
        .find(|frame| !is_wrapper(frame))
        .map(|frame| known_as(&frame.function))
        .filter(|calls| *calls != function);
    let mut chain: Vec<String> = Vec::new();
    for caller in above.iter().filter(|frame| in_chain(frame)) {
        let name = &caller.function;
        if *name != function && chain.last() != Some(name) {
            chain.push(name.clone());
        }
    }
    Culprit {
        calls,
        location: frame.location.clone(),
        chain,
        ..culprit_named(function)
    }
}

fn culprit_named(function: String) -> Culprit {
    Culprit {
        function,
        calls: None,
        location: None,
        chain: Vec::new(),
    }
}

fn is_marker(frame: &Frame) -> bool {
    frame.origin == Origin::Runtime && POLL_MARKERS.contains(&frame.function.as_str())
}

/// Code that is neither the user's nor the runtime's.
fn is_foreign(frame: &Frame) -> bool {
    matches!(frame.origin, Origin::ThirdParty | Origin::Std)
}

fn is_wrapper(frame: &Frame) -> bool {
    WRAPPERS
        .iter()
        .any(|prefix| frame.function.starts_with(prefix))
        // A name without path is debug info's for a function inlined from who knows where.
        || (frame.inlined && !frame.function.contains("::"))
}

/// Whether a caller belongs into the async chain: user code always, dependencies unless they only
/// pass the poll on.
fn in_chain(frame: &Frame) -> bool {
    match frame.origin {
        Origin::User => true,
        Origin::ThirdParty => {
            let method = frame.function.rsplit("::").next().unwrap_or_default();
            !COMBINATOR_METHODS.contains(&method) && !is_wrapper(frame)
        }
        _ => false,
    }
}

/// The user's future that the frames around the boundary were compiled for.
fn polled_future(frames: &[Arc<Frame>]) -> Option<String> {
    let marker = frames.first()?;
    let name = names::first_generic_argument(marker.raw.as_deref()?)?;
    let outside = ["tokio::", "core::", "alloc::", "std::", "futures_"];
    (!outside.iter().any(|krate| name.starts_with(krate))).then_some(name)
}

/// The public name of an inner function.
fn known_as(function: &str) -> String {
    let Some((inner, public)) = KNOWN_AS
        .iter()
        .find(|(inner, _)| function.starts_with(inner))
    else {
        // `std::fs::read::inner` is `std::fs::read`.
        return function
            .strip_suffix("::inner")
            .unwrap_or(function)
            .to_owned();
    };
    if !public.ends_with("::") {
        return (*public).to_owned();
    }
    let rest = function.get(inner.len()..).unwrap_or_default();
    let method = rest.rsplit("::").next().unwrap_or(rest);
    format!("{public}{method}")
}
