//! Whether the layout in use can be trusted: it must keep obeying Tokio's rules on the live workers.

use std::time::{Duration, Instant};

use crate::capture::ThreadState;
use crate::model::Flavor;
use crate::target::memory::Memory;
use crate::tokio::{self, Discovery, ThreadView, TokioLayout, WorkersSeen};

/// Interval of the checks.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The layout in use, and what was seen of it so far.
#[derive(Debug)]
pub struct LayoutTrust {
    pub layout: TokioLayout,
    /// Layouts that differ in ticks alone. They may hold for a flavor that has not run yet.
    other_ticks: Vec<TokioLayout>,
    /// The flavors whose workers confirmed the layout.
    confirmed: WorkersSeen,
    checked_at: Instant,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The layout holds, or no check was due.
    Holds,
    /// It did not, and one with other ticks does, which is in use from now on.
    OtherTicks,
    /// No layout holds; the rule that is broken.
    Broken(String),
}

impl LayoutTrust {
    /// Begins with a layout that has just been chosen.
    pub fn new(layout: TokioLayout, discovery: &Discovery, now: Instant) -> Self {
        LayoutTrust {
            layout,
            other_ticks: discovery.other_ticks(&layout),
            confirmed: WorkersSeen::by_source(&layout),
            checked_at: now,
        }
    }

    /// Whether the tick of this flavor is a guess that no worker has confirmed: its polls cannot be
    /// told apart reliably.
    pub fn doubts(&self, flavor: Flavor) -> bool {
        !self.confirmed.has(flavor)
    }

    /// Checks the rules on the workers if a check is due. A worker in doubt cannot wait for it.
    pub fn check(
        &mut self,
        states: &[ThreadState],
        in_doubt: bool,
        memory: &dyn Memory,
        now: Instant,
    ) -> Check {
        if !in_doubt && now.duration_since(self.checked_at) < CHECK_EVERY {
            return Check::Holds;
        }
        self.checked_at = now;
        let views: Vec<ThreadView> = states.iter().map(view).collect();
        let holds = |layout: &TokioLayout| tokio::holds(layout, memory, &views);
        let why = match holds(&self.layout) {
            Ok(seen) => {
                self.confirmed = self.confirmed.and(seen);
                return Check::Holds;
            }
            Err(why) => why,
        };
        // Only the ticks of flavors that no worker has confirmed may be others.
        let (used, confirmed) = (self.layout.poll, self.confirmed);
        let keeps_what_was_confirmed = |other: &&TokioLayout| {
            (!confirmed.current_thread || other.poll.current_thread == used.current_thread)
                && (!confirmed.multi_thread || other.poll.multi_thread == used.multi_thread)
        };
        let mut others = self.other_ticks.iter().filter(keeps_what_was_confirmed);
        match others.find(|other| holds(other).is_ok_and(|seen| seen.total > 0)) {
            Some(other) => {
                log::info!("another layout holds: {other:?}");
                self.layout = *other;
                Check::OtherTicks
            }
            None => Check::Broken(why),
        }
    }
}

/// A worker as layouts are checked on it.
fn view(state: &ThreadState) -> ThreadView {
    ThreadView {
        tid: state.tid,
        thread_pointer: state.thread_pointer,
        stack_pointer: 0,
        stack: None,
        parked: None,
    }
}
