//! The target process: how it is found, its memory, its modules, and their files. What of it is
//! Tokio's is in `crate::tokio`.

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
