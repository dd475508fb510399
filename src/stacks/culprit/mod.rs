//! From a stack to the code to look at first.
//!
//! A worker's stack has three parts: the poll of the task, the frames that poll it, and the worker's
//! own loop. The culprit is the innermost function of the application's own code in the first part.
//! Works on named frames alone, so it is the same for live and replayed stacks.

mod callee;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::callee::{is_combinator, is_wrapper, most_telling};
use super::aliases::{drop_of, known_as};
use super::names;
use crate::model::{Culprit, Frame, Name, Origin};
use crate::tokio::names::{drops_task, is_block_on, is_poll_boundary, is_task_internal};

/// The code to look at first in a stack, leaf first, that held a worker. None if it has no frames.
pub fn culprit(stack: &[Arc<Frame>]) -> Option<Culprit> {
    let boundary = stack
        .iter()
        .position(|frame| frame.origin == Origin::Runtime && is_poll_boundary(&frame.function));
    let poll = match boundary {
        // The whole poll is inlined into Tokio's own function, which is all there is to show.
        Some(0) => stack.get(..1)?,
        Some(boundary) => stack.get(..boundary)?,
        None => stack,
    };
    if let Some(at) = poll.iter().position(|frame| own_code(frame).is_some()) {
        return at_frame(poll, at);
    }
    let future = boundary.and_then(|at| own_argument(stack.get(at)?));
    let drop = poll
        .iter()
        .enumerate()
        .rev()
        .find_map(|(at, frame)| Some((at, own_dropped(frame)?)));
    // A root future that is inlined whole leaves no other name than that of its caller.
    let caller = boundary.and_then(|at| caller_of_block_on(stack.get(at..)?));
    match (future, drop) {
        // The task ended, and drops its own future.
        (Some(future), Some((at, dropped))) if future == dropped => {
            Some(without_position(drop_of(&dropped), poll.get(..at)?))
        }
        // The future is inlined into the function that polls it.
        (Some(future), _) => Some(without_position(future, poll)),
        (None, Some((at, dropped))) => Some(without_position(drop_of(&dropped), poll.get(..at)?)),
        (None, None) if caller.is_some() => caller.map(|caller| Culprit {
            location: caller.location.clone(),
            ..without_position(caller.function.to_string(), poll)
        }),
        (None, None) if boundary.is_some() => at_frame(poll, most_telling(poll).unwrap_or(0)),
        // Not even Tokio has names: a stripped executable. Its innermost code is all there is.
        (None, None) => {
            let unknown = |frame: &Arc<Frame>| frame.origin == Origin::Unknown;
            at_frame(poll, poll.iter().position(unknown).unwrap_or(0))
        }
    }
}

/// The application's function that called `block_on`, in frames from the poll's boundary outwards.
fn caller_of_block_on(outside: &[Arc<Frame>]) -> Option<&Frame> {
    let block_on = outside
        .iter()
        .position(|frame| is_block_on(&frame.function))?;
    let callers = outside.get(block_on..)?.iter();
    callers
        .map(|frame| &**frame)
        .find(|frame| frame.origin != Origin::Runtime)
        .filter(|frame| frame.origin == Origin::User)
}

/// The culprit is this frame of the poll.
fn at_frame(poll: &[Arc<Frame>], at: usize) -> Option<Culprit> {
    let (below, rest) = poll.split_at_checked(at)?;
    let (frame, above) = rest.split_first()?;
    let own = own_code(frame);
    let is_inlined = own.is_some() && frame.origin != Origin::User;
    let calls = match frame.origin {
        Origin::User | Origin::Unknown => callee(below),
        // The function that it is inlined into is one that it calls.
        _ if is_inlined => callee(poll.get(..=at)?),
        _ => None,
    };
    let function = own.unwrap_or_else(|| match frame.origin {
        Origin::Unknown => frame.function.clone(),
        _ => known_as(&frame.function).into(),
    });
    let mut chain: Vec<Name> = Vec::new();
    for name in above.iter().filter_map(|frame| caller(frame)) {
        if name != function && chain.last() != Some(&name) {
            chain.push(name);
        }
    }
    Some(Culprit {
        calls: calls.filter(|calls| *calls != function),
        location: frame.location.clone().filter(|_| !is_inlined),
        function,
        chain,
    })
}

/// The culprit is code that no frame of its own shows.
fn without_position(function: String, below: &[Arc<Frame>]) -> Culprit {
    let function = Name::from(function);
    Culprit {
        calls: callee(below).filter(|calls| *calls != function),
        function,
        location: None,
        chain: Vec::new(),
    }
}

/// What people call the most telling function of these frames.
fn callee(below: &[Arc<Frame>]) -> Option<Name> {
    let frame = below.get(most_telling(below)?)?;
    Some(known_as(&frame.function).into())
}

/// The application's code that the frame shows: a function of its own, or one that is inlined into a
/// function compiled for it.
fn own_code(frame: &Frame) -> Option<Name> {
    if frame.origin == Origin::User {
        return Some(frame.function.clone());
    }
    if is_task_internal(&frame.function) || names::dropped(&frame.function).is_some() {
        return None;
    }
    let raw = frame.raw.as_deref()?;
    let argument = match frame.function.ends_with("::poll") {
        true => names::own_argument(raw),
        false => names::own_closure(raw),
    };
    argument.map(Name::from)
}

/// The application's type that the frame's function was compiled for.
fn own_argument(frame: &Frame) -> Option<String> {
    names::own_argument(frame.raw.as_deref()?)
}

/// The application's type that the frame drops.
fn own_dropped(frame: &Frame) -> Option<String> {
    if drops_task(&frame.function) {
        return own_argument(frame);
    }
    let dropped = names::dropped(&frame.function)?;
    names::is_own_type(dropped).then(|| dropped.to_owned())
}

/// What the async chain calls a frame: the application's code always, dependencies unless they only
/// pass the poll on.
fn caller(frame: &Frame) -> Option<Name> {
    own_code(frame).or_else(|| {
        let is_step = frame.origin == Origin::ThirdParty
            && !is_combinator(&frame.function)
            && !is_wrapper(frame);
        is_step.then(|| frame.function.clone())
    })
}
