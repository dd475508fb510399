//! Which layout is the target's: those that its file suggests are tried on its live threads.

use std::cmp::Reverse;
use std::io;

use super::learn::scan;
use super::live::{ThreadView, Verdict, WorkerState, check};
use super::{Apart, BesideTick, ContextFields, Discovery, Scheduler, TokioLayout};
use crate::model::{Flavor, Tier};
use crate::target::memory::Memory;

/// What [`select`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// This layout holds on every thread, at least one worker among them.
    Chosen(TokioLayout, Tier),
    /// No thread has a scheduler yet, or none that shows enough: try again later.
    Undecided,
    /// No layout holds; why the likeliest does not.
    Refuted(String),
}

/// `current_thread`'s `global_queue_interval` unless its user sets another.
const CURRENT_THREAD_INTERVAL: u32 = 31;

/// The largest `global_queue_interval` believed after a guessed tick: first what Tokio itself
/// chooses, then what its users may reasonably set.
const INTERVALS: [u32; 2] = [127, 4096];

/// A `VecDeque` of tasks: its size, the capacity that Tokio's begin with, and more than any has.
const QUEUE_BYTES: u64 = 32;
const QUEUE_CAPACITY: u64 = 64;
const MAX_TASKS: u64 = 1 << 32;

/// How much of the scheduler's context is searched for the way to the runtime's handle, bytes.
const SCHEDULER_CONTEXT: u64 = 64;

/// The layout that holds on all these threads: the exact ones first, then the candidates, then the
/// known layouts wherever they fit into the thread-local block.
pub fn select(discovery: &Discovery, memory: &dyn Memory, threads: &[ThreadView]) -> Selection {
    let mut undecided = false;
    let mut refuted = None;
    let exact = discovery.exact.iter().map(|layout| (layout, None));
    let table = INTERVALS.into_iter().flat_map(|interval| {
        let candidates = discovery.candidates.iter();
        candidates.map(move |layout| (layout, Some(interval)))
    });
    for (layout, interval) in exact.chain(table) {
        match workers(layout, interval, memory, threads) {
            Ok(Shown { total: 0, .. }) => undecided = true,
            Ok(_) if interval.is_none() => return Selection::Chosen(*layout, Tier::DebugInfo),
            Ok(_) => return Selection::Chosen(*layout, Tier::VersionTable),
            Err(why) => {
                refuted.get_or_insert(why);
            }
        }
    }
    if let Some(block) = &discovery.thread_local_block
        && !discovery.context_symbol
    {
        return by_shape(&discovery.shapes, block, memory, threads);
    }
    match refuted {
        Some(why) if !undecided => Selection::Refuted(why),
        _ => Selection::Undecided,
    }
}

/// The one place and layout in the thread-local block that fits every thread.
fn by_shape(
    shapes: &[TokioLayout],
    block: &std::ops::Range<i64>,
    memory: &dyn Memory,
    threads: &[ThreadView],
) -> Selection {
    let mut undecided = true;
    let mut refuted = None;
    let candidates = scan::candidates(shapes, block, memory, threads);
    for interval in INTERVALS {
        let mut fits: Vec<(&TokioLayout, Shown)> = Vec::new();
        for layout in &candidates {
            match workers(layout, Some(interval), memory, threads) {
                Ok(Shown { total: 0, .. }) => {}
                Ok(shown) => fits.push((layout, shown)),
                Err(why) => {
                    undecided = false;
                    refuted.get_or_insert(why);
                }
            }
        }
        // The one that most workers show, the likelier one first.
        fits.sort_by_key(|(_, shown)| Reverse(shown.total));
        if let Some(((best, _), others)) = fits.split_first() {
            // What no worker shows cannot tell two layouts apart.
            let agrees = |(other, shown): &(&TokioLayout, Shown)| {
                shown.part_of(other) == shown.part_of(best)
            };
            return match others.iter().all(agrees) {
                true => Selection::Chosen(**best, Tier::Scan),
                false => Selection::Undecided,
            };
        }
    }
    match refuted {
        Some(why) if !undecided => Selection::Refuted(why),
        _ => Selection::Undecided,
    }
}

/// The workers that a layout in use holds on: the check to repeat when threads or runtimes appear.
/// A guessed tick of a flavor is proven only once a worker of that flavor runs.
///
/// # Errors
/// The first rule that a thread breaks: the layout must not be used any longer.
pub fn holds(
    layout: &TokioLayout,
    tier: Tier,
    memory: &dyn Memory,
    threads: &[ThreadView],
) -> Result<Shown, String> {
    let believed = (tier != Tier::DebugInfo).then_some(INTERVALS[1]);
    workers(layout, believed, memory, threads)
}

/// The workers that a layout was seen to hold on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// How many.
    pub total: usize,
    /// Whether one of them was of this flavor.
    pub current_thread: bool,
    pub multi_thread: bool,
}

impl Shown {
    /// Nothing is left to be shown of a layout that is no guess from the table.
    pub fn from_the_start(layout: &TokioLayout, tier: Tier) -> Self {
        let all = tier == Tier::DebugInfo || layout.learnt;
        Shown {
            total: 0,
            current_thread: all,
            multi_thread: all,
        }
    }

    /// Whether workers of that flavor were seen.
    pub fn has(self, flavor: Flavor) -> bool {
        match flavor {
            Flavor::CurrentThread => self.current_thread,
            Flavor::MultiThread => self.multi_thread,
        }
    }

    /// With what was seen at another time.
    pub fn and(self, other: Shown) -> Shown {
        Shown {
            total: other.total,
            current_thread: self.current_thread || other.current_thread,
            multi_thread: self.multi_thread || other.multi_thread,
        }
    }

    /// The layout without the flavors that no worker showed.
    fn part_of(self, layout: &TokioLayout) -> TokioLayout {
        let scheduler = match layout.fields.scheduler {
            Scheduler::Apart(apart) => Scheduler::Apart(Apart {
                current_thread: apart.current_thread.filter(|_| self.current_thread),
                multi_thread: apart.multi_thread.filter(|_| self.multi_thread),
            }),
            field => field,
        };
        TokioLayout {
            fields: ContextFields {
                scheduler,
                ..layout.fields
            },
            current_thread: layout.current_thread.filter(|_| self.current_thread),
            multi_thread: layout.multi_thread.filter(|_| self.multi_thread),
            ..*layout
        }
    }
}

/// See [`holds`]. A guess comes with the largest `global_queue_interval` that is believed.
fn workers(
    layout: &TokioLayout,
    interval: Option<u32>,
    memory: &dyn Memory,
    threads: &[ThreadView],
) -> Result<Shown, String> {
    let mut all = Shown::default();
    for thread in threads {
        let Some((flavor, shown)) = worker(layout, interval, memory, thread)
            .map_err(|why| format!("thread {}: {why}", thread.tid))?
        else {
            continue;
        };
        all.total += usize::from(shown);
        match flavor {
            Flavor::CurrentThread => all.current_thread |= shown,
            Flavor::MultiThread => all.multi_thread |= shown,
        }
    }
    Ok(all)
}

/// How often a worker is looked at whose memory breaks a rule: it may have left its runtime, and
/// the runtime be freed, while it was read.
const ATTEMPTS: usize = 4;

/// The flavor of the worker that this thread is by that layout, if any, and whether it shows that
/// the layout holds.
///
/// # Errors
/// The rule that it breaks again and again.
fn worker(
    layout: &TokioLayout,
    interval: Option<u32>,
    memory: &dyn Memory,
    thread: &ThreadView,
) -> Result<Option<(Flavor, bool)>, String> {
    let mut broken = String::new();
    for _ in 0..ATTEMPTS {
        let state = match check(layout, memory, thread) {
            Verdict::NotAWorker => return Ok(None),
            Verdict::Violated(why) => return Err(why),
            Verdict::Worker(state) => state,
        };
        let shown = match interval {
            None => Ok(state.core.is_some()),
            Some(interval) => shape(layout, interval, memory, &state),
        };
        match shown {
            Ok(shown) => return Ok(Some((state.flavor, shown))),
            Err(why) => broken = why,
        }
    }
    Err(broken)
}

/// For layouts that are only guesses: what a worker's memory must look like beyond [`check`].
/// False when the worker shows nothing at the moment (its core is elsewhere, or has not run).
///
/// # Errors
/// The rule that does not hold.
fn shape(
    layout: &TokioLayout,
    max_interval: u32,
    memory: &dyn Memory,
    state: &WorkerState,
) -> Result<bool, String> {
    let (Some(fields), Some(core)) = (layout.core_of(state.flavor), state.core) else {
        return Ok(false);
    };
    // `core` is a RefCell's value, right after its borrow flag.
    let flag = state
        .scheduler
        .wrapping_add(u64::from(fields.core))
        .wrapping_sub(8);
    let unreadable = |error: io::Error| format!("unreadable: {error}");
    let flag = memory.read_u64(flag).map_err(unreadable)? as i64;
    if !(-1..=1).contains(&flag) {
        return Err(format!("the core's borrow flag is {flag}"));
    }
    let mut first_poll = false;
    let tick = core.wrapping_add(u64::from(fields.tick));
    let after_tick = tick.wrapping_add(4);
    let flags = match fields.beside_tick {
        BesideTick::Interval => {
            let interval = memory.read_u32(after_tick).map_err(unreadable)?;
            if !(1..=max_interval).contains(&interval) {
                return Err(format!("the global queue interval is {interval}"));
            }
            // The first poll of a `current_thread` root comes before the first round, and may take
            // forever.
            first_poll =
                state.flavor == Flavor::CurrentThread && interval == CURRENT_THREAD_INTERVAL;
            0
        }
        BesideTick::Flags(count) => count,
        BesideTick::Queue => {
            if !is_queue(memory, tick.wrapping_sub(QUEUE_BYTES)) {
                return Err("no queue of tasks is before the tick".into());
            }
            first_poll = true;
            1
        }
        BesideTick::Handle => {
            let word = memory.read_u64(tick.wrapping_sub(8)).map_err(unreadable)?;
            if Some(word) != state.handle {
                return Err(format!("before the tick is {word:#x}, not the handle"));
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
    if fields.worker.is_some() && state.worker_index.is_none() {
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

/// Whether these words are a `VecDeque` of tasks, in whatever order: its buffer, the buffer's
/// capacity (Tokio begins with 64, and it doubles), the first task's place and how many there are.
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

/// Whether the scheduler's context knows the runtime's handle: `current_thread`'s by a pointer of
/// its own, `multi_thread`'s through the shared `Worker`, after that one's two counts. This ties
/// the two structs together, in whatever order rustc laid out their fields.
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
mod tests;
