//! From what the kernel side sends to what people read: stacks, names, whose code, why.

pub mod aliases;
pub mod cause;
pub mod census;
pub mod culprit;
pub mod diagnosis;
mod early;
pub mod fault_cost;
mod frames;
pub mod late_names;
pub mod names;
pub mod naming;
pub mod origin;
pub mod pipeline;
pub mod polls;
mod profile;
mod regain;
pub mod release;
pub mod symbolize;
mod trust;
pub mod unwind;
pub mod warm;
pub mod workers;
