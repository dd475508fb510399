//! The views, a module each. A view keeps what is selected and scrolled, takes what it shows from
//! each new snapshot, and draws it.

pub mod culprits;
pub mod detail;
pub mod flame;
pub mod poll_time;
pub mod timeline;
