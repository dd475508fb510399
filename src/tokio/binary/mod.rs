//! What an executable's file says of Tokio: versions, symbols, types.

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
