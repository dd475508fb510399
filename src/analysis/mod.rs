//! From what the kernel side sends to what people read: stacks, names, whose code, why.

pub mod cause;
pub mod culprit;
pub mod names;
pub mod origin;
pub mod symbolize;
pub mod unwind;
