//! The process under observation: finding it, its memory, its modules, its binaries, its Tokio.

pub mod elf;
pub mod layout;
pub mod memory;
pub mod modules;
pub mod preflight;
pub mod process;
