//! hud names the code that blocks a live Tokio process.
//!
//! Data flows in one direction:
//!
//! ```text
//! BPF programs -> ring buffer -> decode -> unwind stacks -> assemble polls -> names, cause -> Record
//!                                                     replay: trace reader -------------> Record
//!
//! Record -> Session -> Snapshot -> {interactive view, report}
//! Record -> trace writer
//! ```
//!
//! A module imports only modules of lower layers; docs/ARCHITECTURE.md lists them in that order, and a
//! test checks it. The crate exists for the binary: it is not a stable interface.

pub mod analysis;
pub mod arch;
pub mod bpf;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod cost;
pub mod export;
pub mod failure;
pub mod headless;
pub mod interactive;
pub mod live;
pub mod model;
pub mod processes;
pub mod recorder;
pub mod replay;
pub mod report;
pub mod run;
pub mod session;
pub mod stacks;
pub mod target;
pub mod text;
pub mod tokio;
pub mod tracking;
pub mod tui;
