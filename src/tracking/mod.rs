//! How polls are known just now: the layout in use, whether it still holds, the search for another.

pub mod frames;
mod process_search;
pub mod regain;
pub mod trust;

pub use process_search::{LayoutSearch, frames_tell_polls};
