//! From drained events to records: assembles polls, attributes causes, names culprits and releasers.

pub mod cause;
pub mod census;
pub mod diagnosis;
pub mod fault_cost;
pub mod late_names;
pub mod naming;
pub mod pipeline;
pub mod polls;
mod profile;
pub mod release;
pub mod workers;
