//! The search for another layout on a thread of its own, while polls are tracked in a lesser mode.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context, Result};

use super::layout_search::{self, SearchOutcome, SearchRequest};

/// A search under way. Dropping it ends it.
pub struct Reacquire {
    outcome: Receiver<SearchOutcome>,
    stop: Arc<AtomicBool>,
}

impl Reacquire {
    /// Searches the process `pid`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn begin(pid: u32, request: SearchRequest) -> Result<Reacquire> {
        let (sender, outcome) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        thread::Builder::new()
            .name("hud-search".into())
            .spawn({
                let stop = Arc::clone(&stop);
                move || {
                    let outcome = layout_search::run(pid, &request, &stop, |_| Ok(()))
                        .unwrap_or_else(|error| Some(SearchOutcome::Nothing(format!("{error:#}"))));
                    if let Some(outcome) = outcome {
                        // The receiver may be gone: the session ends.
                        let _ = sender.send(outcome);
                    }
                }
            })
            .context("cannot start a thread")?;
        Ok(Reacquire { outcome, stop })
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<SearchOutcome> {
        self.outcome.try_recv().ok()
    }
}

impl Drop for Reacquire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
