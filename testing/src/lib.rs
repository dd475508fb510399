//! What hud's live tests and benchmarks share: the scenarios as target processes, hud attached to
//! them, the truth that they write about themselves, and the comparison of the two.
//!
//! Not published. The programs are those of the target directory that the test itself lies in, so
//! they have to be built first: `scripts/test` shows how.

pub mod attach;
pub mod compare;
pub mod fixtures;
pub mod run;
pub mod tally;
pub mod target;
pub mod truth;
