//! From the bytes of a stack to what people read: addresses, frames, names, whose code it is.

pub mod aliases;
pub mod crates;
pub mod culprit;
mod guess;
pub mod names;
pub mod origin;
pub mod reader;
pub mod symbolize;
pub mod unwind;
