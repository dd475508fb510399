//! The tracking mode to begin with, and the one to fall back to without a layout; with what each
//! costs, in words.

use std::sync::atomic::AtomicBool;

use anyhow::Result;

use super::layout_search::{self, SearchOutcome, SearchRequest};
use crate::arch;
use crate::capture::TrackingMode;
use crate::tokio::{Discovery, Waiting};

/// What tier 4 costs.
pub const COST_OF_FRAMES: &str = "task ids are not known, and polls may be missed or counted as \
                                  one; hud --help, 'Tracking tiers'";

/// A mode, and why polls are not tracked in a better one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub mode: TrackingMode,
    pub why: Option<String>,
}

impl Choice {
    /// Polls are tracked by stacks for this reason.
    pub fn frames(why: &str) -> Choice {
        let why =
            format!("polls are known by the stacks of the workers alone ({why}): {COST_OF_FRAMES}");
        Choice {
            mode: TrackingMode::Frames,
            why: Some(why),
        }
    }

    fn load_only(why: &str) -> Choice {
        let why = format!(
            "polls cannot be seen, only how busy threads are: {why}. To see polls give it its \
             symbols: name an unstripped copy with --symbols, or let --debug-dir or --debuginfod \
             find its debug file; or build it with debug = true"
        );
        Choice {
            mode: TrackingMode::LoadOnly,
            why: Some(why),
        }
    }
}

/// Finds out how polls of the process `pid` (named `comm`) can be tracked. Waits for a runtime, and
/// passes what it waits for to `on_wait`, whose error ends the search. None if `stop` was set first.
///
/// # Errors
/// When the kernel refuses the task iterator, and those of `on_wait`.
pub fn choose(
    pid: u32,
    comm: &str,
    discovery: &Discovery,
    stop: &AtomicBool,
    on_wait: impl FnMut(Waiting) -> Result<()>,
) -> Result<Option<Choice>> {
    let request = SearchRequest::initial(discovery);
    let Some(outcome) = layout_search::run(pid, &request, stop, on_wait)? else {
        return Ok(None);
    };
    Ok(Some(match (outcome, fallback(discovery)) {
        (SearchOutcome::Holds(layout), _) => Choice {
            mode: TrackingMode::State(layout),
            why: None,
        },
        (SearchOutcome::Nothing(why), TrackingMode::Frames) => Choice::frames(&why),
        (SearchOutcome::Nothing(why), _) => {
            let version = discovery.tokio_version().unwrap_or("unknown version");
            Choice::load_only(&format!(
                "{comm}'s Tokio ({version}) keeps its state differently from what hud knows: {why}"
            ))
        }
    }))
}

/// The best mode without a layout. Frames that poll are recognised by their names, and by where calls
/// keep their return addresses.
pub fn fallback(discovery: &Discovery) -> TrackingMode {
    match discovery.has_symbols && arch::CALLS_PUSH_RETURNS {
        true => TrackingMode::Frames,
        false => TrackingMode::LoadOnly,
    }
}
