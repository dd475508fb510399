//! The search for a layout of Tokio's state that holds, after the one in use did not: a thread that
//! looks at the live threads now and then, while polls are known in a lesser way or not at all.
//!
//! What a rule has refuted once is not believed lightly again: a mere guess is out for good, and
//! whatever is found must hold for a while first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::tokio::{Discovery, Progress, Source, TokioLayout};
use crate::tracking::LayoutSearch;

/// How long a layout must hold before it is used; twice as long each further time.
const STEADY: Duration = Duration::from_secs(2);
const MAX_STEADY: Duration = Duration::from_secs(3600);
/// How many such times are waited for one in which it does.
const PATIENCE: u32 = 10;
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This layout holds.
    Holds(TokioLayout),
    /// None does; why.
    Nothing(String),
}

/// A search under way. Dropping it ends it.
pub struct Regain {
    outcome: Receiver<Outcome>,
    stop: Arc<AtomicBool>,
}

impl Regain {
    /// Begins in the process `pid`, after `refuted` did not hold for the `times`-th time.
    ///
    /// # Errors
    /// When the system has no thread to give, or the kernel refuses the task iterator.
    pub fn begin(
        pid: u32,
        discovery: &Discovery,
        refuted: TokioLayout,
        times: u32,
    ) -> Result<Regain> {
        let mut discovery = discovery.clone();
        let is_exact = refuted.poll.source == Source::DebugInfo;
        if !is_exact {
            discovery.forget(&refuted);
        }
        let mut attempt = Attempt {
            search: LayoutSearch::new(pid, &discovery)?,
            discovery,
            // Exact offsets may have been misread; a guess that broke a rule was a wrong one.
            out: (!is_exact).then_some(refuted),
            steady: steady(times),
        };
        let (told, outcome) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        thread::Builder::new()
            .name("hud-search".into())
            .spawn({
                let stop = Arc::clone(&stop);
                move || {
                    let outcome = attempt
                        .run(&stop)
                        .unwrap_or_else(|error| Some(Outcome::Nothing(format!("{error:#}"))));
                    if let Some(outcome) = outcome {
                        let _ = told.send(outcome); // whoever asked may be gone
                    }
                }
            })
            .context("cannot start a thread")?;
        Ok(Regain { outcome, stop })
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome.try_recv().ok()
    }
}

impl Drop for Regain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// How long a layout must hold after the `times`-th loss.
fn steady(times: u32) -> Duration {
    let factor = 1u32.checked_shl(times.saturating_sub(1));
    let steady = STEADY.saturating_mul(factor.unwrap_or(u32::MAX));
    steady.min(MAX_STEADY)
}

struct Attempt {
    discovery: Discovery,
    search: LayoutSearch,
    /// A guess that is not made again.
    out: Option<TokioLayout>,
    steady: Duration,
}

impl Attempt {
    /// None if it was stopped.
    fn run(&mut self, stop: &AtomicBool) -> Result<Option<Outcome>> {
        let until = Instant::now() + self.steady * PATIENCE;
        while !stop.load(Ordering::Relaxed) {
            match self.search.step()? {
                Progress::Wait(time, _) => thread::sleep(time),
                Progress::Failed(why) => return Ok(Some(Outcome::Nothing(why))),
                Progress::Found(layout) if Some(layout) == self.out => {
                    let why = "only what was refuted would fit".to_owned();
                    return Ok(Some(Outcome::Nothing(why)));
                }
                Progress::Found(layout) => {
                    if self.stays(&layout, stop)? {
                        return Ok(Some(Outcome::Holds(layout)));
                    }
                    if Instant::now() >= until {
                        let why = "what fits does so for moments only".to_owned();
                        return Ok(Some(Outcome::Nothing(why)));
                    }
                    self.search.restart(&self.discovery);
                }
            }
        }
        Ok(None)
    }

    /// Whether the layout holds at every look for long enough.
    fn stays(&mut self, layout: &TokioLayout, stop: &AtomicBool) -> Result<bool> {
        let until = Instant::now() + self.steady;
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            thread::sleep(LOOK_EVERY);
            if let Err(why) = self.search.holds(layout)? {
                log::debug!("{layout:?} held for a moment only: {why}");
                return Ok(false);
            }
        }
        Ok(!stop.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_makes_it_harder_to_be_believed() {
        assert_eq!(steady(1), STEADY);
        assert_eq!(steady(3), STEADY * 4);
        assert_eq!(steady(40), MAX_STEADY);
    }
}
