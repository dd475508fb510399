//! Whether what is known of Tokio's state can still be trusted: the layout in use must keep obeying
//! Tokio's rules on the live workers, or polls are no longer told.

use std::time::{Duration, Instant};

use crate::analysis::pipeline::Subject;
use crate::capture::{CoreTicks, ThreadState};
use crate::model::{Tier, Worker};
use crate::target::memory::Memory;
use crate::tokio::{self, ThreadView, TokioLayout, WorkersSeen};

/// How often Tokio's rules are checked again.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The layout in use, and what was seen of it so far.
pub struct Trust {
    layout: Option<TokioLayout>,
    /// What may hold instead for a flavor that has not run yet.
    other_ticks: Vec<TokioLayout>,
    /// Where the kernel side learns of it.
    core_ticks: CoreTicks,
    tier: Tier,
    /// The flavors whose workers the layout was seen to hold on.
    shown: WorkersSeen,
    checked_at: Instant,
}

impl Trust {
    /// In what was found at the start.
    pub fn new(subject: &Subject) -> Trust {
        Trust {
            layout: subject.layout,
            other_ticks: subject.other_ticks.clone(),
            core_ticks: subject.learnt.core_ticks.clone(),
            tier: subject.tier,
            shown: subject
                .layout
                .as_ref()
                .map_or(WorkersSeen::default(), WorkersSeen::by_source),
            checked_at: Instant::now(),
        }
    }

    /// The layout; None where polls are known by the workers' frames.
    pub fn layout(&self) -> Option<&TokioLayout> {
        self.layout.as_ref()
    }

    /// Whether a worker is of a flavor whose tick is only a guess: its polls cannot be told apart
    /// for sure.
    pub fn doubts(&self, worker: Option<&Worker>) -> bool {
        let worker = worker.filter(|_| self.layout.is_some());
        let flavor = worker.and_then(|worker| worker.flavor);
        flavor.is_some_and(|flavor| !self.shown.has(flavor))
    }

    /// Whether what Tokio's state says of a worker's polls is sure.
    pub fn knows_polls(&self, worker: Option<&Worker>) -> bool {
        self.layout.is_some() && !self.is_lost() && !self.doubts(worker)
    }

    /// Tokio's state can no longer be read: only usage is told.
    pub fn is_lost(&self) -> bool {
        self.tier > Tier::Frames
    }

    /// From here on nothing is told of polls. The layout that was trusted.
    pub fn lose(&mut self) -> Option<TokioLayout> {
        self.tier = Tier::Scheduler;
        self.layout
    }

    /// Whether the rules are due to be checked; a worker in doubt cannot wait.
    pub fn is_due(&self, in_doubt: bool) -> bool {
        in_doubt || self.checked_at.elapsed() >= CHECK_EVERY
    }

    /// Checks the rules on the workers, and tries the other guesses where they are broken.
    ///
    /// # Errors
    /// Which rule is broken, if no other guess holds.
    pub fn check(&mut self, states: &[ThreadState], memory: &dyn Memory) -> Result<(), String> {
        self.checked_at = Instant::now();
        let Some(before) = self.layout.filter(|_| !self.is_lost()) else {
            return Ok(());
        };
        let views = views(states);
        let holds = |layout: &TokioLayout| tokio::holds(layout, memory, &views);
        let why = match holds(&before) {
            Ok(shown) => {
                self.shown = self.shown.and(shown);
                return Ok(());
            }
            Err(why) => why,
        };
        // The tick of a flavor that had not run yet was only a guess: another one may hold.
        let shown = self.shown;
        let keeps_what_was_shown = |other: &&TokioLayout| {
            let (before, other) = (&before.poll, &other.poll);
            (!shown.current_thread || other.current_thread == before.current_thread)
                && (!shown.multi_thread || other.multi_thread == before.multi_thread)
        };
        let mut others = self.other_ticks.iter().filter(keeps_what_was_shown);
        let found = others
            .find(|other| holds(other).is_ok_and(|shown| shown.total > 0))
            .ok_or(why)?;
        log::info!("another layout holds: {found:?}");
        self.core_ticks.set(found);
        self.layout = Some(*found);
        Ok(())
    }
}

/// The workers as those that check them see threads.
fn views(states: &[ThreadState]) -> Vec<ThreadView> {
    let view = |state: &ThreadState| ThreadView {
        tid: state.tid,
        thread_pointer: state.thread_pointer,
        stack_pointer: 0,
        stack: None,
        parked: false,
    };
    states.iter().map(view).collect()
}
