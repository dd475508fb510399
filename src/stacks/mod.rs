//! From the bytes of a stack to what people read: addresses (`unwind`), frames (`symbolize`), readable
//! names (`names`, `aliases`), their origin (`origin`, `crates`) and the culprit (`culprit`).
//!
//! Knows the target's files and Tokio's names, but neither the kernel side nor polls.

pub mod aliases;
pub mod crates;
pub mod culprit;
pub mod kernel;
pub mod names;
pub mod origin;
pub mod reader;
pub mod symbolize;
pub mod unwind;
