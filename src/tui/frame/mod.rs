//! What surrounds every view: the header above it and the footer below it.

pub mod footer;
pub mod header;
