//! How polls are tracked just now: through Tokio's state, by stacks (tier 4), or not at all (tier 5).
//!
//! [`Tracker`] is the state machine: it takes observations and returns transitions, and touches
//! neither the kernel nor another process itself. [`choose`] finds the mode to begin with, and
//! [`Reacquire`] searches for a layout after one was lost, both by the same `layout_search::search`.
//! [`frames`] is all of tier 4.

mod choice;
pub mod frames;
mod layout_search;
mod layout_trust;
mod reacquire;
mod tracker;

pub use choice::{Choice, choose};
pub use layout_search::{LayoutSearch, SearchOutcome, SearchRequest};
pub use reacquire::Reacquire;
pub use tracker::{Tracker, Transition};
