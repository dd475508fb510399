//! The process under observation: finding it, its memory, its modules, its binaries, its Tokio.

pub mod debug_files;
pub mod debuginfod;
pub mod elf;
pub mod function_starts;
pub mod lookup;
pub mod mapped_file;
pub mod mappings;
pub mod memory;
pub mod modules;
pub mod process;
