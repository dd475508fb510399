//! The target process: how it is found, its memory, its modules, and their files. What of it is
//! Tokio's is in `crate::tokio`.

mod call_instruction;
pub mod call_sites;
pub mod call_targets;
pub mod debug_files;
pub mod debuginfod;
pub mod elf;
pub mod functions;
pub mod lookup;
pub mod mapped_file;
pub mod mappings;
pub mod memory;
pub mod modules;
pub mod process;
