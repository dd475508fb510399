//! The invariants that a worker's memory must keep beyond those of [`check`](super::check), where
//! the layout comes from the version table: rustc may have ordered fields in another way.

use std::io;

use super::WorkerState;
use crate::model::Flavor;
use crate::target::memory::Memory;
use crate::tokio::{BesideTick, TokioLayout};

/// `current_thread`'s `global_queue_interval` unless its user sets another.
const CURRENT_THREAD_INTERVAL: u32 = 31;

/// A `VecDeque` of tasks: its size in bytes, Tokio's initial capacity, and a count that none
/// reaches.
const QUEUE_BYTES: u64 = 32;
const QUEUE_CAPACITY: u64 = 64;
const MAX_TASKS: u64 = 1 << 32;

/// How much of the scheduler's context is searched for the path to the runtime's handle, bytes.
const SCHEDULER_CONTEXT: u64 = 64;

/// Whether this worker proves the layout; false where it proves nothing at the moment, because its
/// core is elsewhere or has made no round yet. A `global_queue_interval` above `max_interval`
/// violates an invariant.
///
/// # Errors
/// The invariant that does not hold.
pub fn proves(
    layout: &TokioLayout,
    max_interval: u32,
    memory: &dyn Memory,
    state: &WorkerState,
) -> Result<bool, String> {
    let (Some(paths), Some(core)) = (layout.poll.of(state.flavor), state.core) else {
        return Ok(false);
    };
    let unreadable = |error: io::Error| format!("unreadable: {error}");
    // `core` is a RefCell's value, right after its borrow flag.
    let flag = state
        .scheduler
        .wrapping_add(u64::from(paths.core))
        .wrapping_sub(8);
    let flag = memory.read_u64(flag).map_err(unreadable)? as i64;
    if !(-1..=1).contains(&flag) {
        return Err(format!("the core's borrow flag is {flag}"));
    }
    // Whether a tick of 0 proves something: the first poll of a `current_thread` root comes before
    // the first round, and may take forever.
    let mut first_poll = false;
    let tick = core.wrapping_add(u64::from(paths.tick));
    let after_tick = tick.wrapping_add(4);
    let flags = match paths.beside_tick {
        BesideTick::Interval => {
            let interval = memory.read_u32(after_tick).map_err(unreadable)?;
            if !(1..=max_interval).contains(&interval) {
                return Err(format!("the global queue interval is {interval}"));
            }
            first_poll =
                state.flavor == Flavor::CurrentThread && interval == CURRENT_THREAD_INTERVAL;
            0
        }
        BesideTick::Flags(count) => count,
        BesideTick::Queue => {
            if !is_queue(memory, tick.wrapping_sub(QUEUE_BYTES)) {
                return Err("no queue of tasks precedes the tick".into());
            }
            first_poll = true;
            1
        }
        BesideTick::Handle => {
            let word = memory.read_u64(tick.wrapping_sub(8)).map_err(unreadable)?;
            if Some(word) != state.handle {
                return Err(format!("{word:#x} precedes the tick, not the handle"));
            }
            first_poll = true;
            1
        }
        BesideTick::Unknown => 0,
    };
    let mut bytes = vec![0; flags.into()];
    memory.read(after_tick, &mut bytes).map_err(unreadable)?;
    if let Some(flag) = bytes.iter().find(|flag| **flag > 1) {
        return Err(format!("a flag of the core is {flag}"));
    }
    if paths.worker.is_some() && state.worker_index.is_none() {
        return Err("the worker has no index".into());
    }
    if state
        .handle
        .is_some_and(|handle| !leads_to(memory, state, handle))
    {
        // Unless this thread has entered another runtime on top of its own.
        return Ok(false);
    }
    Ok(first_poll || state.tick.is_some_and(|tick| tick != 0))
}

/// Whether these words are a `VecDeque` of tasks, in any order: its buffer, the buffer's capacity
/// (Tokio starts with 64, and it doubles), the index of the first task and how many there are.
fn is_queue(memory: &dyn Memory, address: u64) -> bool {
    let words = (0..QUEUE_BYTES).step_by(8);
    let words: Result<Vec<u64>, io::Error> = words
        .map(|at| memory.read_u64(address.wrapping_add(at)))
        .collect();
    let Ok(words) = words else {
        return false;
    };
    let (counts, pointers): (Vec<u64>, Vec<u64>) =
        words.into_iter().partition(|word| *word <= MAX_TASKS);
    let capacity = counts.iter().copied().max().unwrap_or(0);
    capacity >= QUEUE_CAPACITY
        && capacity.is_power_of_two()
        && matches!(pointers.as_slice(), [buffer] if buffer.is_multiple_of(8))
}

/// Whether the scheduler's context leads to the runtime's handle: `current_thread`'s by a pointer
/// of its own, `multi_thread`'s through the shared `Worker`, behind the two counts of its Arc. This
/// ties the two structs together, in whatever order rustc laid out their fields.
fn leads_to(memory: &dyn Memory, state: &WorkerState, handle: u64) -> bool {
    let words = |start: u64, bytes: u64| {
        (0..bytes)
            .step_by(8)
            .filter_map(move |at| memory.read_u64(start.wrapping_add(at)).ok())
    };
    words(state.scheduler, SCHEDULER_CONTEXT).any(|word| match state.flavor {
        Flavor::CurrentThread => word == handle,
        Flavor::MultiThread => {
            word.is_multiple_of(8)
                && Some(word) != state.core
                && words(word.wrapping_add(16), 24).any(|inner| inner == handle)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokio::testing::Words;

    #[test]
    fn a_queue_of_tasks_is_known_by_its_words() {
        for (words, expected) in [
            ([64, 0x5555_0000_1000, 3, 7], true),
            ([5, 0, 0x5555_0000_1000, 128], true),
            ([64, 0, 3, 7], false),
            ([64, 0x5555_0000_1000, 0x5555_0000_2000, 7], false),
            ([65, 0x5555_0000_1000, 3, 7], false),
            ([32, 0x5555_0000_1000, 3, 7], false),
            ([64, 0x5555_0000_1001, 3, 7], false),
        ] {
            let mut memory = Words::default();
            for (at, word) in (0x1000..).step_by(8).zip(words) {
                memory.put(at, word);
            }
            assert_eq!(is_queue(&memory, 0x1000), expected, "{words:x?}");
        }
    }
}
