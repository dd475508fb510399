//! hud names the code that blocks a live Tokio process.
//!
//! Data flows one way, and no module looks back:
//!
//! ```text
//! hud.bpf.c -> ring -> decode -> polls -> unwind -> symbolise -> cause -> Record
//!                                  replay: trace reader -------------->  Record
//!                                           Record -> Session -> Snapshot -> {tui, report}
//!                                           Record log -> export
//! ```
//!
//! `model` is the vocabulary and imports nothing of the rest. Only `bpf` and `capture` know
//! libbpf, only `analysis::symbolize` knows blazesym, only `export` knows JSON; `tui`, `report`
//! and `export` see records and the session, never the kernel side.

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
pub mod recorder;
pub mod report;
pub mod run;
pub mod session;
pub mod stacks;
pub mod target;
pub mod text;
pub mod tokio;
pub mod tracking;
pub mod tui;
