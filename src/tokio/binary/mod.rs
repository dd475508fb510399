//! What an executable's file says of Tokio: versions in its constants, thread-locals in its symbol
//! table, types in its debug info.

mod discovery;
mod dwarf;
mod elf;
pub mod libraries;
mod package;
mod sections;
mod symbols;
mod types;
mod versions;

pub use discovery::{Discovery, discover, tokio_in};
pub(in crate::tokio) use versions::Version;
