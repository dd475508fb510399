//! Chooses, among the layouts that an executable's file suggests, the one that holds on its live
//! threads.

mod scan;

use std::cmp::Reverse;
use std::ops::Range;

use super::live::{ThreadView, Verdict, check, proves};
use super::{Discovery, PollPaths, Source, ThreadLocals, TokioLayout};
use crate::model::Flavor;
use crate::target::memory::Memory;

/// What [`select`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// This layout holds on every thread, at least one worker among them.
    Chosen(TokioLayout),
    /// No thread runs a scheduler yet, or none that proves enough: try again later.
    Undecided,
    /// No layout holds; why the likeliest does not.
    Refuted(String),
}

/// The largest `global_queue_interval` accepted beside a tick from the table: first what Tokio
/// itself chooses, then what its users may reasonably set.
const MAX_INTERVALS: [u32; 2] = [127, 4096];

/// The layout that holds on all these threads: exact ones first, then the table at the place that a
/// symbol names, then the table wherever it fits into the thread-local block.
pub fn select(discovery: &Discovery, memory: &dyn Memory, threads: &[ThreadView]) -> Selection {
    let mut undecided = false;
    let mut refuted = None;
    let exact = discovery.exact.iter().map(|layout| (layout, None));
    let table = MAX_INTERVALS.into_iter().flat_map(|interval| {
        let candidates = discovery.candidates.iter();
        candidates.map(move |layout| (layout, Some(interval)))
    });
    for (layout, interval) in exact.chain(table) {
        match workers(layout, interval, memory, threads) {
            Ok(WorkersSeen { total: 0, .. }) => undecided = true,
            Ok(_) => return Selection::Chosen(*layout),
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

/// The one place in the thread-local block, and the paths from there, that fit every thread.
fn by_shape(
    shapes: &[PollPaths],
    block: &Range<i64>,
    memory: &dyn Memory,
    threads: &[ThreadView],
) -> Selection {
    let mut undecided = true;
    let mut refuted = None;
    let candidates = scan::candidates(shapes, block, memory, threads);
    for interval in MAX_INTERVALS {
        let mut fits: Vec<(&TokioLayout, WorkersSeen)> = Vec::new();
        for layout in &candidates {
            match workers(layout, Some(interval), memory, threads) {
                Ok(WorkersSeen { total: 0, .. }) => {}
                Ok(seen) => fits.push((layout, seen)),
                Err(why) => {
                    undecided = false;
                    refuted.get_or_insert(why);
                }
            }
        }
        // Most workers first, then the likelier layout.
        fits.sort_by_key(|(_, seen)| Reverse(seen.total));
        if let Some(((best, _), others)) = fits.split_first() {
            // Two layouts do not differ by a flavor that no worker has.
            let agrees = |(other, seen): &(&TokioLayout, WorkersSeen)| {
                seen.part_of(other) == seen.part_of(best)
            };
            return match others.iter().all(agrees) {
                true => Selection::Chosen(**best),
                false => Selection::Undecided,
            };
        }
    }
    match refuted {
        Some(why) if !undecided => Selection::Refuted(why),
        _ => Selection::Undecided,
    }
}

/// Checks a layout in use again, since threads and runtimes come and go. The tick of a flavor from
/// the table is proved only once a worker of that flavor runs.
///
/// # Errors
/// The first invariant that a thread violates: the layout must not be used any longer.
pub fn holds(
    layout: &TokioLayout,
    memory: &dyn Memory,
    threads: &[ThreadView],
) -> Result<WorkersSeen, String> {
    let [_, max_interval] = MAX_INTERVALS;
    let interval = (layout.poll.source != Source::DebugInfo).then_some(max_interval);
    workers(layout, interval, memory, threads)
}

/// The workers that proved a layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkersSeen {
    /// How many.
    pub total: usize,
    /// Whether one of them was of this flavor.
    pub current_thread: bool,
    pub multi_thread: bool,
}

impl WorkersSeen {
    /// What a layout proves by its source alone: both flavors, unless it is from the table.
    pub fn by_source(layout: &TokioLayout) -> Self {
        let all = !layout.poll.source.is_table();
        WorkersSeen {
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

    /// With the flavors seen at a later time, and the number of workers then.
    pub fn and(self, later: WorkersSeen) -> WorkersSeen {
        WorkersSeen {
            total: later.total,
            current_thread: self.current_thread || later.current_thread,
            multi_thread: self.multi_thread || later.multi_thread,
        }
    }

    /// The layout without the flavors that no worker proved.
    fn part_of(self, layout: &TokioLayout) -> TokioLayout {
        TokioLayout {
            locals: ThreadLocals {
                current_thread: layout.locals.current_thread.filter(|_| self.current_thread),
                multi_thread: layout.locals.multi_thread.filter(|_| self.multi_thread),
                ..layout.locals
            },
            poll: PollPaths {
                current_thread: layout.poll.current_thread.filter(|_| self.current_thread),
                multi_thread: layout.poll.multi_thread.filter(|_| self.multi_thread),
                ..layout.poll
            },
        }
    }
}

/// See [`holds`]. With an interval, workers must prove the layout beyond what [`check`] checks.
fn workers(
    layout: &TokioLayout,
    max_interval: Option<u32>,
    memory: &dyn Memory,
    threads: &[ThreadView],
) -> Result<WorkersSeen, String> {
    let mut all = WorkersSeen::default();
    for thread in threads {
        let Some((flavor, proved)) = worker(layout, max_interval, memory, thread)
            .map_err(|why| format!("thread {}: {why}", thread.tid))?
        else {
            continue;
        };
        all.total += usize::from(proved);
        match flavor {
            Flavor::CurrentThread => all.current_thread |= proved,
            Flavor::MultiThread => all.multi_thread |= proved,
        }
    }
    Ok(all)
}

/// How often a worker is read whose memory violates an invariant: it may have left its runtime, and
/// the runtime may have been freed, while it was read.
const ATTEMPTS: usize = 4;

/// The flavor of the worker that this thread is by that layout, if any, and whether it proves the
/// layout.
///
/// # Errors
/// The invariant that it violates again and again.
fn worker(
    layout: &TokioLayout,
    max_interval: Option<u32>,
    memory: &dyn Memory,
    thread: &ThreadView,
) -> Result<Option<(Flavor, bool)>, String> {
    let mut violated = String::new();
    for _ in 0..ATTEMPTS {
        let state = match check(layout, memory, thread) {
            Verdict::NotAWorker | Verdict::Root(_) => return Ok(None),
            Verdict::Violated(why) => return Err(why),
            Verdict::Worker(state) => state,
        };
        let proved = match max_interval {
            None => Ok(state.core.is_some()),
            Some(max_interval) => proves(layout, max_interval, memory, &state),
        };
        match proved {
            Ok(proved) => return Ok(Some((state.flavor, proved))),
            Err(why) => violated = why,
        }
    }
    Err(violated)
}

#[cfg(test)]
mod tests;
