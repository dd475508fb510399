//! Which of the functions below the culprit says most about what it called.

use std::sync::Arc;

use crate::model::{Frame, Origin};
use crate::stacks::aliases::known_as;
use crate::stacks::names;
use crate::tokio::names::is_task_internal;

/// Paths whose functions only pass a call on.
const WRAPPERS: [&str; 29] = [
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
    "alloc::alloc::",
    "alloc::boxed::",
    "alloc::raw_vec::",
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

/// Methods through which combinators and middleware pass a poll on.
const COMBINATOR_METHODS: [&str; 9] = [
    "poll",
    "try_poll",
    "call",
    "call_once",
    "call_mut",
    "with",
    "map",
    "next",
    "in_scope",
];

/// Methods of std's collections that only make room, or run the iterator or closure they are given.
const COLLECTING_METHODS: [&str; 11] = [
    "from_iter",
    "spec_from_iter",
    "extend",
    "spec_extend",
    "extend_trusted",
    "fold",
    "for_each",
    "collect",
    "with_capacity",
    "with_capacity_in",
    "reserve",
];

/// How much a function says about what was called. Of several equal ones the outermost counts, since
/// it is the one in the application's source.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Telling {
    /// Passes a poll or an iteration on, or drops a type of std.
    Passing,
    /// A function of C, whose callers have names of their own.
    Bare,
    /// Generic I/O and formatting: whose reader or value it is says more.
    Generic,
    /// Names an operation.
    Operation,
}

/// The most telling of these frames; none where all of them only pass a call on.
pub(super) fn most_telling(below: &[Arc<Frame>]) -> Option<usize> {
    // A page fault or a preemption enters the kernel without a call.
    let kernel = below
        .iter()
        .rposition(|frame| frame.origin == Origin::Kernel);
    let first = kernel.map_or(0, |at| at + 1);
    let called = below.iter().enumerate().skip(first);
    let ranked = called.filter_map(|(at, frame)| Some((telling(frame)?, at)));
    ranked.max().map(|(_, at)| at)
}

fn telling(frame: &Frame) -> Option<Telling> {
    let function = &*frame.function;
    if is_wrapper(frame) {
        return None;
    }
    let drops_plain = names::dropped(function).is_some_and(|ty| !names::is_foreign_type(ty));
    Some(if !function.contains("::") {
        Telling::Bare
    } else if is_combinator(function) || is_collecting(function) || drops_plain {
        Telling::Passing
    } else if is_generic(frame) {
        Telling::Generic
    } else {
        Telling::Operation
    })
}

/// Whether the function only passes a call on.
pub(super) fn is_wrapper(frame: &Frame) -> bool {
    WRAPPERS
        .iter()
        .any(|prefix| frame.function.starts_with(prefix))
        || is_task_internal(&frame.function)
        // A name without path is debug info's for an inlined function of unknown origin.
        || (frame.inlined && !frame.function.contains("::"))
}

/// Whether the function is a method of a combinator that passes a poll on.
pub(super) fn is_combinator(function: &str) -> bool {
    let method = function.rsplit("::").next().unwrap_or_default();
    method.starts_with("poll_") || COMBINATOR_METHODS.contains(&method)
}

fn is_collecting(function: &str) -> bool {
    let method = function.rsplit("::").next().unwrap_or_default();
    let is_std = function.starts_with("alloc::") || function.starts_with("core::");
    is_std && COLLECTING_METHODS.contains(&method)
}

fn is_generic(frame: &Frame) -> bool {
    let function = &*frame.function;
    let formats = function.starts_with("core::fmt::")
        || function.starts_with("alloc::fmt::")
        || (frame.origin == Origin::Std && function.ends_with("::fmt"));
    // `println!` has a name of its own.
    let transfers = function.starts_with("std::io::") && known_as(function) == function;
    formats || transfers
}
