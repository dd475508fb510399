//! The search for a layout of Tokio's state in a live process: what its executable suggests, tried on
//! its threads as they run. At the start, and again after a layout was lost.
//!
//! A layout that was lost has shown that a look at the threads can mislead. So the next one must hold
//! for a while before it is chosen, and longer each time.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::capture::{TaskReader, TaskState};
use crate::target::memory::ProcessMemory;
use crate::tokio::{self, Discovery, Progress, Search, Source, ThreadView, TokioLayout, Waiting};

/// Interval of the looks at a layout that must hold for a while.
const PROVE_EVERY: Duration = Duration::from_millis(50);
/// How long a layout must hold after the first loss; twice as long after each further one.
const STEADY: Duration = Duration::from_secs(2);
const MAX_STEADY: Duration = Duration::from_secs(3600);
/// The search gives up after this many such times without a layout that holds for one.
const PATIENCE: u32 = 10;

/// What to search for.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    discovery: Discovery,
    /// A guess that broke a rule: it is not made again.
    refuted: Option<TokioLayout>,
    /// How long a layout must hold, at every look, before it is chosen.
    steady: Duration,
}

impl SearchRequest {
    /// The first search in a process whose executable gave `discovery`.
    pub fn initial(discovery: &Discovery) -> SearchRequest {
        SearchRequest {
            discovery: discovery.clone(),
            refuted: None,
            steady: Duration::ZERO,
        }
    }

    /// The search after `lost` broke a rule, as the `times`-th layout that did. Exact offsets are tried
    /// again: they may have been read at a bad moment. Others are not.
    pub fn after_loss(discovery: &Discovery, lost: TokioLayout, times: u32) -> Self {
        let mut discovery = discovery.clone();
        let refuted = (lost.poll.source != Source::DebugInfo).then_some(lost);
        if let Some(refuted) = &refuted {
            discovery.forget(refuted);
        }
        let factor = 1u32.checked_shl(times.saturating_sub(1));
        let steady = STEADY.saturating_mul(factor.unwrap_or(u32::MAX));
        SearchRequest {
            discovery,
            refuted,
            steady: steady.min(MAX_STEADY),
        }
    }
}

/// How a search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchOutcome {
    /// This layout holds.
    Holds(TokioLayout),
    /// None does; why.
    Nothing(String),
}

/// Searches the process `pid`, and sleeps between the looks at it. What it waits for is passed to
/// `on_wait`, whose error ends the search. None if `stop` was set first.
///
/// # Errors
/// When the kernel refuses the task iterator, and those of `on_wait`.
pub fn run(
    pid: u32,
    request: &SearchRequest,
    stop: &AtomicBool,
    mut on_wait: impl FnMut(Waiting) -> Result<()>,
) -> Result<Option<SearchOutcome>> {
    let nothing = |why: &str| Ok(Some(SearchOutcome::Nothing(why.to_owned())));
    let mut search = LayoutSearch::new(pid, &request.discovery)?;
    let give_up_at = Instant::now() + request.steady * PATIENCE;
    while !stop.load(Ordering::Relaxed) {
        match search.step()? {
            Progress::Wait(time, waiting) => {
                on_wait(waiting)?;
                thread::sleep(time);
            }
            Progress::Failed(why) => return nothing(&why),
            Progress::Found(layout) if Some(layout) == request.refuted => {
                return nothing("only what was refuted would fit");
            }
            Progress::Found(layout) => {
                if search.stays(&layout, request.steady, stop)? {
                    log::debug!("{layout:?}");
                    return Ok(Some(SearchOutcome::Holds(layout)));
                }
                if Instant::now() >= give_up_at {
                    return nothing("what fits does so for moments only");
                }
                search.search = Search::new(&request.discovery);
            }
        }
    }
    Ok(None)
}

/// A search in one process, step by step.
pub struct LayoutSearch {
    pid: u32,
    search: Search,
    reader: TaskReader,
    memory: ProcessMemory,
    stacks: Stacks,
}

impl LayoutSearch {
    /// In the process `pid`, whose executable gave `discovery`.
    ///
    /// # Errors
    /// When the kernel refuses the task iterator.
    pub fn new(pid: u32, discovery: &Discovery) -> Result<Self> {
        Ok(LayoutSearch {
            pid,
            search: Search::new(discovery),
            reader: TaskReader::new(pid)?,
            memory: ProcessMemory::new(pid),
            stacks: Stacks::default(),
        })
    }

    /// Looks at the threads once.
    ///
    /// # Errors
    /// When the kernel refuses the task iterator.
    pub fn step(&mut self) -> Result<Progress> {
        let views = self.views()?;
        Ok(self.search.step(&self.memory, &views))
    }

    /// Whether the layout holds at every look for that long.
    fn stays(&mut self, layout: &TokioLayout, steady: Duration, stop: &AtomicBool) -> Result<bool> {
        let until = Instant::now() + steady;
        while Instant::now() < until {
            thread::sleep(PROVE_EVERY);
            let views = self.views()?;
            if let Err(why) = tokio::holds(layout, &self.memory, &views) {
                log::debug!("{layout:?} held for a moment only: {why}");
                return Ok(false);
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn views(&mut self) -> Result<Vec<ThreadView>> {
        let tasks = self.reader.read()?;
        self.stacks.add_new(self.pid, &tasks);
        let view = |task: &TaskState| ThreadView {
            stack: self.stacks.of(task),
            ..task.view()
        };
        Ok(tasks.iter().map(view).collect())
    }
}

/// The extents of the threads' stacks, as far as the memory map tells.
#[derive(Default)]
struct Stacks(HashMap<u32, Option<Range<u64>>>);

impl Stacks {
    /// Looks up the threads that are new.
    fn add_new(&mut self, pid: u32, tasks: &[TaskState]) {
        let is_new = |task: &&TaskState| !self.0.contains_key(&task.tid);
        let new: Vec<&TaskState> = tasks.iter().filter(is_new).collect();
        if new.is_empty() {
            return;
        }
        let maps = i32::try_from(pid)
            .ok()
            .and_then(|pid| procfs::process::Process::new(pid).ok())
            .and_then(|process| process.maps().ok());
        // Ascending by address, as the kernel lists them.
        let ranges: Vec<(u64, u64)> = maps.iter().flatten().map(|map| map.address).collect();
        for task in new {
            let address = task.registers.sp;
            let after = ranges.partition_point(|(start, _)| *start <= address);
            let mapping = after.checked_sub(1).and_then(|index| ranges.get(index));
            let stack = mapping.filter(|(_, end)| address < *end);
            self.0
                .insert(task.tid, stack.map(|(start, end)| *start..*end));
        }
    }

    fn of(&self, task: &TaskState) -> Option<Range<u64>> {
        self.0.get(&task.tid)?.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokio::testing;

    fn discovery() -> (Discovery, TokioLayout, TokioLayout) {
        let discovery = testing::own();
        let (guess, exact) = (discovery.candidates[0], discovery.exact[0]);
        (discovery, guess, exact)
    }

    #[test]
    fn each_loss_makes_a_layout_hold_longer() {
        let (discovery, guess, _) = discovery();
        let steady = |times| SearchRequest::after_loss(&discovery, guess, times).steady;
        assert_eq!(steady(1), STEADY);
        assert_eq!(steady(3), STEADY * 4);
        assert_eq!(steady(40), MAX_STEADY);
    }

    #[test]
    fn a_guess_that_was_lost_is_not_made_again_and_exact_offsets_are() {
        let (discovery, guess, exact) = discovery();
        let request = SearchRequest::after_loss(&discovery, guess, 1);
        assert_eq!(request.refuted, Some(guess));
        assert!(!request.discovery.candidates.contains(&guess));
        let request = SearchRequest::after_loss(&discovery, exact, 1);
        assert_eq!(request.refuted, None);
        assert!(request.discovery.exact.contains(&exact));
    }
}
