//! The process under observation: its modules, its binaries, its Tokio.

pub mod elf;
pub mod modules;
